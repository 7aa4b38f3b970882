"""The layer that says which anchors show an object: `type: "Python"  python_param { module: "rpn.anchor_target_layer"
layer: "AnchorTargetLayer"  param_str: "'feat_stride': 16" }`.
"""

import math

import numpy as np

from fast_rcnn.config import cfg
from roi_data_layer.python_layer import Blobs, fill
from rpn.anchor_targets import anchor_targets
from rpn.generate_anchors import anchor_grid
from rpn.layer import (
    LISTS,
    RPNLayer,
    anchors_of,
    check_blobs,
    check_sizes,
    needed,
    objects_by_image,
    parameters,
)
from rpn.sampling import ANCHORS, sampling_rng

_BOTTOMS = 'rpn_cls_score', 'gt_boxes', 'im_info'
_TOPS = 'rpn_labels', 'rpn_bbox_targets', 'rpn_bbox_inside_weights', 'rpn_bbox_outside_weights'


class AnchorTargetLayer(RPNLayer):
    """Labels and regression targets of the anchors: see `anchor_targets`.

    Bottoms: rpn_cls_score (N, 2A, H, W), scores for background, then for objects, which count with
    cfg.TRAIN.RPN_USE_OHEM alone; gt_boxes (see `layer.objects_by_image`);
    im_info (N, 3) = (height, width, scale); and, if the prototxt names it, data, which is not looked at. Tops:
    rpn_labels (N, 1, A * H, W), -1 for anchors to ignore, and rpn_bbox_targets, rpn_bbox_inside_weights,
    rpn_bbox_outside_weights (N, 4A, H, W).

    Parameters: feat_stride, in pixels; scales, ratios of the anchors (8, 16, 32 and 0.5, 1, 2); allowed_border, in
    pixels (0).
    """

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        check_blobs(self, bottom, top, _BOTTOMS, _TOPS, counts=(4,))
        found = parameters(self, feat_stride=int, scales=LISTS, ratios=LISTS, allowed_border=(int, float))
        self._stride = needed(self, found, 'feat_stride', 1)
        self._border = found.get('allowed_border', 0)
        if not math.isfinite(self._border):
            raise ValueError(f'AnchorTargetLayer: allowed_border in param_str is a finite number; got {self._border}')
        self._anchors = anchors_of(self, found)
        images, channels, height, width = bottom[0].data.shape
        count = len(self._anchors)
        if channels != 2 * count:
            raise ValueError(
                f'AnchorTargetLayer: {count} anchors need {2 * count} channels of scores, the first bottom has '
                f'{channels}; make num_output of rpn_cls_score agree with scales and ratios'
            )
        top[0].reshape(images, 1, count * height, width)
        for i in range(1, 4):
            top[i].reshape(images, 4 * count, height, width)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        images, _, height, width = bottom[0].data.shape
        im_info = bottom[2].data
        check_sizes(self, im_info, images)
        grid = anchor_grid(self._anchors, height, width, self._stride)
        found = []
        for image, objects in enumerate(objects_by_image(self, bottom[1].data, images)):
            rng = sampling_rng(cfg.RNG_SEED, ANCHORS, self.position, image)
            margins = self._margins(bottom[0].data[image]) if cfg.TRAIN.RPN_USE_OHEM else None
            found.append(anchor_targets(grid, objects[:, :4], im_info[image], self._border, rng, margins))
        self.position += 1
        for i, values in enumerate(zip(*found, strict=True)):
            maps = np.stack(values).reshape(images, height, width, -1).transpose(0, 3, 1, 2)
            fill(top[i], maps.reshape(images, 1, -1, width) if i == 0 else maps)

    def _margins(self, scores: np.ndarray) -> np.ndarray:
        """Of one image's `scores` (2A, H, W): those for objects less those for background, in the order of the grid."""
        count = len(self._anchors)
        return (scores[count:] - scores[:count]).transpose(1, 2, 0).ravel()
