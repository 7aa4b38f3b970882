"""An error as one line at a shell, instead of a traceback."""

from __future__ import annotations

import re

from command_line import environment

# What is raised for bad input. Any other kind is a mistake in a program, whose name and place help.
_FORESEEN = (ValueError, OSError, RuntimeError, ImportError)


def error_line(error: Exception, *more: str) -> str:
    """What an error says, its notes and `more` in brackets, and for one that was not foreseen its kind and a hint."""
    foreseen = isinstance(error, _FORESEEN)
    kind = '' if foreseen else f'{type(error).__name__}: '
    words = ': '.join(filter(None, (re.sub(r'^\[Errno \d+\] ', '', str(error)), environment.advice(error))))
    notes = ''.join(f' ({note})' for note in [*getattr(error, '__notes__', []), *more])
    hint = '' if foreseen else ' (run again with --debug to see where)'
    return f'{kind}{words}{notes}{hint}'
