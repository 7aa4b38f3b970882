"""The one way in which the detector reads an image file, and what it says of one that cannot be read.

Annotations and proposals are in the pixels as stored. OpenCV 2, which the family used, ignored the EXIF orientation;
later versions turn the image by it, away from its boxes, unless told not to. A TIFF's orientation says in which order
its rows are stored, and is applied by all readers, so its pixels as shown count as those stored. 16 bits a channel are
scaled to 8, grey, palette and CMYK become BGR, transparency is left out; of several frames the first is taken.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif')

_READ = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_MOST_PIXELS, _LONGEST_SIDE = 2**30, 2**20  # of OpenCV
# More pixels than these a byte cannot be stored, however alike they are: the header of the file lies. Other kinds can
# store a page of one colour in a few bytes, but no photograph.
_PIXELS_A_BYTE = {'JPEG': 1024, 'PNG': 8 * 1032, 'BMP': 256, 'GIF': 4096}
_MOST_PIXELS_A_BYTE = 2**17
_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG, _JPEG_END = b'\xff\xd8\xff', b'\xff\xd9'  # the end is never among the pixels' bytes
_END = 64  # bytes in which a file's end is looked for: some programs add a few
_EXIF_ORIENTATION = 0x0112
_PLAIN_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr')
_header_lock = threading.Lock()
_looked_at: set[str] = set()  # by note_cut_off

Source = str | os.PathLike | BinaryIO
"""Where an image file is: its path, or the file itself, at its beginning."""


class ImageError(ValueError):
    """An image file that cannot be used; the message names it and says why."""


class DamagedImage(UserWarning):
    """An image file of which a part is missing: what OpenCV fills in is grey."""


class Header(NamedTuple):
    """What an image file says of itself."""

    format: str
    width: int
    """Of the pixels as stored, as is height."""
    height: int
    mode: str
    """Pillow's: 'RGB', 'L', 'I;16' ..."""
    orientation: int = 1
    """EXIF's, 1 to 8, by which the pixels are turned when shown; 1 is not at all."""


def read_image(path: str | os.PathLike, size: tuple[int, int] | None = None) -> np.ndarray:
    """The image in a file as uint8 H x W x 3, BGR.

    path: of the file. size: (width, height) that the annotation states, if it is to be that.

    Raises ImageError, naming the file and the reason: it is missing, empty, none, damaged, larger than can be read, or
    of another size.
    """
    path = os.fspath(path)
    header = _plausible_header(path)
    image = None
    if not (header and header.format == 'TIFF' and _is_turned_tiff(path)):  # what OpenCV makes of those varies
        try:
            image = _read_by_opencv(path)
        except cv2.error:  # OpenCV 5 raises where 4 returned None
            image = None
    if image is None:
        image = _read_by_pillow(path, header, path)
    height, width = image.shape[:2]
    if size is not None and tuple(size) != (width, height):
        raise ImageError(
            f'{path}: the image is {width} x {height} pixels, but its annotation says {size[0]} x {size[1]}, so boxes '
            'would be misplaced. Was the image replaced? Correct the <size> of the annotation, or the image.'
        )
    return image


def decode_image(data: bytes, name: str) -> np.ndarray:
    """What `read_image` makes of a file with these bytes, for an image that lies in no file; errors call it `name`."""
    header = _checked_header(io.BytesIO(data), len(data), name)
    image = None
    if not (header and header.format == 'TIFF' and _is_turned_tiff(io.BytesIO(data))):  # as in read_image
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), _READ)
    return _read_by_pillow(io.BytesIO(data), header, name) if image is None else image


def read_image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) of an image file as stored: a rotation in its EXIF data is not applied.

    Raises ImageError as `read_image`; where the header tells, damage behind it is not found.
    """
    path = os.fspath(path)
    header = _plausible_header(path)
    # What a TIFF says of its orientation changes what is read from it
    if header is not None and header.format in ('JPEG', 'PNG', 'BMP', 'WEBP', 'GIF') and not _too_large(header):
        return header.width, header.height
    height, width = read_image(path).shape[:2]
    return width, height


def read_header(path: Source, formats: tuple[str, ...] | None = None) -> Header | None:
    """What the header of an image file says, without the pixels being read; None if it is of no known kind.

    formats: those that are tried, by Pillow's names; all unless given.
    """
    try:
        with _opened(path, formats) as image:
            orientation = 1 if image.format == 'TIFF' else _orientation(image)
            return Header(image.format or '', *image.size, image.mode, orientation)
    except Exception:  # Pillow raises many kinds for a damaged file
        return None


def _is_turned_tiff(path: Source) -> bool:
    with _opened(path) as image:
        return _orientation(image) != 1


def _orientation(image: Image.Image) -> int:
    try:
        # The base class's: that of PNG first reads all pixels that the header claims, to look for EXIF data behind them
        orientation = Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF data turn nothing
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def damage_of(path: Source) -> str | None:
    """What is damaged or missing in an image file, None if nothing is: OpenCV fills it in, and says nothing."""
    try:
        with _opened(path) as image:
            image.draft(None, (image.width // 8, image.height // 8))  # a JPEG is gone through whole, but small
            image.load()
    except Exception as e:  # Pillow raises many kinds for a damaged file
        return str(e) or type(e).__name__
    return None


def cut_off(path: str | os.PathLike) -> str | None:
    """What `damage_of` says of a JPEG or PNG file that does not end as one does; of whole ones the end alone is read.

    So it costs next to nothing. Raises OSError for a file that cannot be opened.
    """
    with open(path, 'rb') as file:
        beginning = file.read(len(_PNG))
        file.seek(max(0, os.path.getsize(path) - _END))
        end = file.read()
    if (beginning.startswith(_JPEG) and _JPEG_END not in end) or (beginning == _PNG and b'IEND' not in end):
        return damage_of(os.fspath(path))
    return None


def note_cut_off(path: str | os.PathLike) -> None:
    """Says so, in one line on standard error, if the file is `cut_off`: OpenCV reads it all the same, partly grey.

    Of a file it is said once in a process.
    """
    path = os.fspath(path)
    if path in _looked_at:
        return
    _looked_at.add(path)
    with contextlib.suppress(OSError):  # for whoever reads it to tell
        damage = cut_off(path)
        if damage is not None:
            with tqdm.external_write_mode(file=sys.stderr):  # takes a progress bar away while it prints
                print(f'damaged, partly grey: {path} ({damage})', file=sys.stderr, flush=True)


def write_turned(path: str, target: str) -> None:
    """Write an image file with its pixels as its EXIF data turn them when shown, and no such data any more."""
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    with _opened(path) as image:
        turned = ImageOps.exif_transpose(image)
        turned.save(target, image.format, **({'quality': 95, 'subsampling': 0} if image.format == 'JPEG' else {}))


def image_scale(height: int, width: int, target_size: int, max_size: int) -> float:
    """The factor that brings the shorter side to `target_size` pixels, unless the longer one would exceed
    `max_size`.

    Raises ImageError if a side of the scaled image would be 0 pixels.
    """
    short, long = min(height, width), max(height, width)
    scale = float(target_size) / short
    scale = float(max_size) / long if np.round(scale * long) > max_size else scale
    if np.round(scale * short) < 1:
        raise ImageError(
            f'an image of {width} x {height} pixels, scaled so that its longer side is {max_size}, has a side of 0 '
            'pixels: it is too narrow for the net. Take it out of the set, or cut it into pieces'
        )
    return scale


def _opened(path: Source, formats: tuple[str, ...] | None = None) -> Image.Image:
    """The file opened by Pillow, whatever its size: whole photographs of 180 megapixels are no attack."""
    with _header_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _plausible_header(path: str) -> Header | None:
    """The header, or ImageError if there is no such file, nothing in it, or less than the header says."""
    if not os.path.isfile(path):
        raise ImageError(f'{path}: cannot be read as an image: there is no such file')
    try:
        with open(path, 'rb') as f:
            return _checked_header(f, os.path.getsize(path), path)
    except PermissionError:
        raise ImageError(
            f'{path}: cannot be read as an image: this user may not read it; change its permissions'
        ) from None
    except OSError as e:  # of a disk or a network
        raise ImageError(f'{path}: cannot be read as an image: {e.strerror}') from None


def _checked_header(f: BinaryIO, bytes_there: int, name: str) -> Header | None:
    """The header of an open file; ImageError if there is nothing in it, or less than it says."""
    if bytes_there == 0:
        raise ImageError(f'{name}: cannot be read as an image: the file is empty: copy it again, or leave it out')
    if _has_endless_chunk(f, bytes_there):
        raise ImageError(
            f'{name}: cannot be read as an image: it has a chunk that is longer than its {bytes_there} bytes; the file '
            'is damaged'
        )
    f.seek(0)
    header = read_header(f)
    if header and header.width * header.height > _PIXELS_A_BYTE.get(header.format, _MOST_PIXELS_A_BYTE) * bytes_there:
        raise ImageError(
            f'{name}: cannot be read as an image: its header says {header.width} x {header.height} pixels, which its '
            f'{bytes_there} bytes cannot hold; the file is damaged'
        )
    return header


def _has_endless_chunk(f: BinaryIO, bytes_there: int) -> bool:
    """Whether a PNG states a chunk longer than the whole file, for which OpenCV 5 would take memory before it looks."""
    place = len(_PNG)
    if f.read(place) != _PNG:
        return False
    while len(length := f.read(4)) == 4:
        size = int.from_bytes(length, 'big')
        if size > bytes_there:
            return True
        place += size + 12  # length, type and check sum
        f.seek(place)
    return False


def _read_by_opencv(path: str) -> np.ndarray | None:
    if is_opencv_path(path):
        return cv2.imread(path, _READ)
    return cv2.imdecode(np.fromfile(path, np.uint8), _READ)


def is_opencv_path(path: str) -> bool:
    """Whether OpenCV can be given a path: one whose bytes are not UTF-8, as old file systems have, ends the process."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_large(header: Header) -> bool:
    return header.width * header.height > _MOST_PIXELS or max(header.width, header.height) > _LONGEST_SIDE


def _read_by_pillow(path: Source, header: Header | None, name: str) -> np.ndarray:
    """What OpenCV could not read; ImageError if Pillow cannot either."""
    if header is not None and _too_large(header):
        raise ImageError(
            f'{name}: cannot be read as an image: {header.width} x {header.height} pixels are more than OpenCV reads, '
            f'2^30 in all and 2^20 a side; scale it down'
        )
    try:
        with _opened(path) as image:
            mode = image.mode
            if mode in _PLAIN_MODES:
                return np.ascontiguousarray(np.asarray(image.convert('RGB'))[:, :, ::-1])
        reason = f'OpenCV does not read {header.format if header else "it"} with pixels of kind {mode}'
    except Exception as e:  # Pillow raises many kinds for a damaged file
        none = isinstance(e, Image.UnidentifiedImageError)
        reason = 'not an image of a known kind' if none else str(e) or type(e).__name__
    raise ImageError(f'{name}: cannot be read as an image: {reason}; replace the file, or take it out of the set')
