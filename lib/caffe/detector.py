"""Detector: a net that classifies windows of images, R-CNN's way (pycaffe's detector.py).

R. Girshick, J. Donahue, T. Darrell, J. Malik: Rich feature hierarchies for accurate object detection and
semantic segmentation, CVPR 2014. Windows are (ymin, xmin, ymax, xmax) in pixels; ymax and xmax are the first
outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffe import io
from caffe.classifier import input_transformer
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST


class Detector(Net):
    """A net in the TEST phase whose input is a window's image, its first output a row for each window.

    context_pad: how many pixels of context, in the net's (square) input, each window gets on all sides;
    beyond the image's borders the mean stands. The other options are io.Transformer's.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Sets the context, and finds the mean as an image in the input's size before preprocessing."""
        name = self.inputs[0]
        channels, height, width = self.blobs[name].shape[1:]
        if context_pad and (height != width or 2 * context_pad >= width):
            raise ValueError(
                f'context_pad {context_pad} needs a square input of more than {2 * context_pad} pixels; '
                f'{name} is {height} x {width}'
            )
        self.context_pad = context_pad
        self.crop_dims = np.array([height, width, channels])
        self.crop_mean = np.zeros(self.crop_dims, np.float32)
        if context_pad and name in self.transformer.mean:
            self.crop_mean = self.transformer.deprocess(name, np.zeros((channels, height, width)))

    def crop(self, im: np.ndarray, window: Sequence[int]) -> np.ndarray:
        """The window's part of an (H, W, K) image; with context_pad, in the input's size, with its context.

        Raises ValueError for a window without pixels.
        """
        y1, x1, y2, x2 = np.array(window, int).tolist()
        inside = im[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
        if not inside.size:
            place = f'window {(y1, x1, y2, x2)} (ymin, xmin, ymax, xmax)'
            raise ValueError(f'{place} has no pixels in an image of height and width {im.shape[:2]}')
        if not self.context_pad:
            return inside
        size = int(self.crop_dims[0])
        # The window with its context: its half sizes grow by size / (size - 2 pad).
        half = np.array([y2 - y1 + 1, x2 - x1 + 1]) / 2
        grown = half * size / (size - 2 * self.context_pad)
        centre = np.array([y1, x1]) + half
        start, stop = np.round(centre - grown), np.round(centre + grown)
        scale = size / (stop - start + 1)
        pad = np.round(np.maximum(0, -start) * scale).astype(int)  # where the image begins in the input
        limit = np.array(im.shape[:2])
        start, stop = np.clip(start, 0, limit).astype(int), np.clip(stop, 0, limit).astype(int)
        shown = np.minimum(np.round((stop - start + 1) * scale).astype(int), size - pad).clip(1)
        out = self.crop_mean.copy()
        part = io.resize_image(im[start[0] : stop[0], start[1] : stop[1]], shown)
        out[pad[0] : pad[0] + shown[0], pad[1] : pad[1] + shown[1]] = part
        return out

    def detect_windows(self, images_windows: Iterable[tuple[str, Sequence[Sequence[int]] | np.ndarray]]) -> list[dict]:
        """Predictions for windows of images, given as (image file, its windows).

        Returns a dict for each window: 'window', 'prediction' (the first output's row) and 'filename'.
        """
        detections, inputs = [], []
        name = self.inputs[0]
        for filename, windows in images_windows:
            image = io.load_image(filename, color=self.crop_dims[2] > 1)
            for window in windows:
                inputs.append(self.transformer.preprocess(name, self.crop(image, window)))
                detections.append({'window': window, 'prediction': None, 'filename': filename})
        if inputs:
            predictions = self.forward_all(**{name: np.stack(inputs)})[self.outputs[0]]
            for detection, prediction in zip(detections, predictions, strict=True):
                detection['prediction'] = prediction
        return detections

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict]:
        """Predictions for the windows of Selective Search: OpenCV's fast mode; pycaffe runs MATLAB's."""
        return self.detect_windows((name, _selective_search(name)) for name in image_fnames)


def _selective_search(filename: str) -> np.ndarray:
    """(N, 4) windows of an image file, the likeliest first."""
    import cv2  # here, as in caffe.io

    image = (io.load_image(filename)[:, :, ::-1] * 255).round().astype(np.uint8)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image))
    search.switchToSelectiveSearchFast()
    x, y, w, h = np.array(search.process()).T
    return np.stack([y, x, y + h, x + w], axis=1)
