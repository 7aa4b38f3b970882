"""Videos and cameras as images one after another, and images as a video."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import cv2
import numpy as np

import whole_file
from detection_data.image_file import ImageError, is_opencv_path

VIDEO_EXTENSIONS = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.ogv', '.mts', '.m2ts')

_FPS = 25.0  # of a camera that does not say
_SHORTFALL = 0.05, 2  # frames that a header may state too many, as a share and in all: many estimate them


class Frames:
    """The frames of a video file, or of a camera by its number: an iterator of (number from 0, (H, W, 3) uint8 BGR).

    Attributes: fps, frames a second; count, how many the file states, 0 if it does not. Every `step`-th is given,
    `most` of them at most (0: all). Raises ImageError, which names the file, for one that cannot be read, and when it
    ends before its stated count.
    """

    def __init__(self, source: str | int, step: int = 1, most: int = 0):
        self._name = f'camera {source}' if isinstance(source, int) else source
        if isinstance(source, str) and not is_opencv_path(source):
            raise ImageError(f'{source}: OpenCV reads no video whose name is not UTF-8: rename it')
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            raise ImageError(
                f'there is no camera {source} that can be read'
                if isinstance(source, int)
                else f'{source}: cannot be read as a video: not of a known kind, or damaged'
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else _FPS
        stated = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(stated) if not isinstance(source, int) and 0 < stated < 1e9 else 0
        self._step, self._most = step, most

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        number = given = 0
        with contextlib.closing(self):
            while not self._most or given < self._most:
                if not self._capture.grab():
                    break
                if number % self._step == 0:
                    read, frame = self._capture.retrieve()
                    if not read or frame is None:
                        break
                    yield number, frame
                    given += 1
                number += 1
            else:
                return
        share, few = _SHORTFALL
        if number == 0 or number < self.count * (1 - share) - few:
            stated = f', though it states {self.count}' if self.count else ''
            raise ImageError(f'{self._name}: cannot be read beyond {number} frames{stated}; the file is damaged')

    def __len__(self) -> int:
        """How many will come, as far as the file says."""
        given = -(-self.count // self._step)
        return min(given, self._most) if self._most else given

    def close(self) -> None:
        self._capture.release()


@contextlib.contextmanager
def video_written(path: str | os.PathLike, fps: float) -> Iterator[VideoFile]:
    """A `VideoFile` (.mp4) that is at `path` once the block ends, whole; nothing is, if it raises."""
    with whole_file.beside(path) as made:
        video = VideoFile(made, os.fspath(path), fps)
        try:
            yield video
        finally:
            video.close()


class VideoFile:
    """A video that pictures (H, W, 3), uint8, BGR, all of one size, are added to."""

    def __init__(self, made: str, path: str, fps: float):
        if not is_opencv_path(made):
            raise ValueError(f'{path}: OpenCV writes no video whose name is not UTF-8: give it another')
        self._made, self._path, self._fps = made, path, fps
        self._writer: cv2.VideoWriter | None = None
        self._size = 0, 0

    def add(self, picture: np.ndarray) -> None:
        """Raises ValueError if this OpenCV writes no such video, or the picture is of another size."""
        height, width = (side // 2 * 2 for side in picture.shape[:2])  # the codec takes even sides alone
        if self._writer is None:
            self._size = width, height
            self._writer = cv2.VideoWriter(self._made, cv2.VideoWriter.fourcc(*'mp4v'), self._fps, self._size)
            if not self._writer.isOpened():
                raise ValueError(
                    f'{self._path}: this OpenCV cannot write an .mp4 of {width} x {height} pixels: write pictures'
                )
        if (width, height) != self._size:
            raise ValueError(f'{self._path}: a picture of {width} x {height} pixels in a video of {self._size}')
        self._writer.write(picture[:height, :width])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
