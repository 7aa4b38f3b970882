"""Training: Caffe's solver, stepped one iteration at a time.

What it writes into the output folder: `snapshot_writer`. Beside the models <prefix>[_<infix>]_record.jsonl grows by a
line an iteration (see `record`).

A run is reproducible, and may stop and resume anywhere: mini-batches are numbered, i * iter_size being the first of
iteration i, and before pass n the random generator is seeded by (cfg.RNG_SEED, n). So it does not matter either which
of several ranks makes the pass (see `division`): where there are some, each trains, and rank 0 alone writes and prints.
Layers that draw numbers of their own, those of an RPN, go by the number of the mini-batch too.
"""

import contextlib
import functools
import os
import re
import sys
import tempfile
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
from detection_data.imdb import imdb as Imdb
from fast_rcnn.agreement import check_agreement, digest_of_roidb, digest_of_text, digest_of_weights
from fast_rcnn.config import cfg
from fast_rcnn.deferred_signals import deferred_signals
from fast_rcnn.division import divide, set_solver
from fast_rcnn.frozen_cache import describe, keep_frozen
from fast_rcnn.loss_watch import LossWatch
from fast_rcnn.model_card import ModelCard, test_net_beside
from fast_rcnn.output_folder import files_of, output_folder
from fast_rcnn.plain_regression import normalised_layers, plain_regression
from fast_rcnn.precision import note_ranking
from fast_rcnn.predictors import check_outputs, note_classes
from fast_rcnn.progress import Progress
from fast_rcnn.record import TrainingRecord, lines_before
from fast_rcnn.restart import state_to_go_on_from
from fast_rcnn.snapshot_writer import SnapshotWriter
from fast_rcnn.solver_file import net_text, read_solver
from fast_rcnn.start_checks import (
    check_classes,
    check_scale,
    note_changes,
    note_sampling,
    note_snapshots,
    training_data_layer,
)
from fast_rcnn.start_weights import NONE, check_has_weights, copy_weights
from fast_rcnn.training_lock import TrainingLock
from fast_rcnn.validation import Validation, best_model
from fast_rcnn.work_saved import WorkSaved
from roi_data_layer.layer import HardRoiMiningLayer
from roi_data_layer.roidb import Roidb
from rpn.proposal_target_layer import ProposalTargetLayer

_FILLERS, _PASSES = 3, 4  # streams of random numbers; roi_data_layer.order has 1 and 2, rpn.sampling 6 and 7


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C, SIGTERM or SIGHUP; a snapshot has been written, which the message names.

    Of several ranks all raise it.
    """

    by_all_ranks = True
    model = ''  # the path of the model for testing that was written


def get_training_roidb(imdb: Imdb) -> Roidb:
    """The training set of `imdb` (see `roi_data_layer.roidb`), mirrored images included if cfg.TRAIN.USE_FLIPPED."""
    print(f'Preparing training data: {imdb.name} ...')
    roidb = Roidb(imdb, by_ranks=True)
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
    `wire`, float32 or bf16, is what gradients travel as between them; `exchange` is their `caffe.NCCL`, None alone.
    Started anew by torchrun, it goes on from the last snapshot. Raises ValueError if passes cannot be dealt,
    DisagreementError if ranks do not start from the same.
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
        elif snapshot is None and ranks.is_root():
            note_snapshots(self._prefix)
        self._classes = tuple(getattr(roidb, 'classes', ()))
        check_classes(snapshot, self._classes)
        check_scale(snapshot, self.division.scale)
        note_changes(snapshot, getattr(roidb, 'name', ''))
        self._on_terminal = sys.stderr.isatty()
        self._events = os.path.join(output_dir, 'tensorboard') if tensorboard else None

        caffe.set_random_seed(_seed(_FILLERS, 0))
        if ranks.count() > 1:
            caffe.set_solver_count(ranks.count())
            caffe.set_solver_rank(ranks.rank())
            caffe.set_multiprocess(True)
        with contextlib.ExitStack() as stack:
            passing = stack.enter_context(tempfile.TemporaryDirectory())
            self._solver_text = self._own_solver(output_dir if ranks.is_root() else passing)
            self._passing_file = os.path.join(passing, os.path.basename(self._solver_path()))
            whole_file.write_text(self._passing_file, self._solver_text)
            try:
                with self._solver_named():
                    self.solver = caffe.get_solver(self._passing_file)
            except ValueError as error:
                note_classes(error, net_text(self.solver_param), getattr(roidb, 'num_classes', None))
                raise
        if snapshot is not None:
            with self._solver_named():
                self.solver.restore(snapshot)
        elif pretrained_model not in (None, NONE):
            print(f'Loading pretrained model weights from {pretrained_model}')
            copy_weights(self.solver.net, pretrained_model)
        if snapshot is None and pretrained_model != NONE:
            check_has_weights(self.solver.net, self.solver_param, pretrained_model)
        self._began_with = snapshot or pretrained_model
        self._goes_on = snapshot is not None and _is_state_of(snapshot, self._prefix)

        net, layers = self.solver.net, self.solver.net.layers
        net_file = self.solver_param.net or self.solver_param.train_net
        self.data_layer = training_data_layer(net, net_file or solver_prototxt)
        self.data_layer.set_roidb(roidb)
        self._mining = _first(layers, HardRoiMiningLayer)
        self._rois = _first(layers, ProposalTargetLayer)
        self._numbered: list[Any] = [layers[i] for i in range(len(layers)) if hasattr(layers[i], 'set_position')]
        note_sampling(self._mining is not None, solver_prototxt)
        note_ranking(layers, solver_prototxt)
        check_outputs(net, 'cls_score', getattr(roidb, 'num_classes', None), 1)
        normalised = normalised_layers(net, self.data_layer, roidb)
        self._plain_regression = lambda: plain_regression(net, normalised)
        self._snapshots = SnapshotWriter(
            self._prefix,
            self.solver,
            self.solver_param.snapshot_format,
            self._plain_regression,
            functools.partial(
                _card, self._classes, getattr(roidb, 'name', ''), test_net_beside(net_file), self.division.scale
            ),
            self._goes_on,
        )
        self.data_layer.set_share(self.division.following)
        self.data_layer.before_batch = _seed_pass
        self._frozen = keep_frozen(net)
        self._validation = validation
        if validation is not None:
            validation.begin(net, self._classes, self._prefix, self._goes_on)
        elif cfg.TRAIN.EARLY_STOP_ITERS:
            print('Note: TRAIN.EARLY_STOP_ITERS has no effect without a data set to validate on (--val)')
        self.exchange = self._join(wire, solver_prototxt, roidb) if ranks.count() > 1 else None
        self._work = WorkSaved(self.solver, self._snapshots)

    def _join(self, wire: str, solver_prototxt: str, roidb):
        """Has all ranks start from the same, and exchange gradients from now on. Returns the `caffe.NCCL`."""
        check_agreement(
            {
                'solver prototxt': digest_of_text(str(self.solver_param)),
                'net': digest_of_text(net_text(self.solver_param)),
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
        saved_at, record_path = None, f'{self._prefix}_record.jsonl'
        # A damaged record is refused before anything is written: what a finished run has left there stays as it is
        kept = lines_before(record_path, self.solver.iter) if ranks.is_root() and self._goes_on else []
        watch = LossWatch(
            self.solver,
            self.data_layer,
            self._prefix,
            self._solver_prototxt,
            self.solver_param,
            self._began_with,
            kept[-1]['lr'] if kept else None,
            self._snapshots.newest_state,
            speaks=ranks.is_root(),
        )
        if ranks.is_root():
            whole_file.write_text(self._solver_path(), self._solver_text)
            if not self._goes_on:
                self._snapshots.set_aside_best()
        record = TrainingRecord(
            record_path if ranks.is_root() else None,
            self.solver,
            self.data_layer,
            self._mining,
            self._classes,
            self._events if ranks.is_root() else None,
            on_not_finite=watch.stop_at_scored_roi,
            roi_layer=self._rois,
            goes_on=self._goes_on,
        )
        self._log_solving()
        with (
            contextlib.closing(record),
            deferred_signals() as stop,
            self._said_where_to_go_on(),
            Progress(max_iters, self.solver.iter, self.solver_param.average_loss) as progress,
        ):
            self._validate_late(record, stop)
            while self.solver.iter < max_iters:
                self._warm_up(max_iters)
                for layer in self._numbered:
                    layer.set_position(self.division.position(self.solver.iter))
                record.start()
                with self._work.before_failing(), self._solver_named():
                    self.solver.step(1)
                losses = _losses(self.solver.net)
                watch.check(losses)
                with self._work.before_failing():
                    asked = after is not None and after(self.solver.iter, losses) is True
                of_ranks = ranks.gather(
                    {
                        'stop': bool(stop),
                        'enough': asked,
                        'losses': losses,
                        'earlier': _of_earlier_passes(self.solver.net),
                        'passes': record.passes(),
                    }
                )
                entry = None
                if of_ranks is not None:
                    passes = [rank['passes'] for rank in of_ranks]
                    entry = record.line(_last_losses(of_ranks), passes, self._of_division())
                stops = ranks.from_root(of_ranks and any(rank['stop'] for rank in of_ranks))
                asked = ranks.from_root(of_ranks and any(rank['enough'] for rank in of_ranks))
                found = None
                if self._is_validated(max_iters) and not stops:
                    with self._work.before_failing():
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
                        f'interrupted at iteration {self.solver.iter}; to go on, resume from '
                        f'{self._snapshots.state_path()}: the same command of tools/train_net.py with --snapshot and '
                        'this file in place of --weights, before --set'
                    )
                    stopped.model = self._snapshots.models[-1] if self._snapshots.models else ''
                    raise stopped
                if enough:
                    break
            if saved_at != self.solver.iter:
                self._snapshot_at_root()
        if self._frozen is not None and ranks.is_root():
            print(describe(self._frozen))
        self._say_how_it_went(max_iters)
        return self._snapshots.models

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
                self._snapshots.write_best(self._validation.best)
        if ranks.is_root():
            with tqdm.external_write_mode():
                print(self._validation.describe(found), flush=True)
        return found

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
            state = self._snapshots.newest_state()
            last = 'no snapshot was written' if state is None else f'to go on, resume from {state} (--snapshot)'
            raise KeyboardInterrupt(f'interrupted in iteration {self.solver.iter}; {last}') from None

    def _snapshot_at_root(self) -> None:
        if ranks.is_root():
            self._snapshots.write_and_thin_out()
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
        if self.exchange is not None and hasattr(self.exchange, 'bytes_sent'):
            more['sent_mb'] = round(self.exchange.bytes_sent / 2**20, 3)
            more['as_matrices_mb'] = round(self.exchange.bytes_as_matrices / 2**20, 3)
        return more

    def _log_solving(self) -> None:
        """Logs the line by which BVLC's tools/extra/parse_log.py knows the start: `solve` does so, `step` does not."""
        if (
            ranks.is_root() and not self._on_terminal and hasattr(caffe, 'log')
        ):  # the fast-rcnn branch of Caffe has none
            caffe.log(f'Solving {getattr(self.solver.net, "name", "") or os.path.basename(self._prefix)}')

    def snapshot(self) -> str:
        """Write both kinds of file for the present iteration; returns the path of the model for testing."""
        return self._snapshots.write()

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


def _card(
    classes: tuple[str, ...], dataset: str, test_net: str, scale_batch: int, validation: dict | None
) -> ModelCard | None:
    return ModelCard.of_training(classes, dataset, validation, test_net, scale_batch) if classes else None


def _first(layers, kind: type):
    """The first of a net's `layers` that is of `kind`; None without any."""
    return next((layers[i] for i in range(len(layers)) if isinstance(layers[i], kind)), None)


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


def _losses(net) -> dict[str, float]:
    """The weighted losses of the last (sub-)iteration by blob name."""
    weights = getattr(net, 'blob_loss_weights', None)
    if weights is None:
        weights = {name: 1.0 for name in net.outputs if re.search('loss', name)}
    return {name: weight * float(net.blobs[name].data.sum()) for name, weight in weights.items() if weight}


def _of_earlier_passes(net: caffe.Net) -> list[str]:
    """The loss blobs that the last pass has left as they were (see `ASDNLossLayer`)."""
    layers = getattr(net, 'layer_dict', {})
    return [top for name, layer in layers.items() if getattr(layer, 'left_alone', False) for top in net.top_names[name]]


def _last_losses(of_ranks: list[dict]) -> dict[str, float]:
    """Each loss as the last pass of all that computed it left it."""
    losses = dict(of_ranks[-1]['losses'])
    for rank in of_ranks:
        losses |= {name: value for name, value in rank['losses'].items() if name not in rank['earlier']}
    return losses
