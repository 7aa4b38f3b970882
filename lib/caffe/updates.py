"""The update rules of Caffe's six solvers (src/caffe/solvers/*_solver.cpp).

Each rule takes a parameter's gradient (summed, divided by iter_size and with weight decay added already), its history
tensors, the local learning rate and the solver's parameters, changes the history in place and returns the update, which
the solver then subtracts from the data and leaves in the diff.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from caffe.proto import caffe_pb2

History = Sequence[torch.Tensor]


def sgd(
    grad: torch.Tensor, history: History, rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> torch.Tensor:
    """Momentum on learning-rate-scaled updates: v = momentum v + rate g (sgd_solver.cpp)."""
    (velocity,) = history
    return velocity.mul_(param.momentum).add_(grad, alpha=rate)


def nesterov(
    grad: torch.Tensor, history: History, rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> torch.Tensor:
    """v' = momentum v + rate g; update (1 + momentum) v' - momentum v (nesterov_solver.cpp)."""
    (velocity,) = history
    before = velocity.clone()
    velocity.mul_(param.momentum).add_(grad, alpha=rate)
    return before.mul_(-param.momentum).add_(velocity, alpha=1 + param.momentum)


def adagrad(
    grad: torch.Tensor, history: History, rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> torch.Tensor:
    """h += g²; update rate g / (sqrt h + delta) (adagrad_solver.cpp)."""
    (squares,) = history
    squares.addcmul_(grad, grad)
    return (grad / squares.sqrt().add_(param.delta)).mul_(rate)


def rmsprop(
    grad: torch.Tensor, history: History, rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> torch.Tensor:
    """h = rms_decay h + (1 - rms_decay) g²; update rate g / (sqrt h + delta) (rmsprop_solver.cpp)."""
    (squares,) = history
    squares.mul_(param.rms_decay).addcmul_(grad, grad, value=1 - param.rms_decay)
    return (grad / squares.sqrt().add_(param.delta)).mul_(rate)


def adadelta(
    grad: torch.Tensor, history: History, rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> torch.Tensor:
    """Gradients scaled by the ratio of past updates to past gradients; momentum is its decay (adadelta_solver.cpp)."""
    squares, updates = history
    squares.mul_(param.momentum).addcmul_(grad, grad, value=1 - param.momentum)
    step = grad * ((updates + param.delta) / (squares + param.delta)).sqrt_()
    updates.mul_(param.momentum).addcmul_(step, step, value=1 - param.momentum)
    return step.mul_(rate)


def adam(
    grad: torch.Tensor, history: History, rate: float, param: caffe_pb2.SolverParameter, iteration: int
) -> torch.Tensor:
    """Kingma & Ba's Adam, with its bias correction in the rate (adam_solver.cpp)."""
    mean, squares = history
    t = iteration + 1
    correction = math.sqrt(1 - param.momentum2**t) / (1 - param.momentum**t)
    mean.mul_(param.momentum).add_(grad, alpha=1 - param.momentum)
    squares.mul_(param.momentum2).addcmul_(grad, grad, value=1 - param.momentum2)
    return (mean / squares.sqrt().add_(param.delta)).mul_(rate * correction)
