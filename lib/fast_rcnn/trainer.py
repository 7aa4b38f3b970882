"""Training from a notebook or a program: `train_net`, with its settings and its place kept in an object.

from fast_rcnn import Trainer

trainer = Trainer(
    'models/demo/small/fast_rcnn_ohem/solver.prototxt',
    'folder:data/demo:train',
    settings='experiments/cfgs/demo_ohem.yml',
)
trainer.train(200)     # stop it (Ctrl-C, the notebook's square), and it keeps what it has learned
trainer.train(400)     # goes on
detector = trainer.detector()
"""

import contextlib
import copy
import numbers
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from detection_data.factory import get_imdb
from fast_rcnn.config import cfg, cfg_from_dict, get_output_dir, settings_of, settings_of_file
from fast_rcnn.detector import Detector
from fast_rcnn.model_card import check_is_model
from fast_rcnn.precision import applied_precision
from fast_rcnn.solver_file import read_solver
from fast_rcnn.train import TrainingInterrupted, get_training_roidb, train_net
from fast_rcnn.who_proposes import check_training

_one_at_a_time = threading.Lock()


class Trainer:
    """A training run that may stop and go on.

    solver: its prototxt. imdb: the data set, a name as --imdb takes it, or an imdb. settings: a YAML file or a
    dictionary, over the defaults. weights: a .caffemodel to start from. output: the folder for the models, that of
    tools/train_net.py unless given.

    Settings are in cfg while `train` runs, and cfg is as it was when it returns; so one trainer of a process trains at
    a time, another waits. Attributes: settings; models, the paths of the models for testing, the newest last;
    iteration, how many are done. Raises FileNotFoundError, TypeError, ValueError
    (ConfigError, of a data set that is not known, of files that are none).
    """

    def __init__(
        self,
        solver: str | os.PathLike,
        imdb: Any,
        settings: dict | str | os.PathLike | None = None,
        *,
        weights: str | os.PathLike | None = None,
        output: str | os.PathLike | None = None,
    ):
        for path, what in ((solver, 'solver prototxt'), (weights, 'weights to start from')):
            if path is not None and not os.path.isfile(path):
                raise FileNotFoundError(f'there is no file {path} ({what})')
        read_solver(os.fspath(solver))
        if weights is not None:
            check_is_model(os.fspath(weights))
        self.settings = settings_of({})
        if isinstance(settings, dict):
            cfg_from_dict(settings, 'settings=', self.settings)
        elif settings is not None:
            cfg_from_dict(settings_of_file(os.fspath(settings)), os.fspath(settings), self.settings)
        self.models: list[str] = []
        self.iteration = 0
        self._solver, self._weights = os.fspath(solver), None if weights is None else os.fspath(weights)
        self._imdb = imdb
        if not isinstance(imdb, str) and not hasattr(imdb, 'set_proposal_method'):
            raise TypeError(f'imdb is {imdb!r:.100}; expected the name of a data set, as --imdb takes it, or an imdb')
        self._first = get_imdb(imdb) if isinstance(imdb, str) else imdb  # of the first training: a name is checked now
        self._output = None if output is None else os.fspath(output)
        self._state: str | None = None

    def train(self, iterations: int, after: Callable[[int, dict[str, float]], Any] | None = None) -> str:
        """Train up to so many iterations in all; returns the path of the model for testing.

        after(iteration, losses) is called after each, and ends the training if it returns True. That, Ctrl-C and a
        notebook's square leave a model and keep the place: the next call goes on from there, to the same numbers as
        without a stop. Raises as `train_net`.
        """
        if not isinstance(iterations, numbers.Integral) or iterations < 0:
            raise ValueError(f'iterations is {iterations!r}; expected a whole number, of iterations in all')
        if iterations < self.iteration:
            raise ValueError(
                f'{self.iteration} iterations are done already, and train({iterations}) asks for {iterations} in all: '
                'give more, or make another Trainer'
            )
        if after is not None and not callable(after):
            raise TypeError(f'after is {after!r:.100}; expected a function, called as after(iteration, losses)')
        with self._settings_in_cfg():
            imdb, self._first = self._first, None
            if imdb is None:
                imdb = get_imdb(self._imdb) if isinstance(self._imdb, str) else self._imdb
            check_training(self._solver)
            imdb.set_proposal_method(cfg.TRAIN.PROPOSAL_METHOD)
            output = get_output_dir(imdb) if self._output is None else self._output
            done = self.iteration

            def count(iteration: int, losses: dict[str, float]) -> bool:
                nonlocal done
                done = iteration
                return after is not None and after(iteration, losses) is True

            try:
                written = train_net(
                    self._solver,
                    get_training_roidb(imdb),
                    output,
                    pretrained_model=self._weights if self._state is None else None,
                    max_iters=iterations,
                    snapshot=self._state,
                    after=count,
                )
            except TrainingInterrupted as stop:
                written = [stop.model]
                print(f'Stopped at iteration {done}; train() goes on from there')
            self.models += written
            self.iteration = done
            self._state = _state_of(self.models[-1], done)
        return self.models[-1]

    def detector(self, **options) -> Detector:
        """The newest model as a `Detector`; options as of `Detector.load`. Raises RuntimeError before `train`."""
        if not self.models:
            raise RuntimeError('nothing is trained yet: call train(iterations) first')
        return Detector.load(self.models[-1], **options)

    @contextlib.contextmanager
    def _settings_in_cfg(self) -> Iterator[None]:
        with _one_at_a_time:
            before = copy.deepcopy(dict(cfg))
            cfg.update(copy.deepcopy(dict(self.settings)))
            try:
                with applied_precision():
                    yield
            finally:
                cfg.update(before)


def _state_of(model: str, iteration: int) -> str:
    """The .solverstate that was written with a model for testing."""
    plain = f'{model.removesuffix(f"_iter_{iteration}.caffemodel")}_resume_iter_{iteration}.solverstate'
    return plain if os.path.isfile(plain) else f'{plain}.h5'
