"""Which proposals of an image to learn from, and what they show: py-faster-rcnn's proposal_target_layer.py."""

import numpy as np

from fast_rcnn.bbox_transform import bbox_overlaps, bbox_transform, targets_by_class
from fast_rcnn.config import cfg
from rpn.sampling import sample


def choose_rois(
    boxes: np.ndarray, gt_boxes: np.ndarray, gt_classes: np.ndarray, quota: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of `boxes` (n, 4) to learn from, foreground first; the class (0: background) and the object of each.

    `gt_boxes` (G, 4) and `gt_classes` (G,) are the objects, G >= 0. `quota` rows at most, of them cfg.TRAIN.FG_FRACTION
    foreground at most, drawn from `rng`; with cfg.TRAIN.USE_OHEM all rows, for the mining to choose among. What is
    foreground or background is up to cfg.TRAIN.FG_THRESH, BG_THRESH_LO and BG_THRESH_HI. Returns (m,) each, m >= 0.
    """
    overlaps = bbox_overlaps(boxes, gt_boxes)
    best = overlaps.max(axis=1, initial=0)
    foreground = np.flatnonzero(best >= cfg.TRAIN.FG_THRESH)
    background = np.flatnonzero((best >= cfg.TRAIN.BG_THRESH_LO) & (best < cfg.TRAIN.BG_THRESH_HI))
    if not cfg.TRAIN.USE_OHEM:
        foreground = sample(foreground, int(np.round(cfg.TRAIN.FG_FRACTION * quota)), rng)
        background = sample(background, quota - len(foreground), rng)
    rows = np.concatenate((foreground, background))
    objects = overlaps[rows].argmax(axis=1) if len(gt_boxes) else np.zeros(len(rows), dtype=np.int64)
    classes = np.zeros(len(rows), dtype=np.float32)
    classes[: len(foreground)] = gt_classes[objects[: len(foreground)]]
    return rows, classes, objects


def roi_targets(
    boxes: np.ndarray, classes: np.ndarray, gt_boxes: np.ndarray, objects: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """bbox_targets and bbox_inside_weights, (n, 4 * num_classes) float32 each, of `boxes` (n, 4).

    Row r of `boxes` is to move to row `objects[r]` of `gt_boxes` if `classes[r]` (n,) is above 0. Targets are
    normalised by cfg.TRAIN.BBOX_NORMALIZE_MEANS and _STDS if cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED. They stand
    in the columns of the class, with cfg.TRAIN.AGNOSTIC in those of class 1.
    """
    rows = np.flatnonzero(classes > 0)
    compact = np.zeros((len(boxes), 5), dtype=np.float32)
    targets = bbox_transform(boxes[rows], gt_boxes[objects[rows]])
    if cfg.TRAIN.BBOX_NORMALIZE_TARGETS and cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED:
        targets = (targets - cfg.TRAIN.BBOX_NORMALIZE_MEANS) / cfg.TRAIN.BBOX_NORMALIZE_STDS
    compact[rows, 0], compact[rows, 1:] = 1 if cfg.TRAIN.AGNOSTIC else classes[rows], targets
    return targets_by_class(compact, num_classes, cfg.TRAIN.BBOX_INSIDE_WEIGHTS)
