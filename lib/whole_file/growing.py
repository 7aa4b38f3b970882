"""A file that grows at its end, each time whole or not at all."""

from __future__ import annotations

import contextlib
import os

from whole_file.failure import explained


class GrowingFile:
    """A file to whose end bytes are added. Raises OSError if it cannot be opened; it is made if it is not there.

    `add(data)` adds all of the bytes, or none and raises an OSError that says which file, how many bytes are needed
    and how many are free. `close()` waits until all is on the disk.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        # What a full disk did not take must not wait in a buffer.
        self._file = open(self.path, 'ab', buffering=0)  # noqa: SIM115 - until close
        self._size = os.fstat(self._file.fileno()).st_size

    def add(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            if isinstance(error, OSError):
                raise explained(error, self.path, len(data), 'What it held is unharmed') from error
            raise
        self._size += len(data)

    def close(self) -> None:
        with self._file:
            os.fsync(self._file.fileno())
