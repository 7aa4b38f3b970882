"""Keeps freed memory in the process, so that each pass finds that of the last one.

glibc hands large blocks back to the system when they are freed, and the system clears every page before it
hands it out again. A net frees and takes the same hundreds of megabytes in every pass: that costs more than
many of the layers (docs/performance.md has the measurement).
"""

from __future__ import annotations

import ctypes
import os
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


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
    # Both, or neither: without mmap and with trimming the top of the heap would go back and forth instead.
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_MMAP_MAX, 0))
