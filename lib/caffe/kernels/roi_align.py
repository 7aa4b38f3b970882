"""Means of bilinear samples of RoIs' bins. Samples lie on a grid, so each axis is a product with a matrix."""

from __future__ import annotations

import torch

_AT_ONCE = 64  # RoIs whose half-pooled maps (R, C, H, bins) are in memory together


def axis_weights(first: torch.Tensor, last: torch.Tensor, bins: int, pixels: int, samples: int) -> torch.Tensor:
    """(R, bins, pixels): how much each pixel counts in each bin along one axis; rows sum to 1 within the map.

    first, last: (R,) corners in feature pixels; samples: places a bin, or 0 for as many as it has pixels, rounded up.
    A place more than a pixel outside the map counts 0; others outside are moved to its edge.
    """
    length = (last - first).clamp(min=1)
    size = length / bins
    each = torch.full_like(size, samples) if samples > 0 else (length / bins).ceil()
    most = samples if samples > 0 else int(each.max()) if len(each) else 1
    number = torch.arange(most, device=first.device) + 0.5
    within = torch.minimum(number / each[:, None], torch.ones((), device=first.device))  # (R, places), fractions
    bin_number = torch.arange(bins, device=first.device)
    place = first[:, None, None] + (bin_number[:, None] + within[:, None]) * size[:, None, None]  # (R, bins, places)
    counts = (number < each[:, None])[:, None] & (place >= -1) & (place <= pixels)
    place = place.clamp(0, pixels - 1)
    distance = (place[..., None] - torch.arange(pixels, device=first.device)).abs()
    weights = (1 - distance).clamp(min=0) * counts[..., None]
    return weights.sum(2) / each[:, None, None]


def roi_align(
    maps: torch.Tensor, rois: torch.Tensor, scale: float, pooled: tuple[int, int], samples: int
) -> torch.Tensor:
    """(R, C, *pooled) means of bilinear samples; torch can differentiate it by the maps.

    maps: (N, C, H, W); rois: (R, 5), rows (image, x1, y1, x2, y2) in image pixels; scale: feature pixels in one.
    """
    height, width = maps.shape[2:]
    corners = rois[:, 1:] * scale
    down = axis_weights(corners[:, 1], corners[:, 3], pooled[0], height, samples)
    across = axis_weights(corners[:, 0], corners[:, 2], pooled[1], width, samples)
    out = maps.new_zeros((len(rois), maps.shape[1], *pooled))
    for image in range(maps.shape[0]):
        for part in (rois[:, 0].long() == image).nonzero()[:, 0].split(_AT_ONCE):
            half = torch.einsum('chw,rqw->rchq', maps[image], across[part])
            out = out.index_copy(0, part, torch.einsum('rchq,rph->rcpq', half, down[part]))
    return out
