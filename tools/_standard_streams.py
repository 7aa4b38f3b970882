"""Standard output and error that never stop a tool: what cannot be written any more is lost.

A log's disk may be full, a `tee` killed, a terminal closed, or a stream closed from the start: training goes on.
"""

from __future__ import annotations

import contextlib
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


def never_fail() -> None:
    """Has sys.stdout and sys.stderr lose what cannot be written. One that is closed is the null device from now on."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # or the next file that is opened would be it, and get what others print
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    for name, number in (('stdout', 1), ('stderr', 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, 'w', closefd=False)  # noqa: SIM115 - as long as the process lives
        setattr(sys, name, _Lossy(stream))
