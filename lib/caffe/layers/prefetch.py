"""Batches of data layers, made ahead of time in a background thread (base_data_layer.cpp)."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

AHEAD = 4  # batches that are made before they are asked for: the default of data_param.prefetch

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
        # A daemon, or Python would wait for it before it calls _end at exit.
        self._thread = threading.Thread(
            target=_work, args=(make, self._results, stop), name='caffe-prefetch', daemon=True
        )
        weakref.finalize(self, _end, self._thread, self._results, stop)

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
        results.put(outcome)


def _end(thread: threading.Thread, results: queue.Queue, stop: threading.Event) -> None:
    if not thread.is_alive():  # never started, or in a forked process, where it may have left the queue locked
        return
    stop.set()
    while not results.empty():  # the thread may be waiting for a free place
        results.get_nowait()
    # The garbage collector may run this in any thread.
    if thread is not threading.current_thread():
        thread.join()
