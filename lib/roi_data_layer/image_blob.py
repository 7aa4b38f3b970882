"""Images as network input: float32, BGR, mean-subtracted, resized, zero-padded into one batch."""

import cv2
import numpy as np

from detection_data.image_file import image_scale, read_image

__all__ = ['image_scale', 'read_image', 'resized', 'stacked']

# An image of more pixels is made float32 a few rows at a time: all of 95 megapixels would take 1.1 GB
_LARGE = 2**24
_ROWS = 64


def resized(image: np.ndarray, scale: float, pixel_means: np.ndarray) -> np.ndarray:
    """`image` (H, W, 3) minus `pixel_means` (1, 1, 3), resized by `scale` bilinearly: float32 H' x W' x 3."""
    if image.shape[0] * image.shape[1] > _LARGE:
        return _resized_by_rows(image, scale, pixel_means)
    centred = image.astype(np.float32)
    centred -= pixel_means
    return cv2.resize(centred, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def _resized_by_rows(image: np.ndarray, scale: float, pixel_means: np.ndarray) -> np.ndarray:
    """As `resized`, to the last digit but one: rows first drawn in, then mixed, as OpenCV does it inside."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    place = np.clip((np.arange(height) + 0.5) / scale - 0.5, 0, image.shape[0] - 1)
    above = np.minimum(place.astype(np.int64), max(image.shape[0] - 2, 0))
    share = (place - above).astype(np.float32)[:, None, None]
    result = np.empty((height, width, 3), np.float32)
    for first in range(0, height, _ROWS):
        rows = slice(first, min(first + _ROWS, height))
        below = np.minimum(above[rows] + 1, image.shape[0] - 1)
        upper, lower = (_drawn_in(image[of], scale, pixel_means) for of in (above[rows], below))
        result[rows] = upper * (1 - share[rows]) + lower * share[rows]
    return result


def _drawn_in(rows: np.ndarray, scale: float, pixel_means: np.ndarray) -> np.ndarray:
    """`rows` (n, W, 3) minus the means, resized in width alone."""
    centred = rows.astype(np.float32)
    centred -= pixel_means
    return cv2.resize(centred, None, fx=scale, fy=1, interpolation=cv2.INTER_LINEAR)


def stacked(images: list[np.ndarray]) -> np.ndarray:
    """Images (H_i, W_i, 3) as one blob (N, 3, max H, max W) float32, zero below and to the right of each."""
    height, width = np.max([image.shape[:2] for image in images], axis=0)
    blob = np.zeros((len(images), 3, height, width), dtype=np.float32)
    for slot, image in zip(blob, images, strict=True):
        slot[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return blob
