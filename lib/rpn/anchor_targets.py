"""What the anchors of an image should be recognised as: the arithmetic of py-faster-rcnn's anchor_target_layer.py.

An anchor is an object (1), background (0) or neither (-1), which teaches nothing (Faster R-CNN, section 3.1.2).
"""

from typing import NamedTuple

import numpy as np

from fast_rcnn.bbox_transform import bbox_overlaps, bbox_transform
from fast_rcnn.config import cfg
from fast_rcnn.nms import descending
from rpn.sampling import sample


class AnchorTargets(NamedTuple):
    """For each of n anchors, float32: its label, (n,), the box regression towards its object, and the weights inside
    and outside the smooth L1 loss, (n, 4) each.
    """

    labels: np.ndarray
    bbox_targets: np.ndarray
    inside_weights: np.ndarray
    outside_weights: np.ndarray


def anchor_targets(
    anchors: np.ndarray,
    gt_boxes: np.ndarray,
    im_info: np.ndarray,
    border: float,
    rng: np.random.Generator,
    margins: np.ndarray | None = None,
) -> AnchorTargets:
    """The targets of `anchors` (n, 4) in an image with the objects `gt_boxes` (G, 4), G >= 0.

    `im_info` is (height, width, ...) of the image; anchors that leave it by more than `border` pixels are not used.
    Regression is towards the object of the highest IoU, for all anchors used, whatever their label; normalised with
    cfg.TRAIN.RPN_NORMALIZE_TARGETS. The settings are
    those of cfg.TRAIN that begin with RPN_. Which anchors are learned from is drawn from `rng`, or with `margins`
    (n,), by how much the net's score for an object exceeds that for background, up to these: see `hardest`.
    """
    targets = AnchorTargets(np.full(len(anchors), -1, np.float32), *np.zeros((3, len(anchors), 4), np.float32))
    used = np.flatnonzero(inside(anchors, im_info, border))
    overlaps = bbox_overlaps(anchors[used], gt_boxes)
    labels = labelled(overlaps)
    labels = sampled(labels, rng) if margins is None else hardest(labels, margins[used])
    targets.labels[used] = labels
    if len(gt_boxes):
        moves = bbox_transform(anchors[used], gt_boxes[overlaps.argmax(axis=1)])
        if cfg.TRAIN.RPN_NORMALIZE_TARGETS:
            moves = (moves - cfg.TRAIN.RPN_NORMALIZE_MEANS) / cfg.TRAIN.RPN_NORMALIZE_STDS
        targets.bbox_targets[used] = moves
    positive, negative = used[labels == 1], used[labels == 0]
    targets.inside_weights[positive] = cfg.TRAIN.RPN_BBOX_INSIDE_WEIGHTS
    share = cfg.TRAIN.RPN_POSITIVE_WEIGHT
    if share < 0:
        targets.outside_weights[np.concatenate((positive, negative))] = 1 / max(len(positive) + len(negative), 1)
    else:
        targets.outside_weights[positive] = share / max(len(positive), 1)
        targets.outside_weights[negative] = (1 - share) / max(len(negative), 1)
    return targets


def inside(anchors: np.ndarray, im_info: np.ndarray, border: float) -> np.ndarray:
    """Which of `anchors` (n, 4) leave the image by no more than `border` pixels: (n,) bool."""
    height, width = im_info[:2]
    begin, end = anchors[:, :2], anchors[:, 2:]
    return np.all(begin >= -border, axis=1) & np.all(end < (width + border, height + border), axis=1)


def labelled(overlaps: np.ndarray) -> np.ndarray:
    """Labels (n,) int8 of anchors by their IoU with each object, `overlaps` (n, G).

    Objects: the anchors nearest to some object (all that share the highest IoU), and those of RPN_POSITIVE_OVERLAP or
    more. Background: those below RPN_NEGATIVE_OVERLAP with every object. Who is both is an object unless
    RPN_CLOBBER_POSITIVES. An object that no anchor touches has no nearest one (in the original all are).
    """
    best = overlaps.max(axis=1, initial=0)
    nearest = overlaps.max(axis=0, initial=0)
    positive = ((overlaps == nearest) & (nearest > 0)).any(axis=1) | (best >= cfg.TRAIN.RPN_POSITIVE_OVERLAP)
    negative = best < cfg.TRAIN.RPN_NEGATIVE_OVERLAP
    labels = np.full(len(overlaps), -1, dtype=np.int8)
    labels[positive] = 1
    labels[negative if cfg.TRAIN.RPN_CLOBBER_POSITIVES else negative & ~positive] = 0
    return labels


def sampled(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`labels` with those of all but RPN_BATCHSIZE anchors set to -1, of which objects are RPN_FG_FRACTION at most."""
    size = cfg.TRAIN.RPN_BATCHSIZE
    positive = sample(np.flatnonzero(labels == 1), int(cfg.TRAIN.RPN_FG_FRACTION * size), rng)
    negative = sample(np.flatnonzero(labels == 0), size - len(positive), rng)
    kept = np.full_like(labels, -1)
    kept[positive], kept[negative] = 1, 0
    return kept


def hardest(labels: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """`labels` with those of all but the RPN_BATCHSIZE anchors of the largest classification loss set to -1.

    `margins` (n,) are scores for an object less those for background. There is no share of objects: the loss finds
    them, as for RoIs.
    """
    loss = np.logaddexp(0, np.where(labels == 1, -margins, margins))
    order = descending(np.where(labels < 0, -np.inf, loss))[: cfg.TRAIN.RPN_BATCHSIZE]
    kept = np.full_like(labels, -1)
    kept[order] = labels[order]
    return kept
