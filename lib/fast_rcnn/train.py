"""Training: Caffe's solver, stepped one iteration at a time.

Two kinds of file are written at a snapshot of iteration N, into the output folder:

    <prefix>[_<infix>]_iter_N.caffemodel                       for testing: bbox_pred predicts plain (dx, dy,
    dw, dh) <prefix>[_<infix>]_resume_iter_N.{solverstate,caffemodel}  for resuming: the solver's own,
    bbox_pred as it is trained

The net is trained on normalised regression targets; the first file has their means and deviations folded into
bbox_pred, as Fast R-CNN does. Undoing that is not exact in floating point, hence the second.

A run is reproducible, and may stop and resume anywhere: before iteration i the random generator is seeded by
(cfg.RNG_SEED, i), and mini-batches are numbered, i * iter_size being the first of iteration i.
"""

import collections
import os
import re
import signal
import threading
import warnings
from contextlib import contextmanager

import numpy as np
from google.protobuf import text_format
from tqdm import tqdm

import caffe
from caffe.proto import caffe_pb2
from fast_rcnn.config import cfg
from roi_data_layer.roidb import Roidb, add_bbox_regression_targets
from roi_data_layer.stand_ins import prototxt_with_stand_ins

_FILLERS, _ITERATIONS = 3, 4  # streams of random numbers; those of roi_data_layer.order are 1 and 2


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM; a snapshot has been written, which the message names."""


def get_training_roidb(imdb) -> Roidb:
    """The training set of `imdb` (see `roi_data_layer.roidb`), mirrored images included if
    cfg.TRAIN.USE_FLIPPED.
    """
    print(f'Preparing training data: {imdb.name} ...')
    roidb = Roidb(imdb)
    print(f'{len(roidb)} training images' + (', half of them mirrored' if cfg.TRAIN.USE_FLIPPED else ''))
    return roidb


def train_net(
    solver_prototxt: str,
    roidb: Roidb,
    output_dir: str,
    pretrained_model: str | None = None,
    max_iters: int = 40000,
    snapshot: str | None = None,
) -> list[str]:
    """Train a net and return the models written. See `SolverWrapper` for the parameters and errors."""
    wrapper = SolverWrapper(solver_prototxt, roidb, output_dir, pretrained_model, snapshot)
    try:
        return wrapper.train_model(max_iters)
    finally:
        wrapper.close()


class SolverWrapper:
    """A Caffe solver, its data and its snapshots.

    `solver_prototxt` names the net; its snapshot_prefix names the files, cfg.TRAIN.SNAPSHOT_ITERS when they
    are written to `output_dir`. Training starts from the net's fillers, from the weights in
    `pretrained_model` (a .caffemodel), or goes on from `snapshot` (a .solverstate). Raises ValueError if net
    and roidb do not fit together.
    """

    def __init__(
        self,
        solver_prototxt: str,
        roidb: Roidb,
        output_dir: str,
        pretrained_model: str | None = None,
        snapshot: str | None = None,
    ):
        if snapshot is not None and not snapshot.endswith(('.solverstate', '.solverstate.h5')):
            raise ValueError(
                f'{snapshot}: training resumes from a .solverstate file (<prefix>_resume_iter_N.solverstate)'
            )
        self.output_dir = output_dir
        os.makedirs(output_dir, exist_ok=True)
        self.solver_param = _read_solver(solver_prototxt)
        infix = f'_{cfg.TRAIN.SNAPSHOT_INFIX}' if cfg.TRAIN.SNAPSHOT_INFIX else ''
        self._prefix = (
            os.path.join(output_dir, os.path.basename(self.solver_param.snapshot_prefix) or 'model') + infix
        )
        self._model_paths = []

        caffe.set_random_seed(_seed(_FILLERS, 0))
        self.solver = caffe.get_solver(self._own_solver_file())
        if snapshot is not None:
            self.solver.restore(snapshot)
        elif pretrained_model is not None:
            print(f'Loading pretrained model weights from {pretrained_model}')
            self.solver.net.copy_from(pretrained_model)

        layers = self.solver.net.layers
        found = [layers[i] for i in range(len(layers)) if hasattr(layers[i], 'set_roidb')]
        if len(found) != 1:
            raise ValueError(f'{solver_prototxt}: its net has {len(found)} RoIDataLayer, expected one')
        self.data_layer = found[0]
        self.data_layer.set_roidb(roidb)
        self._regression = self._regression_statistics(roidb)

    def train_model(self, max_iters: int) -> list[str]:
        """Train up to iteration `max_iters`, with a snapshot at its end; returns the models written (paths).

        Raises FloatingPointError when a loss is not a finite number, and TrainingInterrupted after Ctrl-C or
        SIGTERM, once the iteration is done and a snapshot written; a second Ctrl-C stops at once.
        """
        smoothed = collections.deque(maxlen=max(self.solver_param.average_loss, 1))
        iter_size = self.solver_param.iter_size
        saved_at = None
        # disable=None: a bar on a terminal only; elsewhere Caffe's own log lines are the record
        with (
            _deferred_signals() as stop,
            tqdm(total=max_iters, initial=self.solver.iter, unit='iter', disable=None) as bar,
        ):
            while self.solver.iter < max_iters:
                caffe.set_random_seed(_seed(_ITERATIONS, self.solver.iter))
                self.data_layer.set_position(self.solver.iter * iter_size)
                self.solver.step(1)
                losses = _losses(self.solver.net)
                self._check(losses)
                smoothed.append(sum(losses.values()))
                bar.set_postfix(loss=f'{np.mean(smoothed):.4f}', refresh=False)
                bar.update()
                if self.solver.iter % cfg.TRAIN.SNAPSHOT_ITERS == 0 or stop:
                    self._model_paths.append(self.snapshot())
                    saved_at = self.solver.iter
                if stop:
                    raise TrainingInterrupted(
                        f'stopped at iteration {self.solver.iter}; to go on, resume from {self._state_path()}'
                    )
            if saved_at != self.solver.iter:
                self._model_paths.append(self.snapshot())
        return self._model_paths

    def snapshot(self) -> str:
        """Write both kinds of file for the present iteration; returns the path of the model for testing."""
        self.solver.snapshot()
        path = f'{self._prefix}_iter_{self.solver.iter}.caffemodel'
        with self._plain_regression():
            self.solver.net.save(path)
        print(f'Wrote snapshot to: {path}')
        return path

    def _state_path(self) -> str:
        in_hdf5 = self.solver_param.snapshot_format == caffe_pb2.SolverParameter.HDF5
        return f'{self._prefix}_resume_iter_{self.solver.iter}.solverstate' + ('.h5' if in_hdf5 else '')

    def close(self) -> None:
        """End the processes that prepare mini-batches."""
        self.data_layer.close()

    def _own_solver_file(self) -> str:
        """The solver prototxt as used: snapshots only on request, and to the output folder."""
        param = caffe_pb2.SolverParameter()
        param.CopyFrom(self.solver_param)
        param.snapshot = 0
        param.snapshot_prefix = f'{self._prefix}_resume'
        for field in ('net', 'train_net'):
            if param.HasField(field):
                setattr(param, field, prototxt_with_stand_ins(getattr(param, field), self.output_dir))
        path = f'{self._prefix}_solver.prototxt'
        with open(path + '.part', 'w', encoding='utf-8') as stream:
            stream.write(text_format.MessageToString(param))
        os.replace(path + '.part', path)
        return path

    def _regression_statistics(self, roidb) -> tuple[np.ndarray, np.ndarray] | None:
        """Means and deviations, (4K,) each, to fold into bbox_pred at a snapshot; None if none are to be."""
        if not (cfg.TRAIN.BBOX_REG and cfg.TRAIN.BBOX_NORMALIZE_TARGETS):
            return None
        if 'bbox_pred' not in self.solver.net.params:
            warnings.warn(
                'the net has no layer named bbox_pred, so its snapshots keep predicting *normalised* '
                'regressions, '
                'and boxes will be wrong at test time. Name the layer that predicts them bbox_pred, or set '
                'TRAIN.BBOX_NORMALIZE_TARGETS False.',
                RuntimeWarning,
                stacklevel=3,
            )
            return None
        means, stds = add_bbox_regression_targets(roidb)
        outputs = self.solver.net.params['bbox_pred'][0].data.shape[0]
        if outputs != len(means):
            raise ValueError(
                f"the net's bbox_pred has {outputs} outputs, but the data set has {len(means) // 4} classes "
                'with '
                f'the background and needs {len(means)}. Correct num_output of bbox_pred, and num_classes.'
            )
        return means, stds

    @contextmanager
    def _plain_regression(self):
        """Meanwhile bbox_pred predicts regressions that are not normalised; afterwards it is what it was, bit
        by bit.
        """
        if self._regression is None:
            yield
            return
        means, stds = self._regression
        params = self.solver.net.params['bbox_pred']
        weights, bias = params[0].data.copy(), params[1].data.copy()
        try:
            params[0].data[...] = weights * stds.reshape(-1, *[1] * (weights.ndim - 1))
            params[1].data[...] = bias * stds + means
            yield
        finally:
            params[0].data[...] = weights
            params[1].data[...] = bias

    _warned = False

    def _check(self, losses: dict[str, float]) -> None:
        if not all(np.isfinite(value) for value in losses.values()):
            raise FloatingPointError(
                f'iteration {self.solver.iter - 1}: the loss is not a number any more ({losses}), on '
                f'{", ".join(self.data_layer.shown)}. Usually base_lr is too high; resume from an earlier '
                f'snapshot with a lower one.'
            )
        blobs = self.solver.net.blobs
        if losses.get('loss_bbox') == 0 and not self._warned:
            labels = next((blobs[name] for name in ('labels_hard', 'labels') if name in blobs), None)
            if labels is not None and (labels.data > 0).any():
                self._warned = True
                warnings.warn(
                    f'iteration {self.solver.iter - 1}: there are foreground RoIs, but loss_bbox is exactly '
                    '0. '
                    f'Are the bottoms of loss_bbox in order, and TRAIN.BBOX_INSIDE_WEIGHTS not 0?',
                    RuntimeWarning,
                    stacklevel=3,
                )


def _read_solver(path: str):
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no solver prototxt {path}')
    param = caffe_pb2.SolverParameter()
    with open(path, encoding='utf-8') as stream:
        try:
            text_format.Merge(stream.read(), param)
        except text_format.ParseError as error:
            raise ValueError(f'{path}: not a solver prototxt: {error}') from None
    return param


def _seed(purpose: int, number: int) -> int:
    """A 31-bit seed, different for every purpose and number, that follows from cfg.RNG_SEED."""
    return int(np.random.SeedSequence([cfg.RNG_SEED, purpose, number]).generate_state(1)[0] >> 1)


def _losses(net) -> dict[str, float]:
    """The weighted losses of the last (sub-)iteration by blob name."""
    weights = getattr(net, 'blob_loss_weights', None)
    if weights is None:
        weights = {name: 1.0 for name in net.outputs if re.search('loss', name)}
    return {name: weight * float(net.blobs[name].data.sum()) for name, weight in weights.items() if weight}


@contextmanager
def _deferred_signals():
    """Yields a list that becomes non-empty on Ctrl-C or SIGTERM; a second one acts as ever."""
    received, before = [], {}

    def note(number, frame):
        received.append(number)
        print('\nStopping after this iteration (again to stop at once) ...')
        for each, handler in before.items():
            signal.signal(each, handler)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
