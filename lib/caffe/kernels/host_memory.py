"""Where numbers lie in the memory of the process: temporary ones of a pass, and those that stay.

glibc hands large blocks back to the system when they are freed, and the system clears every page before it hands it
out again. A net frees and takes the same hundreds of megabytes in every pass: that costs more than many of the layers,
so freed memory is kept. But memory that stays must not lie between temporary blocks, or the gaps add up. So it has
pages of its own, huge ones where the system has them (docs/performance.md has the measurements).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

# <malloc.h>, <bits/mman.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MAP_NORESERVE = 0x4000
_LARGE = 2**20  # blocks of so many bytes get pages of their own
_WORTH_A_LOOK = 2**28  # for so many bytes the system is asked how many are left


def keep_freed() -> bool:
    """Tells the allocator to keep what is freed. Returns whether it did: only glibc knows how.

    A process that was started with settings of its own for glibc's allocator (MALLOC_..., GLIBC_TUNABLES)
    keeps those.
    """
    if not sys.platform.startswith('linux') or any(
        name.startswith('MALLOC_') or name == 'GLIBC_TUNABLES' for name in os.environ
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    # Both, or neither: without mmap but with trimming, the top of the heap would be freed and taken again and again.
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_MMAP_MAX, 0))


def check_room(size: int, what: str) -> None:
    """Raises ValueError, which calls the thing `what`, where `size` bytes are more than the memory that is left.

    The system would promise them, and end the process when they are touched. Small things are not looked at.
    """
    if size < _WORTH_A_LOOK:
        return
    left = _left()
    if size > left:
        raise ValueError(f'{what} needs {size / 2**30:.1f} GiB of memory; {left / 2**30:.1f} GiB are left')


def _left() -> float:
    """The bytes that the process may still take: what the system has, and what its control group may have at most."""
    found = [math.inf]
    with contextlib.suppress(OSError, ValueError):
        words = Path('/proc/meminfo').read_text('ascii').split()
        found.append(1024 * int(words[words.index('MemAvailable:') + 1]))
    with contextlib.suppress(OSError, ValueError):  # 'max' is no number
        found.append(int(Path('/sys/fs/cgroup/memory.max').read_text('ascii')))
    return min(found)


def zeros_with_own_pages(count: int) -> torch.Tensor:
    """(count,) float32 zeros on the CPU, for values that stay: parameters, momentum, blobs.

    The memory goes back to the system with the tensor. The system clears pages as they are first touched.
    """
    if 4 * count < _LARGE or not sys.platform.startswith('linux'):
        return torch.zeros(count)
    return _mapped(count)


def _mapped(count: int, flags: int = 0) -> torch.Tensor:
    pages = mmap.mmap(-1, 4 * count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)
    with contextlib.suppress(AttributeError, OSError):  # a Python or a system without huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=torch.float32)


class _Stack(threading.local):
    """A thread's memory for intermediate results: a range of addresses, of which only the used part exists."""

    numbers = 2**34 if sys.platform.startswith('linux') else 0

    def __init__(self):
        self.memory, self.used = torch.empty(0), 0
        if self.numbers:
            with contextlib.suppress(OSError):  # addresses are limited: `allocate` asks torch then
                self.memory = _mapped(self.numbers, _MAP_NORESERVE)

    def allocate(self, *shape: int) -> torch.Tensor:
        count = math.prod(shape)
        start, end = self.used, self.used + count
        if end > self.memory.numel():
            return torch.empty(shape)
        self.used = end + -end % 16  # the next one begins with a line of the caches
        return self.memory[start:end].view(shape)


_stack = _Stack()


@contextlib.contextmanager
def workspace() -> Iterator[Callable[..., torch.Tensor]]:
    """Gives `allocate(*shape)`: float32 memory on the CPU, with anything in it, until the `with` ends.

    Each thread has a stack of it, as large as what it once held at the same time: what layers compute on the way lies
    where that of the last layer lay.
    """
    start = _stack.used
    try:
        yield _stack.allocate
    finally:
        _stack.used = start
