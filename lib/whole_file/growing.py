"""A text file that grows by whole lines."""

from __future__ import annotations

import contextlib
import os

from whole_file.failure import explained


class LineFile:
    """A file to which lines are added, each whole or not at all. Raises OSError if it cannot be opened.

    `add(text)` adds one line or several, each with its newline. If that fails, the file is as it was before, and an
    OSError says which file, how many bytes are needed and how many are free.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self._file = open(self.path, 'ab', buffering=0)  # noqa: SIM115 - until close
        self._size = os.fstat(self._file.fileno()).st_size

    def add(self, text: str) -> None:
        data = text.encode()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            raise explained(error, self.path, len(data), 'The lines before are unharmed') from error
        self._size += len(data)

    def close(self) -> None:
        self._file.close()
