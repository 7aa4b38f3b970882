"""Mini-batches made ahead of time in other processes.

Mini-batch n is a pure function of (settings, roidb, n), so it does not matter which process makes it, or
when.
"""

import multiprocessing
import os
import signal
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import cv2
import numpy as np

from fast_rcnn.config import cfg
from roi_data_layer.minibatch import get_minibatch
from roi_data_layer.order import BatchOrder, sampling_rng


class BatchMaker:
    """Makes mini-batch n of a `roidb`: `maker(n)` returns its blobs and its images' indices in the roidb."""

    def __init__(self, roidb, num_classes: int):
        self._roidb = roidb
        self._num_classes = num_classes
        widths, heights = _sizes(roidb)
        self._order = BatchOrder(cfg.RNG_SEED, widths, heights, cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.ASPECT_GROUPING)

    def __call__(self, n: int) -> tuple[dict, np.ndarray]:
        indices = self._order(n)
        entries = [self._roidb[i] for i in indices]
        return get_minibatch(entries, self._num_classes, sampling_rng(cfg.RNG_SEED, n)), indices


class Prefetcher:
    """`BatchMaker` in cfg.TRAIN.PREFETCH_WORKERS processes, which work ahead of the mini-batch asked for.

    An error in a worker is raised by the call that asks for its mini-batch. Workers leave Ctrl-C to this
    process, and end with it, however it ends.
    """

    def __init__(self, roidb, num_classes: int):
        self._workers = cfg.TRAIN.PREFETCH_WORKERS
        self._pending = {}
        # Not `fork`: a forked copy of a process that runs threads or a GPU may hang
        self._pool = ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context('spawn'),
            initializer=_start_worker,
            initargs=(roidb, num_classes, cfg),
        )
        self._closer = weakref.finalize(self, self._pool.shutdown, wait=True, cancel_futures=True)

    def __call__(self, n: int) -> tuple[dict, np.ndarray]:
        wanted = range(n, n + 2 * self._workers)
        for old in [key for key in self._pending if key not in wanted]:
            self._pending.pop(old).cancel()
        try:
            for key in wanted:
                if key not in self._pending:
                    with _interrupts_held():
                        self._pending[key] = self._pool.submit(_make, key)
            return self._pending.pop(n).result()
        except BrokenProcessPool:
            raise RuntimeError(
                'a process that prepares mini-batches ended unexpectedly. Out of memory? Or does the script '
                'start '
                "training at its top level, outside `if __name__ == '__main__':`? With TRAIN.USE_PREFETCH "
                'False '
                'mini-batches are prepared in this process.'
            ) from None

    def close(self) -> None:
        """End the worker processes."""
        self._closer()


def _sizes(roidb) -> tuple:
    if hasattr(roidb, 'widths'):
        return roidb.widths, roidb.heights
    return [entry['width'] for entry in roidb], [entry['height'] for entry in roidb]


@contextmanager
def _interrupts_held():
    """Ctrl-C waits meanwhile, and is not for processes that are started meanwhile: they never get it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_maker: BatchMaker | None = None  # in a worker process: what it makes mini-batches with


def _start_worker(roidb, num_classes: int, settings: dict) -> None:
    global _maker
    cv2.setNumThreads(1)  # the processes are the parallelism
    cfg.update(settings)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _maker = BatchMaker(roidb, num_classes)


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers to end: without this they would wait for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _make(n: int) -> tuple[dict, np.ndarray]:
    return _maker(n)
