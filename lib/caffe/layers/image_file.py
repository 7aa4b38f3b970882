"""One image file, read. No layer: ImageData and WindowData share it."""

from __future__ import annotations

import os

import numpy as np

from caffe.image_content import decoded
from caffe.layer_error import LayerError


def read_image(path: str, color: bool = True, size: tuple[int, int] | None = None) -> np.ndarray:
    """A uint8 image file as (C, H, W): BGR, or one channel; resized to size (height, width) bilinearly.

    Raises LayerError where there is no file or OpenCV cannot read it.
    """
    import cv2  # here, as in caffe.io

    if not os.path.isfile(path):
        raise LayerError(f'Could not open or find file {path}')
    image = decoded(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise LayerError(f'Could not load {path}: OpenCV reads no image in it')
    if size is not None:
        image = cv2.resize(image, (size[1], size[0]))
    return image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)
