"""Packed numbers as files of a folder, which several processes and runs may share: each is whole, or not there.

A file NAME.packed: a digest of its name and of the rest, then for each array two numbers, how many it has and how
many of them are not zero, its bits, and those that are not zero (see `kernels.packing`). Little-endian.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
from collections.abc import Sequence

import numpy as np

import whole_file
from caffe.glog import log
from caffe.kernels.packing import Packed

_SUFFIX = '.packed'
_COUNTS = struct.Struct('<QQ')
_DIGEST = 16  # bytes
_LOOKS = 64  # once in so many files written, those that others wrote are counted too


class PackedFolder:
    """The files in `folder`, which is made if needed, up to about `limit` bytes of them, whoever wrote them.

    Raises OSError where the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike, limit: int):
        self._folder, self._limit = os.fspath(folder), limit
        self._written, self._size = 0, 0
        os.makedirs(self._folder, exist_ok=True)
        tempfile.TemporaryFile(dir=self._folder).close()  # can files be made there?

    @property
    def nbytes(self) -> int:
        """What the files take."""
        size = 0
        with contextlib.suppress(FileNotFoundError):  # the folder has been removed
            for entry in os.scandir(self._folder):
                with contextlib.suppress(OSError):  # one that another process has removed
                    size += entry.stat().st_size if entry.name.endswith(_SUFFIX) else 0
        return size

    def get(self, key: bytes) -> list[Packed] | None:
        """What was added for `key`; None where there is nothing, or nothing whole: that is told."""
        path = self._path(key)
        try:
            with open(path, 'rb') as file:  # one above the limit is not ours: less of it is read, and found damaged
                content = file.read(min(os.fstat(file.fileno()).st_size, self._limit))
        except FileNotFoundError:
            return None
        except OSError as error:
            log(f'{path} cannot be read ({error.strerror}): it is computed anew', 'net.cpp:1')
            return None
        found = _arrays(content, key)
        if found is None:
            log(f'{path} is damaged: it is computed anew', 'net.cpp:1')
        return found

    def add(self, key: bytes, arrays: Sequence[Packed]) -> str | None:
        """Writes a file, unless it would be too much. Returns why none was written, or None."""
        size = sum(packed.nbytes for packed in arrays)
        try:
            if self._written % _LOOKS == 0:
                self._size = self.nbytes
            if self._size + size > self._limit:
                return f'the files {self._folder}/*{_SUFFIX} would take more than {self._limit / 2**30:.2f} GiB'
            pieces = [piece for packed in arrays for piece in _pieces(packed)]
            whole_file.write(self._path(key), [_digest(key, pieces), *pieces])
            self._written, self._size = self._written + 1, self._size + size
        except OSError as error:
            return str(error)
        return None

    def clear(self) -> None:
        """Nothing: files of other runs stay."""

    def _path(self, key: bytes) -> str:
        return os.path.join(self._folder, key.hex() + _SUFFIX)


def _pieces(packed: Packed) -> list[bytes | memoryview]:
    words = packed.words.astype('<u4', copy=False)
    return [_COUNTS.pack(packed.count, len(words)), packed.bits.data, words.data]


def _digest(key: bytes, pieces: Sequence[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(key, digest_size=_DIGEST)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _arrays(content: bytes, key: bytes) -> list[Packed] | None:
    """What a file holds; None if it is not whole, or another's."""
    if content[:_DIGEST] != _digest(key, [memoryview(content)[_DIGEST:]]):
        return None
    found, at = [], _DIGEST
    while at < len(content):
        count, words = _COUNTS.unpack_from(content, at)
        bits, at = np.frombuffer(content, np.uint8, -(-count // 8), at + _COUNTS.size), at + _COUNTS.size
        at += bits.size
        found.append(Packed(count, bits, np.frombuffer(content, '<u4', words, at)))
        at += 4 * words
    return found
