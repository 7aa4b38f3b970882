"""Greedy non-maximum suppression, to the digit that of Fast R-CNN's CPU code (cpu_nms.pyx).

Boxes are taken best first; each one taken suppresses those after it whose IoU with it is *at least* the
threshold. Coordinates, areas and IoU are float32, widths count both end pixels. Among equal
scores the earlier row comes first (the original left that order open).
"""

import numpy as np

# Boxes taken at once: larger blocks waste work on boxes soon suppressed, smaller ones have too much overhead
_BLOCKS = 128, 512

# Boxes of a block that are compared with all kept ones of like area
_PART = 64

# Up to so many pairs of kept ones and a block, sorting by area costs more than it saves
_FEW = 1 << 17

# Pairs compared at once: their numbers stay in a core's own cache
_PAIRS = 1 << 16

_ZERO, _ONE = np.float32(0), np.float32(1)


def nms(dets: np.ndarray, thresh: float, limit: int | None = None) -> np.ndarray:
    """Rows of `dets` (n, 5) = (x1, y1, x2, y2, score) that survive suppression at IoU >= `thresh`.

    Returns int64 indices, best first; with `limit` the first so many of them.
    """
    order = descending(dets[:, 4].astype(np.float32, copy=False))
    suppressor = _scan(dets[order, :4], None, thresh, len(dets) if limit is None else limit)
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
    """`suppressors` for boxes that are sorted already.

    A block of boxes is compared with the kept ones, what is left of it within itself. Two boxes of IoU t have areas in
    a ratio of t at least, so with both sorted by area a part of the block meets a part of the kept boxes only.
    """
    n = len(boxes)
    pairs = _Pairs(boxes, groups, thresh)
    ratio = max(thresh * (1 - 1e-4), 0)  # below the threshold by more than the rounding errors of areas and IoU
    suppressor = np.full(n, -1, dtype=np.int64)
    kept = np.empty(0, dtype=np.int64)
    start = 0
    while start < n and len(kept) < limit:
        end = min(start + min(max(len(kept), _BLOCKS[0]), _BLOCKS[1]), n)
        block = np.arange(start, end)
        if len(kept):
            if len(kept) * len(block) <= _FEW:
                hit = pairs.reached(kept, block)
                gone = hit.any(axis=0)
                suppressor[block[gone]] = kept[hit[:, gone].argmax(axis=0)]
            else:
                suppressor[block] = _first_of_like_area(pairs, block, kept, ratio)
            block = block[suppressor[block] < 0]
        hit = pairs.reached(block, block)
        np.fill_diagonal(hit, True)  # a box that is kept counts as its own suppressor, whatever its area
        chosen = np.array(_greedy(hit, limit - len(kept)), dtype=np.int64)
        if len(chosen):
            hit = hit[chosen]
            gone = hit.any(axis=0)
            # a box is suppressed by the first kept row that reaches it
            suppressor[block[gone]] = block[chosen[hit[:, gone].argmax(axis=0)]]
            if end < n:
                kept = np.concatenate((kept, block[chosen]))
        start = end
    return suppressor


def _first_of_like_area(pairs: '_Pairs', block: np.ndarray, kept: np.ndarray, ratio: float) -> np.ndarray:
    """`pairs.first_to_reach` of `block`, with only those pairs compared whose areas allow it."""
    kept = kept[np.argsort(pairs.areas[kept])]
    by_area = np.argsort(pairs.areas[block])
    first = np.empty(len(block), dtype=np.int64)
    for part in np.split(by_area, range(_PART, len(block), _PART)):
        near = kept
        if ratio > 0:
            smallest, largest = pairs.areas[block[part[[0, -1]]]]
            low, high = np.searchsorted(pairs.areas[kept], (smallest * ratio, largest / ratio))
            near = kept[low : high + 1]
        first[part] = pairs.first_to_reach(block[part], near)
    return first


class _Pairs:
    """Which of `boxes` (n, 4) reach which: of one group (n,), if any are given, and of an IoU of `thresh` at least.

    Attribute: areas (n,) float32.
    """

    def __init__(self, boxes: np.ndarray, groups: np.ndarray | None, thresh: float):
        self._corners = np.ascontiguousarray(boxes.T, dtype=np.float32)
        x1, y1, x2, y2 = self._corners
        self.areas = (x2 - x1 + _ONE) * (y2 - y1 + _ONE)
        self._groups = groups
        self._least = _float32_at_least(thresh)
        self._most = min(_PAIRS, len(boxes) ** 2)
        self._room = np.empty(3 * self._most, dtype=np.float32)

    def first_to_reach(self, part: np.ndarray, others: np.ndarray) -> np.ndarray:
        """For each box of `part` the lowest of `others` that reaches it, -1 if none does: (len(part),) int64."""
        reached = self.reached(part, others)
        rows = np.flatnonzero(reached.any(axis=1))
        first = np.full(len(part), -1, dtype=np.int64)
        first[rows] = np.where(reached[rows], others, len(self.areas)).min(axis=1, initial=len(self.areas))
        return first

    def reached(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(len(rows), len(columns)) bool."""
        found = np.empty((len(rows), len(columns)), dtype=bool)
        # take, not corners[:, rows], whose memory layout would slow down every line of _compare
        b, areas_b = self._corners.take(columns, axis=1), self.areas.take(columns)
        a, areas_a = (b, areas_b) if rows is columns else (self._corners.take(rows, axis=1), self.areas.take(rows))
        a, areas_a = a[:, :, None], areas_a[:, None]
        step = max(self._most // max(len(columns), 1), 1)
        for i in range(0, len(rows), step):
            few = slice(i, i + step)
            self._compare(a[:, few], b, areas_a[few], areas_b, found[few])
        if self._groups is not None:
            found &= self._groups[rows, None] == self._groups[columns]
        return found

    def _compare(self, a, b, areas_a, areas_b, out) -> None:
        width, height, spare = self._room[: 3 * out.size].reshape(3, *out.shape)
        np.minimum(a[2], b[2], out=width)
        width -= np.maximum(a[0], b[0], out=spare)
        width += _ONE
        np.maximum(width, _ZERO, out=width)
        np.minimum(a[3], b[3], out=height)
        height -= np.maximum(a[1], b[1], out=spare)
        height += _ONE
        np.maximum(height, _ZERO, out=height)
        width *= height
        shared, union = width, np.add(areas_a, areas_b, out=spare)
        union -= shared
        with np.errstate(invalid='ignore', divide='ignore'):  # boxes without pixels: 0 / 0 reaches nothing
            np.greater_equal(np.divide(shared, union, out=union), self._least, out=out)


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
    """The smallest float32 >= `value`: comparing float32 numbers with it is comparing them with `value` itself."""
    nearest = np.float32(value)
    return nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf))
