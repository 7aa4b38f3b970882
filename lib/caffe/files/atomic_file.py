"""Writing a file so that it appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable


def write(path: str | os.PathLike, pieces: Iterable[bytes]) -> None:
    """Writes pieces (anything with the buffer protocol, C-contiguous) one after another to a file.

    They go to a new file beside `path`, which takes its place once all is on the disk. If that fails, the new
    file is removed, what was at `path` is as it was, and an OSError of the same kind says so, with the bytes
    that were needed.
    """
    path = os.fspath(path)
    target = os.path.realpath(path)  # through a link, not in its place
    existed = os.path.lexists(target)
    if existed and not os.path.isfile(target):
        raise OSError(f'{path}: cannot be written: it is there, and not a plain file')
    folder, name = os.path.split(target)
    beside = os.path.join(folder, f'.{name}.{secrets.token_hex(4)}.tmp')
    pieces = iter(pieces)
    size = 0
    try:
        with open(beside, 'xb') as file:
            for piece in pieces:
                size += memoryview(piece).nbytes
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        _remove(beside)
        size += sum(memoryview(piece).nbytes for piece in pieces)
        rest = 'The file that was there is unharmed' if existed else 'No file was left behind'
        message = f'{error.strerror or error}; {size} bytes are needed in {folder}. {rest}'
        raise OSError(error.errno, message, path) from error
    except BaseException:  # Ctrl-C included
        _remove(beside)
        raise


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)
