"""The one way in which the engine makes an image out of the bytes of a file, or of a record."""

from __future__ import annotations

import numpy as np

_PNG = b'\x89PNG\r\n\x1a\n'


def decoded(content: bytes | np.ndarray, flags: int) -> np.ndarray | None:
    """The image in the bytes of a file: (H, W) or (H, W, C), in the pixels as stored; None if OpenCV reads none.

    flags: OpenCV's, IMREAD_UNCHANGED or a kind of colours. What EXIF data say of turning an image is never applied:
    OpenCV 2 knew nothing of it, and the windows of WindowData count pixels as stored.
    """
    import cv2  # here: it takes a twentieth of a second, and many programs read no image

    content = np.frombuffer(content, np.uint8)
    if not content.size or _has_endless_chunk(content):
        return None
    if flags != cv2.IMREAD_UNCHANGED:  # which is as stored
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(content, flags)
    except cv2.error:  # OpenCV 5 raises where 4 returned None
        return None


def _has_endless_chunk(content: np.ndarray) -> bool:
    """Whether a PNG states a chunk longer than all of it, for which OpenCV 5 would take memory before it looks."""
    place = len(_PNG)
    if content[:place].tobytes() != _PNG:
        return False
    while place + 4 <= content.size:
        size = int.from_bytes(content[place : place + 4].tobytes(), 'big')
        if size > content.size:
            return True
        place += size + 12  # length, type and check sum
    return False
