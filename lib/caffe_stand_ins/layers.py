"""Python layers for the two layer types of Fast R-CNN that BVLC Caffe lacks.

They compute what roi_pooling_layer and smooth_L1_loss_layer of Fast R-CNN's Caffe compute, in NumPy. They are
used only where `caffe.layer_type_list()` says that the type is missing: the real layer is faster.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml

import caffe


class RoIPooling(caffe.Layer):
    """Max-pools each RoI to pooled_h x pooled_w. Bottoms: features (N, C, H, W), rois (R, 5); top: (R, C, ph, pw)."""

    def setup(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        params = _params(self)
        self._size = int(params['pooled_h']), int(params['pooled_w'])
        self._scale = np.float32(params.get('spatial_scale', 1))

    def reshape(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        top[0].reshape(bottom[1].data.shape[0], bottom[0].data.shape[1], *self._size)

    def forward(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        features, rois = bottom[0].data, bottom[1].data
        self._argmax = roi_argmax(features, rois, self._size, self._scale)
        self._images = rois[:, 0].astype(np.int64)
        flat = features.reshape(*features.shape[:2], -1)
        channels = np.arange(features.shape[1])[:, None, None]
        values = flat[self._images[:, None, None, None], channels, np.maximum(self._argmax, 0)]
        top[0].data[...] = np.where(self._argmax < 0, 0, values)

    def backward(self, top: Sequence[Any], propagate_down: Sequence[bool], bottom: Sequence[Any]) -> None:
        if not propagate_down[0]:
            return
        features, rois = bottom[0].data, bottom[1].data
        start, end = _corners(rois, self._scale)
        y, x = np.divmod(self._argmax, features.shape[3])
        # A pixel outside its RoI gets no gradient: so an RoI with x2 < x1, pooled as 1 x 1, has none
        inside = self._argmax >= 0
        for position, axis in ((x, 0), (y, 1)):
            inside &= position >= start[:, axis, None, None, None]
            inside &= position <= end[:, axis, None, None, None]
        plane = self._images[:, None, None, None] * features.shape[1] + np.arange(features.shape[1])[:, None, None]
        target = plane * (features.shape[2] * features.shape[3]) + self._argmax
        diff = np.bincount(target[inside], weights=top[0].diff[inside], minlength=features.size)
        bottom[0].diff[...] = diff.reshape(features.shape)


def roi_argmax(features: np.ndarray, rois: np.ndarray, size: tuple[int, int], scale: float) -> np.ndarray:
    """Where each bin's maximum lies: (R, C, ph, pw) int64 positions y * W + x, -1 for a bin without pixels.

    `features` (N, C, H, W), `rois` (R, 5) = (image, x1, y1, x2, y2) in input pixels, which `scale` takes to
    features. Corners are rounded, both ends belong to the RoI, and it is at least 1 x 1. Of equal maxima the
    first row-wise wins.
    """
    channels, height, width = features.shape[1:]
    start, end = _corners(rois, scale)
    x_low, x_high = _bins(start[:, 0], end[:, 0], size[1], width)
    y_low, y_high = _bins(start[:, 1], end[:, 1], size[0], height)
    bins = np.broadcast_arrays(y_low[:, :, None], y_high[:, :, None], x_low[:, None], x_high[:, None])
    y_low, y_high, x_low, x_high = (edge.reshape(-1) for edge in bins)
    images = np.repeat(rois[:, 0].astype(np.int64), size[0] * size[1])
    filled = (y_high > y_low) & (x_high > x_low)
    # A window of any size is the union of four windows whose sides are powers of two: tabulate those
    y_level, x_level = _log2(y_high - y_low), _log2(x_high - x_low)
    best = np.full((len(images), channels), -1, dtype=np.int64)
    for image in np.unique(images[filled]):
        here = filled & (images == image)
        flat = features[image].reshape(channels, -1)
        column = np.arange(height * width).reshape(1, height, width).repeat(channels, axis=0)
        for level in range(y_level[here].max(initial=0) + 1):
            if level:
                column = _first_max(flat, column[:, : -(2 ** (level - 1))], column[:, 2 ** (level - 1) :])
            table = column
            for x in range(x_level[here & (y_level == level)].max(initial=-1) + 1):
                if x:
                    table = _first_max(flat, table[:, :, : -(2 ** (x - 1))], table[:, :, 2 ** (x - 1) :])
                rows = np.flatnonzero(here & (y_level == level) & (x_level == x))
                top, bottom = y_low[rows], y_high[rows] - 2**level
                left, right = x_low[rows], x_high[rows] - 2**x
                upper = _first_max(flat, table[:, top, left], table[:, top, right])
                lower = _first_max(flat, table[:, bottom, left], table[:, bottom, right])
                best[rows] = _first_max(flat, upper, lower).T
    return best.reshape(len(rois), *size, channels).transpose(0, 3, 1, 2)


class SmoothL1Loss(caffe.Layer):
    """Sum of outside * smooth_l1(inside * (a - b)) over all numbers, divided by the number of rows.

    Bottoms: a, b and, if given, inside and outside weights, all of one shape. Parameter: sigma; the loss is
    quadratic for |x| < 1 / sigma^2. As the original, it counts in the net's loss only if the prototxt gives
    it a loss_weight. A third bottom alone, as in Fast R-CNN's first release, multiplies a - b and not the gradient.
    """

    def setup(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        self._sigma2 = np.float32(_params(self).get('sigma', 1)) ** 2
        if len(bottom) not in (2, 3, 4):
            raise ValueError(f'SmoothL1Loss: expected 2, 3 or 4 bottoms, got {len(bottom)}')

    def reshape(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        shapes = [bottom[i].data.shape for i in range(len(bottom))]
        if len(set(shapes)) != 1:
            raise ValueError(f'SmoothL1Loss: bottoms must have one shape, got {shapes}')
        top[0].reshape(1)

    def forward(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        inside = bottom[2].data if len(bottom) > 2 else 1
        self._error = inside * (bottom[0].data - bottom[1].data)
        self._inside: np.ndarray | int = inside if len(bottom) > 3 else 1
        self._outside: np.ndarray | int = bottom[3].data if len(bottom) > 3 else 1
        size = np.abs(self._error)
        quadratic = 0.5 * self._sigma2 * self._error**2
        loss = self._outside * np.where(size < 1 / self._sigma2, quadratic, size - 0.5 / self._sigma2)
        top[0].data[...] = loss.sum() / len(loss)

    def backward(self, top: Sequence[Any], propagate_down: Sequence[bool], bottom: Sequence[Any]) -> None:
        slope = np.where(np.abs(self._error) < 1 / self._sigma2, self._sigma2 * self._error, np.sign(self._error))
        gradient = slope * self._inside * self._outside * (top[0].diff.item() / len(slope))
        for i, sign in ((0, 1), (1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * gradient


def _params(layer) -> dict:
    return yaml.safe_load(getattr(layer, 'param_str', '') or getattr(layer, 'param_str_', '')) or {}


def _corners(rois: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The first and last feature pixels (x, y) of each RoI, (R, 2) int64 each, rounded as C's `round` does."""
    scaled = rois[:, 1:].astype(np.float32) * np.float32(scale)
    whole = (np.sign(scaled) * np.floor(np.abs(scaled) + np.float64(0.5))).astype(np.int64)
    return whole[:, :2], whole[:, 2:]


def _bins(start: np.ndarray, end: np.ndarray, count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels [low, high) of each of `count` bins of [start, end], cut to [0, limit): (R, count) int64 each."""
    size = np.maximum(end - start + 1, 1).astype(np.float32) / np.float32(count)
    bins = np.arange(count, dtype=np.float32)
    low = np.floor(bins * size[:, None]).astype(np.int64)
    high = np.ceil((bins + 1) * size[:, None]).astype(np.int64)
    return np.clip(low + start[:, None], 0, limit), np.clip(high + start[:, None], 0, limit)


def _log2(length: np.ndarray) -> np.ndarray:
    """The largest k with 2**k <= length, for lengths >= 1."""
    return np.frexp(np.maximum(length, 1))[1].astype(np.int64) - 1


def _first_max(flat: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of positions `a` and `b` (C, ...) in channels `flat` (C, H*W): that of the larger value; if equal, the lower."""
    shape = (-1,) + (1,) * (a.ndim - 1)
    channel = np.arange(len(flat)).reshape(shape)
    value_a, value_b = flat[channel, a], flat[channel, b]
    return np.where((value_b > value_a) | ((value_b == value_a) & (b < a)), b, a)
