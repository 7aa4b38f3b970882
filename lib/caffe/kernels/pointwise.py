"""Convolutions of 1 x 1: each image, as a matrix (channels, pixels), times the filters.

torch leaves them to MKL's product where it has one thread, or few pixels of one image. Where oneDNN multiplies twice as
fast (matrix.py), its products of the same matrices serve better (docs/performance.md).
"""

from __future__ import annotations

import torch

from caffe.kernels import matrix

_FEW_PIXELS, _MANY_IMAGES = 20480, 16  # numbers of one image, and images, in the rule of torch's ConvParams::use_mkldnn


def gains(x: torch.Tensor) -> bool:
    """Whether torch would leave the convolution of these images (N, C, H, W) to the slower library."""
    left_to_mkl = (torch.get_num_threads() == 1 and len(x) < _MANY_IMAGES) or (len(x) == 1 and x.numel() <= _FEW_PIXELS)
    return left_to_mkl and matrix.wants_rows(x.device)


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> torch.Tensor:
    """x (N, C, H, W) times weight (K, C, 1, 1), plus bias (K,), in `out` (N, K, H, W)."""
    matrix.multiply_each(weight.flatten(1).expand(len(x), -1, -1), x.flatten(2), out.flatten(2))
    return out if bias is None else out.add_(bias.view(-1, 1, 1))


def image_gradient(diff: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """The gradient of `convolve` for its images, in `out` (N, C, H, W); diff: as its result."""
    filters = weight.flatten(1).t().contiguous()
    matrix.multiply_each(filters.expand(len(diff), -1, -1), diff.flatten(2), out.flatten(2))
    return out


def weight_gradient(x: torch.Tensor, diff: torch.Tensor) -> torch.Tensor:
    """The gradient of `convolve` for its filters (K, C, 1, 1)."""
    total = x.new_zeros(diff.shape[1], x.shape[1])
    for image, its_diff in zip(x.flatten(2), diff.flatten(2), strict=True):
        matrix.multiply(its_diff, image.t(), total, add=True)
    return total[:, :, None, None]
