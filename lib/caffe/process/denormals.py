"""Numbers nearer to zero than 1.2e-38 (denormal in float32) count as zero while a net or a solver computes.

A processor may take two hundred times as long for a product with such a number, and gradients that vanish pass through
them on their way to zero: a step of VGG_CNN_M_1024 took 12 s instead of 3 (docs/performance.md).
Added to gradients of ordinary size such numbers are lost in rounding in any case.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np
import torch

from caffe.kernels.parallel import on_each_thread

P = ParamSpec('P')
T = TypeVar('T')

np.finfo(np.float32), np.finfo(np.float64)  # computed now: NumPy 1 warns if that happens while denormals are zero
_mine = threading.local()


def denormals_as_zero(function: Callable[P, T]) -> Callable[P, T]:
    """The function with denormal numbers as zero in its thread and those that torch computes with for it.

    Torch's threads stay so; this one is again as it was when the function ends.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if count_as_zero() or not torch.set_flush_denormal(True):  # False: the processor has no such mode
            return function(*args, **kwargs)
        try:
            _tell_threads()
            return function(*args, **kwargs)
        finally:
            torch.set_flush_denormal(False)

    return run


def count_as_zero() -> bool:
    """Whether denormal numbers count as zero in this thread."""
    return _SMALLEST_NORMAL / 2 == 0


_SMALLEST_NORMAL = sys.float_info.min


def _tell_threads() -> None:
    """Each Python thread has worker threads of its own in torch, which restarts them when their number changes."""
    count = torch.get_num_threads()
    if count == getattr(_mine, 'told', 1):
        return
    on_each_thread(lambda: torch.set_flush_denormal(True), count)
    _mine.told = count
