"""Writing pictures so that they appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np

from whole_file.writing import write


def write_picture(path: str | os.PathLike, picture: np.ndarray, options: Sequence[int] = ()) -> None:
    """Writes a picture, (H, W, 3) uint8 BGR, in the format that the path ends in (.png, .jpg).

    options: OpenCV's, as for cv2.imwrite. Raises ValueError for a picture that cannot be encoded, and OSError.
    """
    path = os.fspath(path)
    done, encoded = cv2.imencode(os.path.splitext(path)[1], picture, list(options))
    if not done:
        raise ValueError(f'{path}: a picture of shape {picture.shape} and type {picture.dtype} cannot be encoded')
    write(path, encoded.data)
