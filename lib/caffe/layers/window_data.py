"""WindowData: windows of images warped to one size, as R-CNN trains on (window_data_layer.cpp)."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np

from caffe.blob import Blob
from caffe.layer import Layer, LayerError, register
from caffe.layers.image_file import read_image
from caffe.layers.prefetch import AHEAD, Prefetch
from caffe.layers.transformer import ImageTransformer, draw, own_generator, write_batch

Box = tuple[int, int, int, int]


class Window(NamedTuple):
    """A window of an image of the list; box in inclusive pixels."""

    image: int
    label: int
    box: Box


class Warp(NamedTuple):
    """What to cut out and where it goes.

    box: in the image; size: the (height, width) it becomes; above, left, right: empty pixels beside it.
    """

    box: Box
    size: tuple[int, int]
    above: int
    left: int
    right: int


def context_warp(box: Box, image: tuple[int, int], crop: int, context_pad: int, square: bool) -> Warp:
    """How a box is warped to crop x crop pixels, so that context_pad of them on each side are context.

    box: inclusive pixels, within the image of (height, width). square: the box is first grown to a square.
    Context beyond the image stays empty.
    """
    x1, y1, x2, y2 = box
    if context_pad == 0 and not square:
        return Warp(box, (crop, crop), 0, 0, 0)
    grow = crop / (crop - 2 * context_pad)
    half_height, half_width = (y2 - y1 + 1) / 2, (x2 - x1 + 1) / 2
    center_x, center_y = x1 + half_width, y1 + half_height
    if square:
        half_height = half_width = max(half_height, half_width)
    x1, x2 = _round(center_x - half_width * grow), _round(center_x + half_width * grow)
    y1, y2 = _round(center_y - half_height * grow), _round(center_y + half_height * grow)
    scale_y, scale_x = crop / (y2 - y1 + 1), crop / (x2 - x1 + 1)
    above, left = max(0, -y1), max(0, -x1)
    below, right = max(0, y2 - image[0] + 1), max(0, x2 - image[1] + 1)
    x1, y1, x2, y2 = x1 + left, y1 + above, x2 - right, y2 - below
    height, width = _round((y2 - y1 + 1) * scale_y), _round((x2 - x1 + 1) * scale_x)
    above, left, right = _round(above * scale_y), _round(left * scale_x), _round(right * scale_x)
    # Rounding may have made the padding and the window together larger than the crop.
    return Warp((x1, y1, x2, y2), (min(height, crop - above), min(width, crop - left)), above, left, right)


def _round(x: float) -> int:
    """The nearest whole number, halves away from zero, as C rounds."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


@register('WindowData')
class WindowData(Layer):
    """Batches of foreground and background windows drawn at random from window_data_param.source.

    That file has for each image `# index`, its path, channels, height, width and number of windows on lines
    of their own, then a line `class overlap x1 y1 x2 y2` for each window. A batch has fg_fraction windows
    with an overlap of at least fg_threshold, after the others, which overlap less than bg_threshold and get
    label 0. Tops: data (N, 3, crop_size, crop_size) and label (N); transform_param has crop_size, mirror,
    scale and the mean. A background thread makes batches ahead.
    """

    param_field = 'window_data_param'
    num_bottom = 0
    num_top = 2

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        windows = _Windows(self.param, self.layer_param.transform_param, train=self.phase == 0)
        top[0].reshape(self.param.batch_size, 3, windows.crop, windows.crop)
        top[1].reshape(self.param.batch_size)
        self._batches = Prefetch(windows.batch, AHEAD)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        write_batch(top, self._batches.next())


class _Windows:
    """Batches of windows at random. It runs in a thread: the layer is not held."""

    def __init__(self, param, transform, train: bool):
        self.param, self.transform_param = param, transform
        self.generator = own_generator()
        self.crop = transform.crop_size
        if self.crop == 0 or param.batch_size == 0:
            raise LayerError('transform_param { crop_size } and window_data_param { batch_size } must be positive')
        if param.crop_mode not in ('warp', 'square'):
            raise LayerError(f"crop_mode must be 'warp' or 'square', got {param.crop_mode!r}")
        if 2 * param.context_pad >= self.crop:
            raise LayerError(f'context_pad {param.context_pad} leaves nothing of crop_size {self.crop}')
        self.images, windows = read_windows(param.source)
        foreground = [w for w, overlap in windows if overlap >= param.fg_threshold]
        for window in foreground:
            if window.label <= 0:
                raise LayerError(
                    f'{param.source}: window {window.box} of image {window.image} overlaps an object '
                    f'(fg_threshold {param.fg_threshold:g}) and needs a label above 0, got {window.label}'
                )
        background = [
            w._replace(label=0) for w, overlap in windows if overlap < min(param.bg_threshold, param.fg_threshold)
        ]
        n_foreground = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))
        self.draws = [(background, param.batch_size - n_foreground), (foreground, n_foreground)]
        for kind, (found, wanted) in zip(('background', 'foreground'), self.draws, strict=True):
            if wanted and not found:
                raise LayerError(f'{param.source} has no {kind} windows, of which a batch needs {wanted}')
        self.mean = self._mean(ImageTransformer(transform, train))
        self.cache: dict[int, np.ndarray] = {}

    def _mean(self, transformer: ImageTransformer) -> np.ndarray:
        """The mean of the warped window: (3, crop or 1, crop or 1)."""
        if transformer.mean_image is None:
            means = list(transformer.param.mean_value) or [0.0]
            if len(means) not in (1, 3):
                raise LayerError(f'Specify either 1 mean_value or as many as channels: 3; found {len(means)}')
            return np.array(means, np.float32).reshape(-1, 1, 1)
        mean = transformer.mean_image
        start = (mean.shape[2] - self.crop) // 2
        if mean.shape[0] != 3 or min(mean.shape[1:]) < start + self.crop or start < 0:
            raise LayerError(
                f'{transformer.param.mean_file} has shape {mean.shape}, '
                f'too small for crop_size {self.crop} and 3 channels'
            )
        return mean[:, start : start + self.crop, start : start + self.crop]

    def _image(self, index: int) -> np.ndarray:
        if index in self.cache:
            return self.cache[index]
        image = read_image(self.param.root_folder + self.images[index]).transpose(1, 2, 0)
        if self.param.cache_images:
            self.cache[index] = image
        return image

    def _warped(self, window: Window, mirror: bool) -> np.ndarray:
        """A (3, crop, crop) window less the mean, times the scale; 0 beyond the image."""
        import cv2  # here, as in caffe.io

        image = self._image(window.image)
        x1, y1, x2, y2 = window.box
        if not (0 <= x1 <= x2 < image.shape[1] and 0 <= y1 <= y2 < image.shape[0]):
            raise LayerError(
                f'{self.param.source}: window {window.box} is not within {self.images[window.image]} '
                f'of {image.shape[1]}x{image.shape[0]} pixels'
            )
        square = self.param.crop_mode == 'square'
        warp = context_warp(window.box, image.shape[:2], self.crop, self.param.context_pad, square)
        (x1, y1, x2, y2), (height, width) = warp.box, warp.size
        left = warp.right if mirror else warp.left
        width = min(width, self.crop - left)
        pixels = cv2.resize(image[y1 : y2 + 1, x1 : x2 + 1], (width, height), interpolation=cv2.INTER_LINEAR)
        if mirror:
            pixels = pixels[:, ::-1]
        region = np.s_[:, warp.above : warp.above + height, left : left + width]
        mean = self.mean[region] if self.mean.shape[1] > 1 else self.mean
        out = np.zeros((3, self.crop, self.crop), np.float32)
        scale = self.transform_param.scale * self.param.scale
        out[region] = (pixels.transpose(2, 0, 1) - mean) * np.float32(scale)
        return out

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """The next data (N, 3, crop, crop) and labels (N)."""
        data = np.empty((self.param.batch_size, 3, self.crop, self.crop), np.float32)
        labels = np.empty(self.param.batch_size, np.float32)
        item = 0
        for windows, count in self.draws:
            for _ in range(count):
                window = windows[draw(len(windows), self.generator)]
                mirror = bool(self.transform_param.mirror and draw(2, self.generator))
                data[item] = self._warped(window, mirror)
                labels[item] = window.label
                item += 1
        return data, labels


def read_windows(source: str) -> tuple[dict[int, str], list[tuple[Window, float]]]:
    """The images of a window file (index -> path) and its windows, each with its overlap."""
    if not os.path.isfile(source):
        raise LayerError(f'Failed to open window file {source!r}')
    with open(source, encoding='utf-8', errors='surrogateescape') as file:
        words = iter(file.read().split())
    images: dict[int, str] = {}
    windows = []
    try:
        for mark in words:
            if mark != '#':
                raise ValueError(f"expected '# image_index', got {mark!r}")
            index = int(next(words))
            images[index] = next(words)
            _, _, _, n_windows = (int(next(words)) for _ in range(4))
            for _ in range(n_windows):
                label, overlap, x1, y1, x2, y2 = (next(words) for _ in range(6))
                windows.append((Window(index, int(label), (int(x1), int(y1), int(x2), int(y2))), float(overlap)))
    except (ValueError, StopIteration, RuntimeError) as error:
        raise LayerError(f'{source}, after {len(images)} images: {error or "the file ends early"}') from None
    if not images:
        raise LayerError(f'Window file is empty: {source}')
    return images, windows
