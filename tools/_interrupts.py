"""Ctrl-C while a tool starts and ends: one line and status 130, no traceback of a half-imported package.

In between it raises KeyboardInterrupt, as ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


def end_at_once() -> None:
    """From now on Ctrl-C ends the process at once; unless the shell had it ignored, as for a background process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Meanwhile Ctrl-C ends the process at once. For imports: some packages make another error of KeyboardInterrupt."""
    end_at_once()
    try:
        yield
    finally:
        raise_again()


def _end(number: int, frame: object) -> None:
    with contextlib.suppress(OSError):  # not by print, in the middle of which this may come
        os.write(2, f'{os.path.basename(sys.argv[0])}: interrupted\n'.encode())
    os._exit(130)
