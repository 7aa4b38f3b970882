"""Half-written files of processes that were killed: what they are called, and how the next process removes them.

Whoever writes a half-written file holds a lock on it (flock), which the system takes away when that process ends,
however it ends. So a file that nobody holds is rubbish, on whatever machine that shares the disk it was written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from typing import BinaryIO

SUFFIX = '.half-written'
_NAME_BYTES = 255 - len('.') - len('.01234567') - len(SUFFIX)  # of a file's name, that most disks take
_looked_through: set[str] = set()


def begin(path: str) -> tuple[BinaryIO, str]:
    """A new half-written file beside `path`, open for writing and locked, and its own path.

    The first time that this process writes to the folder, what killed ones left there is removed.
    """
    folder, name = os.path.split(path)
    if folder not in _looked_through:
        _looked_through.add(folder)
        remove_leftovers(folder)
    short = os.fsencode(name)[:_NAME_BYTES].decode(errors='ignore')
    while True:
        beside = os.path.join(folder, f'.{short}.{secrets.token_hex(4)}{SUFFIX}')
        file = open(beside, 'xb')  # noqa: SIM115 - closed by who asked for it
        if _lock(file, beside):
            return file, beside
        file.close()


def _lock(file: BinaryIO, path: str) -> bool:
    """Whether the file, now locked, is still at `path`: another process may just have taken it for a leftover."""
    with contextlib.suppress(OSError):  # a disk without locks: nobody removes leftovers there
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def remove_leftovers(folder: str) -> list[str]:
    """Removes the half-written files in a folder that no process is writing any more; the paths of those removed."""
    try:
        with os.scandir(folder) as entries:
            found = [e.path for e in entries if e.name.startswith('.') and e.name.endswith(SUFFIX)]
    except OSError:  # no such folder, or a closed one: writing to it says so
        return []
    return [path for path in sorted(found) if _removed(path)]


def _removed(path: str) -> bool:
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # another process was faster, or it is another user's
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:  # somebody is writing it
        return False
    finally:
        os.close(file)
    return True
