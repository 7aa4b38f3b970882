"""ROIPooling (roi_pooling_layer.cu of Caffe's fast-rcnn branch; Girshick, 'Fast R-CNN', section 2.1)."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from caffe.blob import Blob
from caffe.deferred import Rows
from caffe.glog import warn_once
from caffe.host_memory import workspace
from caffe.layer import Layer, LayerError, register

_TABLE_BYTES = 256 * 2**20  # the largest table of block maxima on a GPU
# What is worked on at once on a CPU: the table and the bins stay in its caches.
_CPU_CHANNELS, _CPU_ROIS = 128, 32
_CPU_CHANNELS_WITH_PLACES = 32  # of eight bytes a value instead of four
_CPU_ROIS_BACK = 4


class Bins(NamedTuple):
    """Where the RoIs' bins lie along one axis of the feature map, in its pixels; int64 but for `length`.

    start, end: (R,) the first and last pixel of each RoI; low, high: (R, P) its P bins, from pixel low to
    before high, clipped to the map; length: (R,) float32, the length of a bin before its borders are rounded
    outwards.
    """

    start: torch.Tensor
    end: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    length: torch.Tensor

    def reached(self, size: int) -> torch.Tensor:
        """(R, P, size) bool: whether the backward pass takes pixel i to lie in bin p.

        Caffe's backward pass asks each pixel for its bins instead of each bin for its pixels, and float32
        rounds the two answers apart now and then; an RoI that ends before it starts has no pixels at all.
        """
        pixel = torch.arange(size, device=self.low.device)
        offset = pixel - self.start[:, None]
        length = self.length[:, None]
        first = (offset.float() / length).floor()[:, None]
        last = ((offset + 1).float() / length).ceil()[:, None]
        p = torch.arange(self.low.shape[1], device=pixel.device)[:, None]
        inside = (pixel >= self.start[:, None]) & (pixel <= self.end[:, None])
        return inside[:, None] & (first <= p) & (p < last)


def bins_along(first: torch.Tensor, last: torch.Tensor, scale: float, pooled: int, size: int) -> Bins:
    """Parts RoIs into bins along one axis, in Caffe's float32 arithmetic.

    first, last: (R,) float32 corners in image pixels, both included; scale: feature pixels in an image pixel;
    pooled: the number of bins; size: the pixels of the feature map. Corners are rounded half away from zero.
    """

    def rounded(corner: torch.Tensor) -> torch.Tensor:
        scaled = (corner * corner.new_tensor(scale)).double()  # + 0.5 is exact in double
        return (scaled.sign() * (scaled.abs() + 0.5).floor()).long()

    start, end = rounded(first), rounded(last)
    length = (end - start + 1).clamp(min=1).float()
    # A tensor, since on a GPU torch multiplies by 1 / pooled where the divisor is a number.
    bin_size = length / torch.full_like(length, pooled)
    edge = torch.arange(pooled + 1, device=first.device, dtype=torch.float32) * bin_size[:, None]
    low = (edge[:, :-1].floor().long() + start[:, None]).clamp(0, size)
    high = (edge[:, 1:].ceil().long() + start[:, None]).clamp(0, size)
    return Bins(start, end, low, high, bin_size)


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
    """What this function of `caffe.roi_triton` returns; None, and one warning, where Triton is missing or refuses.

    For tensors on a GPU. Without Triton torch's operations give the same, in more memory.
    """
    global _triton_serves
    if not _triton_serves:
        return None
    try:
        return getattr(importlib.import_module('caffe.roi_triton'), function)(*args)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # of whatever kind: a compiler, an assembler and a driver have a say
        _triton_serves = False
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        warn_once(f'RoIs are pooled on the GPU without Triton, in more memory ({reason})', 'roi_pooling_layer.cu:1')
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
    bin without pixels. `out` is memory for the maxima: 200 MB for 2000 RoIs of VGG16, which the system takes
    long to hand out anew.
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
        with workspace() as take:
            block = take(rois, maps.shape[1], *pooled)
            _pool_channels(maps, index, levels, _CPU_ROIS, block)
            visit(slice(start, end), block.flatten(1))


def _levels(bins: Bins, size: int) -> int:
    """How many powers of two the longest bin needs; on a GPU, not to wait for it, the longest possible."""
    longest = size if bins.low.is_cuda else int((bins.high - bins.low).max())
    return max(longest, 1).bit_length()


def _portions(x: torch.Tensor, levels: tuple[int, int], n_bins: int, argmax: bool) -> tuple[int, int]:
    """How many channels, and of these how many RoIs, to work on at once."""
    if not x.is_cuda:
        return _CPU_CHANNELS_WITH_PLACES if argmax else _CPU_CHANNELS, _CPU_ROIS
    item = 8 if argmax else 4
    per_channel = levels[0] * levels[1] * x.shape[0] * x.shape[2] * x.shape[3] * item
    channels = min(x.shape[1], max(1, _TABLE_BYTES // per_channel))
    return channels, max(1, _TABLE_BYTES // (n_bins * channels * item))


def unreached_bins(down: Bins, across: Bins, size: tuple[int, int]) -> torch.Tensor:
    """(R,) bool: RoIs with a bin whose backward pass misses a pixel that its forward pass sees.

    size: (H, W) of the map. Few RoIs are so; only their gradients have to be looked at bin by bin.
    """

    def along(bins: Bins, size: int) -> torch.Tensor:
        pixel = torch.arange(size, device=bins.low.device)
        seen = (pixel >= bins.low[:, :, None]) & (pixel < bins.high[:, :, None])
        return (seen & ~bins.reached(size)).flatten(1).any(dim=1)

    return along(down, size[0]) | along(across, size[1])


def reached_places(place: torch.Tensor, down: Bins, across: Bins, size: tuple[int, int]) -> torch.Tensor:
    """(R, C, bins down, bins across) bool: whether each bin's place is one that its backward pass reaches.

    place: int64 of that shape, 0 ... H * W - 1; size: (H, W).
    """
    (rois, _, p, q), (h, w) = place.shape, size
    roi = torch.arange(rois, device=place.device)
    y_rows = ((roi[:, None] * p + torch.arange(p, device=place.device)) * h).view(rois, 1, p, 1)
    x_rows = ((roi[:, None] * q + torch.arange(q, device=place.device)) * w).view(rois, 1, 1, q)
    y = torch.div(place, w, rounding_mode='floor')
    return down.reached(h).view(-1)[y_rows + y] & across.reached(w).view(-1)[x_rows + place - y * w]


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
    # Each plane begins with a place, -1, that takes what belongs nowhere and is cut off in the end.
    stride = 1 + h * w
    planes = diff.new_zeros((n, c, stride))
    first = (image[:, None] * c + torch.arange(c, device=diff.device)) * stride + 1
    odd = unreached_bins(down, across, (h, w))
    portion = rois if diff.is_cuda else _CPU_ROIS_BACK
    for r in range(0, rois, portion):
        part = slice(r, r + portion)
        target = place[part].long()
        # On a GPU all are looked at, not to wait for the answer whether any has to be.
        which = None if diff.is_cuda else odd[part].nonzero()[:, 0]
        if which is None or len(which):
            rows = slice(None) if which is None else which
            bins = (Bins(*(t[part][rows] for t in axis)) for axis in (down, across))
            some = target[rows]
            reached = reached_places(some.clamp(min=0).view(-1, c, p, q), *bins, (h, w))
            target[rows] = some.masked_fill_(~reached.flatten(2), -1)
        target += first[part, :, None]
        planes.view(-1).scatter_add_(0, target.view(-1), diff[part].reshape(-1))
    return planes[:, :, 1:].reshape(shape)


@register('ROIPooling')
class ROIPooling(Layer):
    """Max-pools each RoI of a feature map into pooled_h x pooled_w bins.

    Bottoms: features (N, C, H, W); RoIs (R, 5), rows (index of the image in the batch, x1, y1, x2, y2) in
    image pixels, corners included. Top (R, C, pooled_h, pooled_w). spatial_scale turns image pixels into
    feature pixels. Corners are rounded; an RoI is at least 1 x 1, and one that ends before it starts gets no
    gradient; bins are rounded outwards and clipped to the map; a bin without pixels gives 0. The gradient of
    RoIs is zero.

    An RoI of an image that is not in the batch is refused; on a GPU, where finding one would take a
    synchronisation in every pass, NaN is pooled from it instead.
    """

    param_field = 'roi_pooling_param'
    num_bottom = 2
    num_top = 1

    def setup(self, bottom, top):
        if self.param.pooled_h == 0:
            raise LayerError('pooled_h must be > 0')
        if self.param.pooled_w == 0:
            raise LayerError('pooled_w must be > 0')

    def reshape(self, bottom, top):
        features, rois = bottom[0].shape, bottom[1].shape
        if len(features) != 4:
            raise LayerError(f'ROIPooling: bottom 0 must be features of shape (N, C, H, W), got {features}')
        if not rois or bottom[1].count != rois[0] * 5:
            raise LayerError(f'ROIPooling: bottom 1 must be RoIs of shape (R, 5): image, x1, y1, x2, y2; got {rois}')
        top[0].reshape(rois[0], features[1], self.param.pooled_h, self.param.pooled_w)

    def forward(self, bottom, top):
        x, rois = bottom[0].read(), bottom[1].read().view(-1, 5)
        n, _, h, w = x.shape
        image = rois[:, 0].long()
        wrong = (image < 0) | (image >= n)
        if not x.is_cuda and wrong.any():
            r = int(wrong.nonzero()[0])
            raise LayerError(
                f'ROIPooling: RoI {r} is of image {float(rois[r, 0]):g} of the batch, '
                f'but bottom 0 holds {n} (numbered from 0); the RoI is {rois[r].tolist()}'
            )
        image = image.clamp(0, max(n - 1, 0))
        scale = self.param.spatial_scale
        down = bins_along(rois[:, 2], rois[:, 4], scale, self.param.pooled_h, h)
        across = bins_along(rois[:, 1], rois[:, 3], scale, self.param.pooled_w, w)
        if not self.needs_backward and not x.is_cuda and self._pool_each_once(x, down, across, image, top[0]):
            return
        out, place = roi_max_pool(x, down, across, image, self.needs_backward, out=top[0].overwrite())
        if x.is_cuda:  # to raise would mean to wait for the GPU: what is not there is not a number
            out.masked_fill_(wrong[:, None, None, None], float('nan'))
        self._kept = (place, down, across, image) if self.needs_backward else None

    def _pool_each_once(self, x, down: Bins, across: Bins, image: torch.Tensor, top: Blob) -> bool:
        """Pools RoIs that round to the same pixels once, where a tenth of them or more repeat another.

        Proposals do: at a stride of 16 pixels many fall on the same features. Layers that read rows (InnerProduct)
        then compute each once too, and the pooled features are never in memory as a whole unless somebody reads them.
        Not on a GPU, where finding them would mean to wait.
        """
        corners = torch.stack([image, down.start, down.end, across.start, across.end], dim=1)
        distinct, index = torch.unique(corners, dim=0, return_inverse=True)
        if len(distinct) > 0.9 * len(corners):
            return False
        first = torch.empty(len(distinct), dtype=torch.long)
        first[index] = torch.arange(len(index))  # one of those alike, whichever is written last
        down, across = (Bins(*(t[first] for t in bins)) for bins in (down, across))
        features = x.clone()  # small; what they are when somebody reads the top may be something else
        visit = functools.partial(pool_some_channels, features, down, across, image[first])
        top.write_rows(Rows(visit, (len(distinct), math.prod(top.shape[1:])), index))
        return True

    def backward(self, top, propagate_down, bottom):
        if propagate_down[1]:  # rounded corners: what is pooled does not change with small changes of an RoI
            bottom[1].write_diff(torch.zeros_like(bottom[1].read()))
        if propagate_down[0]:
            bottom[0].write_diff(roi_max_pool_backward(top[0].read_diff(), *self._kept, bottom[0].read().shape))

    def allow_force_backward(self, bottom_index):
        return bottom_index != 1
