"""Worker processes: they leave signals from the terminal to their parent, and end with it, however it ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

import cv2

# What a terminal sends to all processes of a command. SIGTERM is not among them: a broken pool ends its workers by it.
_FROM_TERMINAL = {getattr(signal, name) for name in ('SIGINT', 'SIGHUP') if hasattr(signal, name)}


class WorkerPool(ProcessPoolExecutor):
    """A ProcessPoolExecutor of `workers` processes, which call `initializer(*initargs)` first.

    Processes are spawned, not forked: a forked copy of a process that runs threads or a GPU may hang.
    """

    def __init__(self, workers: int, initializer: Callable[..., None] | None = None, initargs: tuple = ()):
        with _signals_held():  # multiprocessing's resource tracker may be started by it
            super().__init__(
                workers,
                mp_context=multiprocessing.get_context('spawn'),
                initializer=_start,
                initargs=(initializer, initargs),
            )

    def submit(self, function: Callable, /, *args, **kwargs) -> Future:
        """As of the base class. Processes may be started by it: signals wait meanwhile, and never reach those."""
        with _signals_held():
            return super().submit(function, *args, **kwargs)


@contextmanager
def _signals_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(initializer: Callable[..., None] | None, initargs: tuple) -> None:
    cv2.setNumThreads(1)  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers to end: without this they would never end."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    parent.join()
    os._exit(1)
