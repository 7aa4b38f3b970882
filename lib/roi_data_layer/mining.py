"""Online hard example mining: which RoIs of a mini-batch to learn from.

Shrivastava, Gupta, Girshick: Training Region-based Object Detectors with Online Hard Example Mining, CVPR
2016, section 4; the arithmetic is that of the released code (its OHEMDataLayer and get_ohem_minibatch).

A mining rule is a function (loss, rois, labels, batch_size, nms_thresh) -> indices of the RoIs to keep.
"""

import numpy as np

from fast_rcnn.nms import descending, suppressors


def roi_losses(
    cls_prob: np.ndarray,
    labels: np.ndarray,
    bbox_pred: np.ndarray | None = None,
    bbox_targets: np.ndarray | None = None,
    bbox_inside_weights: np.ndarray | None = None,
    bbox_outside_weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of every RoI: (classification, box regression), each (R,) float64, >= 0.

    `cls_prob` (R, K) class probabilities; `labels` (R,) classes in [0, K), 0 the background; the four others
    (R, 4K), or all None for a net without box regression. Classification: -log max(p[label], 2^-52).
    Regression, for label > 0 only: the sum of outside * smooth_l1(inside * (prediction - target)).
    """
    labels = np.asarray(labels).astype(np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < cls_prob.shape[1]:
        raise ValueError(
            f'mining: labels must lie in [0, {cls_prob.shape[1]}), the columns of cls_prob; '
            f'got {labels.min()} to {labels.max()}. Does num_classes agree between the layers?'
        )
    probability = cls_prob[np.arange(len(labels)), labels]
    cls_loss = -np.log(np.maximum(probability, probability.dtype.type(np.finfo(float).eps))).astype(np.float64)
    bbox_loss = np.zeros(len(labels))
    if bbox_targets is not None:
        rows = np.flatnonzero(labels > 0)
        weighted = bbox_inside_weights[rows] * (bbox_pred[rows] - bbox_targets[rows])
        bbox_loss[rows] = (bbox_outside_weights[rows] * _smooth_l1(weighted.astype(np.float64))).sum(axis=1)
    return cls_loss, bbox_loss


def mine_hard_rois(
    loss: np.ndarray, rois: np.ndarray, labels: np.ndarray, batch_size: int, nms_thresh: float | None
) -> np.ndarray:
    """The `batch_size` RoIs of highest loss, among those that do not repeat a harder one.

    `loss` (R,); `rois` (R, 5) = (image, x1, y1, x2, y2) in network input pixels; `labels` (R,). With
    `nms_thresh`, an RoI is dropped if its IoU with a harder RoI of the same image and label is at least that;
    None keeps them all. Returns int64 indices, hardest first, fewer than `batch_size` if no more are left; of
    equal losses the earlier RoI comes first.
    """
    order = descending(loss)
    if nms_thresh is None:
        return order[:batch_size]
    # RoIs of other groups never compete, so one scan from the hardest down may stop at the batch_size-th RoI
    # kept
    by = suppressors(rois[:, 1:], order, nms_thresh, _groups(rois, labels), limit=batch_size)
    return order[by[order] == order]


def suppressed_by(loss: np.ndarray, rois: np.ndarray, labels: np.ndarray, nms_thresh: float) -> np.ndarray:
    """For each RoI the harder one that it repeats, itself if it repeats none: (R,) int64. For inspection."""
    return suppressors(rois[:, 1:], descending(loss), nms_thresh, _groups(rois, labels))


def _groups(rois: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One number for each (image, label)."""
    labels = labels.astype(np.int64)
    return rois[:, 0].astype(np.int64) * (labels.max(initial=0) + 1) + labels


def _smooth_l1(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    return np.where(size < 1, 0.5 * x * x, size - 0.5)
