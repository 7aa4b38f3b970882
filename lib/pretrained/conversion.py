"""The arithmetic: BatchNorm folded, and the first convolution made to take BGR pixels less a mean."""

from __future__ import annotations

import numpy as np

from pretrained.sources import Input


def folded(
    weights: np.ndarray, bias: np.ndarray | None, statistics: tuple[np.ndarray, ...], eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (O, I, H, W) and bias (O,) of the convolution that does what it and the BatchNorm behind it do.

    `statistics`: gamma, beta, mean, variance, (O,) each. Computed in float64.
    """
    gamma, beta, mean, variance = (each.astype(np.float64) for each in statistics)
    factor = gamma / np.sqrt(variance + eps)
    shift = (0.0 if bias is None else bias.astype(np.float64)) - mean
    scaled = weights.astype(np.float64) * factor[:, None, None, None]
    return scaled.astype(np.float32), (beta + shift * factor).astype(np.float32)


def for_caffe(
    weights: np.ndarray, bias: np.ndarray, seen: Input, means: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The first convolution, (O, 3, H, W) and (O,), for BGR pixels less `means` in place of what it has `seen`.

    Scales and the order of channels are exact. So is the difference of the means, but at the border: where the
    convolution reaches beyond the image, it has 0 there, which stands for `means` now and stood for its own before.
    """
    order = [2, 1, 0] if seen.channels == 'RGB' else [0, 1, 2]
    mean, scale = (np.array(values, np.float64)[order] for values in (seen.mean, seen.scale))
    scaled = weights.astype(np.float64)[:, order] / scale[:, None, None]
    moved = bias + (scaled * (np.array(means) - mean)[:, None, None]).sum(axis=(1, 2, 3))
    return scaled.astype(np.float32), moved.astype(np.float32)


def own_means(seen: Input) -> tuple[float, ...]:
    """The means in BGR order with which `for_caffe` is exact at the border, too."""
    return seen.mean[::-1] if seen.channels == 'RGB' else seen.mean
