"""Training: Caffe's solver, stepped one iteration at a time.

Two kinds of file are written at a snapshot of iteration N, into the output folder:

* <prefix>[_<infix>]_iter_N.caffemodel: for testing; bbox_pred predicts plain (dx, dy, dw, dh).
* <prefix>[_<infix>]_resume_iter_N.{solverstate,caffemodel}: for resuming; the solver's own, bbox_pred as it
  is trained.

Both say what the model is (see `model_card`). The net is trained on normalised regression targets; the first
file has their means and deviations folded into bbox_pred, as Fast R-CNN does. Undoing that is not exact in
floating point, hence the second.

Beside them <prefix>[_<infix>]_record.jsonl grows by a line an iteration (see `record`). Where there is a data set to
validate on, <prefix>[_<infix>]_best.caffemodel is the model of the highest mAP, for testing (see `validation`).

A run is reproducible, and may stop and resume anywhere: mini-batches are numbered, i * iter_size being the first of
iteration i, and before pass n the random generator is seeded by (cfg.RNG_SEED, n). So it does not matter either which
of several ranks makes the pass (see `division`): where there are some, each trains, and rank 0 alone writes and prints.
Layers that draw numbers of their own, those of an RPN, go by the number of the mini-batch too.
"""

import contextlib
import difflib
import math
import os
import re
import signal
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from google.protobuf import text_format
from tqdm import tqdm

import caffe
import ranks
import whole_file
from caffe.proto import caffe_pb2
from caffe_stand_ins.prototxt import prototxt_with_stand_ins
from fast_rcnn.agreement import check_agreement, digest_of_roidb, digest_of_text, digest_of_weights
from fast_rcnn.config import cfg
from fast_rcnn.diagnosis import Explosion, no_box_loss, not_finite, what_to_try
from fast_rcnn.division import divide, set_solver
from fast_rcnn.model_card import ModelCard, ModelCardError, add_card, read_card_of_state, test_net_beside
from fast_rcnn.output_folder import files_of, output_folder
from fast_rcnn.progress import Progress
from fast_rcnn.record import TrainingRecord
from fast_rcnn.restart import state_to_go_on_from
from fast_rcnn.snapshots import newest_state, snapshots, thin_out
from fast_rcnn.start_weights import NONE, layers_without_weights
from fast_rcnn.training_lock import TrainingLock
from fast_rcnn.validation import Validation, best_model
from roi_data_layer.layer import HardRoiMiningLayer
from roi_data_layer.roidb import Roidb, add_bbox_regression_targets
from rpn.proposal_target_layer import ProposalTargetLayer

# R-FCN pools these blobs out of maps, and the layers that make the maps have the weights
_POOLED = {'cls_score': 'rfcn_cls', 'bbox_pred': 'rfcn_bbox'}

_FILLERS, _PASSES = 3, 4  # streams of random numbers; roi_data_layer.order has 1 and 2, rpn.sampling 6 and 7


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C, SIGTERM or SIGHUP; a snapshot has been written, which the message names.

    Of several ranks all raise it.
    """

    by_all_ranks = True
    model = ''  # the path of the model for testing that was written


def get_training_roidb(imdb) -> Roidb:
    """The training set of `imdb` (see `roi_data_layer.roidb`), mirrored images included if cfg.TRAIN.USE_FLIPPED."""
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
    tensorboard: bool = False,
    scale_batch: bool = False,
    wire: str = 'float32',
    validation: Validation | None = None,
    after: Callable[[int, dict[str, float]], Any] | None = None,
) -> list[str]:
    """Train a net and return the models written. See `SolverWrapper` and `train_model` for parameters and errors."""
    wrapper = SolverWrapper(
        solver_prototxt, roidb, output_dir, pretrained_model, snapshot, tensorboard, scale_batch, wire, validation
    )
    try:
        return wrapper.train_model(max_iters, after)
    finally:
        wrapper.close()


class SolverWrapper:
    """A Caffe solver, its data and its snapshots.

    `solver_prototxt` names the net; its snapshot_prefix names the files, cfg.TRAIN.SNAPSHOT_ITERS when they
    are written to `output_dir`. Training starts from the net's fillers, from the weights in
    `pretrained_model` (a .caffemodel), or goes on from `snapshot` (a .solverstate). With `tensorboard`, what
    the record holds goes to event files in `output_dir`/tensorboard as well. `validation` tests the net on the way.
    Raises ValueError if net and roidb do not fit together, or layers have neither weights nor fillers
    (`pretrained_model` 'none' overrules), RuntimeError if another process writes the same files (see
    `training_lock`). A run that is refused leaves no folder behind.

    Several ranks (see `ranks`) divide the passes of an iteration; with `scale_batch` each makes a whole mini-batch.
    `wire`, float32 or bf16, is what gradients travel as between them. Started anew by torchrun, it goes on from the
    last snapshot. Raises ValueError if passes cannot be dealt, DisagreementError if ranks do not start from the same.
    """

    def __init__(
        self,
        solver_prototxt: str,
        roidb: Roidb,
        output_dir: str,
        pretrained_model: str | None = None,
        snapshot: str | None = None,
        tensorboard: bool = False,
        scale_batch: bool = False,
        wire: str = 'float32',
        validation: Validation | None = None,
    ):
        if snapshot is not None and not snapshot.endswith(('.solverstate', '.solverstate.h5')):
            raise ValueError(
                f'{snapshot}: training resumes from a .solverstate file (<prefix>_resume_iter_N.solverstate)'
            )
        self.output_dir = output_dir
        self.solver_param = read_solver(solver_prototxt)
        self._solver_prototxt = solver_prototxt
        self.division = divide(self.solver_param.iter_size, ranks.rank(), ranks.count(), scale_batch)
        infix = f'_{cfg.TRAIN.SNAPSHOT_INFIX}' if cfg.TRAIN.SNAPSHOT_INFIX else ''
        self._prefix = os.path.join(output_dir, os.path.basename(self.solver_param.snapshot_prefix) or 'model') + infix
        self._lock: TrainingLock | None = None
        with contextlib.ExitStack() as refused:
            if ranks.is_root():
                refused.enter_context(output_folder(output_dir))
                self._lock = TrainingLock(self._prefix)
                refused.push(self._release_if_refused)
                weakref.finalize(self, _release, self._lock)
                refused.enter_context(files_of(self._prefix))
            self._begin(roidb, pretrained_model, snapshot, tensorboard, wire, validation)

    def _release_if_refused(self, kind, error, trace) -> None:
        if kind is not None:
            _release(self._lock)

    def _begin(self, roidb, pretrained_model, snapshot, tensorboard, wire, validation) -> None:
        """Makes the solver and its net, and has them start from what they are to start from."""
        solver_prototxt, output_dir = self._solver_prototxt, self.output_dir
        last = state_to_go_on_from(self._prefix)
        if last is not None:
            print(f'Start number {ranks.place().restarts + 1} of this job: it goes on from {last}')
            snapshot = last
        self._check_classes(snapshot, roidb)
        self._model_paths: list[str] = []
        self._on_terminal = sys.stderr.isatty()
        self._events = os.path.join(output_dir, 'tensorboard') if tensorboard else None

        caffe.set_random_seed(_seed(_FILLERS, 0))
        if ranks.count() > 1:
            caffe.set_solver_count(ranks.count())
            caffe.set_solver_rank(ranks.rank())
            caffe.set_multiprocess(True)
        with contextlib.ExitStack() as stack:
            passing = stack.enter_context(tempfile.TemporaryDirectory())
            solver = self._own_solver(output_dir if ranks.is_root() else passing)
            self._passing_file = os.path.join(passing, os.path.basename(self._solver_path()))
            whole_file.write_text(self._passing_file, solver)
            with self._solver_named():
                self.solver = caffe.get_solver(self._passing_file)
        if snapshot is not None:
            with self._solver_named():
                self.solver.restore(snapshot)
        elif pretrained_model not in (None, NONE):
            print(f'Loading pretrained model weights from {pretrained_model}')
            self._copy_from(pretrained_model)
        if snapshot is None and pretrained_model != NONE:
            self._check_start(pretrained_model)
        self._began = self.solver.iter, snapshot or pretrained_model
        self._goes_on = snapshot is not None and _is_state_of(snapshot, self._prefix)
        self._own_snapshots = {n for n in snapshots(self._prefix) if self._goes_on and n <= self.solver.iter}

        layers = self.solver.net.layers
        found: list[Any] = [layers[i] for i in range(len(layers)) if hasattr(layers[i], 'set_roidb')]
        if len(found) != 1:
            net = self.solver_param.net or self.solver_param.train_net or solver_prototxt
            kinds = ', '.join(dict.fromkeys(layers[i].type for i in range(len(layers))))
            raise ValueError(
                f'{net}: the train net has {len(found)} layers that take a training set (RoIDataLayer), '
                f'expected is one; its {len(layers)} layers are of type {kinds or "none"}'
            )
        self.data_layer = found[0]
        self.data_layer.set_roidb(roidb)
        self._classes = getattr(roidb, 'classes', ())
        self._dataset = getattr(roidb, 'name', '')
        self._test_net = test_net_beside(self.solver_param.net or self.solver_param.train_net)
        self._mining = _first(layers, HardRoiMiningLayer)
        self._rois = _first(layers, ProposalTargetLayer)
        self._numbered: list[Any] = [layers[i] for i in range(len(layers)) if hasattr(layers[i], 'set_position')]
        self._note_sampling(solver_prototxt)
        self._num_classes = getattr(roidb, 'num_classes', None)
        self._check_outputs('cls_score', self._num_classes, 1)
        self._normalised = self._normalised_layers(roidb)
        self.data_layer.set_share(self.division.following)
        self.data_layer.before_batch = _seed_pass
        self._validation = validation
        if validation is not None:
            validation.begin(self.solver.net, self._classes, self._prefix, self._goes_on)
        elif cfg.TRAIN.EARLY_STOP_ITERS:
            print('Note: TRAIN.EARLY_STOP_ITERS has no effect without a data set to validate on (--val)')
        self._nccl = self._join(wire, solver_prototxt, roidb) if ranks.count() > 1 else None
        if ranks.is_root():  # last: what a finished run has left there stays as it is if this one is refused
            whole_file.write_text(self._solver_path(), solver)

    def _join(self, wire: str, solver_prototxt: str, roidb):
        """Has all ranks start from the same, and exchange gradients from now on. Returns the `caffe.NCCL`."""
        check_agreement(
            {
                'solver prototxt': digest_of_text(str(self.solver_param)),
                'net': digest_of_text(_net_text(self.solver_param)),
                'data set': digest_of_roidb(roidb),
                'classes': ', '.join(map(str, self._classes)),
                'start weights': digest_of_weights(self.solver.net),
                'iteration': str(self.solver.iter),
                'scale_batch': str(self.division.scale > 1),
                'wire': wire,
                'Caffe': str(getattr(caffe, '__version__', '')),
            }
        )
        if not caffe.has_nccl():
            raise RuntimeError('this Caffe was built without NCCL (USE_NCCL): several GPUs need it')
        nccl = caffe.NCCL(self.solver, ranks.from_root(caffe.NCCL.new_uid() if ranks.is_root() else None))
        if wire != 'float32':
            if not hasattr(nccl, 'wire'):
                raise ValueError(f'--wire {wire}: this Caffe sends gradients as float32 alone')
            nccl.wire = wire
        nccl.bcast()
        self.solver.add_callback(ranks.stamp, ranks.stamp)
        self.solver.add_callback(nccl)
        self.solver.net.after_backward(nccl)
        return nccl

    def _check_start(self, weights: str | None) -> None:
        """Raises ValueError if layers have no weights to start from: they would be trained for hours, and be dead."""
        missing = layers_without_weights(self.solver.net, _net_text(self.solver_param))
        if missing:
            listed = ', '.join(missing[:6]) + (', ...' if len(missing) > 6 else '')
            cause = 'no weights are given' if weights is None else f'{weights} has none for them'
            raise ValueError(
                f'{len(missing)} layers ({listed}) have only zeros as weights and would never learn: they have no '
                f'weight_filler in {self.solver_param.net or self.solver_param.train_net}, and {cause}. Give --weights '
                'FILE.caffemodel (data/scripts/fetch_imagenet_models.sh fetches ImageNet models), or write fillers; '
                '--weights none starts from zeros all the same'
            )

    def _copy_from(self, weights: str) -> None:
        try:
            self.solver.net.copy_from(weights)
        except ValueError as error:
            if 'rename the layer' not in str(error):
                raise
            raise ValueError(
                f'{error} Its top keeps its name (cls_score, bbox_pred), by which the tools find it; rename the layer '
                'in the test prototxt as well.'
            ) from None

    def _check_outputs(self, top: str, classes: int | None, each: int) -> None:
        """Raises ValueError if the layer that makes `top` has other than `each` outputs a class."""
        name = layer_of(self.solver.net, top)
        if name is None or classes is None:
            return
        outputs, needed = self.solver.net.params[name][0].data.shape[0], each * classes
        bins = outputs // needed if name in _POOLED.values() else 1
        if outputs == needed * bins and bins == math.isqrt(bins) ** 2 > 0:
            return
        why = f'the data set has {classes} classes with the background'
        if each == 4 and cfg.TRAIN.AGNOSTIC:
            why = 'with TRAIN.AGNOSTIC True the net predicts a box for background and one for any object,'
        of_bins = ' for each bin of the position-sensitive pooling' if name in _POOLED.values() else ''
        raise ValueError(
            f"the net's {name} has {outputs} outputs, but {why} and needs {needed}{of_bins}. "
            f'Correct num_output of {name}, and num_classes.'
        )

    def train_model(self, max_iters: int, after: Callable[[int, dict[str, float]], Any] | None = None) -> list[str]:
        """Train up to iteration `max_iters`, with a snapshot at its end; returns the models written (paths).

        After each iteration `after`(its number, its losses by name) is called; where that returns True, it is the last.
        Raises FloatingPointError when a loss is not a finite number, and TrainingInterrupted after Ctrl-C, SIGTERM
        or SIGHUP, once the iteration is done and a snapshot written; a second Ctrl-C stops at once.
        """
        max_iters = self.division.iterations(max_iters)
        if self.solver.iter > max_iters:
            raise ValueError(
                f'training is at iteration {self.solver.iter} already, beyond the {max_iters} asked for (--iters): '
                'nothing is left to do'
            )
        saved_at = None
        self._explosion = Explosion()
        if ranks.is_root() and not self._goes_on:
            self._set_aside_best()
        record = TrainingRecord(
            f'{self._prefix}_record.jsonl' if ranks.is_root() else None,
            self.solver,
            self.data_layer,
            self._mining,
            self._classes,
            self._events if ranks.is_root() else None,
            on_not_finite=self._stop_at_scored_roi,
            roi_layer=self._rois,
        )
        self._log_solving()
        with (
            contextlib.closing(record),
            _deferred_signals() as stop,
            self._said_where_to_go_on(),
            Progress(max_iters, self.solver.iter, self.solver_param.average_loss) as progress,
        ):
            self._validate_late(record, stop)
            while self.solver.iter < max_iters:
                self._warm_up(max_iters)
                for layer in self._numbered:
                    layer.set_position(self.division.position(self.solver.iter))
                record.start()
                with self._solver_named():
                    self.solver.step(1)
                losses = _losses(self.solver.net)
                self._check(losses)
                asked = after is not None and after(self.solver.iter, losses) is True
                of_ranks = ranks.gather(
                    {'stop': bool(stop), 'enough': asked, 'losses': losses, 'passes': record.passes()}
                )
                entry = None
                if of_ranks is not None:
                    passes = [rank['passes'] for rank in of_ranks]
                    entry = record.line(of_ranks[-1]['losses'], passes, self._of_division())
                stops = ranks.from_root(of_ranks and any(rank['stop'] for rank in of_ranks))
                asked = ranks.from_root(of_ranks and any(rank['enough'] for rank in of_ranks))
                found = None
                if self._is_validated(max_iters) and not stops:
                    found = self._validate(stop)
                    stops = found is None
                if entry is not None:
                    entry |= {'val': found} if found else {}
                    record.add(entry)
                    progress.show(entry)
                enough = asked or (found is not None and self._validation.is_enough(self.solver.iter))
                if self.solver.iter % cfg.TRAIN.SNAPSHOT_ITERS == 0 or stops or enough:
                    self._snapshot_at_root()
                    saved_at = self.solver.iter
                if stops:
                    stopped = TrainingInterrupted(
                        f'interrupted at iteration {self.solver.iter}; to go on, resume from {self._state_path()}: '
                        'the same command of tools/train_net.py with --snapshot and this file in place of --weights, '
                        'before --set'
                    )
                    stopped.model = self._model_paths[-1] if self._model_paths else ''
                    raise stopped
                if enough:
                    break
            if saved_at != self.solver.iter:
                self._snapshot_at_root()
        self._say_how_it_went(max_iters)
        return self._model_paths

    def _is_validated(self, max_iters: int) -> bool:
        done = self.solver.iter
        return self._validation is not None and (done == max_iters or self._validation.is_due(done))

    def _validate_late(self, record: TrainingRecord, stop: list) -> None:
        """Makes up for a validation that was due when the run that is resumed was interrupted."""
        done = self.solver.iter
        at_hand = ranks.from_root(record.validated_at)
        if self._validation is None or not done or at_hand == done or not self._validation.is_due(done):
            return
        found = self._validate(stop)
        if found is not None:
            record.complete(found)

    def _validate(self, stop: list) -> dict | None:
        """Tests the net as it is now, and keeps it if it is the best so far; None if it was stopped in between."""
        with self._plain_regression():
            found = self._validation.run(self.solver.net, self.solver.iter, lambda: bool(stop))
            if found is None:
                return None
            if self._validation.is_better(found) and ranks.is_root():
                card = self._card(self._validation.best)
                with whole_file.beside(best_model(self._prefix)) as made:
                    self.solver.net.save(made)
                    if card is not None:
                        add_card(made, card)
        if ranks.is_root():
            with tqdm.external_write_mode():
                print(self._validation.describe(found), flush=True)
        return found

    def _set_aside_best(self) -> None:
        """The best model of an earlier run must not pass for this one's."""
        there = best_model(self._prefix)
        if os.path.exists(there):
            aside = best_model(self._prefix).replace('_best.caffemodel', '_best_of_earlier_run.caffemodel')
            whole_file.rename(there, aside)
            print(f'{there} is of an earlier run; it is {aside} now')

    def _say_how_it_went(self, max_iters: int) -> None:
        if self._validation is None or not ranks.is_root():
            return
        best = self._validation.best
        if self.solver.iter < max_iters:
            print(
                f'mAP has not risen for {self.solver.iter - best["iteration"]} iterations (TRAIN.EARLY_STOP_ITERS is '
                f'{cfg.TRAIN.EARLY_STOP_ITERS}): training ends at iteration {self.solver.iter} of {max_iters}'
            )
        if best:
            path = best_model(self._prefix)
            print(f'Best on {best["imdb"]}: mAP {best["mAP"]:.4f}, after iteration {best["iteration"]}: {path}')

    @contextlib.contextmanager
    def _said_where_to_go_on(self):
        """Has a second Ctrl-C, which leaves no snapshot, say which is the last."""
        try:
            yield
        except TrainingInterrupted:
            raise
        except KeyboardInterrupt:
            state = newest_state(self._prefix, self._own_snapshots)
            last = 'no snapshot was written' if state is None else f'to go on, resume from {state} (--snapshot)'
            raise KeyboardInterrupt(f'interrupted in iteration {self.solver.iter}; {last}') from None

    def _snapshot_at_root(self) -> None:
        if ranks.is_root():
            self._model_paths.append(self.snapshot())
            self._own_snapshots.add(self.solver.iter)
            gone = thin_out(self._prefix, self._own_snapshots, cfg.TRAIN.SNAPSHOTS_KEPT)
            self._own_snapshots -= gone
            self._model_paths = [path for path in self._model_paths if os.path.exists(path)]
        ranks.from_root(None)  # nobody ends before it is written

    def _warm_up(self, max_iters: int) -> None:
        if self.division.scale == 1:
            return
        scaled = self.solver_param.base_lr * self.division.scale
        try:
            self.solver.param.base_lr = self.division.warm_up(scaled, self.solver.iter, max_iters)
        except AttributeError:
            raise RuntimeError('--scale_batch: the learning rate of this Caffe cannot be changed on the way') from None

    def _of_division(self) -> dict:
        """What the record says of ranks: how the mini-batch was scaled, and the bytes that rank 0 has sent so far."""
        more = {'scale_batch': self.division.scale} if self.division.scale > 1 else {}
        if self._nccl is not None and hasattr(self._nccl, 'bytes_sent'):
            more['sent_mb'] = round(self._nccl.bytes_sent / 2**20, 3)
            more['as_matrices_mb'] = round(self._nccl.bytes_as_matrices / 2**20, 3)
        return more

    def _log_solving(self) -> None:
        """Logs the line by which BVLC's tools/extra/parse_log.py knows the start: `solve` does so, `step` does not."""
        if (
            ranks.is_root() and not self._on_terminal and hasattr(caffe, 'log')
        ):  # the fast-rcnn branch of Caffe has none
            caffe.log(f'Solving {getattr(self.solver.net, "name", "") or os.path.basename(self._prefix)}')

    def snapshot(self) -> str:
        """Write both kinds of file for the present iteration; returns the path of the model for testing."""
        path = f'{self._prefix}_iter_{self.solver.iter}.caffemodel'
        with tqdm.external_write_mode():  # takes a progress bar away while lines are written
            self.solver.snapshot()
            self._add_card(self._state_path().replace('.solverstate', '.caffemodel'))
            with whole_file.beside(path) as made:
                with self._plain_regression():
                    self.solver.net.save(made)
                self._add_card(made)
            print(f'Wrote snapshot to: {path}')
        return path

    def _add_card(self, path: str) -> None:
        card = self._card()
        if card is not None:
            add_card(path, card)

    def _card(self, validation: dict | None = None) -> ModelCard | None:
        if not self._classes:
            return None
        return ModelCard.of_training(self._classes, self._dataset, validation, self._test_net)

    def _check_classes(self, snapshot: str | None, roidb) -> None:
        card = None if snapshot is None else read_card_of_state(snapshot)
        classes = tuple(getattr(roidb, 'classes', ()))
        if card is not None and classes and classes != card.classes:
            raise ModelCardError(
                f'{snapshot} was trained on {list(card.classes)}, the data set numbers its classes '
                f'{list(classes)}: call fast_rcnn.model_card.match_classes on the data set first'
            )

    def _state_path(self) -> str:
        in_hdf5 = self.solver_param.snapshot_format == caffe_pb2.SolverParameter.HDF5
        return f'{self._prefix}_resume_iter_{self.solver.iter}.solverstate' + ('.h5' if in_hdf5 else '')

    def close(self) -> None:
        """End the processes that prepare mini-batches, and let others train with this prefix."""
        self.data_layer.close()
        _release(self._lock)

    def _solver_path(self) -> str:
        return f'{self._prefix}_solver.prototxt'

    def _own_solver(self, folder: str) -> str:
        """The solver prototxt as used: snapshots only on request, and to the output folder. folder: for stand-ins."""
        param = caffe_pb2.SolverParameter()
        param.CopyFrom(self.solver_param)
        param.snapshot = 0
        param.snapshot_prefix = f'{self._prefix}_resume'
        if ranks.count() > 1:
            set_solver(param, self.division)
        if self._on_terminal:  # where a progress bar shows the losses; elsewhere Caffe's own lines do
            param.display = 0
        for field in ('net', 'train_net'):
            if param.HasField(field):
                setattr(param, field, prototxt_with_stand_ins(getattr(param, field), folder))
        return text_format.MessageToString(param)

    @contextlib.contextmanager
    def _solver_named(self) -> Iterator[None]:
        """Has an error of Caffe name the solver prototxt that was given, and not the copy that Caffe read."""
        try:
            yield
        except (ValueError, OSError) as error:
            if self._passing_file not in str(error):
                raise
            said = str(error).replace(self._passing_file, self._solver_prototxt)
            kind = type(error) if isinstance(error, OSError) else ValueError
            raise kind(said) from error

    def _note_sampling(self, solver_prototxt: str) -> None:
        """Says so where net and cfg do not agree on mining: each is an experiment, or an oversight."""
        if cfg.TRAIN.USE_OHEM and self._mining is None:
            print(
                f'Note: TRAIN.USE_OHEM is True, and the net of {solver_prototxt} does not mine: it learns from all RoIs'
            )
        if self._mining is not None and not cfg.TRAIN.USE_OHEM:
            print(
                f'Note: the net of {solver_prototxt} mines, but TRAIN.USE_OHEM is False: only RoIs that the classic '
                'sampling draws can be mined; give it a cfg such as experiments/cfgs/fast_rcnn_ohem.yml'
            )

    def _normalised_layers(self, roidb) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Layers that predict normalised regressions -> means and deviations of their outputs, to fold into them."""
        found = {}
        if cfg.TRAIN.HAS_RPN and cfg.TRAIN.RPN_NORMALIZE_TARGETS and 'rpn_bbox_pred' in self.solver.net.params:
            statistics = cfg.TRAIN.RPN_NORMALIZE_MEANS, cfg.TRAIN.RPN_NORMALIZE_STDS
            anchors = len(self.solver.net.params['rpn_bbox_pred'][1].data) // 4
            found['rpn_bbox_pred'] = np.tile(statistics[0], anchors), np.tile(statistics[1], anchors)
        if not (cfg.TRAIN.BBOX_REG and cfg.TRAIN.BBOX_NORMALIZE_TARGETS):
            return found
        regressor = layer_of(self.solver.net, 'bbox_pred')
        if regressor is None and not self._learns_boxes():
            return found
        if regressor is None:
            warnings.warn(
                'the net has no layer with weights that makes bbox_pred, so its snapshots keep predicting *normalised* '
                'regressions, and boxes will be wrong at test time. Name the layer that predicts them, or its top, '
                'bbox_pred, or set TRAIN.BBOX_NORMALIZE_TARGETS False.',
                RuntimeWarning,
                stacklevel=3,
            )
            return found
        means, stds = add_bbox_regression_targets(roidb)
        self._check_outputs('bbox_pred', len(means) // 4, 4)
        bins = len(self.solver.net.params[regressor][1].data) // len(means)  # of R-FCN; 1 elsewhere
        return found | {regressor: (np.repeat(means, bins), np.repeat(stds, bins))}

    def _learns_boxes(self) -> bool:
        """Whether a layer reads the regression targets, Silence aside; True where Caffe does not tell."""
        net = self.solver.net
        if not hasattr(net, 'bottom_names') or not hasattr(net, 'layer_dict'):
            return True
        tops = next(net.top_names[name] for name, layer in net.layer_dict.items() if layer is self.data_layer)
        readers = [name for name, bottoms in net.bottom_names.items() if set(bottoms) & set(tops[3:4])]
        return any(net.layer_dict[name].type != 'Silence' for name in readers)

    @contextlib.contextmanager
    def _plain_regression(self):
        """Within the `with`, the net predicts regressions that are not normalised; then it is restored exactly."""
        kept = {name: [blob.data.copy() for blob in self.solver.net.params[name]] for name in self._normalised}
        try:
            for name, (means, stds) in self._normalised.items():
                weights, bias = (blob.data for blob in self.solver.net.params[name])
                weights *= stds.reshape(-1, *[1] * (weights.ndim - 1))
                bias[...] = bias * stds + means
            yield
        finally:
            for name, arrays in kept.items():
                for blob, values in zip(self.solver.net.params[name], arrays, strict=True):
                    blob.data[...] = values

    _warned = False

    def _check(self, losses: dict[str, float]) -> None:
        if not all(np.isfinite(value) for value in losses.values()):
            self._stop(f'the loss is not a number any more ({losses})', self.solver.iter - 1, updated=True)
        said = self._explosion.told(sum(losses.values()))
        if said is not None and ranks.is_root():
            with tqdm.external_write_mode(file=sys.stderr):
                warnings.warn(
                    f'iteration {self.solver.iter - 1}: {said}. {self._what_to_try()}', RuntimeWarning, stacklevel=3
                )
        if losses.get('loss_bbox') == 0 and not self._warned:
            cause = no_box_loss(self.solver.net)
            if cause is not None:
                self._warned = True
                with tqdm.external_write_mode(file=sys.stderr):
                    warnings.warn(
                        f'iteration {self.solver.iter - 1}: there are foreground RoIs, but loss_bbox is '
                        f'exactly 0: {cause}',
                        RuntimeWarning,
                        stacklevel=3,
                    )

    def _stop_at_scored_roi(self) -> None:
        """Called by the record in the middle of a forward pass: the weights are still as they were."""
        self._stop('the loss of an RoI is not a number', self.solver.iter, updated=False)

    def _what_to_try(self) -> str:
        state = newest_state(self._prefix, self._own_snapshots)
        return what_to_try(self._solver_prototxt, self.solver_param.base_lr, self.solver_param.clip_gradients, state)

    def _stop(self, what: str, iteration: int, updated: bool) -> None:
        folder = f'{self._prefix}_not_finite_iter_{iteration}'
        found = not_finite(self.solver.net, self.data_layer.shown, folder, weights_are_old=not updated)
        began, source = self._began
        advice = self._what_to_try()
        if iteration == began:  # the losses are those of the weights that were there
            advice = (
                f'No update of this run came before it, so base_lr is not the cause: look at the weights that it began '
                f'with ({source or "those of the fillers"}), then at the images and proposals.'
            )
        raise FloatingPointError(f'iteration {iteration}: {what}; {found}. {advice}')


def _first(layers, kind: type):
    """The first of a net's `layers` that is of `kind`; None without any."""
    return next((layers[i] for i in range(len(layers)) if isinstance(layers[i], kind)), None)


def read_solver(path: str) -> caffe_pb2.SolverParameter:
    """The SolverParameter in a solver prototxt. Raises FileNotFoundError, or ValueError naming the file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no solver prototxt {path}')
    param = caffe_pb2.SolverParameter()
    with open(path, 'rb') as stream:
        data = stream.read()
    if data.startswith((b'\xff\xfe', b'\xfe\xff')):
        raise ValueError(f'{path}: UTF-16 text; save the file as UTF-8')
    try:
        # Other than UTF-8 is in comments, where it does no harm
        text_format.Merge(data.removeprefix(b'\xef\xbb\xbf').decode('utf-8', errors='replace'), param)
    except text_format.ParseError as error:
        raise ValueError(f'{path}: not a solver prototxt: {error}{_field_meant(str(error))}') from None
    spoilt = [field.name for field, value in param.ListFields() if '\ufffd' in str(value)]
    if spoilt:
        raise ValueError(f'{path}: {", ".join(spoilt)} is not UTF-8 text; save the file as UTF-8')
    if not 0 <= param.base_lr < math.inf:  # Caffe takes it
        raise ValueError(
            f'{path}: base_lr is {param.base_lr:g}; expected a number above 0, such as 0.001: with one below 0, '
            'training makes the loss larger'
        )
    return param


def _field_meant(error: str) -> str:
    """What to add to protobuf's words about an unknown field of a solver: the field most like it."""
    unknown = re.search(r'has no field named "(\w+)"', error)
    near = (
        difflib.get_close_matches(unknown[1], caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name.keys(), 1)
        if unknown
        else []
    )
    return f' Did you mean "{near[0]}"?' if near else ''


def layer_of(net: caffe.Net, top: str) -> str | None:
    """The layer with parameters that makes the blob `top`: the one of that name, or whichever has it as its top.

    Of R-FCN's nets it is the one whose maps are pooled to be `top`.
    """
    if top in net.params:
        return top
    if _POOLED.get(top) in net.params:
        return _POOLED[top]
    tops = getattr(net, 'top_names', {})  # a pycaffe too old to name the tops of layers has the former alone
    return next((name for name, blobs in tops.items() if top in blobs and name in net.params), None)


def _seed(purpose: int, number: int) -> int:
    """A 31-bit seed, different for every purpose and number, that follows from cfg.RNG_SEED."""
    return int(np.random.SeedSequence([cfg.RNG_SEED, purpose, number]).generate_state(1)[0] >> 1)


def _is_state_of(snapshot: str, prefix: str) -> bool:
    return os.path.realpath(snapshot).startswith(os.path.realpath(prefix) + '_resume_iter_')


def _release(lock: TrainingLock | None) -> None:
    if lock is not None:
        lock.release()


def _seed_pass(n: int) -> None:
    """Seeds Caffe's random numbers for the pass on mini-batch `n`."""
    caffe.set_random_seed(_seed(_PASSES, n))


def _net_text(param) -> str:
    """The text of the net that a solver trains."""
    for field in ('net', 'train_net'):
        if param.HasField(field):
            with open(getattr(param, field), encoding='utf-8-sig', errors='replace') as file:
                return file.read()
    return ''


def _losses(net) -> dict[str, float]:
    """The weighted losses of the last (sub-)iteration by blob name."""
    weights = getattr(net, 'blob_loss_weights', None)
    if weights is None:
        weights = {name: 1.0 for name in net.outputs if re.search('loss', name)}
    return {name: weight * float(net.blobs[name].data.sum()) for name, weight in weights.items() if weight}


@contextlib.contextmanager
def _deferred_signals():
    """Yields a list that becomes non-empty on Ctrl-C, SIGTERM or SIGHUP; a second one acts as ever.

    Signals that this process was started to ignore stay ignored (nohup, a shell's background processes).
    """
    received: list[int] = []
    before: dict[int, Any] = {}
    # After a terminal's ^C a new line; in a log an empty one would stop BVLC's parse_log.py.
    start = b'\n' if sys.stderr.isatty() else b''

    def note(number, frame):
        received.append(number)
        with contextlib.suppress(OSError):  # not by print, in the middle of which this may come
            if ranks.is_root():
                os.write(2, start + b'Finishing this step, then a snapshot; again to stop now\n')
        for each, handler in before.items():
            signal.signal(each, handler)

    if threading.current_thread() is threading.main_thread():
        for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
            number = getattr(signal, name, None)  # no SIGHUP on Windows
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
