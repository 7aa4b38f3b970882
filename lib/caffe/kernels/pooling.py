"""Pooling and SPP: the maximum, mean or a random pixel of windows (pooling_layer.cu, spp_layer.cpp)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from caffe.host_memory import workspace
from caffe.layer import Layer, LayerError, register
from caffe.process import device
from caffe.proto import caffe_pb2

MAX, AVE, STOCHASTIC = (caffe_pb2.PoolingParameter.PoolMethod.Value(m) for m in ('MAX', 'AVE', 'STOCHASTIC'))
_LOWEST = torch.finfo(torch.float32).min
_BAND = 2**20  # numbers of a top that are computed at once
_SMALLEST = torch.finfo(torch.float32).tiny

Pair = tuple[int, int]


class Windows(NamedTuple):
    """The windows over an image: (height, width) of kernel, stride and pad; how their number is rounded."""

    kernel: Pair
    stride: Pair
    pad: Pair = (0, 0)
    round_up: bool = True

    def count(self, size: Pair) -> Pair:
        """How many windows an image of this size has, down and across. Raises LayerError where it has none.

        ceil((size + 2 * pad - kernel) / stride) + 1, or floor; with padding less one if the last began
        outside of image and left padding.
        """
        counts = []
        for n, k, s, p in zip(size, self.kernel, self.stride, self.pad, strict=True):
            steps = n + 2 * p - k
            count = (-(-steps // s) if self.round_up else steps // s) + 1
            if any(self.pad) and (count - 1) * s >= n + p:
                count -= 1
            counts.append(count)
        if min(counts) < 1:
            raise LayerError(f'Pooling: an input of size {size} is too small for kernel {self.kernel}, pad {self.pad}')
        return tuple(counts)

    def torch_agrees(self, size: Pair) -> bool:
        """Whether torch's pooling has the same windows: it pads by kernel / 2 at most, and always clips."""
        for n, k, s, p, count in zip(size, self.kernel, self.stride, self.pad, self.count(size), strict=True):
            if 2 * p > k or n + 2 * p < k or (count - 1) * s >= n + p:
                return False
        return True

    def are_inside(self, size: Pair) -> bool:
        """Whether no window reaches beyond an image of this size."""
        counts = self.count(size)
        return not any(self.pad) and all(
            (c - 1) * s + k <= n for n, k, s, c in zip(size, self.kernel, self.stride, counts, strict=True)
        )

    def suit_max_by_axis(self, size: Pair) -> bool:
        """Whether `max_by_axis` works, and is the faster way, for images of this size."""
        return self.are_inside(size) and max(self.kernel) <= 4

    def padded(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """x (N, C, H, W) padded, or cropped at the end, to exactly what the windows cover."""
        size = x.shape[2:]
        after = [
            (c - 1) * s + k - n - p
            for n, k, s, p, c in zip(size, self.kernel, self.stride, self.pad, self.count(size), strict=True)
        ]
        return F.pad(x, (self.pad[1], after[1], self.pad[0], after[0]), value=value)


def read_windows(param, size: Pair) -> Windows:
    """The windows of a PoolingParameter for images of this size. Raises LayerError as Caffe's CHECKs do."""

    def option(name: str, short: str) -> Pair:
        has_h, has_w = param.HasField(f'{short}_h'), param.HasField(f'{short}_w')
        if has_h != has_w or (has_h and param.HasField(name)):
            raise LayerError(f'{short} is {name} OR {short}_h and {short}_w; not both, and not one of them.')
        return (getattr(param, f'{short}_h'), getattr(param, f'{short}_w')) if has_h else (getattr(param, name),) * 2

    stride, pad = option('stride', 'stride'), option('pad', 'pad')
    if param.global_pooling:
        if any(param.HasField(f) for f in ('kernel_size', 'kernel_h', 'kernel_w')):
            raise LayerError('With Global_pooling: true Filter size cannot specified')
        if pad != (0, 0) or stride != (1, 1):
            raise LayerError('With Global_pooling: true; only pad = 0 and stride = 1')
        kernel = size
    else:
        kernel = option('kernel_size', 'kernel')
    round_up = param.round_mode == caffe_pb2.PoolingParameter.CEIL
    return _checked(Windows(kernel, stride, pad, round_up), param.pool)


def _checked(windows: Windows, pool: int) -> Windows:
    if min(windows.kernel) == 0:
        raise LayerError(f'Filter dimensions cannot be zero: kernel (height, width) is {windows.kernel}')
    if min(windows.stride) == 0:
        raise LayerError(f'Pooling: stride cannot be zero: {windows.stride}')
    if any(windows.pad):
        if pool == STOCHASTIC:
            raise LayerError('Padding implemented only for average and max pooling.')
        if windows.pad[0] >= windows.kernel[0] or windows.pad[1] >= windows.kernel[1]:
            raise LayerError(f'Pooling: pad {windows.pad} must be smaller than the kernel {windows.kernel}')
    return windows


def max_pool(x: torch.Tensor, windows: Windows, argmax: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The maximum of each window of x (N, C, H, W), and where asked for its place h * W + w, int64.

    Of equal pixels the first counts. A window without a pixel gives the lowest float32 and the place -1.
    """
    size = x.shape[2:]
    if windows.torch_agrees(size):
        options = (windows.kernel, windows.stride, windows.pad, (1, 1), windows.round_up)
        if not argmax:
            return F.max_pool2d(x, *options), None
        return torch.ops.aten.max_pool2d_with_indices(x, *options)
    padded = windows.padded(x, _LOWEST)
    top, place = torch.ops.aten.max_pool2d_with_indices(padded, windows.kernel, windows.stride)
    width = padded.shape[3]
    h, w = place // width - windows.pad[0], place % width - windows.pad[1]
    inside = (h >= 0) & (h < size[0]) & (w >= 0) & (w < size[1])
    return top, torch.where(inside, h * size[1] + w, -1)


def max_by_axis(x: torch.Tensor, windows: Windows, out: torch.Tensor) -> None:
    """`max_pool` of windows that are all inside: down, then across, some rows at a time, into `out`.

    Thrice as fast as torch's on a CPU, and what is computed on the way stays in the caches.
    """
    (kh, kw), (sh, sw) = windows.kernel, windows.stride
    rows = max(1, _BAND * out.shape[2] // max(out.numel(), 1))
    for first in range(0, out.shape[2], rows):
        y = out[:, :, first : first + rows]
        taps = [x[:, :, i : i + (y.shape[2] - 1) * sh + 1 : sh] for i in range(first * sh, first * sh + kh)]
        with workspace() as take:
            down = _maximum(taps, take(*taps[0].shape))
            _maximum([down[..., i : i + (y.shape[3] - 1) * sw + 1 : sw] for i in range(kw)], y)


def _maximum(taps: list[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
    """The largest of all at each place, in `out`."""
    out.copy_(taps[0]) if len(taps) == 1 else torch.maximum(taps[0], taps[1], out=out)
    for tap in taps[2:]:
        torch.maximum(out, tap, out=out)
    return out


def max_pool_backward(diff: torch.Tensor, place: torch.Tensor, x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """The gradient of `max_pool`: each window's goes to the place of its maximum."""
    if windows.torch_agrees(x.shape[2:]):
        options = (windows.kernel, windows.stride, windows.pad, (1, 1), windows.round_up)
        return torch.ops.aten.max_pool2d_with_indices_backward(diff, x, *options, place)
    n, c, h, w = x.shape
    out = x.new_zeros(n * c, h * w + 1)  # the last column takes what belongs to no pixel
    place = torch.where(place < 0, h * w, place)
    out.scatter_add_(1, place.view(n * c, -1), diff.reshape(n * c, -1))
    return out[:, :-1].reshape(x.shape)


def average_pool(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """The mean of each window of x (N, C, H, W), divided by the window's size within image and padding."""
    if windows.torch_agrees(x.shape[2:]):
        return F.avg_pool2d(x, windows.kernel, windows.stride, windows.pad, windows.round_up)
    sides = []
    for n, k, s, p, count in zip(
        x.shape[2:], windows.kernel, windows.stride, windows.pad, windows.count(x.shape[2:]), strict=True
    ):
        start = torch.arange(count, device=x.device) * s - p
        sides.append(torch.minimum(start + k, torch.full_like(start, n + p)) - start)
    total = F.avg_pool2d(windows.padded(x, 0.0), windows.kernel, windows.stride, divisor_override=1)
    return total / (sides[0][:, None] * sides[1]).to(x.dtype)


def window_pixels(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """The pixels of each window of x (N, C, H, W), row by row, zeros outside: (N, C, windows, pixels)."""
    n, c = x.shape[:2]
    columns = F.unfold(windows.padded(x, 0.0), windows.kernel, stride=windows.stride)
    return columns.view(n, c, math.prod(windows.kernel), -1).transpose(2, 3)


def stochastic_mean(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """What stochastic pooling gives on average: each pixel weighed by its share in the window's sum."""
    pixels = window_pixels(x, windows)
    mean = pixels.square().sum(dim=3) / (pixels.sum(dim=3) + _SMALLEST)
    return mean.view(*x.shape[:2], *windows.count(x.shape[2:]))


def stochastic_pool(x: torch.Tensor, windows: Windows, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One pixel of each window, drawn in proportion to its value, and its place h * W + w.

    x (N, C, H, W) must not be negative. Zeiler and Fergus, 'Stochastic pooling', 2013.
    """
    cumulative = window_pixels(x, windows).cumsum(dim=3)
    draw = torch.rand(cumulative.shape[:3], device=x.device, generator=generator)
    tap = (cumulative >= (draw * cumulative[..., -1])[..., None]).byte().argmax(dim=3)
    counts, width = windows.count(x.shape[2:]), x.shape[3]
    first_row = torch.arange(counts[0], device=x.device) * windows.stride[0]
    first_column = torch.arange(counts[1], device=x.device) * windows.stride[1]
    place = (first_row[:, None] * width + first_column).view(-1)
    place = place + (tap // windows.kernel[1]) * width + tap % windows.kernel[1]
    shape = (*x.shape[:2], *counts)
    return x.flatten(2).gather(2, place).view(shape), place.view(shape)


class _Pool:
    """One pooling of one bottom: what both layers below do, and what they keep between the passes."""

    def __init__(self, windows: Windows, pool: int, phase: int):
        self.windows, self.pool = windows, pool
        self.samples = pool == STOCHASTIC and phase == caffe_pb2.TRAIN
        self.place: torch.Tensor | None = None

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        return (average_pool if self.pool == AVE else stochastic_mean)(x, self.windows)

    def forward(self, x: torch.Tensor, keep_place: bool) -> torch.Tensor:
        if self.pool == MAX:
            top, self.place = max_pool(x, self.windows, keep_place)
        elif self.samples:
            top, self.place = stochastic_pool(x, self.windows, device.generator())
        else:
            top = self._mean(x)
        return top

    def backward(self, diff: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if self.pool == MAX:
            return max_pool_backward(diff, self.place, x, self.windows)
        if self.samples:
            out = x.new_zeros(x.shape).flatten(2)
            return out.scatter_add_(2, self.place.flatten(2), diff.flatten(2)).view(x.shape)
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self._mean(x), x, diff)[0]


def _check_image(shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        raise LayerError(f'Input must have 4 axes, corresponding to (num, channels, height, width); got {shape}')
    if 0 in shape[2:]:
        raise LayerError(f'Input dimensions cannot be zero: {shape}')


@register('Pooling')
class Pooling(Layer):
    """The maximum (MAX), mean (AVE) or a random pixel (STOCHASTIC) of each window of the bottom (N, C, H, W).

    A second top of MAX takes the place h * W + w of each maximum.
    """

    param_field = 'pooling_param'
    num_bottom = 1
    num_top = (1, 2)

    def setup(self, bottom, top):
        if top[0] is bottom[0]:
            raise LayerError('Layer does not allow in-place computation.')
        if len(top) > 1 and self.param.pool != MAX:
            raise LayerError('Pooling: only MAX has a second top, the places of the maxima')
        self._place = None

    def reshape(self, bottom, top):
        shape = bottom[0].shape
        _check_image(shape)
        self._pool = _Pool(read_windows(self.param, shape[2:]), self.param.pool, self.phase)
        self._pool.place = self._place  # outlives a reshape, since a reshape may come between the passes
        for blob in top:
            blob.reshape(*shape[:2], *self._pool.windows.count(shape[2:]))

    def forward(self, bottom, top):
        x, windows, wants_place = bottom[0].read(), self._pool.windows, self.needs_backward or len(top) > 1
        if self.param.pool == MAX and not (wants_place or x.is_cuda) and windows.suit_max_by_axis(x.shape[2:]):
            max_by_axis(x, windows, top[0].overwrite())
            return
        top[0].write(self._pool.forward(x, wants_place))
        self._place = self._pool.place
        if len(top) > 1:
            top[1].write(self._pool.place.float())

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].write_diff(self._pool.backward(top[0].read_diff(), bottom[0].read()))


def pyramid_windows(size: Pair, level: int, pool: int) -> Windows:
    """Windows that part an image of this size into 2**level bins each way (SPPLayer::GetPoolingParam)."""
    bins = 2**level
    kernel = tuple(-(-n // bins) for n in size)
    pad = tuple((k * bins - n + 1) // 2 for k, n in zip(kernel, size, strict=True))
    return _checked(Windows(kernel, kernel, pad), pool)


@register('SPP')
class SPP(Layer):
    """Spatial pyramid pooling: the bottom (N, C, H, W) pooled into 1, 2 x 2, 4 x 4, ... bins, side by side.

    Top (N, C * all bins), each level with its channels in order; (N, C, 1, 1) for a pyramid of height 1
    (spp_layer.cpp; He, Zhang, Ren and Sun, 2014).
    """

    param_field = 'spp_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom, top):
        if self.param.pyramid_height == 0:
            raise LayerError('SPP: pyramid_height must be positive')
        self._pools: list[_Pool] = []
        self._made_for: Pair | None = None

    def reshape(self, bottom, top):
        shape = bottom[0].shape
        _check_image(shape)
        if self._made_for != shape[2:]:
            levels = range(self.param.pyramid_height)
            self._pools = [
                _Pool(pyramid_windows(shape[2:], i, self.param.pool), self.param.pool, self.phase) for i in levels
            ]
            self._made_for = shape[2:]
        counts = [pool.windows.count(shape[2:]) for pool in self._pools]
        if len(counts) == 1:
            top[0].reshape(*shape[:2], *counts[0])
        else:
            top[0].reshape(shape[0], shape[1] * sum(map(math.prod, counts)))

    def forward(self, bottom, top):
        x = bottom[0].read()
        levels = [pool.forward(x, self.needs_backward).flatten(1) for pool in self._pools]
        top[0].write(torch.cat(levels, dim=1).view(top[0].shape))

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        x = bottom[0].read()
        counts = [pool.windows.count(x.shape[2:]) for pool in self._pools]
        parts = top[0].read_diff().flatten(1).split([x.shape[1] * math.prod(c) for c in counts], dim=1)
        total = torch.zeros_like(x)
        for pool, count, part in zip(self._pools, counts, parts, strict=True):
            total += pool.backward(part.reshape(*x.shape[:2], *count), x)
        bottom[0].write_diff(total)
