"""Ctrl-C while `python -m caffe` starts and ends: one line and status 130, no traceback of a half-imported package.

Imported before anything else of the package, so it imports next to nothing.
"""

from __future__ import annotations

import _signal as signal  # what is below the module signal, which takes ten times as long to import
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing's takes a while to import
    from types import FrameType


def is_command() -> bool:
    """Whether the package is imported as that of `python -m caffe`."""
    # while Python looks for the module the command line is ['-m', flags ...]; the module is what stands before these
    return sys.argv[:1] == ['-m'] and sys.orig_argv[-len(sys.argv)] in ('caffe', '-mcaffe', 'caffe.__main__')


def end_at_once() -> None:
    """From now on Ctrl-C ends the process at once; unless the shell had it ignored, as for a background process."""
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _raise_unless_importing):
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again; within imports it goes on to end the process at once."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, _raise_unless_importing)


def _raise_unless_importing(number: int, frame: FrameType | None) -> None:
    """Within an import the process ends: packages make another error of KeyboardInterrupt there, or go on after it."""
    within = frame
    while within is not None:
        if within.f_code.co_filename.startswith('<frozen importlib'):
            _end(number, frame)
        within = within.f_back
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    try:  # noqa: SIM105 - contextlib is not imported yet
        os.write(2, b'caffe: interrupted\n')  # not by print, in the middle of which this may come
    except OSError:
        pass
    os._exit(130)
