"""Proposal: the RPN's boxes, as forks with Faster R-CNN in C++ have it. The family's own is a Python layer."""

from __future__ import annotations

import numpy as np

from caffe.blob import Blob
from caffe.kernels.boxes import highest, suppress
from caffe.kernels.proposals import anchors_of_a_cell, inside, moved, shifted
from caffe.layer import LayerError, register
from caffe.layers.without_gradient import LayerWithoutGradient


@register('Proposal')
class Proposal(LayerWithoutGradient):
    """The post_nms_topn best boxes of one image that a region proposal network predicts, after NMS.

    Bottoms: probabilities (1, 2 * A, H, W), of background first; codes (1, A * 4, H, W); im_info, (1, 3): height, width
    and scale of the image. Tops: RoIs (R, 5), rows (0, x1, y1, x2, y2), best first, and their probabilities (R, 1).
    Boxes are cut to the image; those narrower or lower than min_size * scale are dropped. A = ratios * scales. There is
    no gradient.
    """

    param_field = 'proposal_param'
    num_bottom = 3
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.param
        if not all(0 < n < np.inf for n in [*param.ratio, *param.scale, param.feat_stride, param.base_size]):
            raise LayerError('Proposal: ratio, scale, feat_stride and base_size must be positive')
        if not param.nms_thresh >= 0:
            raise LayerError(f'Proposal: nms_thresh must not be negative; got {param.nms_thresh:g}')
        ratios, scales = list(param.ratio) or [0.5, 1, 2], list(param.scale) or [8, 16, 32]
        self._anchors = anchors_of_a_cell(param.base_size, ratios, scales)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        (scores, codes, info), count = (blob.shape for blob in bottom), len(self._anchors)
        size = scores[2:]
        if scores != (1, 2 * count, *size) or codes != (1, 4 * count, *size) or len(size) != 2:
            raise LayerError(
                f'Proposal: with {count} anchors, one image needs bottoms of shape (1, {2 * count}, H, W) and '
                f'(1, {4 * count}, H, W); got {scores} and {codes}'
            )
        if bottom[2].count < 3:
            raise LayerError(f'Proposal: bottom 2 must hold height, width and scale of the image; its shape is {info}')
        for blob, width in zip(top, (5, 1), strict=False):
            blob.reshape(1, width)  # until it is known how many

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        param, count = self.param, len(self._anchors)
        size = bottom[0].shape[2], bottom[0].shape[3]
        height, width, scale = bottom[2].data.ravel()[:3]
        scores = bottom[0].data[0, count:].transpose(1, 2, 0).ravel()
        codes = bottom[1].data[0].reshape(count, 4, *size).transpose(2, 3, 0, 1).reshape(-1, 4)
        with np.errstate(over='ignore', invalid='ignore'):  # an untrained net's codes may be huge
            boxes = inside(moved(shifted(self._anchors, size, param.feat_stride), codes), height, width)
            large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] + 1 >= param.min_size * scale).all(1))
        order = large[highest(scores[large], param.pre_nms_topn or -1)]
        # suppress() measures boxes from corner to corner; these have their last pixel inside.
        kept = suppress((boxes[order] + [0, 0, 1, 1]).astype(np.float32), param.nms_thresh)
        order = order[kept[: param.post_nms_topn or None]]
        rois = np.concatenate([np.zeros((len(order), 1)), boxes[order]], axis=1)
        for blob, rows in zip(top, (rois, scores[order, None]), strict=False):
            blob.reshape(*rows.shape)
            blob.data[...] = rows
