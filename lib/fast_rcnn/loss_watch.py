"""Watches a training while it runs: stops it at a number that is not finite, warns of what will not learn."""

import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from fast_rcnn.diagnosis import Explosion, no_box_loss, not_finite, what_to_try, what_to_try_after_resuming

_SOON = 10  # updates after a resume: what goes wrong then is hardly the learning rate's doing if that is as it was


class LossWatch:
    """Looks at the losses of one run.

    solver: Caffe's; data_layer: the net's RoIDataLayer; prefix: of the run's files. solver_prototxt, solver_param: as
    they were given. source: the file of the weights that the run begins with, None for fillers. rate_before: the
    learning rate of the iteration before, as the record of a run that is resumed tells; else None. newest_state: the
    path of the newest state that the run could go on from, from before an iteration if one is given, None without one.
    speaks: of several ranks one does.
    """

    def __init__(
        self,
        solver: Any,
        data_layer: Any,
        prefix: str,
        solver_prototxt: str,
        solver_param: Any,
        source: str | None,
        rate_before: float | None,
        newest_state: Callable[[int | None], str | None],
        speaks: bool,
    ):
        self._solver, self._data_layer, self._prefix = solver, data_layer, prefix
        self._solver_prototxt, self._solver_param = solver_prototxt, solver_param
        self._began, self._source, self._rate_before = solver.iter, source, rate_before
        self._newest_state, self._speaks = newest_state, speaks
        self._explosion = Explosion()
        self._warned = False

    def check(self, losses: dict[str, float]) -> None:
        """Looks at the losses of the iteration just done. Raises FloatingPointError if one is not finite."""
        if not all(np.isfinite(value) for value in losses.values()):
            self._stop(f'the loss is not a number any more ({losses})', self._solver.iter - 1, updated=True)
        said = self._explosion.told(sum(losses.values()))
        if said is not None and self._speaks:
            with tqdm.external_write_mode(file=sys.stderr):
                warnings.warn(
                    f'iteration {self._solver.iter - 1}: {said}. {self._what_to_try(self._solver.iter - 1)}',
                    RuntimeWarning,
                    stacklevel=3,
                )
        if losses.get('loss_bbox') == 0 and not self._warned:
            cause = no_box_loss(self._solver.net)
            if cause is not None:
                self._warned = True
                with tqdm.external_write_mode(file=sys.stderr):
                    warnings.warn(
                        f'iteration {self._solver.iter - 1}: there are foreground RoIs, but loss_bbox is '
                        f'exactly 0: {cause}',
                        RuntimeWarning,
                        stacklevel=3,
                    )

    def stop_at_scored_roi(self) -> NoReturn:
        """Raises FloatingPointError in the middle of a forward pass: the weights are still as they were."""
        self._stop('the loss of an RoI is not a number', self._solver.iter, updated=False)

    def _what_to_try(self, iteration: int) -> str:
        """What helps against losses that went wrong in this iteration."""
        param, before, rate = self._solver_param, self._rate_before, getattr(self._solver, 'lr', None)
        updates = iteration - self._began
        if before is not None and rate is not None and 0 < updates <= _SOON and rate <= before * (1 + 1e-4):
            earlier = self._newest_state(self._began)
            return what_to_try_after_resuming(self._source or 'the state', updates, rate, earlier)
        return what_to_try(self._solver_prototxt, param.base_lr, param.clip_gradients, self._newest_state(None))

    def _stop(self, what: str, iteration: int, updated: bool) -> NoReturn:
        folder = f'{self._prefix}_not_finite_iter_{iteration}'
        found = not_finite(self._solver.net, self._data_layer.shown, folder, weights_are_old=not updated)
        advice = self._what_to_try(iteration)
        if iteration == self._began:  # the losses are those of the weights that were there
            advice = (
                f'No update of this run came before it, so base_lr is not the cause: look at the weights that it began '
                f'with ({self._source or "those of the fillers"}), then at the images and proposals.'
            )
        raise FloatingPointError(f'iteration {iteration}: {what}; {found}. {advice}')
