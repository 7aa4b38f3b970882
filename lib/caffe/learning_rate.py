"""The seven learning-rate policies (SGDSolver::GetLearningRate, sgd_solver.cpp)."""

from __future__ import annotations

import math

from caffe.proto import caffe_pb2


def rate(param: caffe_pb2.SolverParameter, iteration: int, step: int = 0) -> float:
    """The learning rate of an iteration, before a parameter's lr_mult.

    step: how many steps a multistep policy had taken before this iteration (`step_at`). Raises ValueError for an
    unknown policy, for one that lacks an option, and where there is no rate: after max_iter, with a root.
    """
    policy = param.lr_policy
    if policy == 'fixed':
        return param.base_lr
    if policy in ('step', 'multistep'):
        return param.base_lr * param.gamma ** step_at(param, iteration, step)
    if policy == 'exp':
        return param.base_lr * param.gamma**iteration
    if policy == 'inv':
        return param.base_lr * (1 + param.gamma * iteration) ** -param.power
    if policy == 'poly':
        if param.max_iter <= 0:
            raise ValueError("lr_policy 'poly' needs max_iter")
        if iteration > param.max_iter and param.power != int(param.power):  # Caffe goes on with NaN
            raise ValueError(
                f"lr_policy 'poly' of power {param.power:g} ends at max_iter {param.max_iter}: no rate follows"
            )
        return param.base_lr * (1 - iteration / param.max_iter) ** param.power
    if policy == 'sigmoid':
        _check_stepsize(param)
        return param.base_lr / (1 + math.exp(min(-param.gamma * (iteration - param.stepsize), 700.0)))
    known = 'fixed, step, exp, inv, multistep, poly, sigmoid'
    raise ValueError(f'unknown learning rate policy: {policy!r}; there are {known}')


def step_at(param: caffe_pb2.SolverParameter, iteration: int, step: int = 0) -> int:
    """How many steps the rate has taken at an iteration, `step` of them before it: what a .solverstate keeps.

    Only the policies step and multistep take steps. Those of multistep are counted on from `step`, so that training
    which resumes with other stepvalues goes on from the rate that it had.
    """
    if param.lr_policy == 'step':
        _check_stepsize(param)
        return iteration // param.stepsize
    if param.lr_policy == 'multistep':
        while step < len(param.stepvalue) and iteration >= param.stepvalue[step]:
            step += 1
    return step


def _check_stepsize(param: caffe_pb2.SolverParameter) -> None:
    if param.stepsize <= 0:
        raise ValueError(f'lr_policy {param.lr_policy!r} needs a positive stepsize, it is {param.stepsize}')
