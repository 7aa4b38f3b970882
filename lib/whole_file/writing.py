"""Writing a file so that it appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator
from typing import Any

from whole_file.failure import explained
from whole_file.leftovers import begin, begin_folder


def write(path: str | os.PathLike, pieces: Any) -> None:
    """Writes bytes, or pieces of them (anything with the buffer protocol, C-contiguous) one after another, to a file.

    They go to a new file beside `path`, which takes its place once all is on the disk. If that fails, the new
    file is removed, what was at `path` is as it was, and an OSError of the same kind says so, with the bytes
    that were needed. A link is followed; what is there and is no plain file is not written over.
    """
    path = os.fspath(path)
    target = os.path.realpath(path)  # through a link, not in its place
    pieces = iter([pieces] if isinstance(pieces, (bytes, bytearray, memoryview)) else pieces)
    existed, size, file, beside = False, 0, None, ''
    try:
        existed = _is_there(path, target)
        file, beside = begin(target)
        for piece in pieces:
            size += memoryview(piece).nbytes
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        _remove(beside)
        size += sum(memoryview(piece).nbytes for piece in pieces)
        outcome = 'The file that was there is unharmed' if existed else 'No file was left behind'
        raise explained(error, path, size, outcome) from error
    except BaseException:  # Ctrl-C included
        _remove(beside)
        raise
    finally:
        if file is not None:
            with contextlib.suppress(OSError):  # it has been said
                file.close()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes text as UTF-8, whole or not at all (see `write`). Bytes of file names that are not become \\udc80 ..."""
    write(path, text.encode(errors='backslashreplace'))


@contextlib.contextmanager
def in_memory(path: str | os.PathLike) -> Iterator[io.BytesIO]:
    """A binary file in memory, for whoever writes to files; at the end it is written to `path`, whole or not at all.

    Nothing is written if the block raises.
    """
    file = io.BytesIO()
    yield file
    write(path, file.getbuffer())


@contextlib.contextmanager
def beside(path: str | os.PathLike) -> Iterator[str]:
    """A path in a folder of its own beside `path`, for whatever writes to paths, other programs too; file or folder.

    What is there at the end of the block takes the place of `path`; a folder, if `path` is not there yet. If the block
    raises, or there is nothing, what was at `path` is as it was. An OSError names `path`.
    """
    path = os.fspath(path)
    target = os.path.realpath(path)
    descriptor, folder = -1, ''
    try:
        descriptor, folder = begin_folder(target)
        made = os.path.join(folder, os.path.basename(target))
        yield made
        _sync(made)
        os.replace(made, target)
    except OSError as error:
        if not folder:
            raise explained(error, path, None, 'Nothing was written') from error
        if error.errno is not None and error.filename is None:
            raise explained(error, path, None, 'What was there is unharmed') from error
        if error.errno is not None and str(error.filename).startswith(folder):
            said = str(error.strerror).replace(folder, os.path.dirname(target))
            raise OSError(error.errno, said, path) from error
        raise
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def rename(path: str | os.PathLike, to: str | os.PathLike) -> None:
    """Gives a file that is whole another name in its folder; what had that name is gone."""
    try:
        os.replace(path, to)
    except OSError as error:
        raise explained(error, os.fspath(path), None, 'It keeps its name') from error


def check_place(path: str | os.PathLike, makes_folders: bool = False) -> None:
    """Raises an OSError like that of `write` where no file can be written at `path`: before hours of work for it.

    makes_folders: the folders that are not there yet will be made by whoever writes.
    """
    path = os.fspath(path)
    target = os.path.realpath(path)
    folder = there = os.path.dirname(target)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise NotADirectoryError(errno.ENOTDIR, f'{there} is a file, where a folder is needed', path)
    try:
        _is_there(path, target)
        file, beside = begin(os.path.join(there if makes_folders else folder, os.path.basename(target)))
    except OSError as error:
        raise explained(error, path, None, 'Nothing was written') from error
    _remove(beside)
    file.close()


def _sync(path: str) -> None:
    if os.path.isfile(path):
        with open(path, 'rb') as file:
            os.fsync(file.fileno())


def _is_there(path: str, target: str) -> bool:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, 'It is there, and not a plain file')
    return True


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)
