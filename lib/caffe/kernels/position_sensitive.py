"""Means of the bins of RoIs, each bin from a map of its own (psroi_pooling_layer.cu of R-FCN's Caffe).

Means come from sums over all pixels above and to the left, in float64: four numbers a bin, however large it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class BinEdges(NamedTuple):
    """The bins of R RoIs: image (R,), and for the G bins along a side the pixels low to before high, (R, G); int64."""

    image: torch.Tensor
    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


def bin_edges(rois: torch.Tensor, scale: float, group: int, size: tuple[int, int, int]) -> BinEdges:
    """Parts RoIs into group x group bins, in the original's float32 arithmetic.

    rois: (R, 5), rows (image, x1, y1, x2, y2) in image pixels, corners included; scale: feature pixels in an image
    pixel; size: images, height and width of the maps. Corners are rounded before they are scaled, and an RoI is at
    least 0.1 feature pixels long. An image that is not there counts as the nearest that is.
    """

    def along(first: torch.Tensor, last: torch.Tensor, pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
        start, end = _round(first) * scale, (_round(last) + 1) * scale
        length = (end - start).clamp(min=0.1) / torch.full_like(start, group)
        edge = torch.arange(group + 1, device=rois.device, dtype=torch.float32) * length[:, None] + start[:, None]
        return edge[:, :-1].floor().long().clamp(0, pixels), edge[:, 1:].ceil().long().clamp(0, pixels)

    return BinEdges(
        rois[:, 0].long().clamp(0, max(size[0] - 1, 0)),
        *along(rois[:, 2], rois[:, 4], size[1]),
        *along(rois[:, 1], rois[:, 3], size[2]),
    )


def _round(corner: torch.Tensor) -> torch.Tensor:
    """C's round(): halves away from zero."""
    return corner.sign() * (corner.double().abs() + 0.5).floor().float()


def position_sensitive_means(maps: torch.Tensor, edges: BinEdges) -> torch.Tensor:
    """The mean of each bin in its map, 0 for a bin without pixels: (R, D, G, G).

    maps: (N, D * G * G, H, W); channel (d * G + g) * G + h is what bin (g, h) of output channel d is pooled from.
    """
    group = edges.top.shape[1]
    sums = torch.nn.functional.pad(maps.double().cumsum(2).cumsum(3), (1, 0, 1, 0))
    sums = sums.view(maps.shape[0], maps.shape[1] // group**2, group, group, sums.shape[2:].numel())
    down, across, image = _bins(edges)
    totals = sum(sign * sums[image, :, down, across, place] for sign, place in _corners(edges, maps.shape[3] + 1))
    return (totals / _areas(edges)[..., None]).float().permute(0, 3, 1, 2).contiguous()


def position_sensitive_means_backward(diff: torch.Tensor, edges: BinEdges, shape: torch.Size) -> torch.Tensor:
    """The gradient of maps of this shape (N, C, H, W) from that of their means, (R, D, G, G)."""
    group, (images, channels, height, width) = edges.top.shape[1], shape
    sums = diff.new_zeros((images, channels // group**2, group, group, (height + 1) * (width + 1)), dtype=torch.float64)
    down, across, image = _bins(edges)
    share = diff.permute(0, 2, 3, 1).double() / _areas(edges)[..., None]
    output = torch.arange(sums.shape[1], device=diff.device)
    for sign, place in _corners(edges, width + 1):
        at = (image[..., None], output, down[..., None], across[..., None], place[..., None])
        sums.index_put_(at, sign * share, accumulate=True)
    # A pixel is in all sums of corners below and to the right of it.
    sums = sums.view(images, channels, height + 1, width + 1)[:, :, 1:, 1:]
    return sums.flip(2, 3).cumsum(2).cumsum(3).flip(2, 3).float()


def _bins(edges: BinEdges) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The bin's number down and across, and the RoI's image, each to be broadcast to (R, G, G)."""
    number = torch.arange(edges.top.shape[1], device=edges.top.device)
    return number[None, :, None], number[None, None, :], edges.image[:, None, None]


def _corners(edges: BinEdges, width: int) -> list[tuple[int, torch.Tensor]]:
    """The four corners whose sums, with these signs, are a bin's: places (R, G, G) in sums of this width."""
    top, bottom = edges.top[:, :, None] * width, edges.bottom[:, :, None] * width
    left, right = edges.left[:, None], edges.right[:, None]
    return [(1, bottom + right), (-1, top + right), (-1, bottom + left), (1, top + left)]


def _areas(edges: BinEdges) -> torch.Tensor:
    """The pixels of each bin, (R, G, G), infinite where it has none: its mean and its gradient are 0 then."""
    area = ((edges.bottom - edges.top)[:, :, None] * (edges.right - edges.left)[:, None]).double()
    empty = (edges.bottom <= edges.top)[:, :, None] | (edges.right <= edges.left)[:, None]
    return area.masked_fill(empty, float('inf'))
