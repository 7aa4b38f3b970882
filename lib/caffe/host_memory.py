"""Keeps freed memory in the process, so that each pass finds that of the last one.

glibc hands large blocks back to the system when they are freed, and the system clears every page before it
hands it out again. A net frees and takes the same hundreds of megabytes in every pass: that costs more than
many of the layers. What is kept has holes, though, so that the very large blocks go back after all where the system
has huge pages, which are cleared eight times as fast (docs/performance.md has the measurements).
"""

from __future__ import annotations

import ctypes
import os
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_VERY_LARGE = 2**25  # bytes; glibc takes no larger threshold


def keep_freed() -> bool:
    """Tells the allocator to keep what is freed. Returns whether it did: only glibc knows how.

    A process that was started with settings of its own for glibc's allocator (MALLOC_..., GLIBC_TUNABLES)
    keeps those. To be called before torch is imported, for torch looks only once whether to ask for huge pages
    (THP_MEM_ALLOC_ENABLE); afterwards all is kept, whatever its size.
    """
    if not sys.platform.startswith('linux') or any(
        name.startswith('MALLOC_') or name == 'GLIBC_TUNABLES' for name in os.environ
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    if 'torch' not in sys.modules and _has_huge_pages() and os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1') == '1':
        mapped = _M_MMAP_THRESHOLD, _VERY_LARGE
    else:
        mapped = _M_MMAP_MAX, 0
    # Both, or neither: without trimming's limit the top of the heap would go back and forth.
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(*mapped))


def _has_huge_pages() -> bool:
    try:
        with open('/sys/kernel/mm/transparent_hugepage/enabled', encoding='ascii') as stream:
            return '[never]' not in stream.read()
    except OSError:
        return False
