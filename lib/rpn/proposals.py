"""Boxes out of what a region proposal network says of its anchors: as py-faster-rcnn's proposal_layer.py."""

from typing import Any

import numpy as np

from fast_rcnn.bbox_transform import bbox_transform_inv, clip_boxes
from fast_rcnn.nms import descending, nms


def propose(
    scores: np.ndarray, deltas: np.ndarray, anchors: np.ndarray, im_info: np.ndarray, settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The best boxes of an image, best first: (n, 4) float32 in pixels of the net's input, and their scores (n,).

    `scores` (m,) say how much each of `anchors` (m, 4) looks like an object, `deltas` (m, 4) how to move it. `im_info`
    is (height, width, scale) of the image. `settings` is cfg.TRAIN or cfg.TEST: boxes with a side below RPN_MIN_SIZE
    pixels of the original image are dropped, the RPN_PRE_NMS_TOP_N best of the others go through NMS at
    RPN_NMS_THRESH, the RPN_POST_NMS_TOP_N best of those stay; 0 or less: all.
    """
    boxes = clip_boxes(bbox_transform_inv(anchors, deltas), im_info)
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] + 1 >= settings.RPN_MIN_SIZE * im_info[2]).all(axis=1))
    order = large[descending(scores[large])]
    if settings.RPN_PRE_NMS_TOP_N > 0:
        order = order[: settings.RPN_PRE_NMS_TOP_N]
    limit = settings.RPN_POST_NMS_TOP_N if settings.RPN_POST_NMS_TOP_N > 0 else None
    kept = order[nms(np.column_stack((boxes[order], scores[order])), settings.RPN_NMS_THRESH, limit)]
    return boxes[kept], scores[kept]
