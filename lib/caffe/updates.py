"""The update rules of Caffe's six solvers (src/caffe/solvers/*_solver.cpp).

Each rule takes the gradients of some parameters (summed, divided by iter_size and with weight decay added already),
their histories, the local learning rate and the solver's parameters, changes the histories in place and returns the
updates, which the solver then subtracts from the data and leaves in the diffs. Gradients, and each history, are lists
of tensors, one a parameter: a call of torch's for a list takes as long as one for a small tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from caffe.proto import caffe_pb2

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


def sgd(
    grads: Tensors, history: Sequence[Tensors], rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> Tensors:
    """Momentum on learning-rate-scaled updates: v = momentum v + rate g (sgd_solver.cpp)."""
    (velocity,) = history
    torch._foreach_mul_(velocity, param.momentum)
    torch._foreach_add_(velocity, grads, alpha=rate)
    return velocity


def nesterov(
    grads: Tensors, history: Sequence[Tensors], rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> Tensors:
    """v' = momentum v + rate g; update (1 + momentum) v' - momentum v (nesterov_solver.cpp)."""
    (velocity,) = history
    updates = torch._foreach_mul(velocity, -param.momentum)
    torch._foreach_mul_(velocity, param.momentum)
    torch._foreach_add_(velocity, grads, alpha=rate)
    torch._foreach_add_(updates, velocity, alpha=1 + param.momentum)
    return updates


def adagrad(
    grads: Tensors, history: Sequence[Tensors], rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> Tensors:
    """h += g²; update rate g / (sqrt h + delta) (adagrad_solver.cpp)."""
    (squares,) = history
    torch._foreach_addcmul_(squares, grads, grads)
    return _scaled(grads, squares, param.delta, rate)


def rmsprop(
    grads: Tensors, history: Sequence[Tensors], rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> Tensors:
    """h = rms_decay h + (1 - rms_decay) g²; update rate g / (sqrt h + delta) (rmsprop_solver.cpp)."""
    (squares,) = history
    _decay(squares, grads, param.rms_decay)
    return _scaled(grads, squares, param.delta, rate)


def adadelta(
    grads: Tensors, history: Sequence[Tensors], rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> Tensors:
    """Gradients scaled by the ratio of past updates to past gradients; momentum is its decay (adadelta_solver.cpp)."""
    squares, updates = history
    _decay(squares, grads, param.momentum)
    steps = torch._foreach_div(torch._foreach_add(updates, param.delta), torch._foreach_add(squares, param.delta))
    torch._foreach_sqrt_(steps)
    torch._foreach_mul_(steps, grads)
    _decay(updates, steps, param.momentum)
    torch._foreach_mul_(steps, rate)
    return steps


def adam(
    grads: Tensors, history: Sequence[Tensors], rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> Tensors:
    """Kingma & Ba's Adam, with its bias correction in the rate (adam_solver.cpp)."""
    means, squares = history
    t = iteration + 1
    correction = math.sqrt(1 - param.momentum2**t) / (1 - param.momentum**t)
    torch._foreach_mul_(means, param.momentum)
    torch._foreach_add_(means, grads, alpha=1 - param.momentum)
    _decay(squares, grads, param.momentum2)
    return _scaled(means, squares, param.delta, rate * correction)


def _decay(means: Tensors, values: Tensors, decay: float) -> None:
    """Running means of squares: means = decay means + (1 - decay) values²."""
    torch._foreach_mul_(means, decay)
    torch._foreach_addcmul_(means, values, values, value=1 - decay)


def _scaled(grads: Tensors, squares: Tensors, delta: float, rate: float) -> Tensors:
    """rate grads / (sqrt squares + delta)"""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    updates = torch._foreach_div(grads, roots)
    torch._foreach_mul_(updates, rate)
    return updates
