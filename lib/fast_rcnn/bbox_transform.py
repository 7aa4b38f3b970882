"""Arithmetic on boxes: inclusive pixels (x1, y1, x2, y2), so that a box's width is x2 - x1 + 1.

The regression is the one of R-CNN (Girshick et al., CVPR 2014, appendix C), as in Fast R-CNN's
bbox_transform.py.
"""

from collections.abc import Sequence

import numpy as np


def bbox_transform(ex_rois: np.ndarray, gt_rois: np.ndarray) -> np.ndarray:
    """The regression targets (dx, dy, dw, dh) that take each box of `ex_rois` to the same row of `gt_rois`.

    (N, 4) and (N, 4) -> (N, 4) in the dtype of the boxes. dx and dy are in widths and heights of the example
    box, dw and dh are logarithms of ratios.
    """
    ex_w, ex_h, ex_x, ex_y = _size_and_centre(ex_rois)
    gt_w, gt_h, gt_x, gt_y = _size_and_centre(gt_rois)
    return np.stack(((gt_x - ex_x) / ex_w, (gt_y - ex_y) / ex_h, np.log(gt_w / ex_w), np.log(gt_h / ex_h)), axis=1)


def bbox_transform_inv(boxes: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Boxes moved by predicted regressions.

    `boxes` (N, 4) and `deltas` (N, 4K), four for each class -> (N, 4K) in the dtype of `deltas`. As in the
    original, the far corner is centre + half the width, without taking back the 1 that the width counts.
    """
    if len(boxes) == 0:
        return np.zeros((0, deltas.shape[1]), dtype=deltas.dtype)
    w, h, x, y = (side[:, None] for side in _size_and_centre(boxes.astype(deltas.dtype, copy=False)))
    dx, dy, dw, dh = (deltas[:, i::4] for i in range(4))
    with np.errstate(over='ignore'):  # an untrained net may predict anything; clip_boxes bounds it
        new_w, new_h = np.exp(dw) * w, np.exp(dh) * h
    new_x, new_y = dx * w + x, dy * h + y
    moved = np.empty_like(deltas)
    moved[:, 0::4] = new_x - 0.5 * new_w
    moved[:, 1::4] = new_y - 0.5 * new_h
    moved[:, 2::4] = new_x + 0.5 * new_w
    moved[:, 3::4] = new_y + 0.5 * new_h
    return moved


def clip_boxes(boxes: np.ndarray, im_shape: Sequence[float] | np.ndarray) -> np.ndarray:
    """`boxes` (N, 4K) cut to an image of `im_shape` (height, width, ...). Changes `boxes`, and returns it."""
    height, width = im_shape[:2]
    np.clip(boxes[:, 0::2], 0, width - 1, out=boxes[:, 0::2])
    np.clip(boxes[:, 1::2], 0, height - 1, out=boxes[:, 1::2])
    return boxes


def bbox_overlaps(boxes: np.ndarray, query_boxes: np.ndarray) -> np.ndarray:
    """IoU of every box with every query box: (N, 4) and (K, 4) -> (N, K), float64, in [0, 1]. As utils/bbox.pyx."""
    boxes = boxes.astype(np.float64, copy=False)[:, None, :]
    query = query_boxes.astype(np.float64, copy=False)[None, :, :]
    width = np.minimum(boxes[..., 2], query[..., 2]) - np.maximum(boxes[..., 0], query[..., 0]) + 1
    height = np.minimum(boxes[..., 3], query[..., 3]) - np.maximum(boxes[..., 1], query[..., 1]) + 1
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = _area(boxes) + _area(query) - shared
    return shared / np.where(shared > 0, union, 1)


def targets_by_class(targets: np.ndarray, num_classes: int, inside_weights: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Regression targets (R, 5) = (class, dx, dy, dw, dh) as a net predicts them, and their weights inside the loss.

    (R, 4 * num_classes) float32 each, 0 but for the four columns of the class; all 0 for class 0.
    """
    expanded = np.zeros((len(targets), num_classes, 4), dtype=np.float32)
    inside = np.zeros_like(expanded)
    rows = np.flatnonzero(targets[:, 0] > 0)
    classes = targets[rows, 0].astype(np.int64)
    expanded[rows, classes] = targets[rows, 1:]
    inside[rows, classes] = inside_weights
    shape = len(targets), 4 * num_classes
    return expanded.reshape(shape), inside.reshape(shape)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1)


def _size_and_centre(boxes: np.ndarray) -> tuple:
    """Widths, heights, centres' x and y, each (N,). The centre is x1 + w/2: half a pixel off, as in the original."""
    widths = boxes[:, 2] - boxes[:, 0] + 1.0
    heights = boxes[:, 3] - boxes[:, 1] + 1.0
    return widths, heights, boxes[:, 0] + 0.5 * widths, boxes[:, 1] + 0.5 * heights
