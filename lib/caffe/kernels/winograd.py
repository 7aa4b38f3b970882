"""3 x 3 convolutions with 16 products where 36 would be needed: F(2 x 2, 3 x 3).

Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4.1. Two neighbouring outputs of a
filter (g0, g1, g2) over (d0, d1, d2, d3) are

    m0 + m1 + m2  and  m1 - m2 - m3   with   m0 = (d0 - d2) g0             m1 = (d1 + d2) (g0 + g1 + g2) / 2
                                             m3 = (d1 - d3) g2             m2 = (d2 - d1) (g0 - g1 + g2) / 2

and the same along the other axis: a tile of 4 x 4 pixels, times a filter as 4 x 4 numbers, gives 2 x 2 outputs. Tiles
lie two pixels apart; below, th and tw are how many there are down and across. Images are only ever added and
subtracted, and each sum over channels is a plain matrix product: what comes out is as near to the exact result as the
direct way, or nearer (docs/performance.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from caffe.kernels.host_memory import workspace
from caffe.kernels.matrix import multiply_each, wants_rows

# An image is worked on in strips of rows, whose 16 planes stay in the caches: so many floats (8 MB).
_STRIP = 2**21


def transform_filters(weight: torch.Tensor, out: torch.Tensor, turned: bool = False) -> None:
    """(K, C, 3, 3) filters, or the same turned by 180 degrees, as 16 matrices, in `out` (16, K, C)."""
    torch.mm(_taps(turned), weight.view(-1, 9).t(), out=out.view(16, -1))


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    pad: tuple[int, int],
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """x (N, C, H, W) convolved with weight (K, C, 3, 3), stride 1, plus bias (K,): (N, K, H + 2 pad - 2, ...).

    In `out` if it is given.
    """
    with workspace() as allocate:
        filters = allocate(16, *weight.shape[:2])
        transform_filters(weight, filters)
        return _convolve(x, filters, bias, pad, out)


def _convolve(x, filters: torch.Tensor, bias: torch.Tensor | None, pad: tuple[int, int], out) -> torch.Tensor:
    k, c = filters.shape[1:]
    if out is None:
        out = x.new_empty(x.shape[0], k, x.shape[2] + 2 * pad[0] - 2, x.shape[3] + 2 * pad[1] - 2)
    th, tw = (out.shape[2] + 1) // 2, (out.shape[3] + 1) // 2
    with workspace() as allocate:
        columns = allocate(2, c, 2 * th + 2, tw + 1)
        for image, y in zip(x, out, strict=True):
            _split_columns(image, pad, columns)
            for first, count in _strips(th, max(k, c) * tw):
                with workspace() as allocate_strip:
                    m, tiles = allocate_strip(16, k, count * tw), allocate_strip(16, c, count * tw)
                    _image_tiles(columns, first, tiles.view(4, 4, c, count, tw))
                    multiply_each(filters, tiles, m)
                    _sum_products(m.view(4, 4, k, count, tw), bias, y[:, 2 * first : 2 * (first + count)])
    return out


def _sum_products(m: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor) -> None:
    """The 2 x 2 outputs of each tile, from its 4 x 4 products m (4, 4, K, count, tw), which change, into y (K, ...)."""
    if bias is not None:
        m[1, 1] += bias[:, None, None]  # the one product that counts in all four outputs
    sums = m[0].add_(m[1]).add_(m[2]), m[1].sub_(m[2]).sub_(m[3])  # in this order: both change m
    for row, part in enumerate(sums):
        for column, operation in enumerate((torch.add, torch.sub)):
            a, b = (part[0].add_(part[1]), part[2]) if column == 0 else (part[1].sub_(part[2]), part[3])
            target = y[:, row::2, column::2]  # an image of odd size ends within its last tiles
            rows, across = target.shape[1:]
            operation(a[:, :rows, :across], b[:, :rows, :across], out=target)


def image_gradient(
    diff: torch.Tensor, weight: torch.Tensor, pad: tuple[int, int], out: torch.Tensor | None = None
) -> torch.Tensor:
    """The gradient of `convolve` for x: diff (N, K, H', W') convolved with the filters turned around."""
    k, c = weight.shape[:2]
    with workspace() as allocate:
        if wants_rows(weight.device):
            filters = allocate(16, c, k)
            transform_filters(weight.transpose(0, 1).contiguous(), filters, turned=True)
        else:
            filters = allocate(16, k, c)
            transform_filters(weight, filters, turned=True)
            filters = filters.transpose(1, 2)
        return _convolve(diff, filters, None, (2 - pad[0], 2 - pad[1]), out)


def weight_gradient(x: torch.Tensor, diff: torch.Tensor, pad: tuple[int, int]) -> torch.Tensor:
    """The gradient of `convolve` for the weight: (K, C, 3, 3), laid out tap by tap. diff (N, K, H + 2 pad - 2, ...)."""
    c, k, (height, width) = x.shape[1], diff.shape[1], diff.shape[2:]
    th, tw = (height + 1) // 2, (width + 1) // 2
    with workspace() as allocate:
        total, columns = allocate(16, k, c).zero_(), allocate(2, c, 2 * th + 2, tw + 1)
        for image, y in zip(x, diff, strict=True):
            _split_columns(image, pad, columns)
            for first, count in _strips(th, max(k, c) * tw):
                with workspace() as allocate_strip:
                    ours, theirs = allocate_strip(16, c, count * tw), allocate_strip(16, k, count * tw)
                    _image_tiles(columns, first, ours.view(4, 4, c, count, tw))
                    _output_tiles(y[:, 2 * first : 2 * (first + count)], theirs.view(4, 4, k, count, tw))
                    multiply_each(theirs, ours.transpose(1, 2), total, add=True)
        # The other way around, matrices on the left and transposed, MKL takes three times as long on AMD's AVX-512.
        return torch.mm(_taps().t(), total.view(16, k * c)).view(3, 3, k, c).permute(2, 3, 0, 1)


def _taps(turned: bool = False) -> torch.Tensor:
    """What each of the 3 x 3 taps of a filter, or of one turned around, adds to its 16 products: (16, 9)."""
    g = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    g = g.flip(1) if turned else g
    return torch.kron(g, g)


def _strips(tile_rows: int, floats: int) -> Iterator[tuple[int, int]]:
    """(first row of tiles, their number) of each strip; a row of tiles has 16 planes of so many floats."""
    count = max(1, _STRIP // (16 * floats))
    for first in range(0, tile_rows, count):
        yield first, min(count, tile_rows - first)


def _split_columns(image: torch.Tensor, pad: tuple[int, int], columns: torch.Tensor) -> None:
    """(C, H, W) padded for (th, tw) tiles: its even columns and its odd ones, in `columns` (2, C, 2 th + 2, tw + 1).

    They are separated so that the next step reads memory without gaps.
    """
    h, w = image.shape[1:]
    columns[:, :, : pad[0]] = 0
    columns[:, :, pad[0] + h :] = 0
    for parity in (0, 1):
        first = (parity - pad[1]) % 2  # the first column of the image that goes here, and its place
        place, count = (first + pad[1]) // 2, len(range(first, w, 2))
        rows = columns[parity, :, pad[0] : pad[0] + h]
        rows[..., :place] = 0
        rows[..., place + count :] = 0
        rows[..., place : place + count] = image[..., first::2]


def _differences(d: list[torch.Tensor], out: torch.Tensor) -> None:
    """d0 - d2, d1 + d2, d2 - d1, d1 - d3 into the four planes of `out`."""
    torch.sub(d[0], d[2], out=out[0])
    torch.add(d[1], d[2], out=out[1])
    torch.sub(d[2], d[1], out=out[2])
    torch.sub(d[1], d[3], out=out[3])


def _image_tiles(columns: torch.Tensor, first: int, tiles: torch.Tensor) -> None:
    """The 4 x 4 tiles, two pixels apart, of some rows of tiles, transformed into `tiles` (4, 4, C, count, tw)."""
    c, count, tw = tiles.shape[2:]
    even, odd = columns[:, :, 2 * first : 2 * (first + count) + 2]
    with workspace() as allocate:
        across = allocate(4, c, 2 * count + 2, tw)
        _differences([even[..., :-1], odd[..., :-1], even[..., 1:], odd[..., 1:]], across)
        even, odd = across[:, :, 0::2], across[:, :, 1::2]
        _differences([even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:]], tiles)


def _output_tiles(diff: torch.Tensor, tiles: torch.Tensor) -> None:
    """The adjoint of `_sum_products`: some rows of the gradient of y (K, ...) to that of m, (4, 4, K, count, tw)."""
    k, count, tw = tiles.shape[2:]
    with workspace() as allocate:
        y = allocate(2, 2, k, count, tw)  # even and odd columns, even and odd rows
        for column, row in itertools.product((0, 1), (0, 1)):
            part, target = diff[:, row::2, column::2], y[column, row]
            if part.shape != target.shape:  # an image of odd size ends within its last tiles
                target.zero_()
            target[:, : part.shape[1], : part.shape[2]] = part
        across = allocate(4, 2, k, count, tw)
        _sums(y[0], y[1], across)
        _sums(across[:, 0], across[:, 1], tiles)


def _sums(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """a, a + b, a - b, -b into the four planes of `out`."""
    out[0] = a
    torch.add(a, b, out=out[1])
    torch.sub(a, b, out=out[2])
    torch.neg(b, out=out[3])
