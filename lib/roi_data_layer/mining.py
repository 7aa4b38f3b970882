"""Online hard example mining: which RoIs of a mini-batch to learn from.

Shrivastava, Gupta, Girshick: Training Region-based Object Detectors with Online Hard Example Mining, CVPR
2016, section 4; the arithmetic of `roi_losses` and `mine_hard_rois` is that of the released code (its
OHEMDataLayer and get_ohem_minibatch).

The three mining rules here have one signature; `mining_rules` says what a rule is, and finds it by its name.
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
        assert bbox_pred is not None and bbox_inside_weights is not None and bbox_outside_weights is not None
        if bbox_pred.shape[1:] != bbox_targets.shape[1:]:
            raise ValueError(
                f'mining: bbox_pred has {bbox_pred[:1].size} columns, bbox_targets {bbox_targets[:1].size}. Do '
                'num_classes of the layer that makes the targets and num_output of bbox_pred agree?'
            )
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
    # RoIs of other groups never compete, so one scan from the hardest down may stop at the batch_size-th RoI kept
    by = suppressors(rois[:, 1:], order, nms_thresh, _groups(rois, labels), limit=batch_size)
    return order[by[order] == order]


def mine_stratified(
    loss: np.ndarray,
    rois: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    nms_thresh: float | None,
    *,
    cls_loss: np.ndarray,
    bbox_loss: np.ndarray,
) -> np.ndarray:
    """The hardest RoIs of two strata: those that lose most by their class, and those that lose most by their box.

    The box's stratum, RoIs of `bbox_loss` > `cls_loss`, (R,) each, gets as large a part of `batch_size` as the box
    losses have in all losses of the mini-batch, rounded; the other stratum the rest. Where a stratum has too few
    RoIs the other one fills up. NMS, order and the other parameters are those of `mine_hard_rois`.

    After Li, Zhang, Yu, Chen, Li: S-OHEM, Stratified Online Hard Example Mining for Object Detection, 2017
    (arXiv 1705.02233): where one kind of loss outweighs the other, the sum that OHEM ranks by is decided by one of
    them. The strata are those of the paper's idea; that shares follow the losses, from mini-batch to mini-batch,
    is the choice made here.
    """
    ranked = mine_hard_rois(loss, rois, labels, len(loss), nms_thresh)
    by_box = bbox_loss[ranked] > cls_loss[ranked]
    whole = cls_loss.sum() + bbox_loss.sum()
    share = bbox_loss.sum() / whole if np.isfinite(whole) and whole > 0 else 0.0
    box, other = np.flatnonzero(by_box), np.flatnonzero(~by_box)
    of_box = min(len(box), max(round(share * batch_size), batch_size - len(other)))
    return ranked[np.sort(np.concatenate((box[:of_box], other[: batch_size - of_box])))]


SELECTION_PRESSURE = 100.0
"""How much more probable the hardest RoI is than the easiest in `sample_by_loss_rank`."""


def sample_by_loss_rank(
    loss: np.ndarray,
    rois: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    nms_thresh: float | None,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """`batch_size` RoIs drawn without repetition, the more probably the higher their loss ranks. No NMS.

    Of R RoIs the one of rank i (0 the hardest) has the weight s^(-i / R), s being SELECTION_PRESSURE. Easy RoIs come
    in too, but seldom, and near-copies are not dropped: `nms_thresh` has no effect. Returns int64 indices, hardest
    first.

    The selection probabilities of Loshchilov, Hutter: Online Batch Selection for Faster Training of Neural Networks,
    2015 (arXiv 1511.06343); there over a data set, here over the RoIs of a mini-batch, and with one s for all of the
    training.
    """
    order = descending(loss)
    log_weight = -np.log(SELECTION_PRESSURE) * np.arange(len(order)) / max(len(order), 1)
    # The largest of log weight + Gumbel noise: a draw by weight without repetition, in one go
    drawn = np.argsort(-(log_weight + rng.gumbel(size=len(order))), kind='stable')[:batch_size]
    return order[np.sort(drawn)]


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
