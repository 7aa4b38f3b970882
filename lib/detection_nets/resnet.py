"""ResNet-50: He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, table 1."""

from __future__ import annotations

import dataclasses

from detection_nets.prototxt import FROZEN, WEIGHTS, Prototxt
from detection_nets.roi_networks import Copy

# (stage, its blocks, the width of their 3x3 convolutions)
STAGES = ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512))
_FROZEN_STAGES = (2,)


@dataclasses.dataclass(frozen=True)
class ResNet50:
    """Which ResNet-50. Layers go by the names of its authors' prototxt (KaimingHe/deep-residual-networks).

    published: in the authors' form, halving in the first 1x1 convolution of a block, with BatchNorm and Scale layers
    that do not learn, as in R-FCN's nets; weights published for Caffe, and Keras's, are of this form. Otherwise in
    torchvision's form, halving in the 3x3 convolution, with BatchNorm folded into weights and bias, of which the bias
    does not learn, as the offsets of BatchNorm would not. width: what the paper's numbers of channels are multiplied
    by; below 1 for tests.
    """

    published: bool = False
    width: float = 1.0
    name = 'ResNet-50'
    stride = 16

    def channels(self, count: int) -> int:
        """`count` of the paper's channels, in this width."""
        return max(1, round(count * self.width))

    def trunk(self, net: Prototxt, data: str, dilated_stage_5: bool = False) -> str:
        """conv1 to stage 4, whose cells are 16 pixels apart, and for R-FCN stage 5, dilated; returns the last blob."""
        net.section('conv1, frozen: 1/2')
        x = self._convolution(net, 'conv1', '_conv1', data, 64, 7, 2, 3, learns=False, relu='conv1_relu', bias=True)
        rounding = {} if self.published else {'pad': 1, 'round_mode': 'FLOOR'}
        x = net.add('pool1', 'Pooling', x, pooling_param={'pool': 'MAX', 'kernel_size': 3, 'stride': 2, **rounding})
        for stage, blocks, planes in STAGES[: 4 if dilated_stage_5 else 3]:
            frozen = ', frozen' if stage in _FROZEN_STAGES else ''
            net.section(f'stage {stage}{frozen}: 1/{min(2**stage, 16)}' + (', dilated' if stage == 5 else ''))
            x = self._stage(net, x, stage, blocks, planes, Copy(), 1 if stage in (2, 5) else 2, 1 + (stage == 5))
        return x

    def classifier(self, net: Prototxt, data: str) -> str:
        """The whole net as ImageNet's classifier has it, up to the mean of its last maps; returns that blob."""
        x = self.trunk(net, data)
        stage, blocks, planes = STAGES[3]
        x = self._stage(net, x, stage, blocks, planes, Copy(), 2, 1)
        return net.add('pool5', 'Pooling', x, pooling_param={'pool': 'AVE', 'global_pooling': True})

    def roi_network(self, net: Prototxt, maps: str, rois: str, copy: Copy) -> str:
        """Stage 5 on RoIs pooled to 7 x 7, and the mean of its maps; returns that blob."""
        pooled = copy.roi_pooling(net, 'roi_pool5', maps, rois, 7, self.stride)
        stage, blocks, planes = STAGES[3]
        x = self._stage(net, pooled, stage, blocks, planes, copy, 1, 1)
        return copy.add(net, 'pool5', 'Pooling', x, pooling_param={'pool': 'AVE', 'kernel_size': 7, 'stride': 1})

    def _stage(
        self, net: Prototxt, x: str, stage: int, blocks: int, planes: int, copy: Copy, stride: int, dilation: int
    ) -> str:
        learns = stage not in _FROZEN_STAGES
        for letter in 'abcdef'[:blocks]:
            first = letter == 'a'
            step = stride if first else 1
            name, short = f'res{stage}{letter}', f'{stage}{letter}'

            def convolution(
                branch, bottom, count, kernel, stride=1, pad=0, dilation=1, relu=True, name=name, short=short
            ):
                return self._convolution(
                    net, f'{name}_{branch}', f'{short}_{branch}', bottom, count, kernel, stride, pad, dilation,
                    learns, f'{name}_{branch}_relu' if relu else '', copy=copy,
                )  # fmt: skip

            at_first, at_second = (step, 1) if self.published else (1, step)
            shortcut = convolution('branch1', x, 4 * planes, 1, step, relu=False) if first else x
            y = convolution('branch2a', x, planes, 1, at_first)
            y = convolution('branch2b', y, planes, 3, at_second, dilation, dilation)
            y = convolution('branch2c', y, 4 * planes, 1, relu=False)
            x = copy.add(net, name, 'Eltwise', [shortcut, y])
            copy.add(net, f'{name}_relu', 'ReLU', x, tops=x)
        return x

    def _convolution(
        self, net: Prototxt, name: str, short: str, bottom: str, count: int, kernel: int, stride: int = 1, pad: int = 0,
        dilation: int = 1, learns: bool = True, relu: str = '', bias: bool = False, copy: Copy | None = None,
    ) -> str:  # fmt: skip
        """A convolution with its BatchNorm, and its ReLU if it has one."""
        copy = copy or Copy()
        options: dict = {'num_output': self.channels(count), 'kernel_size': [kernel], 'stride': [stride], 'pad': [pad]}
        if dilation > 1:
            options['dilation'] = [dilation]
        has_bias = bias or not self.published
        options |= {} if has_bias else {'bias_term': False}
        params = [WEIGHTS if learns else FROZEN] + [FROZEN] * has_bias
        top = copy.add(net, name, 'Convolution', bottom, params=params, convolution_param=options)
        if self.published:
            norm, scale = f'bn{short}', f'scale{short}'
            copy.add(net, norm, 'BatchNorm', top, top, [FROZEN] * 3, batch_norm_param={'use_global_stats': True})
            copy.add(net, scale, 'Scale', top, top, [FROZEN] * 2, scale_param={'bias_term': True})
        if relu:
            copy.add(net, relu, 'ReLU', top, tops=top)
        return top
