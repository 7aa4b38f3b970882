"""A file that is changed in memory first, for a library that cannot bear that a write fails.

HDF5 may end the process when the disk is full. It is given an `Overlay` in place of the file: no write to that fails,
and what it wrote is then written by code that can say what went wrong.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any, BinaryIO

from whole_file.failure import explained


class Overlay(io.RawIOBase):
    """What is in `base`, a file open for reading, or nothing; and over it what has been written, which is in memory.

    Bytes that were never written are 0, and take no memory. It reads and writes as any binary file. `writes` are
    (offset, bytes) in the order in which they were made; `size` is how long the file is.
    """

    def __init__(self, base: BinaryIO | None = None):
        self._base = base
        self._base_size = 0 if base is None else os.fstat(base.fileno()).st_size
        self._at = 0
        self.size = self._base_size
        self.writes: list[tuple[int, bytes]] = []

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self.size - self._at), 0)
        view = memoryview(buffer).cast('B')[:count]
        view[:] = self.content(self._at, self._at + count)
        self._at += count
        return count

    def write(self, data: Any) -> int:
        data = bytes(data)
        self.writes.append((self._at, data))
        self._at += len(data)
        self.size = max(self.size, self._at)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size

    def content(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`."""
        found = bytearray(stop - start)
        if self._base is not None and start < self._base_size:
            stored = os.pread(self._base.fileno(), min(stop, self._base_size) - start, start)
            found[: len(stored)] = stored
        for offset, data in self.writes:
            first, last = max(offset, start), min(offset + len(data), stop)
            if first < last:
                found[first - start : last - start] = data[first - offset : last - offset]
        return bytes(found)

    def write_back(self, path: str | os.PathLike) -> None:
        """Makes the file at `path`, whose content is the base's, what this one is.

        What makes the file longer is written first: an OSError, if there is no room for it, leaves the file as it was.
        """
        added = self.size - self._base_size
        with open(path, 'r+b', buffering=0) as file:
            new, old = [], []
            for start, stop in self._written_ranges():
                new.append((max(start, self._base_size), stop))
                old.append((start, min(stop, self._base_size)))
            try:
                self._write_ranges(file.fileno(), new)
                os.ftruncate(file.fileno(), self.size)
                os.fsync(file.fileno())
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), self._base_size)
                raise explained(error, path, added, 'What it held is unharmed') from error
            try:
                self._write_ranges(file.fileno(), old)
                os.fsync(file.fileno())
            except OSError as error:
                raise explained(error, path, added, 'It is half-written: make it anew') from error

    def _write_ranges(self, file: int, ranges: list[tuple[int, int]]) -> None:
        """The last first: the head of the file, by which the rest is found, is the last to change."""
        for start, stop in reversed(ranges):
            if start < stop:
                _write_all(file, self.content(start, stop), start)

    def _written_ranges(self) -> list[tuple[int, int]]:
        """Where something was written, without overlaps."""
        ranges: list[tuple[int, int]] = []
        for start, stop in sorted((offset, min(offset + len(data), self.size)) for offset, data in self.writes):
            if ranges and start <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(stop, ranges[-1][1]))
            elif start < stop:
                ranges.append((start, stop))
        return ranges


def _write_all(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written
