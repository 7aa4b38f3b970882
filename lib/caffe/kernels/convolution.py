"""Convolutions and their transposes over 1 to 3 spatial axes, forward and backward, each by the way that serves best.

Five ways give the same: torch's convolution of the whole image ('direct'), the same some rows at a time ('bands', for
torch needs as much memory again as it writes), Winograd's products for tiles of 2 x 2 outputs ('winograd', winograd.py)
or of 6 x 6, which has no gradient of the weights ('nnpack', nnpack.py), and for 1 x 1 plain products ('pointwise',
pointwise.py). Which one serves is a rule of shapes and not a measurement at start: the same seed gives the same bytes
on every run. Whoever wants plain sums sets CAFFE_NO_WINOGRAD in the environment.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import NamedTuple

import torch

from caffe.kernels import bf16, nnpack, pointwise, winograd
from caffe.kernels.routes import Routes

routes = Routes('direct', 'bands', 'winograd', 'pointwise', *(['nnpack'] if nnpack.is_there() else []))

_BAND = 2**21  # numbers of a top that are computed at once, where it has many
NO_WINOGRAD = bool(os.environ.get('CAFFE_NO_WINOGRAD'))  # plain sums of products alone
_HAS_AVX = torch.backends.cpu.get_cpu_capability().startswith('AVX')


class Geometry(NamedTuple):
    """How a filter walks over the image: one number for each spatial axis in each field."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """The pixels from a filter's first tap to its last."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of what a convolution makes of an image; below 1 where the filter is larger than the image."""
        return tuple(
            (n + 2 * p - e) // s + 1 for n, p, e, s in zip(size, self.pad, self.extent, self.stride, strict=True)
        )

    def enlarged_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of what a deconvolution makes of an image; below 1 where the padding leaves nothing."""
        return tuple(
            s * (n - 1) + e - 2 * p for n, s, e, p in zip(size, self.stride, self.extent, self.pad, strict=True)
        )


class Filter(NamedTuple):
    """What is done with the filters: how they walk, in how many groups, and whether it is a convolution's transpose."""

    geometry: Geometry
    groups: int = 1
    transposed: bool = False

    def options(self, pad: tuple[int, ...] | None = None) -> tuple:
        """What torch's convolutions take after the bias."""
        g = self.geometry
        return g.stride, g.pad if pad is None else pad, g.dilation, self.transposed, (0,) * len(g.kernel), self.groups


# Where Winograd's ways gain (docs/performance.md): they have fewer multiplications, but read more memory.
_WINOGRAD = Filter(Geometry((3, 3), (1, 1), (1, 1), (1, 1)))


def _winograd_serves(x: torch.Tensor, weight: torch.Tensor, filter: Filter) -> bool:
    if filter != _WINOGRAD or x.device.type != 'cpu' or not _HAS_AVX or routes.forced_away_from('winograd'):
        return False
    k, c = weight.shape[:2]
    large = min(c, k) >= 128 and c * k >= 2**15 and math.prod(x.shape[2:]) > 1024
    return (large and not NO_WINOGRAD) or routes.forced == 'winograd'


def _nnpack_serves(x: torch.Tensor, weight: torch.Tensor, filter: Filter) -> bool:
    if filter.geometry != _WINOGRAD.geometry or filter.transposed or x.device.type != 'cpu' or x.dtype != torch.float32:
        return False
    if 'nnpack' not in routes.names or routes.forced_away_from('nnpack'):
        return False
    c, k = weight.shape[1], weight.shape[0] // filter.groups
    tiles = math.prod(-(-n // nnpack.TILE) for n in x.shape[2:])
    large = min(c, k) >= 64 and tiles >= 32 and c * k * tiles >= 2**18
    return (large and not NO_WINOGRAD) or routes.forced == 'nnpack'


# Of products with the filters, which all pixels have in common.
_POINTWISE = Filter(Geometry((1, 1), (1, 1), (0, 0), (1, 1)))


def _products_serve(x: torch.Tensor, filter: Filter) -> bool:
    if filter != _POINTWISE or x.device.type != 'cpu' or routes.forced_away_from('pointwise'):
        return False
    return routes.forced == 'pointwise' or pointwise.gains(x)


def _bands_serve(x: torch.Tensor, weight: torch.Tensor, filter: Filter) -> bool:
    possible = x.dim() == 4 and x.device.type == 'cpu' and not filter.transposed
    if not possible or routes.forced_away_from('bands'):
        return False
    count = x.shape[0] * weight.shape[0] * math.prod(filter.geometry.output_size(x.shape[2:]))
    return count > 2 * _BAND or routes.forced == 'bands'


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    filter: Filter,
    in_bf16: bool = False,
    memory: Callable[[], torch.Tensor] | None = None,
) -> torch.Tensor:
    """x (N, C, spatial) convolved with weight (K, C / groups, kernel), plus bias (K,): (N, K, smaller spatial).

    Transposed: weight (C, K / groups, kernel), and what a convolution's backward pass does to the image. `in_bf16`:
    where that gains, factors and products are rounded to bfloat16. `memory()` gives memory for the result, which a way
    that writes in place uses.
    """
    in_bf16 = in_bf16 and _bf16_gains(x, weight, filter)
    if memory is not None and not in_bf16:
        if _nnpack_serves(x, weight, filter):
            return nnpack.convolve(x, weight, bias, _pad(filter), memory(), filter.groups)
        if _winograd_serves(x, weight, filter):
            return winograd.convolve(x, weight, bias, _pad(filter), memory())
        if _products_serve(x, filter):
            return pointwise.convolve(x, weight, bias, memory())
    if memory is not None and _bands_serve(x, weight, filter):
        return _in_bands(x, weight, bias, filter, in_bf16, memory())
    return _directly(x, weight, bias, filter.options(), in_bf16)


def _directly(x, weight, bias, options: tuple, in_bf16: bool) -> torch.Tensor:
    if in_bf16:
        return bf16.rounded(torch.convolution, x, weight, bias, *options)
    return torch.convolution(x, weight, bias, *options)


def _in_bands(x, weight, bias, filter: Filter, in_bf16: bool, out: torch.Tensor) -> torch.Tensor:
    """Some rows of `out` (N, K, H', W') at a time."""
    g, height = filter.geometry, x.shape[2]
    reach = g.extent[0]
    rows = max(1, _BAND * out.shape[2] // max(out.numel(), 1))
    for first in range(0, out.shape[2], rows):
        y = out[:, :, first : first + rows]
        start = first * g.stride[0] - g.pad[0]
        end = start + (y.shape[2] - 1) * g.stride[0] + reach
        part = x[:, :, max(start, 0) : max(end, 0)]
        above, below = max(min(end, 0) - start, 0), max(end - max(height, start), 0)  # of the padding
        if above or below:
            part = torch.nn.functional.pad(part, (0, 0, above, below))
        y.copy_(_directly(part, weight, bias, filter.options((0, g.pad[1])), in_bf16))
    return out


def convolve_backward(
    diff: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    filter: Filter,
    wanted: tuple[bool, bool, bool],
    memory: Callable[[], torch.Tensor] | None = None,
    in_bf16: bool = False,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """The gradients of `convolve` for x, weight and bias, those of the three that are `wanted`; None for the others.

    diff: as the result. `memory()` gives memory for the first, which a way that writes in place uses. `in_bf16`: where
    that gains, factors and products of the first two are rounded to bfloat16.
    """
    if in_bf16 and _bf16_gains(x, weight, filter):
        return bf16.convolution_gradients(diff, x, weight, filter.options(), wanted, memory)
    if _products_serve(x, filter):
        memory_of_x = memory if memory is not None else lambda: torch.empty_like(x)
        return (
            pointwise.image_gradient(diff, weight, memory_of_x()) if wanted[0] else None,
            pointwise.weight_gradient(x, diff) if wanted[1] else None,
            diff.sum(dim=(0, 2, 3)) if wanted[2] else None,
        )
    image, weights, bias = wanted
    by_nnpack, by_winograd = _nnpack_serves(x, weight, filter), _winograd_serves(x, weight, filter)
    x_diff = weight_diff = None
    if image and (by_nnpack or by_winograd):
        out, image = memory() if memory is not None else None, False
        if by_nnpack:
            x_diff = nnpack.image_gradient(diff, weight, _pad(filter), out, filter.groups)
        else:
            x_diff = winograd.image_gradient(diff, weight, _pad(filter), out)
    if weights and by_winograd:
        weight_diff, weights = winograd.weight_gradient(x, diff, _pad(filter)), False
    if (by_nnpack or by_winograd) and not (image or weights):
        return x_diff, weight_diff, diff.sum(dim=(0, 2, 3)) if bias else None
    outputs = weight.shape[1] * filter.groups if filter.transposed else weight.shape[0]
    back = torch.ops.aten.convolution_backward.default
    left = back(diff, x, weight, [outputs], *filter.options(), [image, weights, bias])
    return x_diff if left[0] is None else left[0], weight_diff if left[1] is None else left[1], left[2]


def _pad(filter: Filter) -> tuple[int, int]:
    down, across = filter.geometry.pad
    return down, across


def _bf16_gains(x: torch.Tensor, weight: torch.Tensor, filter: Filter) -> bool:
    size, g = tuple(x.shape[2:]), filter.geometry
    pixels, outputs = math.prod(g.output_size(size)), weight.shape[0]
    met = pixels  # those that meet each weight once
    if filter.transposed:
        pixels, outputs, met = math.prod(g.enlarged_size(size)), weight.shape[1] * filter.groups, math.prod(size)
    numbers = x.numel() + x.shape[0] * outputs * pixels + weight.numel()
    return bf16.gains(x.device, weight.numel() * x.shape[0] * met, numbers)


def columns(x: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The pixels of x (N, C, spatial) under each position of a filter: (N, C, taps of each axis, positions of each)."""
    g, n_axes = geometry, len(geometry.kernel)
    size = g.output_size(tuple(x.shape[2:]))
    x = torch.nn.functional.pad(x, [p for pad in reversed(g.pad) for p in (pad, pad)])
    for i in reversed(range(n_axes)):  # each spatial axis becomes two: tap, position
        tap = torch.arange(g.kernel[i], device=x.device) * g.dilation[i]
        position = torch.arange(size[i], device=x.device) * g.stride[i]
        index = tap[:, None] + position
        x = x.index_select(2 + i, index.view(-1)).unflatten(2 + i, index.shape)
    taps = range(2, 2 + 2 * n_axes, 2)
    return x.permute(0, 1, *taps, *(t + 1 for t in taps))
