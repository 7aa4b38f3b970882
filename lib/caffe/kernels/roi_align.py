"""Means of bilinear samples of RoIs' bins. Samples lie on a grid, so each axis is a product with a matrix."""

from __future__ import annotations

import torch

_AT_ONCE = 64  # RoIs whose half-pooled maps (R, C, H, bins) are in memory together
_NUMBERS = 1 << 22  # distances of places from pixels that are in memory together


def axis_weights(first: torch.Tensor, last: torch.Tensor, bins: int, pixels: int, samples: int) -> torch.Tensor:
    """(R, bins, pixels): how much each pixel counts in each bin along one axis; rows sum to 1 within the map.

    first, last: (R,) corners in feature pixels; samples: places a bin, or 0 for as many as it has pixels, rounded up.
    A place more than a pixel outside the map counts 0; others outside are moved to its edge. NaN for a corner that is
    NaN or infinite.
    """
    size = (last - first).clamp(min=1) / bins
    each = torch.full_like(size, samples) if samples > 0 else size.ceil()
    bin_start = first[:, None] + torch.arange(bins, device=first.device) * size[:, None]  # (R, bins)
    # An RoI may have a billion pixels: of its places only those near the map are looked at. Which count is told below,
    # in the single precision of the released code: at the map's edge the last bit decides.
    step = (size / each)[:, None].double()
    low = ((-1 - bin_start) / step - 0.5).ceil().sub(1).clamp(min=0)
    high = torch.minimum(((pixels - bin_start) / step - 0.5).floor() + 1, each[:, None] - 1)
    most = int((high - low + 1).nan_to_num(0, 0, 0).max().clamp(min=0)) if len(first) else 0
    pixel = torch.arange(pixels, device=first.device)
    weights = first.new_zeros((len(first), bins, pixels))
    part = max(1, _NUMBERS // max(1, weights.numel()))
    for begin in range(0, most, part):
        number = low[..., None] + torch.arange(begin, min(begin + part, most), device=first.device)
        within = (number.float() + 0.5) * size[:, None, None] / each[:, None, None]
        place = bin_start[..., None] + within
        counts = (number <= high[..., None]) & (place >= -1) & (place <= pixels)
        near = (1 - (place.clamp(0, pixels - 1)[..., None] - pixel).abs()).clamp(min=0)  # (R, bins, places, pixels)
        weights += (near * counts[..., None]).sum(2)
    weights /= each[:, None, None]
    return weights.masked_fill(~(first + last).isfinite()[:, None, None], float('nan'))


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
