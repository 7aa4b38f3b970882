"""Timer: how long work takes, on the device too (util/benchmark.cpp)."""

from __future__ import annotations

import time

import torch

from caffe.process import device


class Timer:
    """`t.start(); net.forward(); t.stop(); t.ms`. In GPU mode both ends wait for the GPU to finish."""

    def __init__(self):
        self._start: float | None = None  # in seconds; None while not running
        self._seconds = 0.0

    def start(self) -> None:
        """Starts from 0. A timer that is running keeps running."""
        if self._start is None:
            self._start = _now()

    def stop(self) -> None:
        """Stops; a timer that does not run stays as it is."""
        if self._start is not None:
            self._seconds = _now() - self._start
            self._start = None

    @property
    def ms(self) -> float:
        """Milliseconds from start to stop. A timer that runs is stopped; one that never ran has 0."""
        self.stop()
        return self._seconds * 1e3


def _now() -> float:
    if device.current().type == 'cuda':
        torch.cuda.synchronize(device.current())
    return time.perf_counter()
