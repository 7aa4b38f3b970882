"""Batches of data layers, made ahead of time in a background thread (base_data_layer.cpp)."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

AHEAD = 4  # batches that are made before they are asked for: the default of data_param.prefetch

_LOOK = 0.1  # seconds after which a thread that waits for a free place looks whether it is to stop

T = TypeVar('T')


class Prefetch(Generic[T]):
    """The results of make(), make(), ... in this order, up to `depth` of them waiting to be asked for.

    One thread calls `make`, from the first `next` on. What it raises is raised by the `next` whose turn it
    is, and the thread goes on. It ends with this object, or with the process, after the call under way:
    `make` must not hold the object's owner, or neither is ever freed.
    """

    def __init__(self, make: Callable[[], T], depth: int):
        self._results: queue.Queue = queue.Queue(depth)
        stop = threading.Event()
        # A daemon, or Python would wait for it before anything tells it to stop at exit.
        self._thread = threading.Thread(
            target=_work, args=(make, self._results, stop), name='caffe-prefetch', daemon=True
        )
        _threads[self._thread] = stop
        # The garbage collector may run this anywhere, also while this thread holds a lock that the other one needs: so
        # it says stop and waits for nothing.
        weakref.finalize(self, stop.set)

    def next(self) -> T:
        """The next result, waited for if it is not there yet."""
        if not self._thread.is_alive():
            if self._thread.ident is not None:
                raise RuntimeError(
                    'this process was forked from one whose data layers read ahead, and their threads are not in it: '
                    'make the net after the fork'
                )
            self._thread.start()
        result, error = self._results.get()
        if error is not None:
            raise error
        return result


def _work(make: Callable, results: queue.Queue, stop: threading.Event) -> None:
    while not stop.is_set():
        outcome: tuple[Any, Exception | None]
        try:
            outcome = make(), None
        except Exception as error:
            outcome = None, error
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                results.put(outcome, timeout=_LOOK)
                break


def _stop_at_exit() -> None:
    """Native code must not run on while Python ends: each thread ends with the call under way, and is waited for."""
    for thread, stop in list(_threads.items()):
        stop.set()
        if thread.is_alive():  # not in a forked process, which does not have it
            thread.join()


_threads: weakref.WeakKeyDictionary[threading.Thread, threading.Event] = weakref.WeakKeyDictionary()
atexit.register(_stop_at_exit)
