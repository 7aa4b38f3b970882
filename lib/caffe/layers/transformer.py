"""transform_param: crop, mirror, mean and scale of images that data layers read (data_transformer.cpp)."""

from __future__ import annotations

import numpy as np
import torch

from caffe import device
from caffe.layer import LayerError
from caffe.model_file import read_blobproto


def draw(count: int) -> int:
    """A random number of 0 .. count - 1, from the engine's seed."""
    return int(torch.randint(count, (), generator=device.host_generator()))


class ImageTransformer:
    """(image - mean) * scale, cropped and mirrored as a TransformationParameter says.

    Crops are random in the TRAIN phase and from the centre in the TEST phase; mirror is random in both. The
    mean is an image (mean_file), one number, or one a channel (mean_value).
    """

    def __init__(self, param, train: bool):
        if param.HasField('mean_file') and param.mean_value:
            raise LayerError('Cannot specify mean_file and mean_value at the same time')
        if param.force_color and param.force_gray:
            raise LayerError('cannot set both force_color and force_gray')
        self.param = param
        self.train = train
        self.mean_image = None
        if param.HasField('mean_file'):
            mean = read_blobproto(param.mean_file).data
            self.mean_image = np.array(mean.reshape(mean.shape[-3:]))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A float32 (C, h, w) image from a (C, H, W) one; LayerError where sizes do not fit."""
        height, width = image.shape[1:]
        mirror = self.param.mirror and draw(2)
        crop = self.param.crop_size
        y = x = 0
        if crop:
            if crop > min(height, width):
                raise LayerError(f'crop_size {crop} is larger than an image of {height}x{width}')
            room = height - crop, width - crop
            y, x = (draw(room[0] + 1), draw(room[1] + 1)) if self.train else (room[0] // 2, room[1] // 2)
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
                    f'the mean image {self.param.mean_file} has shape {self.mean_image.shape}, an image has '
                    f'{shape}'
                )
            return self.mean_image[region]
        means = self.param.mean_value
        if len(means) not in (0, 1, shape[0]):
            raise LayerError(
                f'Specify either 1 mean_value or as many as channels: {shape[0]}; found {len(means)}'
            )
        return np.array(means, np.float32).reshape(-1, 1, 1) if means else 0.0


def write_batch(top, items: list[tuple[np.ndarray, float, str]]) -> None:
    """Writes (image, label, name) items into the tops data and, if there, label; images give the shape."""
    first = items[0][0].shape
    for image, _, name in items:
        if image.shape != first:
            raise LayerError(
                f'{name} is {image.shape} (channels, height, width), the first of its batch {first}: '
                'use crop_size, new_height and new_width, or batch_size: 1'
            )
    top[0].reshape(len(items), *first)
    np.stack([image for image, _, _ in items], out=top[0].data)
    if len(top) > 1:
        top[1].reshape(len(items))
        top[1].data[...] = [label for _, label, _ in items]
