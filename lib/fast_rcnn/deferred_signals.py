"""Ctrl-C and its like, put off until the iteration under way is done."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import ranks


@contextlib.contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Yields a list that becomes non-empty on Ctrl-C, SIGTERM or SIGHUP; a second one acts as ever.

    Signals that this process was started to ignore stay ignored (nohup, a shell's background processes).
    """
    received: list[int] = []
    before: dict[int, Any] = {}
    # After a terminal's ^C a new line; in a log an empty one would stop BVLC's parse_log.py.
    start = b'\n' if sys.stderr.isatty() else b''

    def note(number, frame):
        received.append(number)
        for each, handler in before.items():  # before it is promised that a second one acts
            signal.signal(each, handler)
        with contextlib.suppress(OSError):  # not by print, in the middle of which this may come
            if ranks.is_root():
                os.write(2, start + b'Finishing this step, then a snapshot; again to stop now\n')

    if threading.current_thread() is threading.main_thread():
        for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
            number = getattr(signal, name, None)  # no SIGHUP on Windows
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
