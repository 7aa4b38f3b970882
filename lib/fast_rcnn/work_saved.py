"""What is done of a training is saved when an error ends it amid an iteration: an image that is gone, say."""

import contextlib
from collections.abc import Iterator
from typing import Any

import ranks
from fast_rcnn.snapshot_writer import SnapshotWriter


class WorkSaved:
    """Has errors leave a snapshot of the iterations that are done, if there are any.

    solver: Caffe's; snapshots: writes them. Not where losses are not finite, not while parameters change, not with a
    Caffe that does not tell when they do, and not of several ranks, which torchrun starts anew from the last snapshot.
    """

    def __init__(self, solver: Any, snapshots: SnapshotWriter):
        self._solver, self._snapshots, self._began = solver, snapshots, solver.iter
        self._changes = False  # from the gradients of an iteration on until the next
        self._tells = hasattr(solver, 'add_callback') and ranks.count() == 1
        if self._tells:
            solver.add_callback(lambda: None, self._note_change)

    def _note_change(self) -> None:
        self._changes = True

    @contextlib.contextmanager
    def before_failing(self) -> Iterator[None]:
        """The error that ends this block gets a note: which state to go on from, or why there is none."""
        try:
            yield
        except FloatingPointError:
            raise
        except Exception as error:
            if self._tells and not self._changes and self._solver.iter > self._began:
                vars(error)['__notes__'] = [*getattr(error, '__notes__', []), self._saved()]
            raise
        self._changes = False

    def _saved(self) -> str:
        done = self._solver.iter
        try:
            if self._snapshots.written_at != done:
                self._snapshots.write_and_thin_out()
        except Exception as error:
            return f'iteration {done} could not be saved: {error}'
        return f'iteration {done} is saved: to go on, resume from {self._snapshots.state_path()} (--snapshot)'
