"""PASCAL VOC average precision: pure functions on arrays.

They compute what the VOC development kit (`VOCevaldet.m`) and Fast R-CNN's `voc_eval.py` compute: boxes
are inclusive pixels (so widths are `x2 - x1 + 1`), a detection is right if its IoU with the ground-truth
box that it overlaps most is *greater* than the threshold, a second detection of the same box is a false
positive, and a detection of a difficult box counts neither way.

Ties: detections of equal score are taken in the order given (image by image, then row by row). The original
leaves that order to an unstable sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TRUE_POSITIVE, FALSE_POSITIVE, IGNORED = 1, 0, -1


class ClassResult(NamedTuple):
    """Evaluation of one class. The APs are nan if the class has no ground truth that counts."""

    recall: np.ndarray
    """(n,) float64, after each detection in order of descending score."""
    precision: np.ndarray
    """(n,) float64."""
    ap_07: float
    """11-point AP, the measure of VOC 2007."""
    ap_area: float
    """Area under the precision envelope, the measure since VOC 2010."""
    ground_truth: int
    """Number of boxes to find (difficult ones excluded)."""
    difficult: int
    detections: int


def voc_ap(recall: np.ndarray, precision: np.ndarray, use_07_metric: bool = False) -> float:
    """Average precision of a recall/precision curve.

    recall: (n,) non-decreasing, in [0, 1]. precision: (n,) in [0, 1]. use_07_metric: the mean of the best precision at
    recalls 0, 0.1, ..., 1 instead of the area.

    Source: VOC development kit, `VOCap.m` and `VOCevaldet.m`; Everingham et al., IJCV 2010, section 4.2.
    """
    recall, precision = np.asarray(recall, np.float64), np.asarray(precision, np.float64)
    # Best precision at this recall or any higher one; a recall that is never reached has precision 0.
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if use_07_metric:
        # np.arange, not linspace: 3 * 0.1 is a little above 0.3, and the original compares with just that.
        first_reaching = np.searchsorted(recall, np.arange(0.0, 1.1, 0.1), side='left')
        return float(sum(envelope[first_reaching] / 11.0))
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * envelope[:-1]))


def iou_matrix(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of inclusive pixel boxes, (n, 4) and (m, 4) -> float64 (n, m)."""
    a, b = np.asarray(boxes, np.float64)[:, None], np.asarray(others, np.float64)[None]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + 1
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + 1
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    area_a = (a[..., 2] - a[..., 0] + 1) * (a[..., 3] - a[..., 1] + 1)
    area_b = (b[..., 2] - b[..., 0] + 1) * (b[..., 3] - b[..., 1] + 1)
    return intersection / (area_a + area_b - intersection)


def match_detections(
    detections: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    difficult: Sequence[np.ndarray],
    iou_threshold: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Decide which detections of one class are right.

    * detections: for each image (n_i, 5): x1, y1, x2, y2, score.
    * boxes: for each image the ground truth of the class, (m_i, 4).
    * difficult: for each image bool (m_i,).
    * iou_threshold: a match needs an IoU greater than this.

    Returns `(scores, outcome)` of all detections in order of descending score: float (n,), and int8 (n,) of
    TRUE_POSITIVE, FALSE_POSITIVE or IGNORED.
    """
    outcomes, all_scores, matches = [], [], []
    boxes_before = 0
    for dets, gt, hard in zip(detections, boxes, difficult, strict=True):
        dets = np.asarray(dets, np.float64).reshape(-1, 5)
        result = np.full(len(dets), FALSE_POSITIVE, np.int8)
        best = np.full(len(dets), -1)
        if len(dets) and len(gt):
            iou = iou_matrix(dets[:, :4], gt)
            nearest = iou.argmax(axis=1)
            overlaps = iou[np.arange(len(dets)), nearest] > iou_threshold
            result[overlaps] = np.where(np.asarray(hard, bool)[nearest[overlaps]], IGNORED, TRUE_POSITIVE)
            best[overlaps] = boxes_before + nearest[overlaps]
        boxes_before += len(gt)
        outcomes.append(result)
        all_scores.append(dets[:, 4])
        matches.append(best)
    if not outcomes:
        return np.zeros(0), np.zeros(0, np.int8)
    scores = np.concatenate(all_scores)
    order = np.argsort(-scores, kind='stable')
    outcome, matched = np.concatenate(outcomes)[order], np.concatenate(matches)[order]

    # Of the detections that match one box, the first (highest score) finds it and the others are duplicates.
    right = np.flatnonzero(outcome == TRUE_POSITIVE)
    _, first = np.unique(matched[right], return_index=True)
    duplicates = np.delete(right, first)
    outcome[duplicates] = FALSE_POSITIVE
    return scores[order], outcome


def evaluate_class(
    detections: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    difficult: Sequence[np.ndarray],
    iou_threshold: float = 0.5,
) -> ClassResult:
    """Recall, precision and both APs of one class. The arguments are those of `match_detections`."""
    _, outcome = match_detections(detections, boxes, difficult, iou_threshold)
    total = sum(len(d) for d in difficult)
    hard = int(sum(np.count_nonzero(d) for d in difficult))
    to_find = total - hard
    found = np.cumsum(outcome == TRUE_POSITIVE)
    wrong = np.cumsum(outcome == FALSE_POSITIVE)
    recall = found / to_find if to_find else np.full(len(outcome), np.nan)
    # While only ignored detections have been seen both counts are 0; the precision is 0 there, as in the
    # original.
    precision = found / np.maximum(found + wrong, np.finfo(np.float64).eps)
    ap_07 = voc_ap(recall, precision, use_07_metric=True) if to_find else float('nan')
    ap_area = voc_ap(recall, precision, use_07_metric=False) if to_find else float('nan')
    return ClassResult(recall, precision, ap_07, ap_area, to_find, hard, len(outcome))


def format_table(results: dict) -> str:
    """The table of a results dictionary (see `imdb.evaluate_detections`): a line a class, then the mean."""
    classes = results['classes']
    width = max([len(name) for name in classes] + [len('class'), len('mean')])
    lines = [f'{"class":<{width}}      AP    objects  detections']
    for name, r in classes.items():
        ap = f'{r["ap"]:.4f}' if np.isfinite(r['ap']) else '   n/a'
        lines.append(f'{name:<{width}}  {ap}  {r["ground_truth"]:9d}  {r["detections"]:10d}')
    mean = f'{results["mAP"]:.4f}' if np.isfinite(results['mAP']) else '   n/a'
    lines.append(
        f'{"mean":<{width}}  {mean}  ({results["metric"]} metric, IoU > {results["iou_threshold"]:g}, '
        f'{results["images"]} images)'
    )
    if results['without_ground_truth']:
        names = ', '.join(results['without_ground_truth'])
        lines.append(f'left out of the mean, having no object to find: {names}')
    return '\n'.join(lines)
