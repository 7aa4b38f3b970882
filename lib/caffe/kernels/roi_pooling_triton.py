"""RoI pooling on a GPU as two Triton kernels: the functions of roi_pooling.py, number for number.

A program of a kernel computes a run of values that lie side by side in the output, each for itself, as the original's
threads do (roi_pooling_layer.cu of Caffe's fast-rcnn branch). So no table of maxima is made, no memory but the output's
is needed, and the host waits for nothing.

Triton comes with torch's wheels for CUDA. This file is imported with the first RoIs on a GPU, and only there. The
first call compiles, which takes seconds; Triton keeps the result in ~/.triton. The kernels need Triton 3.0 or later
(`tl.div_rn`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from caffe.kernels.roi_bins import Bins

_BLOCK = 512  # values a program

# Sizes that change from image to image: no new compilation for each.
_SIZES = ('rois', 'channels', 'height', 'width')


@triton.jit(do_not_specialize=_SIZES)
def forward_kernel(
    x,
    image,
    down_low,
    down_high,
    across_low,
    across_high,
    top,
    place,
    channels,
    height,
    width,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program (r, k): maxima k * BLOCK and on of RoI r's (channels, DOWN, ACROSS); `place` may be None."""
    roi = tl.program_id(0)
    value = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    count = channels * (DOWN * ACROSS)
    valid = value < count
    channel, bin = value // (DOWN * ACROSS), value % (DOWN * ACROSS)
    p, q = roi * DOWN + bin // ACROSS, roi * ACROSS + bin % ACROSS
    y_low, y_high = tl.load(down_low + p).to(tl.int32), tl.load(down_high + p).to(tl.int32)
    x_low, x_high = tl.load(across_low + q).to(tl.int32), tl.load(across_high + q).to(tl.int32)
    plane = x + (tl.load(image + roi) * channels + channel) * (height * width)  # int64, as image is

    best = tl.full([BLOCK], float('-inf'), tl.float32)
    at = y_low * width + x_low
    for i in range(0, tl.max(y_high - y_low)):
        for j in range(0, tl.max(x_high - x_low)):
            here = (y_low + i) * width + x_low + j
            inside = valid & (y_low + i < y_high) & (x_low + j < x_high)
            pixel = tl.load(plane + here, mask=inside, other=float('-inf'))
            better = (pixel > best) | ((pixel != pixel) & (best == best))  # nothing beats NaN, as in torch.maximum
            best = tl.where(better, pixel, best)
            at = tl.where(better, here, at)

    empty = (y_high <= y_low) | (x_high <= x_low)
    out = roi.to(tl.int64) * count + value
    tl.store(top + out, tl.where(empty, 0.0, best), mask=valid)
    if place is not None:
        tl.store(place + out, tl.where(empty, -1, at), mask=valid)


@triton.jit
def bins_of(pixel, start, end, length, BINS: tl.constexpr):
    """The bins, first to before last, that the backward pass takes pixels to lie in along one axis (`Bins.reached`)."""
    offset = pixel - start
    # div_rn, since Triton's / is off by a bit now and then
    first = tl.floor(tl.div_rn(offset.to(tl.float32), length))
    last = tl.minimum(tl.ceil(tl.div_rn((offset + 1).to(tl.float32), length)), BINS)
    inside = (pixel >= start) & (pixel <= end)
    return tl.where(inside, first, 0.0).to(tl.int32), tl.where(inside, last, 0.0).to(tl.int32)


@triton.jit(do_not_specialize=_SIZES)
def backward_kernel(
    diff,
    place,
    image,
    down_start,
    down_end,
    down_length,
    across_start,
    across_end,
    across_length,
    x_diff,
    rois,
    channels,
    height,
    width,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program (k, n): the gradients of pixels k * BLOCK and on of image n's (channels, height, width).

    Each pixel asks the RoIs for what is its own, instead of the bins adding to their pixels: no atomics. Additions are
    done in the order of the RoIs and, within one, of its bins in reading order. That is the order of torch on a CPU
    too: the result is the same on every run and on both.
    """
    n = tl.program_id(1)
    value = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    count = channels * height * width
    valid = value < count
    channel, pixel = value // (height * width), value % (height * width)
    y, x = pixel // width, pixel % width
    per_roi = tl.cast(channels, tl.int64) * (DOWN * ACROSS)

    total = tl.zeros([BLOCK], tl.float32)
    for r in range(0, rois):
        if tl.load(image + r) == n:
            start, end, length = tl.load(down_start + r), tl.load(down_end + r), tl.load(down_length + r)
            p, p_last = bins_of(y, start, end, length, DOWN)
            start, end, length = tl.load(across_start + r), tl.load(across_end + r), tl.load(across_length + r)
            q, q_last = bins_of(x, start, end, length, ACROSS)
            first = r * per_roi + channel * (DOWN * ACROSS) + p * ACROSS + q
            # Mostly one or two bins an axis; none for all pixels if the RoI is elsewhere.
            for i in range(0, tl.max(p_last - p)):
                for j in range(0, tl.max(q_last - q)):
                    bin = first + i * ACROSS + j
                    inside = valid & (p + i < p_last) & (q + j < q_last)
                    own = inside & (tl.load(place + bin, mask=inside, other=-1) == pixel)
                    total += tl.load(diff + bin, mask=own, other=0.0)
    tl.store(x_diff + n.to(tl.int64) * count + value, total, mask=valid)


def roi_max_pool(
    x: torch.Tensor,
    down: Bins,
    across: Bins,
    image: torch.Tensor,
    argmax: bool,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As `roi_pooling.roi_max_pool`."""
    (_, c, h, w), rois, n_down, n_across = x.shape, image.shape[0], down.low.shape[1], across.low.shape[1]
    top = x.new_empty((rois, c, n_down, n_across)) if out is None else out
    place = torch.empty((rois, c, n_down * n_across), dtype=torch.int32, device=x.device) if argmax else None
    if top.numel() == 0:
        return top, place
    inputs = [t.contiguous() for t in (x, image, down.low, down.high, across.low, across.high)]
    blocks = triton.cdiv(c * n_down * n_across, _BLOCK)
    with torch.cuda.device_of(x):  # Triton launches on the current GPU, whichever the tensors are on
        forward_kernel[rois, blocks](
            *inputs, top, place, c, h, w, DOWN=n_down, ACROSS=n_across, BLOCK=_BLOCK, enable_fp_fusion=False
        )
    return top, place


def roi_max_pool_backward(
    diff: torch.Tensor, place: torch.Tensor, down: Bins, across: Bins, image: torch.Tensor, shape: torch.Size
) -> torch.Tensor:
    """As `roi_pooling.roi_max_pool_backward`; the order of its additions is `backward_kernel`'s."""
    n, c, h, w = shape
    rois, _, n_down, n_across = diff.shape
    x_diff = diff.new_empty(shape)
    if x_diff.numel() == 0:
        return x_diff
    axes = (down.start, down.end, down.length, across.start, across.end, across.length)
    inputs = [t.contiguous() for t in (diff, place, image, *axes)]
    blocks = triton.cdiv(c * h * w, _BLOCK)
    with torch.cuda.device_of(diff):
        backward_kernel[blocks, n](
            *inputs, x_diff, rois, c, h, w, DOWN=n_down, ACROSS=n_across, BLOCK=_BLOCK, enable_fp_fusion=False
        )
    return x_diff
