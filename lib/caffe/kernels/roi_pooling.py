"""Max-pooling of RoIs into bins, forward and backward (roi_pooling_layer.cu; Girshick, 'Fast R-CNN', section 2.1).

Each maximum is looked up in a table of the maxima of blocks, so that large RoIs cost as much as small ones. On a GPU
Triton's kernels serve where they can (roi_pooling_triton.py), and torch's operations, as here, where they cannot.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
from collections.abc import Callable
from typing import Any

import torch

from caffe.kernels.deferred import Rows
from caffe.kernels.host_memory import workspace
from caffe.kernels.roi_bins import Bins, reached_places, unreached_bins

_TABLE_BYTES = 256 * 2**20  # the largest table of block maxima on a GPU
# What is worked on at once on a CPU: the table and the bins stay in its caches.
_CPU_CHANNELS, _CPU_ROIS = 128, 32
_CPU_CHANNELS_WITH_PLACES = 32  # of eight bytes a value instead of four
_CPU_ROIS_BACK = 4


def block_maxima(maps: torch.Tensor, levels: tuple[int, int]) -> torch.Tensor:
    """The maxima of all blocks of 2**i x 2**j pixels, a sparse table for range-maximum queries.

    maps: (N, H, W, C), any type; levels: how many powers of two down and across, from 1 pixel on. Returns
    (levels[0] * levels[1] * N * H * W + 1, C): row ((i * levels[1] + j) * N + n) * H * W + y * W + x is the
    block of image n that begins at (y, x), if it ends within the map; the last row is zero.

    Any rectangle is the union of four such blocks, which may overlap: its maximum is one of four rows,
    however large it is (Bender and Farach-Colton, 'The LCA problem revisited', 2000, in two dimensions).
    """
    n, h, w, c = maps.shape
    rows = maps.new_empty((levels[0] * levels[1] * n * h * w + 1, c))
    rows[-1] = 0
    blocks = rows[:-1].view(*levels, n, h, w, c)
    blocks[0, 0] = maps
    for i in range(levels[0]):
        if i > 0:
            half, fits = 2 ** (i - 1), h - 2**i + 1
            shorter, out = blocks[i - 1, 0], blocks[i, 0, :, :fits]
            torch.maximum(shorter[:, :fits], shorter[:, half : half + fits], out=out)
        for j in range(1, levels[1]):
            half, fits = 2 ** (j - 1), w - 2**j + 1
            shorter, out = blocks[i, j - 1], blocks[i, j, :, :, :fits]
            torch.maximum(shorter[:, :, :fits], shorter[:, :, half : half + fits], out=out)
    return rows


def block_rows(
    down: Bins, across: Bins, image: torch.Tensor, shape: tuple[int, int, int], levels: tuple[int, int]
) -> torch.Tensor:
    """The rows of `block_maxima` whose maximum is that of each bin: (4, R * bins down * bins across) int64.

    image: (R,) int64; shape: (N, H, W) of the maps. A bin without pixels gets the last row, four times.
    """
    n, h, w = shape

    # Along an axis the two longest blocks that fit cover a bin: one begins where it begins, one ends where it ends.
    def corners(bins: Bins, n_levels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        length = bins.high - bins.low
        powers = 2 ** torch.arange(1, n_levels, device=length.device)
        level = (length[..., None] >= powers).sum(dim=-1)
        return level, bins.low, bins.high - 2**level

    i, top, bottom = (t[:, :, None] for t in corners(down, levels[0]))
    j, left, right = (t[:, None, :] for t in corners(across, levels[1]))
    block = ((i * levels[1] + j) * n + image[:, None, None]) * (h * w)
    rows = torch.stack([block + y * w + x for y in (top, bottom) for x in (left, right)])
    empty = (down.high <= down.low)[:, :, None] | (across.high <= across.low)[:, None, :]
    return rows.masked_fill_(empty, levels[0] * levels[1] * n * h * w).flatten(1)


# A maximum that remembers where it was: value and place in one 64-bit key. Keys compare as the values do; of
# equal values the one with the smaller place is the larger key. The key 0 means value 0 at place -1.


def to_keys(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """int64 keys of float32 values at these places (0 ... 2**31 - 1)."""
    # + 0.0 makes -0 the equal of 0; a NaN with the sign bit, such as inf - inf is on x86, would be the smallest of all
    bits = torch.where(values.isnan(), float('nan'), values + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (places ^ 0xFFFFFFFF)


def from_keys(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The values (float32) and places (int32) of `to_keys`."""
    ordered = (keys >> 32).int()
    values = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return values, (((keys ^ 0xFFFFFFFF) << 32) >> 32).int()


_triton_serves = True  # until it does not


def _by_triton(function: str, *args) -> Any:
    """What this function of roi_pooling_triton.py returns; None, and one warning, where Triton is missing or refuses.

    For tensors on a GPU. Without Triton torch's operations give the same, in more memory.
    """
    global _triton_serves
    if not _triton_serves:
        return None
    try:
        return getattr(importlib.import_module('caffe.kernels.roi_pooling_triton'), function)(*args)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # of any kind: it may come from the compiler, the assembler or the driver
        _triton_serves = False
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        logging.getLogger(__name__).warning('RoIs are pooled on the GPU without Triton, in more memory (%s)', reason)
        return None


def roi_max_pool(
    x: torch.Tensor,
    down: Bins,
    across: Bins,
    image: torch.Tensor,
    argmax: bool,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The maximum of each bin of each RoI: (R, C, bins down, bins across), 0 for a bin without pixels.

    x: (N, C, H, W) float32 feature maps; image: (R,) int64, 0 ... N - 1. With `argmax` also the places y * W
    + x of the maxima, int32 (R, C, bins down * bins across): the first in reading order of equals, -1 for a
    bin without pixels. `out` is memory for the maxima: 200 MB for 2000 RoIs of VGG16, which are slow to
    allocate again in each pass.
    """
    if x.is_cuda and (pooled := _by_triton('roi_max_pool', x, down, across, image, argmax, out)) is not None:
        return pooled
    (n, c, h, w), rois = x.shape, image.shape[0]
    n_bins = down.low.shape[1] * across.low.shape[1]
    shape = (rois, c, down.low.shape[1], across.low.shape[1])
    top = x.new_empty(shape) if out is None else out
    place = torch.empty((rois, c, n_bins), dtype=torch.int32, device=x.device) if argmax else None
    if top.numel() == 0:
        return top, place
    levels = _levels(down, h), _levels(across, w)
    index = block_rows(down, across, image, (n, h, w), levels)
    some_channels, some_rois = _portions(x, levels, n_bins, argmax)
    for first in range(0, c, some_channels):
        part = slice(first, first + some_channels)
        _pool_channels(x[:, part], index, levels, some_rois, top[:, part], None if place is None else place[:, part])
    return top, place


def _pool_channels(
    x: torch.Tensor,
    index: torch.Tensor,
    levels: tuple[int, int],
    some_rois: int,
    top: torch.Tensor,
    place: torch.Tensor | None = None,
) -> None:
    """`roi_max_pool` of a few channels, `some_rois` at a time, into `top` and `place`; index: from `block_rows`."""
    n_bins = top.shape[2] * top.shape[3]
    maps = x.permute(0, 2, 3, 1)
    if place is not None:
        h, w = x.shape[2:]
        maps = to_keys(maps, torch.arange(h * w, device=x.device).view(h, w, 1))
    rows = block_maxima(maps, levels)
    for r in range(0, top.shape[0], some_rois):
        blocks = index[:, r * n_bins : (r + some_rois) * n_bins]
        best = rows.index_select(0, blocks[0])
        for k in range(1, 4):
            torch.maximum(best, rows.index_select(0, blocks[k]), out=best)
        best = best.view(-1, n_bins, x.shape[1]).transpose(1, 2)
        part = slice(r, r + best.shape[0])
        if place is not None:
            best, place[part] = from_keys(best)
        top[part] = best.view(-1, *top.shape[1:])


def pool_some_channels(
    x: torch.Tensor,
    down: Bins,
    across: Bins,
    image: torch.Tensor,
    visit: Callable[[slice, torch.Tensor], None],
) -> None:
    """Calls visit(columns, block (R, columns)) with the rows of `roi_max_pool`, flattened, block by block; on a CPU.

    At once they would be 200 MB for 2000 RoIs of VGG16; a block is multiplied while it is in the caches.
    """
    (n, c, h, w), rois = x.shape, image.shape[0]
    pooled = down.low.shape[1], across.low.shape[1]
    levels = _levels(down, h), _levels(across, w)
    index = block_rows(down, across, image, (n, h, w), levels)
    for first in range(0, c, _CPU_CHANNELS):
        maps = x[:, first : first + _CPU_CHANNELS]
        start, end = (channel * math.prod(pooled) for channel in (first, first + maps.shape[1]))
        with workspace() as allocate:
            block = allocate(rois, maps.shape[1], *pooled)
            _pool_channels(maps, index, levels, _CPU_ROIS, block)
            visit(slice(start, end), block.flatten(1))


def rows_that_repeat(x: torch.Tensor, down: Bins, across: Bins, image: torch.Tensor) -> Rows | None:
    """The result of `roi_max_pool`, with RoIs that round to the same pixels pooled once; None where few are alike.

    "Few" is less than a tenth. Proposals have more: at a stride of 16 pixels many cover the same features. A reader of
    rows (InnerProduct) then computes each of them once too, and the pooled features are in memory as a whole only if
    somebody reads them. None on a GPU, where to find them the host would have to wait.
    """
    if x.is_cuda:
        return None
    corners = torch.stack([image, down.start, down.end, across.start, across.end], dim=1)
    distinct, index = torch.unique(corners, dim=0, return_inverse=True)
    if len(distinct) > 0.9 * len(corners):
        return None
    first = torch.empty(len(distinct), dtype=torch.long)
    first[index] = torch.arange(len(index))  # one of those alike, whichever is written last
    width = x.shape[1] * down.low.shape[1] * across.low.shape[1]
    down, across = (Bins(*(t[first] for t in bins)) for bins in (down, across))
    features = x.clone()  # a copy, which is small: the caller may change them before somebody reads the rows
    visit = functools.partial(pool_some_channels, features, down, across, image[first])
    return Rows(visit, (len(distinct), width), index)


def _levels(bins: Bins, size: int) -> int:
    """How many powers of two the longest bin needs; on a GPU, not to wait for it, the longest possible."""
    longest = size if bins.low.is_cuda or not bins.low.numel() else int((bins.high - bins.low).max())
    return max(longest, 1).bit_length()


def _portions(x: torch.Tensor, levels: tuple[int, int], n_bins: int, argmax: bool) -> tuple[int, int]:
    """How many channels, and of these how many RoIs, to work on at once."""
    if not x.is_cuda:
        return _CPU_CHANNELS_WITH_PLACES if argmax else _CPU_CHANNELS, _CPU_ROIS
    item = 8 if argmax else 4
    per_channel = levels[0] * levels[1] * x.shape[0] * x.shape[2] * x.shape[3] * item
    channels = min(x.shape[1], max(1, _TABLE_BYTES // per_channel))
    return channels, max(1, _TABLE_BYTES // (n_bins * channels * item))


def roi_max_pool_backward(
    diff: torch.Tensor, place: torch.Tensor, down: Bins, across: Bins, image: torch.Tensor, shape: torch.Size
) -> torch.Tensor:
    """The gradient of `roi_max_pool` for maps of this shape: each bin's goes to the place of its maximum.

    diff: (R, C, bins down, bins across). Pixels that Caffe's backward pass does not reach get nothing
    (`Bins.reached`).
    """
    if diff.is_cuda:
        gradient = _by_triton('roi_max_pool_backward', diff, place, down, across, image, shape)
        if gradient is not None:
            return gradient
    n, c, h, w = shape
    rois, _, p, q = diff.shape
    # Each plane begins with a place, -1, for gradients that belong to no pixel. It is cut off in the end.
    stride = 1 + h * w
    planes = diff.new_zeros((n, c, stride))
    first = (image[:, None] * c + torch.arange(c, device=diff.device)) * stride + 1
    unreached = unreached_bins(down, across, (h, w))
    portion = rois if diff.is_cuda else _CPU_ROIS_BACK
    for r in range(0, rois, portion):
        part = slice(r, r + portion)
        target = place[part].long()
        # On a GPU all are looked at: to ask whether any has to be would mean to wait for the answer.
        which = None if diff.is_cuda else unreached[part].nonzero()[:, 0]
        if which is None or len(which):
            rows = slice(None) if which is None else which
            some_down, some_across = (Bins(*(t[part][rows] for t in axis)) for axis in (down, across))
            some = target[rows]
            reached = reached_places(some.clamp(min=0).view(-1, c, p, q), some_down, some_across, (h, w))
            target[rows] = some.masked_fill_(~reached.flatten(2), -1)
        target += first[part, :, None]
        planes.view(-1).scatter_add_(0, target.view(-1), diff[part].reshape(-1))
    return planes[:, :, 1:].reshape(shape)
