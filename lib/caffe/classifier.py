"""Classifier: a net that names what is in an image (pycaffe's classifier.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from caffe import io
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST


def input_transformer(
    net: Net,
    mean: np.ndarray | None = None,
    input_scale: float | None = None,
    raw_scale: float | None = None,
    channel_swap: Sequence[int] | None = None,
) -> io.Transformer:
    """A Transformer from H x W x K images to a net's first input, with what is given set."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    given: tuple[tuple[Any, Callable[[str, Any], None]], ...] = (
        (mean, transformer.set_mean),
        (input_scale, transformer.set_input_scale),
        (raw_scale, transformer.set_raw_scale),
        (channel_swap, transformer.set_channel_swap),
    )
    for value, set_it in given:
        if value is not None:
            set_it(name, value)
    return transformer


class Classifier(Net):
    """A net in the TEST phase with one input, an image, whose first output is one row of numbers an image.

    image_dims: the (height, width) to which images are resized before they are cropped to the input's size;
    default: that size. The other options are io.Transformer's.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else image_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """(N, C) predictions for N images, (H, W, K) each: the mean over ten crops, or the centre crop's."""
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            crops = io.oversample(images, self.crop_dims)
        else:
            y, x = (np.array(images.shape[1:3]) - self.crop_dims) // 2
            crops = images[:, y : y + self.crop_dims[0], x : x + self.crop_dims[1]]
        name = self.inputs[0]
        out = self.forward_all(**{name: np.stack([self.transformer.preprocess(name, crop) for crop in crops])})
        predictions = out[self.outputs[0]]
        return predictions.reshape(len(images), 10, -1).mean(axis=1) if oversample else predictions
