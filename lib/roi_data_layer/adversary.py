"""The adversary of A-Fast-RCNN: which cells of a pooled RoI to drop, so that it is hard to classify.

Wang, Shrivastava, Gupta: A-Fast-RCNN, Hard Positive Generation via Adversary for Object Detection, CVPR 2017
(arXiv 1704.03414), section 4.1; the arithmetic is that of the released code (xiaolonw/adversarial-frcnn,
roi_data_layer/layer.py). A small network, the adversarial spatial dropout network (ASDN), says of each cell of an
RoI's P x P features how probable it is that the detector needs it. It is trained first on what dropping one block after
the other does to a detector that stands still, then together with it.

Pure functions of arrays; `adversary_layers` holds the layers over them. In masks 1 is a cell that is dropped.
"""

import numpy as np

_STREAM = 8  # of random numbers; rpn.sampling tells of the others


def adversary_rng(seed: int, n: int) -> np.random.Generator:
    """The generator for the cells dropped in forward pass number `n`: a pure function of (RNG_SEED, n)."""
    return np.random.default_rng([seed, _STREAM, n])


def leaves_alone(n: int, iter_size: int, maintain_before: int) -> bool:
    """Whether the adversary has no part in pass number `n`: so many of the `iter_size` passes of an iteration.

    The passes are counted as in the released code, from 1 and modulo iter_size: with iter_size 2 and maintain_before 1
    the first pass of an iteration is spoilt and the second one is not.
    """
    return (n + 1) % iter_size < maintain_before


def blocks(cells: int, drop_size: int, drop_stride: int) -> np.ndarray:
    """The attempts at hiding a part of an RoI: (A, cells, cells) float32, each 1 in a block and 0 elsewhere.

    Blocks of `drop_size` cells a side stand `drop_stride` apart, row by row: A = ceil(cells / drop_stride)^2. One that
    reaches over the border is moved back by one cell, and what is still beyond it is cut off.
    """
    starts = np.arange(0, cells, drop_stride)
    starts = np.where(starts + drop_size > cells, np.maximum(starts - 1, 0), starts)
    place = np.arange(cells)
    along = (place >= starts[:, None]) & (place < starts[:, None] + drop_size)  # (starts, cells)
    both = along[:, None, :, None] & along[None, :, None, :]
    return both.reshape(-1, cells, cells).astype(np.float32)


def without_blocks(features: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`features` (N, C, P, P) once for each mask (A, P, P), with its cells zero, and the masks as often.

    Returns (A * N, C, P, P) and (A * N, 1, P, P), all RoIs of the first mask first.
    """
    kept = (1 - masks)[:, None, None] * features
    repeated = np.repeat(masks[:, None], len(features), axis=0)
    return kept.reshape(-1, *features.shape[1:]), repeated.astype(np.float32)


def most_harmful(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The attempt that leaves each RoI the lowest probability of its class: (N,) int64, the first of equal ones.

    `probability` (A * N, K), all RoIs of the first attempt first; `labels` (N,) in [0, K).
    """
    labels = labels.astype(np.int64)
    attempts = probability.reshape(-1, len(labels), probability.shape[-1])
    return attempts[:, np.arange(len(labels)), labels].argmin(axis=0)


def cells_to_drop(
    need: np.ndarray,
    labels: np.ndarray,
    count_drop: int,
    permute_count: int,
    count_drop_neg: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Which cells are dropped: (N, 1, P, P) float32, 1 where one is.

    `need` (N, 1, P, P): how much the adversary thinks that each cell is needed. Of an object (`labels` (N,) above 0)
    `count_drop` cells, drawn from the `permute_count` that are needed most; of background `count_drop_neg` of all.
    """
    flat = need.reshape(len(need), -1)
    cells = np.arange(flat.shape[1])
    by_need = np.argsort(-flat, axis=1, kind='stable')
    objects = labels.reshape(-1, 1) > 0
    candidates = np.where(objects, min(permute_count, len(cells)), len(cells))
    # A random order of the cells by their rank in need, candidates before the others; the first of it are dropped
    key = rng.random(flat.shape) + (cells >= candidates)
    shuffled = np.take_along_axis(by_need, np.argsort(key, axis=1, kind='stable'), axis=1)
    count = np.minimum(np.where(objects, count_drop, count_drop_neg), candidates)
    dropped = np.zeros(flat.shape, np.float32)
    np.put_along_axis(dropped, shuffled, (cells < count).astype(np.float32), axis=1)
    return dropped.reshape(need.shape)


def deceived(before: np.ndarray, after: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """The objects that dropping cells has made harder: (N,) bool.

    `before`, `after` (N, K) class probabilities with all cells and without those dropped; an object counts if the
    probability of its class fell by more than `threshold`.
    """
    labels = labels.reshape(-1).astype(np.int64)
    rows = np.arange(len(labels))
    return (labels > 0) & (after[rows, labels].astype(np.float64) + threshold < before[rows, labels])


def mask_loss(scores: np.ndarray, masks: np.ndarray, counts: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Cross-entropy of the adversary's `scores` (N, 1, P, P), before the sigmoid, against `masks`: (loss, gradient).

    The mean over all cells of all RoIs; of RoIs that do not count (`counts` (N,) bool) the cells are in the number that
    is divided by, and nowhere else. 0 without RoIs. The gradient has the shape of `scores`.
    """
    weight = np.ones(len(scores)) if counts is None else counts.astype(np.float64)
    weight = weight.reshape(-1, 1, 1, 1) / max(scores.size, 1)
    scores, masks = scores.astype(np.float64), masks.astype(np.float64)
    cells = np.maximum(scores, 0) - scores * masks + np.log1p(np.exp(-np.abs(scores)))
    # 1 / (1 + exp(-x)) without overflow
    probability = np.exp(np.minimum(scores, 0)) / (1 + np.exp(-np.abs(scores)))
    return float((cells * weight).sum()), (probability - masks) * weight
