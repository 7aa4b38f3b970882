"""Images as network input: float32, BGR, mean-subtracted, resized, zero-padded into one batch."""

import cv2
import numpy as np

# Annotations and proposals are in the pixels as stored. OpenCV 2, which the family used, ignored the EXIF
# orientation; later versions turn the image by it, away from its boxes, unless told not to.
_READ = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: str) -> np.ndarray:
    """The image in file `path` as uint8 H x W x 3, BGR. Raises ValueError, naming the file, if it cannot be
    read.
    """
    image = cv2.imread(str(path), _READ)
    if image is None:
        raise ValueError(f'{path}: cannot be read as an image; is the file there, and whole?')
    return image


def image_scale(height: int, width: int, target_size: int, max_size: int) -> float:
    """The factor that brings the shorter side to `target_size` pixels, unless the longer one would exceed
    `max_size`.
    """
    short, long = min(height, width), max(height, width)
    scale = float(target_size) / short
    return float(max_size) / long if np.round(scale * long) > max_size else scale


def resized(image: np.ndarray, scale: float, pixel_means: np.ndarray) -> np.ndarray:
    """`image` (H, W, 3) minus `pixel_means` (1, 1, 3), resized by `scale` bilinearly: float32 H' x W' x 3."""
    centred = image.astype(np.float32)
    centred -= pixel_means
    return cv2.resize(centred, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def stacked(images: list[np.ndarray]) -> np.ndarray:
    """Images (H_i, W_i, 3) as one blob (N, 3, max H, max W) float32, zero below and to the right of each."""
    height, width = np.max([image.shape[:2] for image in images], axis=0)
    blob = np.zeros((len(images), 3, height, width), dtype=np.float32)
    for slot, image in zip(blob, images, strict=True):
        slot[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return blob
