"""The queue of images, and the one thread that detects in what has come together.

A net holds one batch at a time, so one thread runs it, and what came meanwhile makes the next ones: a lone image never
waits for others. A batch is the image that waits longest, and those of its size, which share its forward pass. Files
wait as they came, compressed; pixels there are of one batch alone.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from detection_data.image_file import Header, ImageError
from serving.limits import FAILED, Limits, Refusal, busy
from serving.metrics import Metrics
from serving.picture import decoded

logger = logging.getLogger('uvicorn.error')


class Detection(Protocol):
    """One object that was found. Inclusive pixels, counted from 0."""

    name: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


Detect = Callable[[list[np.ndarray]], Sequence[Sequence[Detection]]]
"""Detects in images, uint8 (H, W, 3) BGR, of any sizes: a list of detections each."""


@dataclass(frozen=True)
class Answer:
    """What was found in an image, and how long it took."""

    detections: Sequence[Detection]
    width: int
    height: int
    waited: float
    """Seconds in the queue."""
    worked: float
    """Seconds of its batch, decoding and detecting."""
    batch: int
    """Images in the batch."""


@dataclass(eq=False)
class _Job:
    data: bytes
    header: Header
    turn: bool
    answer: Future = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image that the net is to see."""
        width, height = self.header.width, self.header.height
        return (height, width) if self.turn and self.header.orientation > 4 else (width, height)


class Batcher:
    """Detects in submitted images, in a thread of its own, between `start` and `close`."""

    def __init__(self, detect: Detect, limits: Limits, metrics: Metrics):
        self._detect = detect
        self._limits = limits
        self._metrics = metrics
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name='detecting', daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Refuses what waits, and returns when the thread is done with what it has begun."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def submit(self, data: bytes, header: Header, turn: bool) -> 'Future[Answer]':
        """Puts an image file into the queue. Cancelling what is returned takes it out again.

        The future holds an Answer, or raises Refusal (422 for a damaged image, 500 where the detector failed). Raises
        Refusal (503) where the queue is full, or closing.
        """
        job = _Job(data, header, turn)
        with self._changed:
            if self._closing:
                raise busy('the server is shutting down')
            if len(self._waiting) >= self._limits.queue:
                self._waiting = deque(each for each in self._waiting if not each.answer.cancelled())
            if len(self._waiting) >= self._limits.queue:
                raise busy(f'{self._limits.queue} images are waiting, the most that may; try again in a moment')
            self._waiting.append(job)
            self._metrics.queue.set(len(self._waiting))
            self._changed.notify()
        return job.answer

    def trouble(self) -> str | None:
        """Why no answers come, None if they do."""
        if not self._thread.is_alive():
            return 'the thread that detects has ended'
        since = self._busy_since
        if since is not None and time.perf_counter() - since > self._limits.answer_seconds:
            return f'one batch is being worked on for more than {self._limits.answer_seconds:g} seconds'
        return None

    def waiting(self) -> int:
        """How many images are in the queue."""
        return len(self._waiting)

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            if batch:
                self._busy_since = time.perf_counter()
                self._answer(batch)
                self._busy_since = None

    def _next(self) -> list[_Job] | None:
        """The next batch, empty where those who waited have left; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._closing:
                for job in self._waiting:
                    if job.answer.set_running_or_notify_cancel():
                        job.answer.set_exception(busy('the server is shutting down'))
                return None
            waiting = [job for job in self._waiting if not job.answer.cancelled()]
            batch: list[_Job] = []
            if waiting:
                width, height = waiting[0].size
                most = max(1, min(self._limits.batch, self._limits.pixels // (width * height)))
                batch = [job for job in waiting if job.size == (width, height)][:most]
            self._waiting = deque(job for job in waiting if job not in batch)
            batch = [job for job in batch if job.answer.set_running_or_notify_cancel()]
            self._metrics.queue.set(len(self._waiting))
            return batch

    def _answer(self, batch: list[_Job]) -> None:
        """Detects in a batch. What fails in company is tried alone, so that one image spoils no other's answer."""
        started = time.perf_counter()
        jobs, images = [], []
        for job in batch:
            try:
                images.append(decoded(job.data, job.header, job.turn))
                jobs.append(job)
            except Exception as error:
                _fail(job, error)
        if not jobs:
            return
        try:
            found = self._detect(images)
            if len(found) != len(images):
                raise RuntimeError(f'the detector answered for {len(found)} images of {len(images)}')
        except Exception as error:
            if len(jobs) == 1:
                _fail(jobs[0], error)
            else:
                for job in jobs:
                    self._answer([job])
            return
        worked = time.perf_counter() - started
        self._metrics.batch_images.observe(len(jobs))
        self._metrics.batch_seconds.observe(worked)
        for job, image, detections in zip(jobs, images, found, strict=True):
            height, width = image.shape[:2]
            waited = started - job.since
            self._metrics.waited_seconds.observe(waited)
            job.answer.set_result(Answer(detections, width, height, waited, worked, len(jobs)))


def _fail(job: _Job, error: Exception) -> None:
    if isinstance(error, ImageError):
        error = Refusal(422, str(error))
    if not isinstance(error, Refusal):
        logger.error('Detection failed', exc_info=error)
        error = Refusal(500, FAILED)
    job.answer.set_exception(error)
