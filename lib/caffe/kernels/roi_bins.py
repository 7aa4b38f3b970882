"""Which pixels of a feature map the bins of RoIs cover, in Caffe's float32 arithmetic (roi_pooling_layer.cu)."""

from __future__ import annotations

from typing import NamedTuple

import torch


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


def rounded_corners(rois: torch.Tensor, scale: float) -> torch.Tensor:
    """(R, 4) int64: the RoIs' corners x1, y1, x2, y2 in feature pixels, rounded half away from zero.

    rois: (R, 5); scale: feature pixels in an image pixel, multiplied in float32.
    """
    # a tensor, since torch multiplies by the double that a number is; filled there, for a copy would wait for the GPU
    scaled = (rois[:, 1:] * torch.full((), scale, dtype=rois.dtype, device=rois.device)).double()
    return (scaled.sign() * (scaled.abs() + 0.5).floor()).long()  # + 0.5 is exact in double


def bins_along(start: torch.Tensor, end: torch.Tensor, pooled: int, size: int) -> Bins:
    """Parts RoIs into bins along one axis, in Caffe's float32 arithmetic.

    start, end: (R,) int64 corners in feature pixels, both included; pooled: the number of bins; size: the pixels of
    the feature map.
    """
    length = (end - start + 1).clamp(min=1).float()
    # A tensor, since on a GPU torch multiplies by 1 / pooled where the divisor is a number.
    bin_size = length / torch.full_like(length, pooled)
    edge = torch.arange(pooled + 1, device=start.device, dtype=torch.float32) * bin_size[:, None]
    low = (edge[:, :-1].floor().long() + start[:, None]).clamp(0, size)
    high = (edge[:, 1:].ceil().long() + start[:, None]).clamp(0, size)
    return Bins(start, end, low, high, bin_size)


def bins_of_rois(
    rois: torch.Tensor, scale: float, pooled: tuple[int, int], maps: torch.Size
) -> tuple[Bins, Bins, torch.Tensor]:
    """The bins of RoIs down and across, and the image of each, (R,) int64.

    rois: (R, 5), rows (image, x1, y1, x2, y2) in image pixels; pooled: bins down and across; maps: (N, C, H, W). An
    image that is not there counts as the nearest that is (`of_no_image`).
    """
    x1, y1, x2, y2 = rounded_corners(rois, scale).t().contiguous()
    down, across = bins_along(y1, y2, pooled[0], maps[2]), bins_along(x1, x2, pooled[1], maps[3])
    return down, across, rois[:, 0].long().clamp(0, max(maps[0] - 1, 0))


def of_no_image(rois: torch.Tensor, images: int) -> torch.Tensor:
    """(R,) bool: which of the RoIs (R, 5) are of none of the `images` in the batch."""
    image = rois[:, 0].long()
    return (image < 0) | (image >= images)


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
