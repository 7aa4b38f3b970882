"""Ctrl-C while a command starts and ends: one line and status 130, no traceback of a half-imported package.

In between it raises KeyboardInterrupt, as ever. Imported before anything else, so it imports next to nothing itself.
"""

from __future__ import annotations

import _signal as signal  # what is below the module signal, which takes ten times as long to import
import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing's takes a while to import
    from types import FrameType


_command = ''


def end_at_once(command: str) -> None:
    """From now on Ctrl-C ends the process at once; unless the shell had it ignored, as for a background process.

    command: its name, in what is said then.
    """
    global _command
    _command = command
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
    if os.environ.get('RANK', '0') != '0':  # of several ranks one says it
        os._exit(130)
    try:  # noqa: SIM105 - contextlib is not imported yet
        os.write(2, f'{_command}: interrupted\n'.encode())  # not by print, in the middle of which this may come
    except OSError:
        pass
    os._exit(130)
