"""Box voting: a detection's box as the weighted mean of the boxes that agree with it.

Gidaris and Komodakis: Object detection via a multi-region and semantic segmentation-aware CNN model, ICCV
2015, section 4; part of "+B" in the OHEM paper.
"""

import numpy as np

from fast_rcnn.bbox_transform import bbox_overlaps


def vote(kept: np.ndarray, voters: np.ndarray, thresh: float) -> np.ndarray:
    """`kept` (n, 5) = (x1, y1, x2, y2, score) with each box moved to the weighted mean of its voters.

    `voters` (m, 5): all boxes of the class, before NMS. Those whose IoU with a kept box is at least `thresh`
    vote on it, each with its score as weight, or 0 if that is negative (an SVM's may be). Where nobody has
    weight the box stays. Scores stay as they are. Returns a new array in the dtype of `kept`.
    """
    weights = (bbox_overlaps(kept[:, :4], voters[:, :4]) >= thresh) * np.maximum(voters[:, 4], 0)
    total = weights.sum(axis=1, keepdims=True)
    moved = kept.copy()
    means = weights @ voters[:, :4].astype(np.float64) / np.where(total > 0, total, 1)
    moved[:, :4] = np.where(total > 0, means, kept[:, :4])
    return moved
