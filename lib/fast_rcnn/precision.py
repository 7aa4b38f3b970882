"""The precision that the settings ask of Caffe."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import caffe
from fast_rcnn.config import ConfigError, cfg


def apply_precision() -> None:
    """Has Caffe compute as cfg.PRECISION says; 'fp32', the default, leaves it as it is.

    Raises ConfigError for another one with a Caffe that has no choice, as all but the one that comes along.
    """
    if cfg.PRECISION == 'fp32':
        return
    choose = getattr(caffe, 'set_precision', None)  # no name of pycaffe's
    if choose is None:
        raise ConfigError(f'PRECISION is {cfg.PRECISION}: the Caffe that is imported computes in fp32 alone')
    choose(cfg.PRECISION)


@contextlib.contextmanager
def applied_precision() -> Iterator[None]:
    """`apply_precision`, and as it was before afterwards."""
    tell, choose = (getattr(caffe, f'{verb}_precision', None) for verb in ('get', 'set'))
    before = tell() if tell else None
    apply_precision()
    try:
        yield
    finally:
        if choose and before is not None:
            choose(before)


def note_ranking(layers: Sequence[Any], solver_prototxt: str) -> None:
    """Says so where only what ranks is to be in bf16, and no layer of the net does nothing else."""
    if cfg.PRECISION == 'bf16-ranking' and not any(getattr(layer, 'only_ranks', False) for layer in layers):
        print(
            f'Note: PRECISION is bf16-ranking, and no layer of the net of {solver_prototxt} only ranks, as the '
            'read-only RoI network of an OHEM net does: all is computed in fp32'
        )
