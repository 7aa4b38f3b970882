"""What is said when a file cannot be written."""

from __future__ import annotations

import errno
import os


def explained(error: OSError, path: str | os.PathLike, needed: int | None, outcome: str) -> OSError:
    """An OSError of the same kind that names file and folder, the bytes needed and free, and what became of the file.

    needed: bytes that the folder should have room for, None if that is not known. outcome: a sentence, such as 'No
    file was left behind'.
    """
    path = os.fspath(path)
    folder = os.path.dirname(os.path.realpath(path))
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(folder):
        return OSError(error.errno, f'There is no folder {folder}: make it first. {outcome}', path)
    wanted = 'more room is needed' if needed is None else f'{needed} bytes are needed'
    message = f'{error.strerror or error}; {wanted} in {folder}{_room(folder)}. {outcome}'
    advice = _advice(error.errno, path, folder)
    return OSError(error.errno or errno.EIO, f'{message}. {advice}' if advice else message, path)


def _room(folder: str) -> str:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ''
    return f', where {disk.f_bavail * disk.f_frsize} bytes of disk space are free'


def _advice(number: int | None, path: str, folder: str) -> str:
    if number == errno.ENOSPC:
        return 'Make room there, or write to another disk'
    if number == errno.EDQUOT:
        return "This is the user's quota: make room within it, or write to another disk"
    if number == errno.EFBIG:
        return 'This is a limit of the file system or of the shell (ulimit -f)'
    if number in (errno.EACCES, errno.EPERM):
        return 'This user may not write there: change the permissions, or write to another folder'
    if number == errno.EROFS:
        return 'The disk is mounted read-only: write to another folder'
    if number == errno.ENAMETOOLONG:
        return f'The name has {len(os.fsencode(os.path.basename(path)))} bytes, and most disks take 255: shorten it'
    return ''
