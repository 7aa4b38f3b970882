"""A function of Python on all the threads that torch computes with: those of the OpenMP that torch is linked with.

For C code that is called for a while and knows of no threads: it comes with those that wait, sleep and count
denormals as zero as torch's do, and no second set of threads competes with them.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar('T')

# Of the C functions that torch brings along; None where the library is not found.
torch_library: ctypes.CDLL | None = None
_parallel: Callable | None = None
_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _load() -> None:
    global torch_library, _parallel
    try:
        torch_library = ctypes.CDLL(str(Path(torch.__file__).parent / 'lib' / 'libtorch_cpu.so'))
        _parallel = torch_library.GOMP_parallel  # LLVM's and Intel's OpenMP have it, too
    except (OSError, AttributeError):
        return
    _parallel.argtypes = [_Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    _parallel.restype = None


_load()


def is_there() -> bool:
    """Whether `on_each_thread` has all of torch's threads."""
    return _parallel is not None


def on_each_thread(function: Callable[[], object], count: int) -> None:
    """Calls `function()` once on each of `count` of this thread's threads, itself among them, at the same time.

    Raises what one of the calls raised, when all have ended. Where torch's OpenMP is not found, calls it once.
    """
    errors: list[BaseException] = []
    ended: set[int] = set()
    inference = torch.is_inference_mode_enabled()  # each thread has its own; tensors made so are changed so alone

    def call(_: object) -> None:
        try:
            with torch.inference_mode(inference):
                function()
        except BaseException as error:  # Ctrl-C is one: what leaves the call is lost in C
            errors.append(error)
        ended.add(threading.get_ident())

    if count == 1 or _parallel is None:
        function()
        return
    _parallel(_Callback(call), None, count, 0)
    if errors:
        raise errors[0]
    if threading.get_ident() not in ended:  # a signal came before the `try`, and what its handler raised was lost
        raise KeyboardInterrupt


def deal(work: Callable[[T, int], object], pieces: Iterable[T], count: int) -> None:
    """Calls `work(piece, thread)` for each piece on `count` threads (0, 1, ...); one that is done takes the next.

    Which thread has which piece differs from run to run. After an error no further pieces are begun.
    """
    numbers, left = itertools.count(), iter(list(pieces))

    def take() -> None:
        thread = next(numbers)
        for piece in left:
            try:
                work(piece, thread)
            except BaseException:
                for _ in left:
                    pass
                raise

    on_each_thread(take, count)
