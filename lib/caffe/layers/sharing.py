"""How the solvers of a training share the records of a data layer out (DataLayer::Skip, HDF5DataLayer::Skip).

In TRAIN each takes every so many-th record, from the one of its rank on; in TEST only rank 0 runs, and sees all. All
have to go through the records in the same order for that.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from caffe.layers.transformer import own_generator
from caffe.process import ranks


class Share(NamedTuple):
    """Of the records in their order: number `first`, and from there every `step`-th."""

    first: int
    step: int


def share_of(train: bool) -> Share:
    """This solver's share."""
    return Share(ranks.solver_rank(), ranks.solver_count()) if train else Share(0, 1)


def order_generator(share: Share) -> torch.Generator:
    """A random generator for the order of the records: the same at all solvers that share them out.

    What else a layer draws (crops, mirrors) is each solver's own.
    """
    own = own_generator()
    return own if share.step == 1 else torch.Generator().manual_seed(ranks.shared_seed())
