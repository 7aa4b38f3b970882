"""MobileNet-v2: Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2, CVPR 2018, table 2. A small net for CPUs."""

from __future__ import annotations

import dataclasses

from detection_nets.prototxt import BIAS, FROZEN, WEIGHTS, Prototxt
from detection_nets.roi_networks import Copy

# (factor of expansion, channels, blocks, stride of the first)
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_FROZEN_BLOCKS = 3  # up to 1/4 of the image, as ResNet's stage 2


@dataclasses.dataclass(frozen=True)
class MobileNetV2:
    """BatchNorm is folded into weights and bias, of which the bias does not learn.

    Its last four blocks do not halve, and are dilated instead (as R-FCN's stage 5): cells stay 16 pixels apart. The
    RoI network is two small fully connected layers on 64 maps, so that many RoIs cost little. width: what the paper's
    numbers of channels are multiplied by; below 1 for tests.
    """

    width: float = 1.0
    name = 'MobileNet-v2'
    stride = 16

    def channels(self, count: int) -> int:
        """`count` of the paper's channels, in this width."""
        return max(1, round(count * self.width))

    def trunk(self, net: Prototxt, data: str) -> str:
        """conv1 to block17, without the last 1x1 convolution, and one to 64 channels; returns that blob."""
        x = self._blocks(net, data, self.stride)
        net.section('few maps for many RoIs')
        options = {
            'num_output': self.channels(64), 'kernel_size': [1], 'weight_filler': {'type': 'msra'},
        }  # fmt: skip
        x = net.add('conv_rois', 'Convolution', x, params=[WEIGHTS, BIAS], convolution_param=options)
        net.add('conv_rois_relu', 'ReLU', x, tops=x)
        return x

    def classifier(self, net: Prototxt, data: str) -> str:
        """The whole net as ImageNet's classifier has it, up to the mean of its last maps; returns that blob."""
        x = self._convolution(net, 'conv18', self._blocks(net, data, 32), 1280, 1)
        return net.add('pool', 'Pooling', x, pooling_param={'pool': 'AVE', 'global_pooling': True})

    def _blocks(self, net: Prototxt, data: str, coarsest: int) -> str:
        """conv1 to block17, with cells `coarsest` pixels apart at most."""
        net.section('frozen: 1/2 to 1/4')
        x = self._convolution(net, 'conv1', data, 32, 3, 2, learns=False)
        number, inputs, spacing, dilation = 0, self.channels(32), 2, 1
        for factor, count, blocks, stride in GROUPS:
            for i in range(blocks):
                number += 1
                step = stride if i == 0 else 1
                if spacing * step > coarsest:  # the rest sees as much of the image by dilation
                    step, coming = 1, 2
                else:
                    spacing, coming = spacing * step, dilation
                if number == _FROZEN_BLOCKS + 1:
                    net.section('learns: 1/8 to 1/16')
                x = self._block(
                    net, f'block{number}', x, inputs, factor, count, step, dilation, number > _FROZEN_BLOCKS
                )
                inputs, dilation = self.channels(count), coming
        return x

    def roi_network(self, net: Prototxt, maps: str, rois: str, copy: Copy) -> str:
        """fc6 and fc7 on RoIs pooled to 7 x 7; returns fc7's blob."""
        x = copy.roi_pooling(net, 'roi_pool5', maps, rois, 7, self.stride)
        for name, std in (('fc6', 0.02), ('fc7', 0.06)):  # about sqrt(2 / inputs)
            x = copy.inner_product(net, name, x, self.channels(512), std)
            copy.add(net, f'relu{name[-1]}', 'ReLU', x, tops=x)
        return x

    def _block(
        self, net: Prototxt, name: str, x: str, inputs: int, factor: int, count: int, stride: int, dilation: int,
        learns: bool,
    ) -> str:  # fmt: skip
        """Wider by a 1x1 convolution, a 3x3 convolution in each map, narrower by a 1x1 convolution without ReLU."""
        inner, y = inputs * factor, x
        if factor > 1:
            y = self._convolution(net, f'{name}/expand', y, inner, 1, learns=learns, exact=True)
        y = self._convolution(
            net, f'{name}/dwise', y, inner, 3, stride, dilation, learns=learns, group=inner, exact=True
        )
        y = self._convolution(net, f'{name}/linear', y, count, 1, learns=learns, relu=False)
        if stride == 1 and inputs == self.channels(count):
            y = net.add(f'{name}/add', 'Eltwise', [x, y])
        return y

    def _convolution(
        self, net: Prototxt, name: str, bottom: str, count: int, kernel: int, stride: int = 1, dilation: int = 1,
        learns: bool = True, relu: bool = True, group: int = 1, exact: bool = False,
    ) -> str:  # fmt: skip
        options: dict = {
            'num_output': count if exact else self.channels(count), 'kernel_size': [kernel],
        }  # fmt: skip
        options |= {'pad': [kernel // 2 * dilation]} if kernel > 1 else {}
        options |= {'stride': [stride]} if stride > 1 else {}
        options |= {'dilation': [dilation]} if dilation > 1 else {}
        options |= {'group': group} if group > 1 else {}
        params = [WEIGHTS if learns else FROZEN, FROZEN]
        top = net.add(name, 'Convolution', bottom, params=params, convolution_param=options)
        if relu:
            net.add(f'{name}/relu', 'ReLU6', top, tops=top)
        return top
