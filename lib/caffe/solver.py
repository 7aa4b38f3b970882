"""Solvers: Caffe's training loop, learning-rate policies, snapshots (solver.cpp, sgd_solver.cpp)."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import torch

from caffe import learning_rate, updates
from caffe.blob import Blob, replace_diffs
from caffe.files import model_file
from caffe.files.prototxt import read_net, read_solver, upgraded
from caffe.glog import warn_once
from caffe.gradients import PassSums
from caffe.net import Net
from caffe.process import device
from caffe.process.denormals import denormals_as_zero
from caffe.process.ranks import is_root_solver, set_shared_seed, solver_rank
from caffe.process.ranks import log_at_root as log
from caffe.proto import caffe_pb2


class SolverError(ValueError):
    """A solver prototxt that asks for something that does not exist or does not fit together."""


class Solver:
    """Trains a net as a solver prototxt says.

    Attributes (as in pycaffe): net, test_nets, iter, param; history is a list of Blobs, in Caffe's order.
    `step(n)` runs n iterations, `solve()` all of them; `snapshot()` and `restore(file)` save and resume.
    level, stages: of the training net, beside those that the files give.
    """

    type = 'SGD'
    rule = staticmethod(updates.sgd)
    histories = 1  # how many history blobs each parameter has
    histories_of_squares: tuple[int, ...] = ()  # which of them hold means or sums of squares
    reads_states_of: tuple[str, ...] = ()  # other types whose history means the same
    uses_momentum = True
    update_is_history = False  # whether the update that the rule returns is what the first history holds then

    def __init__(self, solver_file: str, level: int = 0, stages: Iterable[str] = ()):
        path = os.fspath(solver_file)
        notes: list[str] = []
        self.param = read_solver(path, notes)
        for note in notes:
            warn_once(f'{path}: {note}', 'upgrade_proto.cpp:1117')
        self._file = path
        if level:
            self.param.train_state.level = level
        if stages:
            self.param.train_state.stage.extend(stages)
        self._check_param()
        if self.param.random_seed >= 0:
            device.set_random_seed(self.param.random_seed + solver_rank())
        set_shared_seed(max(self.param.random_seed, 0))
        self.iter = 0
        self._current_step = 0
        self._losses: deque[torch.Tensor | float] = deque()
        self._callbacks: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._exchange: Any = None  # an `NCCL`, where several solvers train together
        self._stop_requested: str | None = None
        self._stopped_early = False
        self.net = self._train_net()
        for weights in self.param.weights:
            for name in weights.split(','):
                self.net.copy_from(name.strip())
        self.test_nets = self._test_nets()
        params = self.net.learnable_params
        self._first_history = [Blob(*blob.shape) for blob in params.blobs]
        self._second_history = [Blob(*blob.shape) for blob in params.blobs] if self.histories == 2 else []

    @property
    def history(self) -> list[Blob]:
        return self._first_history + self._second_history

    # -- making it

    def _refuse(self, message: str) -> NoReturn:
        raise SolverError(f'{self._file}: {message}')

    def _check_param(self) -> None:
        p = self.param
        if not self.uses_momentum and p.momentum:
            self._refuse(f'Momentum cannot be used with {self.type}; it is {p.momentum:g}')
        if self.type == 'RMSProp' and not 0 <= p.rms_decay < 1:
            self._refuse(f'rms_decay should lie between 0 and 1, it is {p.rms_decay:g}')
        if p.iter_size < 1:
            self._refuse(f'iter_size must be at least 1, it is {p.iter_size}')
        if p.average_loss < 1:
            self._refuse(f'average_loss should be non-negative (at least 1), it is {p.average_loss}')
        if p.snapshot and not p.snapshot_prefix:
            self._refuse('snapshot is set, so snapshot_prefix is needed')
        folder = os.path.dirname(p.snapshot_prefix) or '.'
        if p.snapshot and is_root_solver() and not os.access(folder, os.W_OK | os.X_OK):
            self._refuse(
                f'Cannot write to snapshot prefix {p.snapshot_prefix!r}. '
                'Make sure that the directory exists and is writeable.'
            )
        if p.regularization_type not in ('L1', 'L2'):
            self._refuse(f"unknown regularization type: {p.regularization_type!r}; there are 'L1' and 'L2'")
        try:
            learning_rate.rate(p, 0)  # an unknown policy, or one that lacks an option: now, not at the first iteration
        except ValueError as error:
            self._refuse(str(error))

    def _net(self, param, source, phase, state) -> Net:
        param.state.phase = phase
        # the net's own level and stages, then the solver's, as Solver::InitTrainNet merges them
        if state is not None:
            param.state.MergeFrom(state)
            param.state.phase = phase
        return Net.from_param(param, source)

    def _load(self, path: str):
        try:
            return read_net(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{self._file} names the net {path!r}: there is no such file below {os.getcwd()}'
            ) from error
        except OSError as error:  # a folder, a file that may not be read, a name that is none
            raise OSError(f'{self._file} names the net {path[:200]!r}: {error.strerror or error}') from error

    def _train_net(self) -> Net:
        p = self.param
        given = [f for f in ('train_net', 'net', 'train_net_param', 'net_param') if p.HasField(f)]
        if len(given) != 1:
            self._refuse(
                'SolverParameter must specify a train net using exactly one of these fields: '
                f'net, train_net, net_param, train_net_param; it has {", ".join(given) or "none"}'
            )
        param, source = self._net_of(given[0], getattr(p, given[0]))
        return self._net(param, source, caffe_pb2.TRAIN, p.train_state if p.HasField('train_state') else None)

    def _net_of(self, field: str, value):
        if isinstance(value, str):
            return self._load(value)
        return upgraded(value, f'{self._file} ({field})')

    def _test_nets(self) -> list[Net]:
        p = self.param
        sources = [('test_net_param', v) for v in p.test_net_param] + [('test_net', v) for v in p.test_net]
        generic = [(f, getattr(p, f)) for f in ('net_param', 'net') if p.HasField(f)]
        n_generic = len(p.test_iter) - len(sources)
        if n_generic < 0:
            self._refuse(f'test_iter must be specified for each test network: {len(p.test_iter)} of {len(sources)}')
        if n_generic and not generic:
            self._refuse('test_iter is given more often than test nets, and there is no net to test instead')
        sources += generic[:1] * n_generic
        if p.test_state and len(p.test_state) != len(sources):
            self._refuse(f'test_state must be given for each test net or not at all: {len(p.test_state)}')
        if sources and p.eval_type != 'classification':
            self._refuse(
                f'eval_type: "{p.eval_type}" has SSD\'s Caffe compute mean average precision of its test nets, by '
                'layers DetectionEvaluate, which are not here. Take the test nets away (test_net, test_iter, '
                'test_interval), and judge what DetectionOutput gives afterwards; or take eval_type away, and see the '
                'means of their outputs'
            )
        if sources and p.test_interval <= 0:
            self._refuse('test_interval must be positive when there are test nets')
        nets = []
        for i, (field, value) in enumerate(sources):
            param, source = self._net_of(field, value)
            nets.append(self._net(param, source, caffe_pb2.TEST, p.test_state[i] if p.test_state else None))
            nets[-1].share_with(self.net)
            nets[-1]._debug_info = p.debug_info
        return nets

    @property
    def lr(self) -> float:
        """The learning rate of the coming iteration, before a parameter's lr_mult."""
        try:
            return learning_rate.rate(self.param, self.iter, self._current_step)
        except ValueError as error:
            self._refuse(str(error))

    # -- training (Solver::Step)

    def step(self, iterations: int) -> None:
        """Runs this many iterations. The smoothed loss that is displayed starts anew, as in Caffe."""
        p = self.param
        stop = self.iter + iterations
        self._losses = deque(maxlen=p.average_loss)
        self._stopped_early = False
        while self.iter < stop:
            self.net.clear_param_diffs()
            if p.test_interval and self.iter % p.test_interval == 0 and (self.iter > 0 or p.test_initialization):
                self._test_at_root()
                if self._stop_requested == 'stop':
                    self._stop_requested, self._stopped_early = None, True
                    break
            for on_start, _ in self._callbacks:
                on_start()
            display = bool(p.display) and self.iter % p.display == 0
            self.net._debug_info = display and p.debug_info
            self._losses.append(self._passes())
            if display:
                self._display()
            for _, on_gradients in self._callbacks:
                on_gradients()
            self.apply_update()
            self.iter += 1
            request, self._stop_requested = self._stop_requested, None
            if self._exchange is not None:
                request = self._exchange.agreed(request)
            if is_root_solver() and ((p.snapshot and self.iter % p.snapshot == 0) or request == 'snapshot'):
                self.snapshot()
            if request == 'stop':
                self._stopped_early = True
                break

    def _passes(self) -> torch.Tensor | float:
        """The forward and backward passes of an iteration. Returns their mean loss, on the device."""
        passes = self.param.iter_size
        sums = PassSums(self.net.learnable_params.blobs) if passes > 1 and self._exchange is None else None
        loss: torch.Tensor | float = 0.0
        for _ in range(passes):
            loss = loss + self.net.forward_backward()
            if sums is not None:
                sums.end_pass()
            elif passes > 1:
                self._exchange.end_pass()
        if sums is not None:
            sums.give_back()
        return loss / passes

    def request(self, action: str) -> None:
        """Has a running `step` act after the iteration or test pass under way: 'snapshot' or 'stop' (SolverAction)."""
        if action not in ('snapshot', 'stop'):
            raise ValueError(f"action must be 'snapshot' or 'stop', got {action!r}")
        self._stop_requested = action

    @property
    def smoothed_loss(self) -> float:
        """The mean loss of the last `average_loss` iterations of the present `step`."""
        return float(sum(self._losses) / len(self._losses)) if self._losses else 0.0

    def solve(self, resume_file: str | None = None) -> None:
        """Trains from here to max_iter (Solver::Solve), from the state in resume_file if one is given."""
        p = self.param
        log(f'Solving {self.net.name}', 'solver.cpp:280')
        log(f'Learning Rate Policy: {p.lr_policy}', 'solver.cpp:281')
        self._stop_requested = None
        if resume_file:
            self.restore(resume_file)
        self.step(p.max_iter - self.iter)
        after = p.snapshot_after_train and p.snapshot_prefix and (not p.snapshot or self.iter % p.snapshot)
        if after and is_root_solver():
            self.snapshot()
        if self._stopped_early:
            log('Optimization stopped early.', 'solver.cpp:296')
            return
        if p.display and self.iter % p.display == 0:
            self._losses.append(self.net._forward(0, len(self.net.layers) - 1))
            log(f'Iteration {self.iter}, loss = {self.smoothed_loss:.6g}', 'solver.cpp:317')
        if p.test_interval and self.iter % p.test_interval == 0:
            self._test_at_root()
        log('Optimization Done.', 'solver.cpp:325')

    def share_weights(self, net: Net) -> None:
        """Has another net use the trained parameters from now on, by layer names."""
        net.share_with(self.net)

    def add_callback(self, on_start: Any, on_gradients_ready: Callable[[], None] | None = None) -> None:
        """Has on_start() called before each iteration, on_gradients_ready() before each update.

        Of one object, a `caffe.NCCL`, its methods of these names are called. While it exchanges, what other callbacks
        find in the diffs before it is not the gradient yet.
        """
        if on_gradients_ready is None:
            self._exchange = on_start
            on_start, on_gradients_ready = on_start.on_start, on_start.on_gradients_ready
        self._callbacks.append((on_start, on_gradients_ready))

    @property
    def _solvers(self) -> int:
        """Of how many solvers the diffs hold the sum."""
        return 1 if self._exchange is None else self._exchange.solvers

    def _display(self) -> None:
        loss = self.smoothed_loss
        if self._exchange is not None:
            (loss,) = self._exchange.mean([loss])
        log(f'Iteration {self.iter}, loss = {loss:.6g}', 'solver.cpp:229')
        weights = self.net.blob_loss_weights
        k = 0
        for name in self.net.outputs:
            for value in self.net.blobs[name].read().view(-1).tolist():
                part = f' (* {weights[name]:.6g} = {weights[name] * value:.6g} loss)' if weights[name] else ''
                log(f'    Train net output #{k}: {name} = {value:.6g}{part}', 'solver.cpp:245')
                k += 1

    @torch.no_grad()
    @denormals_as_zero
    def apply_update(self) -> None:
        """Turns the gathered diffs into updates and subtracts them (ApplyUpdate); `diff` then holds the update.

        What several processes gather is summed before it, by the callback `caffe.NCCL`.
        """
        p = self.param
        rate = self.lr
        self._note_step()
        if p.display and self.iter % p.display == 0:
            log(f'Iteration {self.iter}, lr = {rate:.6g}', 'sgd_solver.cpp:106')
        params = self.net.learnable_params
        scale = self._clip_scale(params.blobs) / (p.iter_size * self._solvers)  # Normalize
        together: dict[tuple[float, float], list[list[Blob]]] = {}  # decay and rate -> parameters, with their history
        for i, (blob, lr_mult, decay_mult) in enumerate(
            zip(params.blobs, params.lr_mults, params.decay_mults, strict=True)
        ):
            decay = p.weight_decay * decay_mult
            histories = [self._first_history[i], *self._second_history[i : i + 1]]
            if blob.diff_is_zero and not decay and all(h.data_is_zero for h in histories):
                continue  # a frozen parameter: every rule's update is zero
            together.setdefault((decay, rate * lr_mult), []).append([blob, *histories])
        for (decay, local_rate), blobs in together.items():
            self._update(blobs, scale, decay, local_rate)

    def _update(self, params: list[list[Blob]], scale: float, decay: float, rate: float) -> None:
        """The part of ApplyUpdate of parameters that decay and learn alike; of each the blob and its history."""

        def update(diffs: updates.Tensors, data: updates.Tensors, *history: updates.Tensors) -> updates.Tensors:
            if scale != 1:
                torch._foreach_mul_(diffs, scale)
            if decay:
                l2 = self.param.regularization_type == 'L2'
                torch._foreach_add_(diffs, data if l2 else torch._foreach_sign(data), alpha=decay)
            values = self.rule(diffs, history, rate, self.param, self.iter)
            torch._foreach_sub_(data, values)
            return values

        replace_diffs(update, params, held_by=0 if self.update_is_history else None)

    def _note_step(self) -> None:
        """Keeps how many steps the learning rate has taken, and announces those of multistep."""
        before = self._current_step
        self._current_step = learning_rate.step_at(self.param, self.iter, before)
        if self.param.lr_policy == 'multistep':
            for step in range(before + 1, self._current_step + 1):
                log(f'MultiStep Status: Iteration {self.iter}, step = {step}', 'sgd_solver.cpp:50')

    def _clip_scale(self, blobs: list[Blob]) -> float:
        """What diffs are multiplied by so that their L2 norm, all together, stays in clip_gradients (ClipGradients).

        Caffe clips before it divides by iter_size, and the mean over several solvers.
        """
        limit = self.param.clip_gradients
        if limit < 0:
            return 1.0
        squares = sum(float(b.read_diff().double().square().sum()) for b in blobs if not b.diff_is_zero)
        norm = squares**0.5 / self._solvers
        if not norm > limit:  # nor where it is NaN, which would be in every parameter then
            return 1.0
        log(
            f'Gradient clipping: scaling down gradients (L2 norm {norm:.6g} > {limit:.6g}) '
            f'by scale factor {limit / norm:.6g}',
            'sgd_solver.cpp:94',
        )
        return limit / norm

    # -- testing (Solver::Test)

    def _test_at_root(self) -> None:
        if is_root_solver():
            self.test_all()

    def test_all(self) -> None:
        """Runs every test net for its test_iter passes and logs the means of its outputs."""
        for i in range(len(self.test_nets)):
            if self._stop_requested != 'stop':
                self.test(i)

    def test(self, index: int = 0) -> dict[str, list[float]]:
        """Runs one test net. Returns the mean of each output over test_iter passes, nothing if asked to stop."""
        log(f'Iteration {self.iter}, Testing net (#{index})', 'solver.cpp:341')
        net = self.test_nets[index]
        net.share_with(self.net)
        passes = self.param.test_iter[index]
        total: dict[str, torch.Tensor] = {}
        loss: torch.Tensor | float = 0.0
        for _ in range(passes):
            if self._stop_requested == 'snapshot':
                self._stop_requested = None
                self.snapshot()
            if self._stop_requested == 'stop':
                log('Test interrupted.', 'solver.cpp:387')
                return {}
            loss = loss + net._forward(0, len(net.layers) - 1)
            for name in net.outputs:
                values = net.blobs[name].read().view(-1)
                total[name] = total[name] + values if name in total else values.clone()
        if self.param.test_compute_loss:
            log(f'Test loss: {float(loss) / passes:.6g}', 'solver.cpp:391')
        weights = net.blob_loss_weights
        means = {name: (values / passes).tolist() for name, values in total.items()}
        k = 0
        for name, values in means.items():
            for value in values:
                part = f' (* {weights[name]:.6g} = {weights[name] * value:.6g} loss)' if weights[name] else ''
                log(f'    Test net output #{k}: {name} = {value:.6g}{part}', 'solver.cpp:409')
                k += 1
        return means

    # -- snapshots

    def _snapshot_name(self, extension: str) -> str:
        return f'{self.param.snapshot_prefix}_iter_{self.iter}{extension}'

    def snapshot(self) -> None:
        """Writes <snapshot_prefix>_iter_<iter>.caffemodel and .solverstate (.h5 added for snapshot_format HDF5).

        Each file appears whole or not at all; the state, which names the weights, is written last.
        """
        if not self.param.snapshot_prefix:
            self._refuse('a snapshot needs snapshot_prefix')
        if self.param.snapshot_format == caffe_pb2.SolverParameter.HDF5:
            weights, state, kind = self._snapshot_name('.caffemodel.h5'), '.solverstate.h5', 'HDF5'
            log(f'Snapshotting to HDF5 file {weights}', 'solver.cpp:474')
            self.net.save_hdf5(weights, self.param.snapshot_diff)
        else:
            weights, state, kind = self._snapshot_name('.caffemodel'), '.solverstate', 'binary proto'
            log(f'Snapshotting to binary proto file {weights}', 'solver.cpp:464')
            self.net.save(weights, self.param.snapshot_diff)
        log(f'Snapshotting solver state to {kind} file {self._snapshot_name(state)}', 'sgd_solver.cpp:273')
        model_file.write_state(
            self._snapshot_name(state),
            self.iter,
            weights,
            [h.data for h in self.history],
            self._current_step,
            self.type,
        )

    def restore(self, state_file: str) -> None:
        """Resumes from a .solverstate: iteration, history, learning-rate step, and the weights that it names.

        Raises SolverError for the state of another type of solver or of another net; nothing has changed then.
        """
        path = os.fspath(state_file)
        iteration, learned_net, history, current_step, solver_type = model_file.read_state(path)
        if solver_type and solver_type not in (self.type, *self.reads_states_of):
            raise SolverError(
                f'{path}: the state of a solver of type {solver_type}; {self._file} has type {self.type}, whose '
                f'history means something else. Write type: "{solver_type}", or start from the weights alone'
            )
        if len(history) != len(self.history):
            raise SolverError(
                f'{path}: Incorrect length of history blobs: {len(history)} in the file, {len(self.history)} here; '
                'it was written by another type of solver or for another net'
            )
        for i, (stored, mine) in enumerate(zip(history, self.history, strict=True)):
            if stored.data.size != mine.count:
                raise SolverError(f'{path}: history blob {i} has shape {stored.data.shape}, the net needs {mine.shape}')
            if not stored.is_finite:
                raise SolverError(
                    f'{path}: history blob {i}, of shape {stored.data.shape}, holds numbers that are not finite: '
                    'the training that wrote it had failed. Resume from an earlier state'
                )
            if i // len(self._first_history) in self.histories_of_squares and (stored.data < 0).any():
                raise SolverError(
                    f'{path}: history blob {i} has negative numbers, and {self.type} keeps squares there: '
                    'it was written by another type of solver. Set the type that it had, or start from the weights '
                    'alone'
                )
        if learned_net:
            self.net.copy_from(learned_net if os.path.isfile(learned_net) else _beside(path, learned_net))
        for stored, mine in zip(history, self.history, strict=True):
            mine.data[...] = stored.data.reshape(mine.shape)
        self.iter = iteration
        self._current_step = current_step


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    reads_states_of = ('Nesterov',)
    update_is_history = True


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    type = 'Nesterov'
    rule = staticmethod(updates.nesterov)
    reads_states_of = ('SGD',)


class AdaGradSolver(Solver):
    """Duchi et al.'s AdaGrad."""

    type = 'AdaGrad'
    rule = staticmethod(updates.adagrad)
    histories_of_squares = (0,)
    uses_momentum = False


class RMSPropSolver(Solver):
    """Tieleman & Hinton's RMSProp."""

    type = 'RMSProp'
    rule = staticmethod(updates.rmsprop)
    histories_of_squares = (0,)
    uses_momentum = False


class AdaDeltaSolver(Solver):
    """Zeiler's AdaDelta."""

    type = 'AdaDelta'
    rule = staticmethod(updates.adadelta)
    histories = 2
    histories_of_squares = (0, 1)


class AdamSolver(Solver):
    """Kingma & Ba's Adam."""

    type = 'Adam'
    rule = staticmethod(updates.adam)
    histories = 2
    histories_of_squares = (1,)


_SOLVERS = {
    cls.type: cls for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
}


def get_solver(solver_file: str, level: int = 0, stages: Iterable[str] = ()) -> Solver:
    """The solver of the type that a solver prototxt names (SGD where it names none)."""
    kind = read_solver(os.fspath(solver_file)).type
    if kind not in _SOLVERS:
        raise SolverError(f'{solver_file}: unknown solver type: {kind!r}; there are {", ".join(_SOLVERS)}')
    return _SOLVERS[kind](solver_file, level, stages)


def _beside(state_file: str, learned_net: str) -> str:
    """A snapshot that was moved: its weights lie beside its state. Raises FileNotFoundError with the names of both."""
    beside = os.path.join(os.path.dirname(state_file), os.path.basename(learned_net))
    if not os.path.isfile(beside):
        message = f'the weights that belong to this solver state, {learned_net!r}, are not there, and not beside it'
        raise FileNotFoundError(errno.ENOENT, message, state_file)
    return beside
