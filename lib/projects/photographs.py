"""What labels are read into: photographs with boxes; and the photographs of a folder, by their names."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Sequence

from detection_data.image_file import IMAGE_EXTENSIONS as EXTENSIONS
from detection_data.image_file import ImageError, read_header, read_image_size
from detection_data.image_list import walk
from detection_data.labels import AnnotationError

_SPLITS = {'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val', 'test': 'test'}


# Labels that cannot be read or used; the message names the file, the place in it, and what is wrong
LabelError = AnnotationError


@dataclasses.dataclass(frozen=True)
class Box:
    """An object: its class, and its edges in pixels of the image as stored.

    Edges are lines between pixels, counted from 0: the box of the top left pixel alone is (0, 0, 1, 1). ignored: it is
    neither an example nor a mistake (VOC's difficult, COCO's crowd). where: for messages, file and object.
    """

    name: str
    left: float
    top: float
    right: float
    bottom: float
    ignored: bool
    where: str


@dataclasses.dataclass(frozen=True)
class Photograph:
    """An image and the objects in it. path: absolute; split: 'train', 'val' or 'test' where its folders say so."""

    path: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    split: str | None = None


def number_of(count: int, what: str, plural: str = 's') -> str:
    """'1 photograph', '2 photographs'; `plural` is what makes many of one."""
    return f'{count} {what}{"" if count == 1 else plural}'


class ImageFolder:
    """The images below one folder or more, found by what labels call them.

    Hidden files, what systems leave behind (._x.jpg, Thumbs.db) and files that are no images are passed over. Raises
    LabelError if there is no image. root: of several folders the one that holds them all. exif: what the labels of
    images that EXIF data turn are for, where that cannot be told: 'shown', 'stored', or None, which makes `frame_of`
    raise.
    """

    def __init__(self, folders: str | Sequence[str], exif: str | None = None):
        folders = [folders] if isinstance(folders, str) else folders
        self.exif = exif
        self.root = os.path.commonpath([os.path.abspath(folder) for folder in folders])
        below = {path for folder in folders for path in walk(os.path.abspath(folder))}
        self.paths = sorted(path for path in below if path.lower().endswith(EXTENSIONS))
        if not self.paths:
            raise LabelError(f'{", ".join(folders)}: no image in this folder or below it ({", ".join(EXTENSIONS)})')
        self._there = set(self.paths)
        self._by_name: dict[str, list[str]] = {}
        for path in self.paths:
            for name in _names(os.path.relpath(path, self.root)):
                self._by_name.setdefault(name, []).append(path)

    def has(self, path: str) -> bool:
        """Whether this is the path of one of the images."""
        return os.path.abspath(path) in self._there

    def find(self, name: str, where: str, label_file: str) -> str:
        """The path of the image that labels call `name`: a path, a file name, or one without its extension.

        `where` is the label file and entry, for messages. Folders in front of the name are given up one by one until
        one image is left; of several that of the folder nearest to the label file is meant, as in exports with a
        folder for each split. Raises LabelError if there is none, or several that nothing tells apart.
        """
        parts = re.split(r'[/\\]+', name.strip())
        for first in range(len(parts)):
            tail = '/'.join(parts[first:]).lower()
            found = _nearest(self._by_name.get(tail) or self._by_name.get(os.path.splitext(tail)[0]) or [], label_file)
            if len(found) > 1:
                raise LabelError(
                    f'{where}: {name!r} may be {os.path.relpath(found[0], self.root)} or '
                    f'{os.path.relpath(found[1], self.root)}: give --images the folder of one of them, or rename one'
                )
            if found:
                return found[0]
        raise LabelError(f'{where}: there is no image {name!r} in {self.root} or below it')


def _nearest(paths: list[str], label_file: str) -> list[str]:
    """Those of the paths that have most folders in common with a label file."""
    if len(paths) < 2:
        return paths
    folder = os.path.abspath(os.path.dirname(label_file))
    shared = [len(os.path.commonpath([folder, os.path.dirname(path)])) for path in paths]
    return [path for path, length in zip(paths, shared, strict=True) if length == max(shared)]


def _names(relative: str) -> set[str]:
    """What labels may call an image: each tail of its path, with its extension and without."""
    parts = relative.replace(os.sep, '/').lower().split('/')
    tails = {'/'.join(parts[i:]) for i in range(len(parts))}
    return tails | {os.path.splitext(tail)[0] for tail in tails}


@dataclasses.dataclass(frozen=True)
class Frame:
    """What the labels of an image are held against.

    width, height: of the image as stored. turned: EXIF's orientation if the labels are for the image as shown, else 1.
    """

    width: int
    height: int
    turned: int = 1

    @property
    def labelled(self) -> tuple[int, int]:
        """(width, height) that the labels speak of."""
        return (self.height, self.width) if self.turned >= 5 else (self.width, self.height)

    def as_stored(self, edges: Sequence[float]) -> tuple[float, float, float, float]:
        """A box of the labels (left, top, right, bottom), in the pixels as stored (EXIF 2.3, tag Orientation)."""
        left, top, right, bottom = edges
        if self.turned >= 5:
            left, top, right, bottom = top, left, bottom, right
        if self.turned in (2, 3, 7, 8):
            left, right = self.width - right, self.width - left
        if self.turned in (3, 4, 6, 7):
            top, bottom = self.height - bottom, self.height - top
        return left, top, right, bottom


def frame_of(path: str, stated: tuple[float, float] | None, where: str, images: ImageFolder, said: Counter) -> Frame:
    """The frame of an image file. stated: (width, height) that its labels say, None if they do not.

    Raises LabelError, which begins with `where`, for an image of another size, for a file that is no image, and where
    EXIF data turn an image when it is shown and nothing tells what its labels are for.
    """
    try:
        width, height = read_image_size(path)
    except ImageError as error:
        raise LabelError(str(error)) from None
    header = read_header(path)
    orientation = header.orientation if header is not None else 1
    shown = (height, width) if orientation >= 5 else (width, height)
    if stated is not None and stated not in ((width, height), shown):
        raise LabelError(
            f'{where}: says that its image is {stated[0]:g}x{stated[1]:g}; {path} is {width}x{height}: '
            'another picture, or a scaled one'
        )
    if orientation == 1:
        return Frame(width, height)
    told = None if stated is None or width == height or orientation < 5 else stated == shown
    if told is None and images.exif is None:
        raise LabelError(
            f'{where}: EXIF data turn {path} when it is shown (orientation {orientation}), and nothing tells whether '
            'the labels are for the image as shown or as stored: say --exif shown, as most tools label, or --exif '
            'stored'
        )
    as_shown = images.exif == 'shown' if told is None else told
    said[
        f'image that EXIF data turn when shown, labelled as {"shown: its boxes turned back" if as_shown else "stored"}'
    ] += 1
    return Frame(width, height, orientation if as_shown else 1)


def split_of(path: str, root: str) -> str | None:
    """'train', 'val' or 'test' if a folder between root and file is called so, as exports with splits have them."""
    folders = os.path.relpath(os.path.dirname(path), root).lower().split(os.sep)
    return next((_SPLITS[folder] for folder in folders if folder in _SPLITS), None)
