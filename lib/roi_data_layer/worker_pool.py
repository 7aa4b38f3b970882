"""Worker processes: they leave signals that stop a command to their parent, and end with it, however it ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

import cv2

# What a terminal or a batch system sends to all processes of a command. SIGTERM is also what a broken pool ends its
# workers by: these look who sends it, where that can be told (not on macOS)
_CAN_TELL = hasattr(signal, 'sigwaitinfo')
_TO_ALL = {
    getattr(signal, name) for name in ('SIGINT', 'SIGHUP', *(['SIGTERM'] if _CAN_TELL else [])) if hasattr(signal, name)
}


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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TO_ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(initializer: Callable[..., None] | None, initargs: tuple) -> None:
    cv2.setNumThreads(1)  # the processes are the parallelism
    for reason in (_end_with_parent, *([_end_when_parent_says] if _CAN_TELL else [])):
        threading.Thread(target=reason, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers to end: without this they would never end."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    parent.join()
    os._exit(1)


def _end_when_parent_says() -> None:
    """SIGTERM of the parent ends a worker; of others it does not: the parent may need it for a snapshot."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(1)
