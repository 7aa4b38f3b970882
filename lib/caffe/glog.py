"""Log lines as Caffe prints them (glog), on standard error: `I1123 18:30:01.123456  4711 solver.cpp:229] Iteration 0`.

Existing log parsers read them. The environment's GLOG_minloglevel quiets them as it does Caffe: 0 all, 1 warnings and
errors, 2 errors, 3 nothing but fatal ones. Logging never stops the work: a line that cannot be written, since standard
error is closed, full or read by nobody any more, is lost.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import time

_LEVELS = 'IWEF'
_quiet_below: int | None = None  # what init_log said
_warned: set[str] = set()
_lost: list[str] = []  # the first line that could not be written


def init_log(level: int = 0) -> None:
    """Prints lines from this level on, whatever GLOG_minloglevel says: 0 all, 1 warnings, 2 errors."""
    global _quiet_below
    _quiet_below = int(level)


def log(message: str, where: str = 'caffe.cpp:1', level: str = 'I') -> None:
    """Prints one line. `where` is the place in Caffe's source whose line this is, `level` one of I W E F."""
    if _LEVELS.index(level) < _minimum():
        return
    now = time.time()
    stamp = time.strftime('%m%d %H:%M:%S', time.localtime(now)) + f'.{int(now % 1 * 1e6):06d}'
    if sys.stderr is None:  # closed when Python began; print would take standard output instead
        return
    try:
        print(f'{level}{stamp} {os.getpid():5d} {where}] {message}', file=sys.stderr, flush=True)
    except (OSError, ValueError):  # ValueError: closed since
        if not _lost:
            _lost.append(message)
            atexit.register(_leave_unwritten)


def _leave_unwritten() -> None:
    """Sends what is still unwritten nowhere: Python tries once more at its end, and would exit with status 120."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def warn_once(message: str, where: str) -> None:
    """Prints a warning, the first time in this process that there is this one."""
    if message not in _warned:
        _warned.add(message)
        log(message, where, 'W')


def _minimum() -> int:
    if _quiet_below is not None:
        return _quiet_below
    try:
        return int(os.environ.get('GLOG_minloglevel', '0'))  # noqa: SIM112 - glog's own spelling
    except ValueError:
        return 0


class _LinesOfKernels(logging.Handler):
    """Prints what caffe.kernels, which knows nothing of Caffe, tells Python's `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        log(record.getMessage(), f'{record.filename}:{record.lineno}', record.levelname[0])


_kernels = logging.getLogger('caffe.kernels')
_kernels.handlers = [_LinesOfKernels()]
_kernels.propagate = False
