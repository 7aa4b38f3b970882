"""Anchors: the boxes, of several shapes and sizes around every cell of a feature map, that an RPN scores and moves."""

from collections.abc import Sequence

import numpy as np


def generate_anchors(
    base_size: int = 16, ratios: Sequence[float] = (0.5, 1, 2), scales: Sequence[float] = (8, 16, 32)
) -> np.ndarray:
    """The anchors around the first cell: (len(ratios) * len(scales), 4) float64, all scales of a ratio together.

    Each has about the area of `base_size` * scale squared, is `ratio` times as high as it is wide, and has its centre
    at that of the pixels 0 ... base_size - 1. Sides are whole numbers before they are scaled. As py-faster-rcnn's
    generate_anchors.py.
    """
    shapes, sizes = np.asarray(ratios, dtype=np.float64), np.asarray(scales, dtype=np.float64)
    widths = np.round(np.sqrt(base_size**2 / shapes))
    sides: np.ndarray = np.stack((widths, np.round(widths * shapes)), axis=1)
    reach = (sides[:, None] * sizes[:, None] - 1).reshape(-1, 2) / 2
    centre = (base_size - 1) / 2
    return np.hstack((centre - reach, centre + reach))


def anchor_grid(anchors: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """`anchors` (A, 4) around every cell of a feature map: (height * width * A, 4), cell by cell, row by row.

    Cells are `stride` pixels of the net's input apart.
    """
    y, x = np.mgrid[:height, :width] * stride
    shifts = np.stack((x, y, x, y), axis=2)
    return (shifts[:, :, None] + anchors).reshape(-1, 4)
