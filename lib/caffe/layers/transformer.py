"""transform_param: crop, mirror, mean and scale of images that data layers read (data_transformer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from caffe.blob import Blob
from caffe.files.model_file import read_blobproto
from caffe.layer_error import LayerError
from caffe.process import device


def own_generator() -> torch.Generator:
    """A random generator for one data layer, seeded from the engine's.

    As in Caffe: what a layer draws ahead of time must not depend on when others draw.
    """
    return torch.Generator().manual_seed(draw(2**31, device.host_generator()))


def draw(count: int, generator: torch.Generator) -> int:
    """A random number of 0 .. count - 1."""
    return int(torch.randint(count, (), generator=generator))


class ImageTransformer:
    """(image - mean) * scale, cropped and mirrored as a TransformationParameter says.

    Crops are random in the TRAIN phase and from the centre in the TEST phase; mirror is random in both. The
    mean is an image (mean_file), one number, or one a channel (mean_value).
    """

    def __init__(self, param, train: bool, generator: torch.Generator | None = None):
        """param: a TransformationParameter. generator: of crops and mirrors; by default the engine's."""
        if param.HasField('mean_file') and param.mean_value:
            raise LayerError('Cannot specify mean_file and mean_value at the same time')
        if param.force_color and param.force_gray:
            raise LayerError('cannot set both force_color and force_gray')
        self.param = param
        self.train = train
        self._generator = generator
        self.mean_image = None
        if param.HasField('mean_file'):
            mean = read_blobproto(param.mean_file).data
            self.mean_image = np.array(mean.reshape(mean.shape[-3:]))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A float32 (C, h, w) image from a (C, H, W) one; LayerError where sizes do not fit."""
        height, width = image.shape[1:]
        generator = self._generator or device.host_generator()
        mirror = self.param.mirror and draw(2, generator)
        crop = self.param.crop_size
        y = x = 0
        if crop:
            if crop > min(height, width):
                raise LayerError(f'crop_size {crop} is larger than an image of {height}x{width}')
            room = height - crop, width - crop
            y, x = (draw(r + 1, generator) if self.train else r // 2 for r in room)
            height = width = crop
        region = np.s_[:, y : y + height, x : x + width]
        values = image[region].astype(np.float32) - self._mean(image.shape, region)
        values *= self.param.scale
        return values[:, :, ::-1] if mirror else values

    def _mean(self, shape: tuple[int, ...], region) -> np.ndarray | float:
        """The mean of this region of an image of this shape."""
        if self.mean_image is not None:
            if self.mean_image.shape != shape:
                raise LayerError(
                    f'the mean image {self.param.mean_file} has shape {self.mean_image.shape}, an image has {shape}'
                )
            return self.mean_image[region]
        means = self.param.mean_value
        if len(means) not in (0, 1, shape[0]):
            raise LayerError(f'Specify either 1 mean_value or as many as channels: {shape[0]}; found {len(means)}')
        return np.array(means, np.float32).reshape(-1, 1, 1) if means else 0.0


def stacked(items: Sequence[tuple[np.ndarray, float, str]]) -> tuple[np.ndarray, np.ndarray]:
    """(image, label, name) items as two float32 arrays: data (N, C, H, W) and labels (N).

    Raises LayerError with the name of an image that has not the shape of the first.
    """
    first = items[0][0].shape
    for image, _, name in items:
        if image.shape != first:
            raise LayerError(
                f'{name} is {image.shape} (channels, height, width), the first of its batch {first}: '
                'use crop_size, new_height and new_width, or batch_size: 1'
            )
    return np.stack([image for image, _, _ in items]), np.array([label for _, label, _ in items], np.float32)


def write_batch(top: Sequence[Blob], arrays: Sequence[np.ndarray]) -> None:
    """Writes a batch into the tops, which take its shapes; arrays without a top are left out."""
    for blob, array in zip(top, arrays, strict=False):
        blob.reshape(*array.shape)
        blob.data[...] = array
