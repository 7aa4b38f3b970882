"""Anchors of a map, and the boxes that predictions make of them (Ren et al., 'Faster R-CNN', 2015; generate_anchors.py
and bbox_transform.py of rbgirshick/py-faster-rcnn, and proposal_layer.cpp of forks that have them in C++). NumPy; boxes
are pixels, corners included."""

from __future__ import annotations

import numpy as np


def anchors_of_a_cell(base: int, ratios: list[float], scales: list[float]) -> np.ndarray:
    """(ratios * scales, 4) anchors about the cell at the origin: a base x base square in other shapes, then sizes.

    ratios: height over width, at (nearly) the square's area; sides are rounded to whole pixels, halves upwards.
    """
    centre, area = (base - 1) / 2, base * base
    widths = np.floor(np.sqrt(area / np.asarray(ratios, float)) + 0.5)
    heights = np.floor(widths * ratios + 0.5)
    half = np.stack([widths, heights], axis=1)[:, None] * np.asarray(scales, float)[None, :, None]
    half = (half.reshape(-1, 2) - 1) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def shifted(anchors: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    """(H * W * A, 4) anchors of each cell, by rows, columns and anchors."""
    y, x = np.mgrid[: size[0], : size[1]] * stride
    shifts = np.stack([x, y, x, y], axis=-1)
    return (shifts[:, :, None] + anchors).reshape(-1, 4)


def moved(anchors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Boxes (K, 4) whose centres and sizes lie beside the anchors' as the codes (K, 4) say: dx, dy, log w, log h."""
    size = anchors[:, 2:] - anchors[:, :2] + 1
    centre = anchors[:, :2] + size / 2 + codes[:, :2] * size
    half = np.exp(codes[:, 2:]) * size / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def inside(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """The boxes with their corners moved into an image of this size."""
    return boxes.clip(0, np.array([width, height, width, height]) - 1)
