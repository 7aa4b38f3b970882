"""Standard streams that are closed; and output and error that never stop a tool: what cannot be written is lost.

A log's disk may be full, a `tee` killed, a terminal closed, or a stream closed from the start: training goes on.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


class _Lossy:
    """A text stream, but for errors of the system when it is written to."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def open_closed() -> None:
    """Makes a standard stream that is closed (2>&-) the null device: else the next file that is opened would be it."""
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            mode = 'r' if number == 0 else 'w'
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the names of files may have any bytes, a terminal not all letters
            stream.reconfigure(errors='backslashreplace')


def never_fail() -> None:
    """Has sys.stdout and sys.stderr lose what cannot be written. One that is closed is the null device from now on."""
    open_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')  # names with letters that the locale's encoding lacks
    sys.stdout, sys.stderr = _Lossy(sys.stdout), _Lossy(sys.stderr)  # type: ignore[assignment]
