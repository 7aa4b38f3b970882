"""Which of several solvers this process is: Caffe's solver_count, solver_rank and multiprocess (common.cpp).

Rank 0 is the root solver; only the root logs, tests and takes snapshots by itself, and each solver's random
seed is `random_seed` plus its rank. What they exchange: `exchange.NCCL`.
"""

from __future__ import annotations

from caffe.glog import log


class _Process:
    count = 1
    rank = 0
    shared_seed = 0


def solver_count() -> int:
    """How many solvers train together."""
    return _Process.count


def set_solver_count(count: int) -> None:
    """Says how many solvers train together. Raises ValueError for less than one."""
    if count < 1:
        raise ValueError(f'solver_count is at least 1, got {count}')
    _Process.count = int(count)


def solver_rank() -> int:
    """Which of them this process is, numbered from 0."""
    return _Process.rank


def set_solver_rank(rank: int) -> None:
    """Says which of them this process is, numbered from 0. Raises ValueError for a negative number."""
    if rank < 0:
        raise ValueError(f'solver_rank is numbered from 0, got {rank}')
    _Process.rank = int(rank)


def shared_seed() -> int:
    """A seed that all of them have: the `random_seed` of the solver, 0 where it has none."""
    return _Process.shared_seed


def set_shared_seed(seed: int) -> None:
    """Says it: a number that is the same for all."""
    _Process.shared_seed = int(seed)


def set_multiprocess(on: bool) -> None:
    """Says that the solvers are processes of their own. Here they always are, so this changes nothing."""


def is_root_solver() -> bool:
    """Whether this process has rank 0."""
    return _Process.rank == 0


def log_at_root(message: str, where: str) -> None:
    """Prints a log line, if this process has rank 0."""
    if is_root_solver():
        log(message, where)
