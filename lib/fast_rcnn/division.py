"""How the passes of an iteration are dealt to several ranks, and what a solver file says then.

By default an iteration is the same mini-batch however many ranks there are: of its iter_size passes each rank makes as
many as the others. With scale_batch every rank makes a whole mini-batch, so an iteration shows `count` times as many
images: the learning rate is `count` times as high, with a warm-up, and iterations and steps are so many times fewer
(the linear scaling rule of Goyal et al., 'Accurate, Large Minibatch SGD', 2017, section 2).
"""

import dataclasses
from collections.abc import Iterator

from caffe.proto import caffe_pb2

WARM_UP = 500
"""Iterations over which a scaled learning rate grows from the unscaled one; no more than a tenth of all."""


@dataclasses.dataclass(frozen=True)
class Division:
    """Of the `passes` of an iteration this rank makes `here`, from number `first` on. scale: of the mini-batch."""

    passes: int
    here: int
    first: int
    count: int = 1
    scale: int = 1

    def position(self, iteration: int) -> int:
        """The number of this rank's first mini-batch of an iteration."""
        return iteration * self.passes + self.first

    def following(self, n: int) -> Iterator[int]:
        """The numbers of this rank's mini-batches from `n` on, which is one of them."""
        while True:
            yield n
            n += 1
            if (n - self.first) % self.passes >= self.here:
                n += self.passes - self.here

    def iterations(self, asked: int) -> int:
        """How many iterations show as many images as so many unscaled ones."""
        return -(-asked // self.scale)

    def warm_up(self, rate: float, iteration: int, iterations: int) -> float:
        """The scaled base_lr `rate`, or less of it at the start of `iterations` (Goyal et al., section 2.2)."""
        length = min(WARM_UP, iterations // 10)
        if self.scale == 1 or iteration >= length:
            return rate
        unscaled = rate / self.scale
        return unscaled + (rate - unscaled) * iteration / length


def divide(iter_size: int, rank: int = 0, count: int = 1, scale_batch: bool = False) -> Division:
    """The part of `rank` of `count`. Raises ValueError if the passes do not divide, and says which numbers would."""
    if scale_batch:
        return Division(iter_size * count, iter_size, rank * iter_size, count, count)
    here, rest = divmod(iter_size, count)
    if rest:
        numbers = [str(n) for n in range(1, iter_size + 1) if iter_size % n == 0]
        raise ValueError(
            f'an iteration has {iter_size} {"pass" if iter_size == 1 else "passes"} (iter_size), which cannot be dealt '
            f'to {count} ranks: start {" or ".join(numbers)}, or have iter_size {count}, {2 * count} or another '
            f'multiple of {count}, or let every rank make a whole mini-batch: --scale_batch'
        )
    return Division(iter_size, here, rank * here, count)


def set_solver(param: caffe_pb2.SolverParameter, division: Division) -> None:
    """Changes a SolverParameter to what each rank's solver has to be told.

    Caffe's solvers make iter_size passes each and take the mean over all, clipped by its norm: the norm of the sum over
    the passes, divided by the number of solvers.
    """
    param.iter_size = division.here
    if division.scale == 1:
        if param.clip_gradients > 0:
            param.clip_gradients /= division.count
        return
    param.base_lr *= division.scale
    for field in ('stepsize', 'max_iter'):
        if param.HasField(field):
            setattr(param, field, division.iterations(getattr(param, field)))
    steps = [division.iterations(value) for value in param.stepvalue]
    del param.stepvalue[:]
    param.stepvalue.extend(steps)
