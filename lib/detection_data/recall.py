"""Recall of region proposals: the share of the objects that some proposal covers well enough.

A detector cannot find what no proposal covers, so this bounds its AP. Average recall (AR) is the mean of the
recall over IoU 0.5 to 1: Hosang et al., "What makes for effective detection proposals?", TPAMI 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detection_data.imdb import imdb
from detection_data.voc_eval import iou_matrix

AR_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES = {'all': (0, np.inf), 'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, np.inf)}
"""Areas in pixels, as COCO divides them: from the first on, below the second."""


def best_overlaps(
    data_set: imdb, max_boxes: int | None = None, images: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The best IoU that a proposal has with each object, difficult ones left out.

    data_set: its `proposal_method` says which proposals. max_boxes: take the first so many of each image; None for
    all. images: the numbers of the images looked at; None for all.

    Returns `(iou, area)` of all objects, float64 (n,); the area in pixels.
    """
    best, areas = [np.zeros(0)], [np.zeros(0)]
    for i in range(data_set.num_images) if images is None else images:
        annotation = data_set.annotation(i)
        objects = annotation['boxes'][~annotation['difficult']].astype(np.float64)
        if len(objects):
            proposals = data_set.proposals_of(i)[:max_boxes]
            best.append(iou_matrix(objects, proposals).max(axis=1, initial=0.0))
            areas.append(np.prod(objects[:, 2:] - objects[:, :2] + 1, axis=1))
    return np.concatenate(best), np.concatenate(areas)


def recall_at(best: np.ndarray, threshold: float) -> float:
    """The share of the objects whose best IoU, (n,), is at least `threshold`; nan if there is none."""
    return float((best >= threshold).mean()) if len(best) else float('nan')


def average_recall(best: np.ndarray) -> float:
    """The mean of `recall_at` over IoU 0.50, 0.55, ..., 0.95."""
    return float(np.mean([recall_at(best, t) for t in AR_THRESHOLDS]))


def recall_table(best: np.ndarray, areas: np.ndarray) -> dict[str, dict[str, float]]:
    """For each of SIZES: `objects`, `recall_50`, `recall_70` and `AR`."""
    table = {}
    for name, (low, high) in SIZES.items():
        of_size = best[(areas >= low) & (areas < high)]
        table[name] = {
            'objects': len(of_size),
            'recall_50': recall_at(of_size, 0.5),
            'recall_70': recall_at(of_size, 0.7),
            'AR': average_recall(of_size),
        }
    return table
