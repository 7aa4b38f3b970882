"""The maximum, the mean or a random pixel of each window of images, forward and backward (pooling_layer.cu)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from caffe.kernels.host_memory import workspace

_LOWEST = torch.finfo(torch.float32).min
_BAND = 2**20  # numbers of a top that are computed at once
_AT_ONCE = 2**18  # numbers of images whose channels are laid side by side together
_WORTH_IT, _FEW_CHANNELS = 2**12, 8  # numbers of images, and channels, from which that gains
_SIZES = 1024  # whose windows are counted once: to count them takes as long as to pool a small image
_SMALLEST = torch.finfo(torch.float32).tiny

Pair = tuple[int, int]
Size = Sequence[int]  # height, width


class Windows(NamedTuple):
    """The windows over an image: (height, width) of kernel, stride and pad; how their number is rounded."""

    kernel: Pair
    stride: Pair
    pad: Pair = (0, 0)
    round_up: bool = True

    @functools.lru_cache(_SIZES)  # noqa: B019 - of a few numbers
    def number(self, size: Size) -> Pair:
        """How many windows an image of this size has, down and across; below 1 where it is too small for one.

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
        down, across = counts
        return down, across

    @functools.lru_cache(_SIZES)  # noqa: B019 - of a few numbers
    def torch_agrees(self, size: Size) -> bool:
        """Whether torch's pooling has the same windows: it pads by kernel / 2 at most, and always clips."""
        for n, k, s, p, count in zip(size, self.kernel, self.stride, self.pad, self.number(size), strict=True):
            if 2 * p > k or n + 2 * p < k or (count - 1) * s >= n + p:
                return False
        return True

    @functools.lru_cache(_SIZES)  # noqa: B019 - of a few numbers
    def are_inside(self, size: Size) -> bool:
        """Whether no window reaches beyond an image of this size."""
        counts = self.number(size)
        return not any(self.pad) and all(
            (c - 1) * s + k <= n for n, k, s, c in zip(size, self.kernel, self.stride, counts, strict=True)
        )

    def are_faster_by_axis(self, size: Size) -> bool:
        """Whether `max_by_axis` works, and is the faster way, for images of this size on a CPU."""
        return self.are_inside(size) and max(self.kernel) <= 4

    def padded(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """x (N, C, H, W) padded, or cropped at the end, to exactly what the windows cover."""
        size = x.shape[2:]
        after = [
            (c - 1) * s + k - n - p
            for n, k, s, p, c in zip(size, self.kernel, self.stride, self.pad, self.number(size), strict=True)
        ]
        return F.pad(x, (self.pad[1], after[1], self.pad[0], after[0]), value=value)


def max_pool(
    x: torch.Tensor, windows: Windows, argmax: bool, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The maximum of each window of x (N, C, H, W), and where asked for its place h * W + w, int64.

    Of equal pixels the first counts. A window without a pixel gives the lowest float32 and the place -1. out: memory
    (N, C, windows) for the maxima, which a way that writes in place uses.
    """
    size = x.shape[2:]
    shape = (*x.shape[:2], *windows.number(size))
    if windows.torch_agrees(size):
        options = (windows.kernel, windows.stride, windows.pad, (1, 1), windows.round_up)
        top, place = _max_and_places(x, shape, options, out)
        return top, place if argmax else None
    padded = windows.padded(x, _LOWEST)
    top, place = _max_and_places(padded, shape, (windows.kernel, windows.stride), out)
    if not argmax:
        return top, None
    width = padded.shape[3]
    h, w = place // width - windows.pad[0], place % width - windows.pad[1]
    inside = (h >= 0) & (h < size[0]) & (w >= 0) & (w < size[1])
    return top, torch.where(inside, h * size[1] + w, -1)


def _max_and_places(
    x: torch.Tensor, shape: tuple[int, ...], options: tuple, out: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """torch's maxima of windows and their places, of this shape; in `out` where that serves.

    On a CPU torch asks pixel by pixel, unless the channels of a pixel lie side by side in memory: then it takes a tenth
    of the time, a third with the way there and back (docs/performance.md).
    """
    if x.is_cuda or x.shape[1] < _FEW_CHANNELS or x.numel() < _WORTH_IT:
        return torch.ops.aten.max_pool2d_with_indices.default(x, *options)
    top = x.new_empty(shape) if out is None else out
    place = torch.empty(shape, dtype=torch.int64)
    images = max(1, _AT_ONCE // x[0].numel())
    for part, y, p in zip(*(t.split(images) for t in (x, top, place)), strict=True):
        found, its_place = torch.ops.aten.max_pool2d_with_indices.default(
            part.contiguous(memory_format=torch.channels_last), *options
        )
        y.copy_(found)
        p.copy_(its_place)
    return top, place


def max_by_axis(x: torch.Tensor, windows: Windows, out: torch.Tensor) -> torch.Tensor:
    """`max_pool` of windows that are all inside: down, then across, some rows at a time, in `out`.

    Three times as fast as torch's on a CPU: intermediate results stay in the caches.
    """
    (kh, kw), (sh, sw) = windows.kernel, windows.stride
    rows = max(1, _BAND * out.shape[2] // max(out.numel(), 1))
    for first in range(0, out.shape[2], rows):
        y = out[:, :, first : first + rows]
        taps = [x[:, :, i : i + (y.shape[2] - 1) * sh + 1 : sh] for i in range(first * sh, first * sh + kh)]
        with workspace() as allocate:
            down = _maximum(taps, allocate(*taps[0].shape))
            _maximum([down[..., i : i + (y.shape[3] - 1) * sw + 1 : sw] for i in range(kw)], y)
    return out


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
        return torch.ops.aten.max_pool2d_with_indices_backward.default(diff, x, *options, place)
    n, c, h, w = x.shape
    out = x.new_zeros(n * c, h * w + 1)  # the last column is for gradients that belong to no pixel
    place = torch.where(place < 0, h * w, place)
    out.scatter_add_(1, place.flatten(2).flatten(0, 1), diff.flatten(2).flatten(0, 1))
    return out[:, :-1].reshape(x.shape)


def average_pool(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """The mean of each window of x (N, C, H, W), divided by the window's size within image and padding."""
    if windows.torch_agrees(x.shape[2:]):
        return F.avg_pool2d(x, windows.kernel, windows.stride, windows.pad, windows.round_up)
    sides = []
    for n, k, s, p, count in zip(
        x.shape[2:], windows.kernel, windows.stride, windows.pad, windows.number(x.shape[2:]), strict=True
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
    return mean.view(*x.shape[:2], *windows.number(x.shape[2:]))


def stochastic_pool(x: torch.Tensor, windows: Windows, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One pixel of each window, drawn in proportion to its value, and its place h * W + w.

    x (N, C, H, W) must not be negative. Zeiler and Fergus, 'Stochastic pooling', 2013.
    """
    cumulative = window_pixels(x, windows).cumsum(dim=3)
    draw = torch.rand(cumulative.shape[:3], device=x.device, generator=generator)
    tap = (cumulative >= (draw * cumulative[..., -1])[..., None]).byte().argmax(dim=3)
    counts, width = windows.number(x.shape[2:]), x.shape[3]
    first_row = torch.arange(counts[0], device=x.device) * windows.stride[0]
    first_column = torch.arange(counts[1], device=x.device) * windows.stride[1]
    place = (first_row[:, None] * width + first_column).view(-1)
    place = place + (tap // windows.kernel[1]) * width + tap % windows.kernel[1]
    shape = (*x.shape[:2], *counts)
    return x.flatten(2).gather(2, place).view(shape), place.view(shape)


def mean_pool(x: torch.Tensor, windows: Windows, method: str) -> torch.Tensor:
    """The mean of each window of x (N, C, H, W): `average_pool` for 'AVE', `stochastic_mean` for 'STOCHASTIC'."""
    return (average_pool if method == 'AVE' else stochastic_mean)(x, windows)


def pool(
    x: torch.Tensor,
    windows: Windows,
    method: str,
    places: bool,
    generator: torch.Generator | None = None,
    memory: Callable[[], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The windows of x (N, C, H, W) pooled by 'MAX', 'AVE' or 'STOCHASTIC', and the places h * W + w of its pixels.

    The places are None for means, and for maxima unless `places`. STOCHASTIC draws with `generator`; without one it
    gives the mean. `memory()` gives memory for the result, which a way that writes in place then uses.
    """
    if method == 'MAX':
        out = None if memory is None or x.is_cuda else memory()
        if out is not None and not places and windows.are_faster_by_axis(x.shape[2:]):
            return max_by_axis(x, windows, out), None
        return max_pool(x, windows, places, out)
    if method == 'STOCHASTIC' and generator is not None:
        return stochastic_pool(x, windows, generator)
    return mean_pool(x, windows, method), None


def pool_backward(
    diff: torch.Tensor, x: torch.Tensor, windows: Windows, method: str, place: torch.Tensor | None
) -> torch.Tensor:
    """The gradient of `pool` for x: diff goes to the places that it gave, or where it gave none to all of a window."""
    if method == 'MAX':
        assert place is not None
        return max_pool_backward(diff, place, x, windows)
    if place is not None:
        out = x.new_zeros(x.shape).flatten(2)
        return out.scatter_add_(2, place.flatten(2), diff.flatten(2)).view(x.shape)
    if method == 'AVE' and windows.torch_agrees(x.shape[2:]):
        options = (windows.kernel, windows.stride, windows.pad, windows.round_up, True, None)
        return torch.ops.aten.avg_pool2d_backward.default(diff, x, *options)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(mean_pool(x, windows, method), x, diff)[0]


def pyramid_windows(size: Size, level: int) -> Windows:
    """Windows that part an image of this size into 2**level bins each way (SPPLayer::GetPoolingParam)."""
    bins = 2**level
    height, width = size
    kernel = -(-height // bins), -(-width // bins)
    return Windows(kernel, kernel, ((kernel[0] * bins - height + 1) // 2, (kernel[1] * bins - width + 1) // 2))
