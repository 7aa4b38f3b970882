"""Mini-batches made ahead of time in other processes.

Mini-batch n is a pure function of (settings, roidb, n), so it does not matter which process makes it, or
when.
"""

import itertools
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from fast_rcnn.config import cfg
from roi_data_layer.augmentation import entry_of
from roi_data_layer.minibatch import get_minibatch
from roi_data_layer.order import BatchOrder, sampling_rng
from roi_data_layer.passing import Passed, Sender, receive
from roi_data_layer.worker_pool import WorkerPool


class BatchMaker:
    """Makes mini-batch n of a `roidb`: `maker(n)` returns its blobs and its images' indices in the roidb."""

    def __init__(self, roidb, num_classes: int):
        self._roidb = roidb
        self._num_classes = num_classes
        widths, heights = _sizes(roidb)
        self._order = BatchOrder(cfg.RNG_SEED, widths, heights, cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.ASPECT_GROUPING)

    def __call__(self, n: int) -> tuple[dict, np.ndarray]:
        indices = self._order(n)
        entries = [entry_of(self._roidb, int(i), n) for i in indices]
        return get_minibatch(entries, self._num_classes, sampling_rng(cfg.RNG_SEED, n)), indices


class Prefetcher:
    """`BatchMaker` in cfg.TRAIN.PREFETCH_WORKERS processes, which work ahead of the mini-batch asked for.

    An error in a worker is raised by the call that asks for its mini-batch. `following(n)` iterates over the
    mini-batches asked for from n on, which comes first.
    """

    def __init__(self, roidb, num_classes: int):
        self._workers = cfg.TRAIN.PREFETCH_WORKERS
        self.following: Callable[[int], Iterator[int]] = itertools.count
        self._pending: dict[int, Future] = {}
        self._task: Callable[[int], tuple] = _make_and_send
        self._pool = WorkerPool(self._workers, _start_worker, (roidb, num_classes, cfg, 2 * self._workers))
        self._closer = weakref.finalize(self, self._pool.shutdown, wait=True, cancel_futures=True)

    def __call__(self, n: int) -> tuple[dict, np.ndarray]:
        wanted = list(itertools.islice(self.following(n), 2 * self._workers))
        for old in [key for key in self._pending if key not in wanted]:
            self._pending.pop(old).cancel()
        try:
            for key in wanted:
                if key not in self._pending:
                    self._pending[key] = self._pool.submit(self._task, key)
            sent, indices = self._pending.pop(n).result()
            try:
                return receive(sent), indices
            except OSError:  # this process may not see what others have open: by a pipe from now on
                self._task = _make
                return self._pool.submit(_make, n).result()
        except BrokenProcessPool:
            raise RuntimeError(
                'a process that prepares mini-batches ended unexpectedly. Out of memory? Or does the script start '
                "training at its top level, outside `if __name__ == '__main__':`? "
                'With TRAIN.USE_PREFETCH False mini-batches are prepared in this process.'
            ) from None

    def close(self) -> None:
        """End the worker processes."""
        self._closer()


def _sizes(roidb) -> tuple:
    if hasattr(roidb, 'widths'):
        return roidb.widths, roidb.heights
    return [entry['width'] for entry in roidb], [entry['height'] for entry in roidb]


# In a worker process: what it makes mini-batches with, and passes them on with
_maker: BatchMaker | None = None
_sender: Sender | None = None


def _start_worker(roidb, num_classes: int, settings: dict, ahead: int) -> None:
    global _maker, _sender
    cfg.update(settings)
    _maker, _sender = BatchMaker(roidb, num_classes), Sender(ahead + 1)


def _make(n: int) -> tuple[dict, np.ndarray]:
    assert _maker is not None  # `_start_worker` has run
    return _maker(n)


def _make_and_send(n: int) -> tuple[Passed | dict, np.ndarray]:
    assert _sender is not None
    blobs, indices = _make(n)
    return _sender.send(blobs), indices
