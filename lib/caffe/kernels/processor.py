"""What the processor says of itself (/proc/cpuinfo; nothing where there is no such file)."""

from __future__ import annotations

import functools
import platform

_WHAT_IT_IS = ('vendor_id', 'flags', 'Features')  # its other lines have its clock of the moment, too


@functools.cache
def _first_core() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as stream:
            return stream.read(2**16).split('\n\n')[0]
    except OSError:
        return ''


@functools.cache
def words() -> frozenset[str]:
    """Its maker ('AuthenticAMD', 'GenuineIntel', ...) and the names of what it can do ('avx512f', 'amx_bf16', ...)."""
    lines = (line.partition(':') for line in _first_core().splitlines())
    return frozenset(word for key, _, value in lines if key.strip() in _WHAT_IT_IS for word in value.split())


def model() -> str:
    """Its maker's name for it, such as 'AMD EPYC 9B45'; the machine's kind where it has none."""
    for line in _first_core().splitlines():
        key, _, value = line.partition(':')
        if key.strip() == 'model name':
            return value.strip()
    return platform.machine() or 'unknown'


def made_by_amd() -> bool:
    """Whether it is AMD's, or built from AMD's plans."""
    return bool(words() & {'AuthenticAMD', 'HygonGenuine'})


def has_fast_bf16() -> bool:
    """Whether its products of bfloat16 are faster than those of float32.

    Intel's are by AMX alone: without it they take twice as long as float32's (docs/performance.md).
    """
    return 'amx_bf16' in words() or ('avx512_bf16' in words() and made_by_amd()) or 'bf16' in words()
