"""Half-written files of processes that were killed: what they are called, and how the next process removes them.

Whoever writes a half-written file holds a lock on it (flock), which the system takes away when that process ends,
however it ends. So a file that nobody locks is left over, whichever machine that shares the disk wrote it. Versions
before 0.1.0 gave half-written files other names and held no lock: these go where Linux says that nobody has them open.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from typing import BinaryIO

SUFFIX = '.half-written'
_NAME_BYTES = 255 - len('.') - len('.01234567') - len(SUFFIX)  # of a file's name, that most disks take
# .NAME.xxxxxxxx.tmp, NAME.PID.tmp, NAME.part of earlier versions; no others: X.tgz.part is a download to go on with
_EARLIER = re.compile(
    r'\..+\.(caffemodel|solverstate|h5|binaryproto|prototxt)\.[0-9a-f]{8}\.tmp|'
    r'.+\.(h5|png|json|txt)\.\d+\.(tmp|boxes)|.+\.(npz|prototxt|json|csv)\.part|.+\.part\.png'
)
_looked_through: set[str] = set()


def begin(path: str) -> tuple[BinaryIO, str]:
    """A new half-written file beside `path`, open for writing and locked, and its own path.

    The first time that this process writes to the folder, what killed ones left there is removed.
    """
    while True:
        beside = _new_name(path)
        file = open(beside, 'xb')  # noqa: SIM115 - closed by who asked for it
        if _lock(file.fileno(), beside):
            return file, beside
        file.close()


def begin_folder(path: str) -> tuple[int, str]:
    """The same with a folder, for what others write: its descriptor, which holds the lock, and its path."""
    while True:
        beside = _new_name(path)
        os.mkdir(beside)
        descriptor = os.open(beside, os.O_RDONLY | os.O_CLOEXEC)
        if _lock(descriptor, beside):
            return descriptor, beside
        os.close(descriptor)


def _new_name(path: str) -> str:
    folder, name = os.path.split(path)
    if folder not in _looked_through:
        _looked_through.add(folder)
        remove_leftovers(folder)
    short = os.fsencode(name)[:_NAME_BYTES].decode(errors='ignore')
    return os.path.join(folder, f'.{short}.{secrets.token_hex(4)}{SUFFIX}')


def _lock(descriptor: int, path: str) -> bool:
    """Whether the file, now locked, is still at `path`: another process may just have taken it for a leftover."""
    with contextlib.suppress(OSError):  # a disk without locks: nobody removes leftovers there
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def remove_leftovers(folder: str) -> list[str]:
    """Removes what is half-written in a folder and no process writes any more; the paths of what was removed."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if _is_ours(entry.name) or _EARLIER.fullmatch(entry.name)]
    except OSError:  # no such folder, or a closed one: writing to it says so
        return []
    return [entry.path for entry in sorted(found, key=lambda e: e.name) if _removed(entry)]


def _is_ours(name: str) -> bool:
    return name.startswith('.') and name.endswith(SUFFIX)


def _removed(entry: os.DirEntry) -> bool:
    is_folder = entry.is_dir(follow_symlinks=False)
    try:
        access = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR
        descriptor = os.open(entry.path, access | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # another process was faster, or it is another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_ours(entry.name):
            _check_nobody_else_has_open(descriptor)
        if is_folder:
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    except OSError:  # somebody is writing it
        return False
    finally:
        os.close(descriptor)
    return True


def _check_nobody_else_has_open(descriptor: int) -> None:
    """Raise OSError if another process has the file open, or if that cannot be told: elsewhere than on Linux."""
    if not hasattr(fcntl, 'F_SETLEASE'):
        raise OSError('only Linux tells who has a file open')
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # granted only if there is no other descriptor of the file
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
