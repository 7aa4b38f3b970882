"""The bytes of a request as an image: what its header claims is judged before a pixel is decoded."""

import io
import re

import cv2
import numpy as np

from detection_data.image_file import Header, damage_of, decode_image, read_header
from serving.limits import Limits, Refusal

# TIFF is left out: it has the most ways to say one thing and be another, and no camera or browser sends it
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF')
_BEGINNING = re.compile(rb'\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|BM|GIF8', re.DOTALL)

# A progressive JPEG draws over the whole image in each of its scans, ten or so. A scan can be a few bytes: 100,000 of
# them fit into a request, and would be drawn for hours
_MOST_SCANS = 100
_SCAN = b'\xff\xda'

# EXIF's orientation -> what turns the stored pixels upright: quarter turns clockwise, then mirrored left to right
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (1, False), 7: (3, True), 8: (3, False)}
_ROTATIONS = {1: cv2.ROTATE_90_CLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_COUNTERCLOCKWISE}


def header_of(data: bytes, limits: Limits) -> Header:
    """The header of an image file.

    Raises Refusal: 415 unless it is of FORMATS, 422 if it begins so and goes on otherwise, or has far more scans than
    any camera makes, 413 for more than `limits.pixels`.
    """
    header = read_header(io.BytesIO(data), FORMATS)
    if (header is None and _BEGINNING.match(data)) or (header is not None and not header.width * header.height):
        raise Refusal(422, 'the image is damaged: its header cannot be read')
    if header is None:
        raise Refusal(415, f'this is no image of a kind that is read here: {", ".join(FORMATS)}')
    if header.format in ('JPEG', 'MPO') and data.count(_SCAN) > _MOST_SCANS:
        raise Refusal(422, f'the image has {data.count(_SCAN)} scans, more than the {_MOST_SCANS} that are accepted')
    if header.width * header.height > limits.pixels:
        raise Refusal(
            413, f'the image has {header.width} x {header.height} pixels, more than the {limits.pixels} accepted'
        )
    return header


def decoded(data: bytes, header: Header, turn: bool) -> np.ndarray:
    """The image as uint8 (H, W, 3), BGR; with `turn` upright, as its EXIF data say, else as stored.

    Raises detection_data.image_file.ImageError for a damaged file, one that ends early included.
    """
    damage = damage_of(io.BytesIO(data))
    if damage is not None:
        raise Refusal(422, f'the image is damaged: {damage}')
    image = decode_image(data, 'the image')
    return turned(image, header.orientation) if turn else image


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (H, W, 3) with its pixels as EXIF's orientation, 1 to 8, shows them."""
    quarters, mirrored = _TURNS.get(orientation, (0, False))
    if quarters:
        image = cv2.rotate(image, _ROTATIONS[quarters])
    return cv2.flip(image, 1) if mirrored else image
