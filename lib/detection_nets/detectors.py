"""Fast R-CNN, Faster R-CNN and R-FCN on a backbone, with OHEM and without: nets to train and nets to test with.

Layers and blobs go by the names that their authors' prototxts have, by which the tools find them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from detection_nets.mobilenet import MobileNetV2
from detection_nets.prototxt import WEIGHTS, Prototxt
from detection_nets.resnet import ResNet50
from detection_nets.roi_networks import Copy

_BOXES = ('bbox_targets', 'bbox_inside_weights', 'bbox_outside_weights')
_RATIOS = 3
_BINS = 7  # along a side, of position-sensitive pooling
_RPN_CHANNELS = {'ResNet-50': 512, 'MobileNet-v2': 256}


@dataclasses.dataclass(frozen=True)
class Detector:
    """What to put on a backbone.

    num_classes counts the background; scales are those of the anchors. R-FCN has one box regression for all classes,
    and needs a ResNet. learned: RoIs of an image that R-FCN's OHEM learns from.
    """

    backbone: ResNet50 | MobileNetV2
    num_classes: int
    scales: Sequence[int] = (8, 16, 32)
    learned: int = 128

    # ---- Fast R-CNN

    def fast_rcnn(self, training: bool, ohem: bool = False) -> Prototxt:
        """Fast R-CNN, which is given its proposals."""
        net = Prototxt(self.backbone.name, training)
        if training:
            self._roi_data(net, 'data', ['data', 'rois', 'labels', *_BOXES])
        else:
            net.input('data', [1, 3, 600, 800])
            net.input('rois', [1, 5])
        self._classified(net, self.backbone.trunk(net, 'data'), ohem)
        return net

    # ---- Faster R-CNN

    def faster_rcnn(self, training: bool, ohem: bool = False) -> Prototxt:
        """Faster R-CNN end to end, which proposes boxes itself."""
        net = Prototxt(self.backbone.name, training)
        self._image(net)
        maps = self.backbone.trunk(net, 'data')
        self._rpn(net, maps)
        if training:
            self._roi_targets(net, self.num_classes)
        self._classified(net, maps, ohem)
        return net

    # ---- R-FCN

    def rfcn(self, training: bool, ohem: bool = False) -> Prototxt:
        """R-FCN (Dai, Li, He, Sun, 2016): RoIs pool their scores out of maps, each bin of theirs out of one of its own.

        As train_agnostic(_ohem).prototxt and test_agnostic.prototxt of YuwenXiong/py-R-FCN.
        """
        assert isinstance(self.backbone, ResNet50)
        net = Prototxt(self.backbone.name, training)
        self._image(net)
        top = self.backbone.trunk(net, 'data', dilated_stage_5=True)
        self._rpn(net, 'res4f')
        if training:
            self._roi_targets(net, 2)
        net.section('maps of scores and of box regressions')
        x = self._convolution(net, 'conv_new_1', top, self.backbone.channels(1024), 1)
        net.add('conv_new_1_relu', 'ReLU', x, tops=x)
        outputs = {'cls': ('cls_score', self.num_classes), 'bbox': ('bbox_pred', 4 * 2)}
        for short, (_, count) in outputs.items():
            self._convolution(net, f'rfcn_{short}', x, count * _BINS**2, 1)
        net.section('position-sensitive pooling')
        for short, (blob, count) in outputs.items():
            options = {'spatial_scale': 1 / self.backbone.stride, 'output_dim': count, 'group_size': _BINS}
            name = {'cls': 'cls', 'bbox': 'loc'}[short]
            pooled = net.add(
                f'psroipooled_{name}_rois', 'PSROIPooling', [f'rfcn_{short}', 'rois'], psroi_pooling_param=options
            )
            mean = {'pool': 'AVE', 'kernel_size': _BINS, 'stride': _BINS}
            # a net to test with gives both the shape (R, columns), under the same names
            top = blob if training or short == 'cls' else f'{blob}_pre'
            net.add(f'ave_{blob}_rois', 'Pooling', pooled, top, pooling_param=mean)
        if training:
            self._losses_of_rfcn(net, ohem)
        else:
            net.add('cls_prob', 'Softmax', 'cls_score', 'cls_prob_pre')
            for blob, count in (('cls_prob', self.num_classes), ('bbox_pred', 4 * 2)):
                shape = {'shape': {'dim': [-1, count]}}
                net.add(f'{blob}_reshape', 'Reshape', f'{blob}_pre', blob, reshape_param=shape)
        return net

    def _losses_of_rfcn(self, net: Prototxt, ohem: bool) -> None:
        labels, weights = 'labels', 'bbox_inside_weights'
        ignored = {}
        if ohem:
            net.section('OHEM: of each image the RoIs of highest loss count, by labels and weights')
            net.add(
                'per_roi_loss_cls', 'SoftmaxWithLossOHEM', ['cls_score', 'labels'],
                ['temp_loss_cls', 'temp_prob_cls', 'per_roi_loss_cls'], read_only=True, loss_weight=[0, 0, 0],
            )  # fmt: skip
            net.add(
                'per_roi_loss_bbox', 'SmoothL1LossOHEM', ['bbox_pred', 'bbox_targets', 'bbox_inside_weights'],
                ['temp_loss_bbox', 'per_roi_loss_bbox'], read_only=True, loss_weight=[0, 0],
            )  # fmt: skip
            net.add('per_roi_loss', 'Eltwise', ['per_roi_loss_cls', 'per_roi_loss_bbox'], read_only=True)
            labels, weights, ignored = 'labels_ohem', 'bbox_loss_weights_ohem', {'ignore_label': -1}
            net.add(
                'annotator_detector', 'BoxAnnotatorOHEM', ['rois', 'per_roi_loss', 'labels', 'bbox_inside_weights'],
                [labels, weights], read_only=True,
                box_annotator_ohem_param={'roi_per_img': self.learned, **ignored},
            )  # fmt: skip
        silent = ['bbox_outside_weights'] + ['temp_loss_cls', 'temp_prob_cls', 'temp_loss_bbox'] * ohem
        net.add('silence', 'Silence', silent, [])
        net.section('losses')
        loss_param: dict[str, Any] = {'loss_param': ignored} if ignored else {}
        net.add(
            'loss', 'SoftmaxWithLoss', ['cls_score', labels], 'loss_cls', propagate_down=[True, False],
            loss_weight=[1], **loss_param,
        )  # fmt: skip
        accuracy: dict[str, Any] = {'accuracy_param': ignored} if ignored else {}
        # the misspelt name is that of the published nets
        net.add('accuarcy', 'Accuracy', ['cls_score', labels], read_only=True, **accuracy)
        net.add(
            'loss_bbox', 'SmoothL1LossOHEM', ['bbox_pred', 'bbox_targets', weights], loss_weight=[1],
            propagate_down=[True, False, False],
            loss_param={'normalization': 'PRE_FIXED', 'pre_fixed_normalizer': self.learned},
        )  # fmt: skip

    # ---- What they share

    def _roi_data(self, net: Prototxt, name: str, tops: list[str]) -> None:
        net.add(
            name, 'Python', [], tops,
            python_param=_python('roi_data_layer.layer', 'RoIDataLayer', f"'num_classes': {self.num_classes}"),
        )  # fmt: skip

    def _image(self, net: Prototxt) -> None:
        """Images, and to train, what is in them, of a net that proposes boxes itself."""
        if net.training:
            self._roi_data(net, 'input-data', ['data', 'im_info', 'gt_boxes'])
        else:
            net.input('data', [1, 3, 600, 800])
            net.input('im_info', [1, 3])

    def _roi_targets(self, net: Prototxt, num_classes: int) -> None:
        net.add(
            'roi-data', 'Python', ['rpn_rois', 'gt_boxes'], ['rois', 'labels', *_BOXES], read_only=True,
            python_param=_python(
                'rpn.proposal_target_layer', 'ProposalTargetLayer', f"'num_classes': {num_classes}"
            ),
        )  # fmt: skip

    def _convolution(self, net: Prototxt, name: str, bottom: str, outputs: int, kernel: int, top: str = '') -> str:
        """A convolution that starts from random weights."""
        options = {
            'num_output': outputs, 'kernel_size': [kernel], 'pad': [kernel // 2],
            'weight_filler': {'type': 'gaussian', 'std': 0.01}, 'bias_filler': {'type': 'constant', 'value': 0},
        }  # fmt: skip
        params = [WEIGHTS, {'lr_mult': 2}]  # biases decay, as in py-faster-rcnn's
        return net.add(name, 'Convolution', bottom, top or name, params, convolution_param=options)

    def _rpn(self, net: Prototxt, maps: str) -> None:
        """The region proposal network on `maps`: its losses, and its proposals, rpn_rois, or rois to test with."""
        net.section('region proposal network')
        anchors = _RATIOS * len(self.scales)
        stride, scales = f"'feat_stride': {self.backbone.stride}", list(self.scales)
        param_str = stride if scales == [8, 16, 32] else f"{{{stride}, 'scales': {scales}}}"
        channels = self.backbone.channels(_RPN_CHANNELS[self.backbone.name])
        x = self._convolution(net, 'rpn_conv/3x3', maps, channels, 3, 'rpn/output')
        net.add('rpn_relu/3x3', 'ReLU', x, tops=x)
        self._convolution(net, 'rpn_cls_score', x, 2 * anchors, 1)
        self._convolution(net, 'rpn_bbox_pred', x, 4 * anchors, 1)
        by_anchor = {'shape': {'dim': [0, 2, -1, 0]}}
        net.add('rpn_cls_score_reshape', 'Reshape', 'rpn_cls_score', reshape_param=by_anchor)
        if net.training:
            net.add(
                'rpn-data', 'Python', ['rpn_cls_score', 'gt_boxes', 'im_info', 'data'],
                ['rpn_labels', 'rpn_bbox_targets', 'rpn_bbox_inside_weights', 'rpn_bbox_outside_weights'],
                read_only=True, python_param=_python('rpn.anchor_target_layer', 'AnchorTargetLayer', param_str),
            )  # fmt: skip
            net.add(
                'rpn_loss_cls', 'SoftmaxWithLoss', ['rpn_cls_score_reshape', 'rpn_labels'], 'rpn_cls_loss',
                propagate_down=[True, False], loss_weight=[1], loss_param={'ignore_label': -1, 'normalize': True},
            )  # fmt: skip
            net.add(
                'rpn_loss_bbox', 'SmoothL1Loss',
                ['rpn_bbox_pred', 'rpn_bbox_targets', 'rpn_bbox_inside_weights', 'rpn_bbox_outside_weights'],
                propagate_down=[True, False, False, False], loss_weight=[1], smooth_l1_loss_param={'sigma': 3},
            )  # fmt: skip
        net.add('rpn_cls_prob', 'Softmax', 'rpn_cls_score_reshape')
        channels_again = {'shape': {'dim': [0, 2 * anchors, -1, 0]}}
        net.add('rpn_cls_prob_reshape', 'Reshape', 'rpn_cls_prob', reshape_param=channels_again)
        net.add(
            'proposal', 'Python', ['rpn_cls_prob_reshape', 'rpn_bbox_pred', 'im_info'],
            'rpn_rois' if net.training else 'rois', read_only=net.training,
            python_param=_python('rpn.proposal_layer', 'ProposalLayer', param_str),
        )  # fmt: skip

    def _classified(self, net: Prototxt, maps: str, ohem: bool) -> None:
        """The RoI network on `maps` and the blob rois, with its losses, or to test with its probabilities."""
        if not net.training:
            net.section('RoI network')
            scores, _ = self._scored(net, maps, 'rois', Copy())
            net.add('cls_prob', 'Softmax', scores)
            return
        hard = '_hard' if ohem else ''
        if ohem:
            net.section('read-only RoI network: scores every RoI, no backward pass')
            copy = Copy(shared=True, read_only=True)
            scores, boxes = self._scored(net, maps, 'rois', copy)
            probabilities = copy.add(net, 'cls_prob', 'Softmax', scores)
            net.section('keeps the RoIs with the largest loss, after NMS among those of one image and label')
            read = ['rois', 'labels', *_BOXES]
            net.add(
                'hard_roi_mining', 'Python', [probabilities, boxes, *read], [name + hard for name in read],
                read_only=True,
                python_param=_python(
                    'roi_data_layer.layer', 'HardRoiMiningLayer', f"'num_classes': {self.num_classes}"
                ),
            )  # fmt: skip
        net.section('RoI network that learns' + (', on the hard RoIs alone' if ohem else ''))
        scores, boxes = self._scored(net, maps, f'rois{hard}', Copy(shared=ohem))
        net.add('loss_cls', 'SoftmaxWithLoss', [scores, f'labels{hard}'], propagate_down=[True, False], loss_weight=[1])
        net.add(
            'loss_bbox', 'SmoothL1Loss', [boxes, *(name + hard for name in _BOXES)],
            propagate_down=[True, False, False, False], loss_weight=[1],
        )  # fmt: skip

    def _scored(self, net: Prototxt, maps: str, rois: str, copy: Copy) -> tuple[str, str]:
        x = self.backbone.roi_network(net, maps, rois, copy)
        scores = copy.inner_product(net, 'cls_score', x, self.num_classes, 0.01)
        return scores, copy.inner_product(net, 'bbox_pred', x, 4 * self.num_classes, 0.001)


def _python(module: str, layer: str, param_str: str) -> dict:
    return {'module': module, 'layer': layer, 'param_str': param_str}
