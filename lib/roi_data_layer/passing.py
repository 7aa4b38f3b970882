"""Arrays from a worker process to the one that asked for them, by memory that both can open, not through a pipe.

A mini-batch of one image is 8 MB. A pipe takes it in a hundred pieces, and for each the receiver stops what it does.
"""

from __future__ import annotations

import os
from collections import deque
from typing import NamedTuple

import numpy as np


class Passed(NamedTuple):
    """Where a worker put arrays: its process, the number of its open file, and what lies in it, one after another."""

    process: int
    file: int
    name: str
    arrays: list[tuple[str, tuple[int, ...], np.dtype]]


class Sender:
    """In a worker process: keeps the last `kept` things that it passed on, which have to be received by then."""

    def __init__(self, kept: int):
        self._files: deque[int] = deque()
        self._kept, self._count = kept, 0

    def send(self, arrays: dict[str, np.ndarray]) -> Passed | dict[str, np.ndarray]:
        """What to return to the process that `receive`s it: the arrays themselves where they cannot lie in a file."""
        if not hasattr(os, 'memfd_create'):  # not Linux
            return arrays
        self._count += 1
        name = f'mini-batch {self._count}'
        try:
            file = os.memfd_create(name)
        except OSError:
            return arrays
        self._files.append(file)
        while len(self._files) > self._kept:
            os.close(self._files.popleft())
        try:
            for array in arrays.values():
                _write(file, np.ascontiguousarray(array))
        except OSError:  # no memory that can be shared: a pipe needs less of it at once
            os.ftruncate(file, 0)
            return arrays
        return Passed(os.getpid(), file, name, [(key, a.shape, a.dtype) for key, a in arrays.items()])


def receive(sent: Passed | dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that a `Sender` in a living process has sent, once; their memory there is free then.

    Raises OSError where this process may not see the other one's files, or if they are no longer there.
    """
    if not isinstance(sent, Passed):
        return sent
    path = f'/proc/{sent.process}/fd/{sent.file}'
    with open(path, 'r+b', buffering=0) as file:
        if not os.readlink(path).startswith(f'/memfd:{sent.name} '):
            raise OSError(f'{sent.name} of process {sent.process} was to be received too late')
        arrays = {}
        for key, shape, dtype in sent.arrays:
            arrays[key] = array = np.empty(shape, dtype)
            _read(file.fileno(), array)
        file.truncate(0)
    return arrays


def _write(file: int, array: np.ndarray) -> None:
    left = array.data.cast('B') if array.size else memoryview(b'')
    while left:
        left = left[os.write(file, left) :]


def _read(file: int, array: np.ndarray) -> None:
    left = array.data.cast('B') if array.size else memoryview(b'')
    while left:
        count = os.readv(file, [left])
        if not count:
            raise OSError('a mini-batch of another process ends too early')
        left = left[count:]
