"""Arithmetic on boxes (x1, y1, x2, y2) in NumPy float32: overlaps, codes beside a prior, suppression, matching.

Corners are numbers, not pixels: a box is x2 - x1 wide (bbox_util.cpp of SSD's Caffe, where boxes are fractions of the
image).
"""

from __future__ import annotations

import numpy as np

CORNER, CENTER_SIZE, CORNER_SIZE = 'CORNER', 'CENTER_SIZE', 'CORNER_SIZE'


def areas(boxes: np.ndarray) -> np.ndarray:
    """(...,) areas of boxes (..., 4); 0 where a box ends before it starts."""
    size = boxes[..., 2:] - boxes[..., :2]
    return np.where((size < 0).any(-1), 0, size[..., 0] * size[..., 1])


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(A, B) intersections over unions of boxes (A, 4) and (B, 4); 0 where two do not meet."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    size = (high - low).clip(min=0)
    common = size[..., 0] * size[..., 1]
    union = areas(first)[:, None] + areas(second) - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def encode(boxes: np.ndarray, priors: np.ndarray, variances: np.ndarray | None, code: str) -> np.ndarray:
    """What a net has to predict beside `priors` for `boxes`; all (P, 4), variances None for ones.

    CORNER: differences of corners; CORNER_SIZE: these over the prior's size; CENTER_SIZE: differences of centres over
    the prior's size, and logarithms of ratios of sizes. All are divided by the variances.
    """
    size = priors[:, 2:] - priors[:, :2]
    if code == CENTER_SIZE:
        centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - (priors[:, :2] + priors[:, 2:]) / 2) / size
        codes = np.concatenate([centre, np.log((boxes[:, 2:] - boxes[:, :2]) / size)], axis=1)
    else:
        codes = boxes - priors
        if code == CORNER_SIZE:
            codes = codes / np.tile(size, 2)
    return codes if variances is None else codes / variances


def decode(codes: np.ndarray, priors: np.ndarray, variances: np.ndarray | None, code: str) -> np.ndarray:
    """The boxes (..., P, 4) whose codes these are: the inverse of `encode`."""
    codes = codes if variances is None else codes * variances
    size = priors[:, 2:] - priors[:, :2]
    if code == CENTER_SIZE:
        centre = (priors[:, :2] + priors[:, 2:]) / 2 + codes[..., :2] * size
        half = np.exp(codes[..., 2:]) * size / 2
        return np.concatenate([centre - half, centre + half], axis=-1)
    return priors + (codes * np.tile(size, 2) if code == CORNER_SIZE else codes)


def highest(scores: np.ndarray, count: int = -1) -> np.ndarray:
    """Indices of the `count` highest scores, highest first, all for -1; of equal ones the earlier comes first."""
    order = np.argsort(-scores, kind='stable')
    return order if count < 0 else order[:count]


def suppress(boxes: np.ndarray, threshold: float, eta: float = 1.0) -> np.ndarray:
    """Indices of boxes (best first) that overlap none of those kept before by more than the threshold.

    eta: below 1, the threshold is multiplied by it after each box that stays, while it is above 0.5.
    """
    kept: list[int] = []
    worst = np.zeros(len(boxes), np.float32)  # the largest overlap with a box that stays
    for i in range(len(boxes)):
        if worst[i] > threshold:
            continue
        kept.append(i)
        if i + 1 < len(boxes):
            np.maximum(worst[i + 1 :], overlaps(boxes[i : i + 1], boxes[i + 1 :])[0], out=worst[i + 1 :])
        if eta < 1 and threshold > 0.5:
            threshold *= eta
    return np.array(kept, np.int64)


def match(
    boxes: np.ndarray, objects: np.ndarray, threshold: float | None, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which object each box shows, -1 for none, and the box's largest overlap with any; (P,) each (MatchBBox).

    First the pair that overlaps most is matched, then the next of what is left, until each object has a box or
    overlaps none that is left. Then, with a threshold, other boxes show the object that they overlap most, if by as
    much. boxes: (P, 4); objects: (G, 4); allowed: (P,) bool, the boxes that may be matched: others get -2.
    """
    shown = np.where(allowed, -1, -2)
    if not len(objects):
        return np.full(len(boxes), -1), np.zeros(len(boxes), np.float32)
    overlap = overlaps(boxes, objects)
    overlap[(overlap <= 1e-6) | ~allowed[:, None]] = 0
    free = overlap.copy()
    for _ in range(len(objects)):
        i, j = np.unravel_index(np.argmax(free), free.shape) if free.size else (0, 0)
        if not free.size or free[i, j] <= 0:
            break
        shown[i] = j
        free[i], free[:, j] = 0, 0
    if threshold is not None:
        best = overlap.max(1)
        also = (shown == -1) & (best >= threshold) & (best > 0)
        shown[also] = overlap.argmax(1)[also]
    return shown, overlap.max(1)
