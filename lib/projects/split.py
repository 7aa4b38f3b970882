"""Which photographs to train, validate and test on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from projects.photographs import Photograph

SPLITS = ('train', 'val', 'test')


def split_photographs(
    photographs: Sequence[Photograph], root: str, shares: Sequence[float], seed: int
) -> dict[str, list[Photograph]]:
    """Photographs dealt to 'train', 'val', 'test' in these shares, each class to each of them where it can be.

    The result depends on seed, file names below root, and classes, not on the kind or the order of labels. Rare classes
    are dealt first, each photograph to the split that lacks most of its class (Sechidis, Tsoumakas, Vlahavas: 'On the
    stratification of multi-label data', 2011).
    """
    named = sorted(photographs, key=lambda p: os.path.relpath(p.path, root).replace(os.sep, '/'))
    order = np.random.default_rng([seed, len(named)]).permutation(len(named))
    pending = [named[i] for i in order]
    share = np.asarray(shares, np.float64) / np.sum(shares)
    room = share * len(pending)
    wanted = {name: share * n for name, n in sorted(_images_of_class(pending).items())}
    dealt: dict[str, list[Photograph]] = {name: [] for name in SPLITS}
    while pending:
        left = _images_of_class(pending)
        rarest = min(left, key=lambda name: (left[name], name)) if left else None
        batch = [p for p in pending if rarest is None or rarest in _classes(p)]
        for photograph in batch:
            need = room if rarest is None else wanted[rarest]
            # ties go to where there is most room, then to training
            to = max(range(len(SPLITS)), key=lambda k: (share[k] > 0, round(need[k], 9), round(room[k], 9), -k))
            dealt[SPLITS[to]].append(photograph)
            room[to] -= 1
            for name in _classes(photograph):
                wanted[name][to] -= 1
        taken = {id(p) for p in batch}
        pending = [p for p in pending if id(p) not in taken]
    return {name: sorted(part, key=lambda p: p.path) for name, part in dealt.items()}


def given_split(photographs: Sequence[Photograph]) -> dict[str, list[Photograph]] | None:
    """The split that the folders of the photographs say; None unless all say one and some are to train on."""
    if not all(p.split for p in photographs) or not any(p.split == 'train' for p in photographs):
        return None
    return {name: [p for p in photographs if p.split == name] for name in SPLITS}


def _classes(photograph: Photograph) -> set[str]:
    return {box.name for box in photograph.boxes if not box.ignored}


def _images_of_class(photographs: Sequence[Photograph]) -> Counter:
    return Counter(name for p in photographs for name in _classes(p))
