"""What a training writes of its net.

Two kinds of file are written at a snapshot of iteration N:

* <prefix>_iter_N.caffemodel: for testing; bbox_pred predicts plain (dx, dy, dw, dh), see `plain_regression`.
* <prefix>_resume_iter_N.{solverstate,caffemodel}: for resuming; the solver's own, bbox_pred as it is trained.

Both say what the model is (see `model_card`). <prefix>_best.caffemodel is the model of the highest mAP, for testing
(see `validation`).
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tqdm import tqdm

import whole_file
from caffe.proto import caffe_pb2
from fast_rcnn.config import cfg
from fast_rcnn.model_card import ModelCard, add_card
from fast_rcnn.output_folder import set_aside
from fast_rcnn.snapshots import newest_state, snapshots, thin_out
from fast_rcnn.validation import best_model


class SnapshotWriter:
    """Writes the models of a run, and removes those of its snapshots that are too many.

    solver: Caffe's, whose snapshot_prefix is <prefix>_resume; snapshot_format: the one it has. plain_regression: makes
    the context within which the net predicts plain regressions. card: what a model says of itself, given what
    validation found (None for a snapshot); None to say nothing. goes_on: the run continues one with the same files,
    whose snapshots count as its own.

    models: the models for testing that the run has written and that are still there (paths). written_at: the iteration
    of the last snapshot, None without any.
    """

    def __init__(
        self,
        prefix: str,
        solver: Any,
        snapshot_format: int,
        plain_regression: Callable[[], AbstractContextManager[None]],
        card: Callable[[dict | None], ModelCard | None],
        goes_on: bool,
    ):
        self._prefix, self._solver, self._format = prefix, solver, snapshot_format
        self._plain_regression, self._card = plain_regression, card
        self._of_this_run = {n for n in snapshots(prefix) if goes_on and n <= solver.iter}
        self.models: list[str] = []
        self.written_at: int | None = None

    def write(self) -> str:
        """Writes both kinds of file for the present iteration; returns the path of the model for testing."""
        path = f'{self._prefix}_iter_{self._solver.iter}.caffemodel'
        os.makedirs(os.path.dirname(path) or '.', exist_ok=True)  # days of training outlive somebody's rm -r
        with tqdm.external_write_mode():  # takes a progress bar away while lines are written
            self._solver.snapshot()
            self._add_card(self.state_path().replace('.solverstate', '.caffemodel'), None, to_resume=True)
            with self._plain_regression():
                self._write_model(path, None)
            print(f'Wrote snapshot to: {path}')
        self.written_at = self._solver.iter
        return path

    def write_and_thin_out(self) -> None:
        """Writes a snapshot; of this run's only the newest cfg.TRAIN.SNAPSHOTS_KEPT stay."""
        self.models.append(self.write())
        self._of_this_run.add(self._solver.iter)
        self._of_this_run -= thin_out(self._prefix, self._of_this_run, cfg.TRAIN.SNAPSHOTS_KEPT)
        self.models = [path for path in self.models if os.path.exists(path)]

    def write_best(self, validation: dict) -> None:
        """Writes the net as it is as the best model. To be called where it predicts plain regressions."""
        self._write_model(best_model(self._prefix), validation)

    def set_aside_best(self) -> None:
        """The best model of an earlier run must not pass for this one's."""
        if os.path.exists(best_model(self._prefix)):
            set_aside(best_model(self._prefix))

    def state_path(self) -> str:
        """The path of the state for the present iteration."""
        in_hdf5 = self._format == caffe_pb2.SolverParameter.HDF5
        return f'{self._prefix}_resume_iter_{self._solver.iter}.solverstate' + ('.h5' if in_hdf5 else '')

    def newest_state(self, before: int | None = None) -> str | None:
        """The path of the newest state that this run has written, before an iteration if one is given; or None."""
        return newest_state(self._prefix, {n for n in self._of_this_run if before is None or n < before})

    def _write_model(self, path: str, validation: dict | None) -> None:
        with whole_file.beside(path) as made:
            self._solver.net.save(made)
            self._add_card(made, validation)

    def _add_card(self, path: str, validation: dict | None, to_resume: bool = False) -> None:
        card = self._card(validation)
        if card is not None:
            add_card(path, card.to_resume() if to_resume else card)
