"""The proposals file: the boxes of all images of a data set in one HDF5 file, read in place.

    /boxes      (N, 4) uint16, or float32 where boxes are not whole numbers; contiguous, uncompressed:
                x1, y1, x2, y2, 0-based inclusive pixels, image after image
    /offsets    (n + 1,) int64: the boxes of image k are rows offsets[k] to offsets[k + 1]
    /image_ids  (n,) UTF-8 strings
    attributes: format = 'proposals', format_version = 1, method, and parameters (a JSON text of what they
    were
                computed with)

`/boxes` is mapped into memory, so opening costs nothing, and processes that read the same file share its
pages.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import h5py
import numpy as np

import whole_file
from detection_data.hdf5_trial import problem_of_hdf5
from detection_data.proposal_methods import METHODS, propose, random_boxes, selective_search

__all__ = [
    'METHODS', 'Proposals', 'ProposalsError', 'check_boxes',
    'propose', 'random_boxes', 'selective_search', 'write_proposals',
]  # fmt: skip

FORMAT_VERSION = 1
COPIED_ROWS = 1 << 20  # at a time, 16 MB
_LOOKED_AT = 64  # of so many images one, for a digest


class ProposalsError(ValueError):
    """A proposals file that is missing, broken, or lacks an image."""


STRAY = 1.0  # pixels by which a box may reach out of its image: those who make them round


def check_boxes(boxes: np.ndarray, size: tuple[int, int] | None) -> str | None:
    """What is wrong with the proposals of an image, None if nothing is.

    boxes: (m, 4), 0-based inclusive. size: (width, height) of the image, which they may leave by a pixel; None if it is
    not known.
    """
    right = np.isfinite(boxes).all(axis=1)
    if not right.all():
        return f'box {np.argmin(right)} has a coordinate that is no number, {_shown(boxes[np.argmin(right)])}'
    right = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    if not right.all():
        return f'box {np.argmin(right)} ends before it begins, {_shown(boxes[np.argmin(right)])} (x1, y1, x2, y2)'
    right = (boxes[:, :2] >= -STRAY).all(axis=1)
    if size is not None:
        right &= (boxes[:, 2:] <= np.subtract(size, 1) + STRAY).all(axis=1)
    if not right.all():
        worst = np.argmin(right)
        image = f', of {size[0]}x{size[1]}' if size else ''
        return f'{(~right).sum()} boxes reach out of the image{image}, the first {_shown(boxes[worst])}'
    return None


def _shown(box: np.ndarray) -> str:
    return f'({", ".join(f"{v:g}" for v in box)})'


class Proposals:
    """A proposals file, open for reading; can be sent to other processes, which open it anew.

    path: of the .h5 file. made_for: name of the data set, for messages. method: name of the method, for messages.

    Raises ProposalsError if there is no such file (the message gives the command that makes it), or it is another kind.
    """

    def __init__(self, path: str, made_for: str | None = None, method: str | None = None):
        self.path = os.fspath(path)
        self.made_for = made_for
        self._open(method)

    def _open(self, method: str | None) -> None:
        if not os.path.isfile(self.path):
            raise ProposalsError(f'no proposals: {self.path} does not exist; {self._remedy(method)}')
        try:
            open(self.path, 'rb').close()
        except PermissionError:
            raise ProposalsError(f'{self.path}: this user may not read it; change its permissions') from None
        problem = problem_of_hdf5(self.path, ('boxes', 'offsets', 'image_ids'))
        if problem:
            raise self._broken(problem)
        try:
            with h5py.File(self.path, 'r') as f:
                self._read(f)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as e:
            if isinstance(e, ProposalsError):
                raise
            raise self._broken((str(e).splitlines() or [type(e).__name__])[0]) from None

    def _read(self, f: h5py.File) -> None:
        version = f.attrs.get('format_version')
        if f.attrs.get('format') != 'proposals' or version != FORMAT_VERSION:
            raise self._broken(f'format {f.attrs.get("format")!r} version {version}, expected proposals version 1')
        boxes, offsets, ids = f['boxes'], f['offsets'][()], f['image_ids'].asstr()[()]
        start = boxes.id.get_offset()
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype not in (np.uint16, np.float32):
            raise self._broken(f'boxes are {boxes.dtype} {boxes.shape}, expected uint16 or float32 (N, 4)')
        if len(boxes) and (start is None or start + boxes.size * boxes.dtype.itemsize > os.path.getsize(self.path)):
            raise self._broken('the boxes are not stored contiguously, or not whole')
        rows = np.diff(offsets)
        if len(rows) != len(ids) or offsets[0] != 0 or offsets[-1] != len(boxes) or (rows < 0).any():
            raise self._broken('its offsets do not fit its boxes and image ids')
        self.method = str(f.attrs.get('method', 'unknown'))
        self.parameters = json.loads(f.attrs.get('parameters', '{}'))
        self.image_ids = list(ids)
        self._offsets = offsets
        self._row_of = {image_id: k for k, image_id in enumerate(self.image_ids)}
        self._boxes = np.zeros((0, 4), np.float32)
        if len(boxes):
            self._boxes = np.memmap(self.path, boxes.dtype, 'r', start, boxes.shape)

    def __getstate__(self) -> dict:
        return {'path': self.path, 'made_for': self.made_for}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def add_to(self, digest: Any) -> None:
        """Updates a digest of hashlib with how many boxes each image has, and those of every so many-th image."""
        digest.update(json.dumps([self.method, self.image_ids]).encode() + self._offsets.tobytes())
        for k in range(0, len(self.image_ids), _LOOKED_AT):
            digest.update(self._boxes[self._offsets[k] : self._offsets[k + 1]].tobytes())

    @property
    def num_boxes(self) -> int:
        """Of all images together."""
        return len(self._boxes)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._row_of

    def __repr__(self) -> str:
        return f'<Proposals {self.path}: {len(self._boxes)} boxes by {self.method} of {len(self)} images>'

    def of(self, image_id: str, size: tuple[int, int] | None = None) -> np.ndarray:
        """The boxes of an image, float32 (m, 4), a copy.

        Raises `ProposalsError` if the file lacks the image, or has boxes of it that are none, or that reach out of
        an image of `size` (width, height) by more than a pixel.
        """
        k = self._row_of.get(image_id)
        if k is None:
            raise ProposalsError(
                f'{self.path} has no proposals for image {image_id!r} (it has {len(self)} images): '
                f'was it made for another set? {self._remedy(self.method)}'
            )
        if isinstance(self._boxes, np.memmap):  # reading beyond the end of a mapped file ends the process
            there, needed = self._boxes.base.size(), self._boxes.offset + self._boxes.nbytes  # type: ignore[union-attr, operator]
            if there < needed:
                raise self._broken(f'it was cut short since it was opened, has {there} bytes of {needed}')
        boxes = np.array(self._boxes[self._offsets[k] : self._offsets[k + 1]], np.float32)
        problem = check_boxes(boxes, size)
        if problem:
            raise ProposalsError(
                f'{self.path}: proposals of image {image_id!r}: {problem}. Damaged, or made of another image? Remove '
                f'the file, then {self._remedy(self.method)}'
            )
        return boxes

    def _remedy(self, method: str | None) -> str:
        name = shlex.quote(self.made_for or 'NAME')
        method = method or 'selective_search'
        if method not in METHODS:
            return (
                f'tools/make_proposals.py makes {", ".join(METHODS)}; those of another, {method!r}, are imported: '
                f'python tools/import_proposals.py --imdb {name} --method {shlex.quote(method)} --source PATH'
            )
        return f'make them with: python tools/make_proposals.py --imdb {name} --method {method}'

    def _broken(self, problem: str) -> ProposalsError:
        return ProposalsError(f'{self.path} is not a whole proposals file ({problem}); remove it, then make it anew')


def write_proposals(
    path: str,
    image_ids: Sequence[str],
    boxes: Iterable[np.ndarray],
    method: str,
    parameters: dict | None = None,
) -> None:
    """Write a proposals file; it appears under its name only when it is complete.

    * path: of the .h5 file; its folder is made.
    * image_ids: n different ids.
    * boxes: n arrays (m, 4), 0-based inclusive pixels. They are taken one by one, so a generator keeps memory small.
    * method: how they were made.
    * parameters: what they were computed with; anything that JSON can hold.

    Raises ValueError for boxes that are none.
    """
    if len(set(image_ids)) != len(image_ids):
        raise ValueError(f'{len(image_ids)} image ids, of which only {len(set(image_ids))} are different')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryFile(dir=folder, buffering=0) as raw:  # it has no name, and so ends with the process
        counts, dtype = _write_raw(raw, path, image_ids, boxes)
        about, start = _without_boxes(image_ids, counts, dtype, method, parameters)
        stop = start + 4 * np.dtype(dtype).itemsize * sum(counts)
        raw.seek(0)
        whole_file.write(
            path,
            itertools.chain[Any]([about.content(0, start)], _as_type(raw, dtype), [about.content(stop, about.size)]),
        )


def _without_boxes(
    image_ids: Sequence[str], counts: list[int], dtype: type, method: str, parameters: dict | None
) -> tuple[whole_file.Overlay, int]:
    """All of the file but the boxes, and where they start; in memory, since HDF5 may crash on a full disk."""
    about = whole_file.Overlay()
    with h5py.File(about, 'w') as f:
        f.attrs['format'] = 'proposals'
        f.attrs['format_version'] = FORMAT_VERSION
        f.attrs['method'] = method
        f.attrs['parameters'] = json.dumps(parameters or {}, sort_keys=True)
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        created.set_obj_track_times(False)
        space = h5py.h5s.create_simple((sum(counts), 4))
        stored = h5py.h5d.create(f.id, b'boxes', h5py.h5t.py_create(np.dtype(dtype)), space, created)
        start = stored.get_offset() or 0  # None: there are no boxes
        f.create_dataset('offsets', data=np.cumsum([0, *counts], dtype=np.int64))
        f.create_dataset('image_ids', data=list(image_ids), dtype=h5py.string_dtype())
    return about, start


def _as_type(raw: BinaryIO, dtype: type) -> Iterator[np.ndarray]:
    while part := raw.read(16 * COPIED_ROWS):
        yield np.frombuffer(part, np.float32).astype(dtype)


def _put(file: BinaryIO, data: bytes, path: str) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise whole_file.explained(error, path, None, 'Boxes are kept there until all are found') from error


def _write_raw(
    file: BinaryIO, path: str, image_ids: Sequence[str], boxes: Iterable[np.ndarray]
) -> tuple[list[int], type]:
    """Check the boxes and write them as float32, bare. Returns how many each image has and the type that
    holds them all: how long a contiguous data set has to be, and of what, is known only at the end."""
    counts: list[int] = []
    whole = True
    for array in boxes:
        array = np.ascontiguousarray(array, np.float32)
        if len(counts) == len(image_ids):
            raise ValueError(f'{len(image_ids)} image ids, but boxes of more images')
        image_id = image_ids[len(counts)]
        if array.ndim != 2 or array.shape[1] != 4:
            raise ValueError(f'proposals of image {image_id!r} have shape {array.shape}; expected (m, 4)')
        if not (np.isfinite(array).all() and (array >= 0).all() and (array[:, 2:] >= array[:, :2]).all()):
            raise ValueError(f'proposals of image {image_id!r}: expected 0 <= x1 <= x2 and 0 <= y1 <= y2, all finite')
        whole = whole and bool((array == np.rint(array)).all() and (array < 65536).all())
        _put(file, array.tobytes(), path)
        counts.append(len(array))
    if len(counts) != len(image_ids):
        raise ValueError(f'{len(image_ids)} image ids for {len(counts)} arrays of boxes')
    return counts, np.uint16 if whole else np.float32
