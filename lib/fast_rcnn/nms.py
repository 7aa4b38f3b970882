"""Greedy non-maximum suppression, to the digit that of Fast R-CNN's CPU code (cpu_nms.pyx).

Boxes are taken best first; each one taken suppresses those after it whose IoU with it is *at least* the
threshold. Coordinates, areas and IoU are float32, widths count both end pixels. Among equal
scores the earlier row comes first (the original left that order open).
"""

import numpy as np

# Boxes compared at once: larger blocks waste work on boxes soon suppressed, smaller ones are all overhead
_BLOCK = 128


def nms(dets: np.ndarray, thresh: float) -> np.ndarray:
    """Rows of `dets` (n, 5) = (x1, y1, x2, y2, score) that survive suppression at IoU >= `thresh`.

    Returns int64 indices, best first.
    """
    order = descending(dets[:, 4].astype(np.float32, copy=False))
    suppressor = _scan(dets[order, :4], None, thresh, len(dets))
    return order[suppressor == np.arange(len(dets))]


def suppressors(
    boxes: np.ndarray,
    order: np.ndarray,
    thresh: float,
    groups: np.ndarray | None = None,
    limit: int | None = None,
) -> np.ndarray:
    """Who suppresses whom, when boxes are taken in `order` and only boxes of one group compete.

    `boxes` (n, 4); `order` (n,) row indices, best first; `groups` (n,) int, or None for a single group;
    `limit`: stop once so many boxes are kept. Returns (n,) int64: for each row the row that suppresses it,
    itself if it is kept, -1 if the scan stopped before it.
    """
    limit = len(boxes) if limit is None else limit
    by_rank = _scan(boxes[order], None if groups is None else groups[order], thresh, limit)
    by_row = np.empty(len(boxes), dtype=np.int64)
    by_row[order] = np.where(by_rank < 0, -1, order[by_rank])
    return by_row


def descending(scores: np.ndarray) -> np.ndarray:
    """Indices that sort `scores` (n,) from high to low; among equals, the earlier row first."""
    # Sorting the reversed array and reversing the result again; not argsort(-scores), which puts NaN last:
    # here a loss that is not a number counts as the hardest, and is noticed
    return len(scores) - 1 - np.argsort(scores[::-1], kind='stable')[::-1]


def _scan(boxes: np.ndarray, groups: np.ndarray | None, thresh: float, limit: int) -> np.ndarray:
    """`suppressors` for boxes that are sorted already."""
    limit_iou = _float32_at_least(thresh)
    corners = np.ascontiguousarray(boxes.T, dtype=np.float32)
    one = np.float32(1)
    areas = (corners[2] - corners[0] + one) * (corners[3] - corners[1] + one)

    def hits(rows, columns):
        """(len(rows), len(columns)) bool: the IoU of two boxes of one group reaches the threshold."""
        # take, not corners[:, rows], whose memory layout would slow down every line below
        a, b = corners.take(rows, axis=1)[:, :, None], corners.take(columns, axis=1)
        width = np.minimum(a[2], b[2])
        width -= np.maximum(a[0], b[0])
        width += one
        height = np.minimum(a[3], b[3])
        height -= np.maximum(a[1], b[1])
        height += one
        shared = np.maximum(width, 0, out=width)
        shared *= np.maximum(height, 0, out=height)
        union = areas[rows, None] + areas[columns]
        union -= shared
        with np.errstate(invalid='ignore', divide='ignore'):  # boxes without pixels: 0 / 0 reaches nothing
            reached = np.divide(shared, union, out=union) >= limit_iou
        if groups is not None:
            reached &= groups[rows, None] == groups[columns]
        return reached

    n = len(boxes)
    suppressor = np.full(n, -1, dtype=np.int64)
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, n, _BLOCK):
        if len(kept) >= limit:
            break
        block = np.arange(start, min(start + _BLOCK, n))
        if len(kept):
            hit = hits(kept, block)
            gone = hit.any(axis=0)
            suppressor[block[gone]] = kept[hit[:, gone].argmax(axis=0)]
            block = block[~gone]
        hit = hits(block, block)
        np.fill_diagonal(hit, True)  # a box that is kept counts as its own suppressor, whatever its area
        chosen = np.array(_greedy(hit, limit - len(kept)), dtype=np.int64)
        if len(chosen):
            hit = hit[chosen]
            reached = hit.any(axis=0)
            # the first of the kept rows to reach a box is the one that did it: those before it left it alone
            suppressor[block[reached]] = block[chosen[hit[:, reached].argmax(axis=0)]]
            kept = np.concatenate((kept, block[chosen]))
    return suppressor


def _greedy(hit: np.ndarray, limit: int) -> list[int]:
    """Rows kept when a row that no kept row before it suppresses, suppresses the columns where it is True.

    Rows of bits are Python integers: one `or` a kept row, instead of one NumPy call.
    """
    rows = np.packbits(hit, axis=1, bitorder='little')
    suppressed, chosen = 0, []
    for i in range(len(hit)):
        if not suppressed >> i & 1:
            chosen.append(i)
            suppressed |= int.from_bytes(rows[i].tobytes(), 'little')
            if len(chosen) == limit:
                break
    return chosen


def _float32_at_least(value: float) -> np.float32:
    """The smallest float32 >= `value`: comparing float32 numbers with it is comparing them with `value`
    itself.
    """
    nearest = np.float32(value)
    return nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf))
