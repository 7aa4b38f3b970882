"""3 x 3 convolutions with 16 products where 36 would be needed: F(2 x 2, 3 x 3).

Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4.1. Two neighbouring outputs of a
filter (g0, g1, g2) over (d0, d1, d2, d3) are

    m0 + m1 + m2  and  m1 - m2 - m3   with   m0 = (d0 - d2) g0             m1 = (d1 + d2) (g0 + g1 + g2) / 2
                                             m3 = (d1 - d3) g2             m2 = (d2 - d1) (g0 - g1 + g2) / 2

and the same along the other axis. Images are only ever added and subtracted, and each sum over channels is a plain
matrix product: what comes out is nearer to the exact result than the direct way is (docs/performance.md).
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator

import torch

# An image is worked on in strips of rows, whose 16 planes stay in the caches: so many floats (16 MB).
_STRIP = 2**22


def transform_filters(weight: torch.Tensor) -> torch.Tensor:
    """(K, C, 3, 3) filters as 16 matrices (16, K, C)."""
    return torch.mm(_taps(weight), weight.reshape(-1, 9).t()).view(16, *weight.shape[:2])


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
    filters, k = transform_filters(weight), weight.shape[0]
    if out is None:
        out = x.new_empty(x.shape[0], k, x.shape[2] + 2 * pad[0] - 2, x.shape[3] + 2 * pad[1] - 2)
    th, tw = (out.shape[2] + 1) // 2, (out.shape[3] + 1) // 2
    for image, y in zip(x, out, strict=True):
        columns = _columns(image, pad, (th, tw))
        for first, count in _strips(th, max(k, x.shape[1]) * tw):
            m = _scratch('products', x, 16, k, count * tw)
            torch.bmm(filters, _image_tiles(columns, first, count), out=m)
            m = m.view(4, 4, k, count, tw)
            if bias is not None:
                m[1, 1] += bias[:, None, None]  # the one product that counts in all four outputs
            sums = m[0].add_(m[1]).add_(m[2]), m[1].sub_(m[2]).sub_(m[3])  # in this order: both change m
            for row, part in enumerate(sums):
                pixels = y[:, 2 * first + row : 2 * (first + count) : 2]
                for column, operation in enumerate((torch.add, torch.sub)):
                    a, b = (part[0].add_(part[1]), part[2]) if column == 0 else (part[1].sub_(part[2]), part[3])
                    target = pixels[..., column::2]  # an image of odd size ends within its last tiles
                    rows, across = target.shape[1:]
                    operation(a[:, :rows, :across], b[:, :rows, :across], out=target)
    return out


def image_gradient(
    diff: torch.Tensor, weight: torch.Tensor, pad: tuple[int, int], out: torch.Tensor | None = None
) -> torch.Tensor:
    """The gradient of `convolve` for x: diff (N, K, H', W') convolved with the filters turned around."""
    return convolve(diff, weight.flip(2, 3).transpose(0, 1), None, (2 - pad[0], 2 - pad[1]), out)


def weight_gradient(x: torch.Tensor, diff: torch.Tensor, pad: tuple[int, int]) -> torch.Tensor:
    """The gradient of `convolve` for the weight: (K, C, 3, 3). diff (N, K, H + 2 pad - 2, ...)."""
    c, k, (height, width) = x.shape[1], diff.shape[1], diff.shape[2:]
    th, tw = (height + 1) // 2, (width + 1) // 2
    total = x.new_zeros((16, k, c))
    for image, y in zip(x, diff, strict=True):
        columns = _columns(image, pad, (th, tw))
        for first, count in _strips(th, max(k, c) * tw):
            tiles = _output_tiles(y, first, count, tw)
            total.baddbmm_(tiles, _image_tiles(columns, first, count).transpose(1, 2))
    return torch.mm(total.view(16, k * c).t(), _taps(x)).view(k, c, 3, 3)


class _Memory(threading.local):
    """What is computed on the way, in memory that is kept: to free and take it in every pass leaves holes."""

    def __init__(self):
        self.blocks: dict[str, torch.Tensor] = {}


_memory = _Memory()


def _scratch(name: str, like: torch.Tensor, *shape: int) -> torch.Tensor:
    """Memory for `shape`, with anything in it, until it is asked for again by this name."""
    count = math.prod(shape)
    block = _memory.blocks.get(name)
    if block is None or block.numel() < count:
        block = _memory.blocks[name] = like.new_empty(count)
    return block[:count].view(shape)


def _taps(like: torch.Tensor) -> torch.Tensor:
    """What each of the 3 x 3 taps of a filter adds to its 16 products: (16, 9)."""
    g = like.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    return torch.kron(g, g)


def _strips(tile_rows: int, floats: int) -> Iterator[tuple[int, int]]:
    """(first row of tiles, their number) of each strip; a row of tiles has 16 planes of so many floats."""
    count = max(1, _STRIP // (16 * floats))
    for first in range(0, tile_rows, count):
        yield first, min(count, tile_rows - first)


def _columns(image: torch.Tensor, pad: tuple[int, int], tiles: tuple[int, int]) -> torch.Tensor:
    """(C, H, W) padded for (th, tw) tiles, its even columns and its odd ones: (2, C, 2 th + 2, tw + 1).

    Apart, so that what follows walks through memory in steps of one.
    """
    (c, h, w), (th, tw) = image.shape, tiles
    columns = _scratch('columns', image, 2, c, 2 * th + 2, tw + 1)
    columns[:, :, : pad[0]] = 0
    columns[:, :, pad[0] + h :] = 0
    for parity in (0, 1):
        first = (parity - pad[1]) % 2  # the first column of the image that goes here, and its place
        place, count = (first + pad[1]) // 2, len(range(first, w, 2))
        rows = columns[parity, :, pad[0] : pad[0] + h]
        rows[..., :place] = 0
        rows[..., place + count :] = 0
        rows[..., place : place + count] = image[..., first::2]
    return columns


def _differences(d: list[torch.Tensor], out: torch.Tensor) -> None:
    """d0 - d2, d1 + d2, d2 - d1, d1 - d3 into the four planes of `out`."""
    torch.sub(d[0], d[2], out=out[0])
    torch.add(d[1], d[2], out=out[1])
    torch.sub(d[2], d[1], out=out[2])
    torch.sub(d[1], d[3], out=out[3])


def _image_tiles(columns: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """The 4 x 4 tiles, two pixels apart, of `count` rows of tiles as 16 matrices (16, C, count * tw)."""
    _, c, _, width = columns.shape
    tw, rows = width - 1, slice(2 * first, 2 * (first + count) + 2)
    even, odd = columns[:, :, rows]
    across = _scratch('across', columns, 4, c, 2 * count + 2, tw)
    _differences([even[..., :-1], odd[..., :-1], even[..., 1:], odd[..., 1:]], across)
    even, odd = across[:, :, 0::2], across[:, :, 1::2]
    tiles = _scratch('image tiles', columns, 4, 4, c, count, tw)
    _differences([even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:]], tiles)
    return tiles.view(16, c, count * tw)


def _output_tiles(diff: torch.Tensor, first: int, count: int, tw: int) -> torch.Tensor:
    """The adjoint of the sums at the end of `convolve`: of diff (K, H, W) `count` rows of tiles (16, K, count * tw)."""
    k = diff.shape[0]
    y = _scratch('output', diff, 2, 2, k, count, tw)  # even and odd columns, even and odd rows
    for column, row in itertools.product((0, 1), (0, 1)):
        part = diff[:, 2 * first + row : 2 * (first + count) : 2, column::2]
        target = y[column, row]
        if part.shape != target.shape:  # an image of odd size ends within its last tiles
            target.zero_()
        target[:, : part.shape[1], : part.shape[2]] = part
    across = _scratch('across', diff, 4, 2, k, count, tw)
    across[0], across[3] = y[0], -y[1]
    torch.add(y[0], y[1], out=across[1])
    torch.sub(y[0], y[1], out=across[2])
    tiles = _scratch('output tiles', diff, 4, 4, k, count, tw)
    tiles[0], tiles[3] = across[:, 0], -across[:, 1]
    torch.add(across[:, 0], across[:, 1], out=tiles[1])
    torch.sub(across[:, 0], across[:, 1], out=tiles[2])
    return tiles.view(16, k, count * tw)
