"""Running a net on more items than its batch holds: forward_all and forward_backward_all (pycaffe.py).

These functions are methods of Net.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Protocol

import numpy as np

from caffe.blob import Blob


class Runnable(Protocol):
    """What is asked of a net here."""

    inputs: list[str]
    outputs: list[str]
    blobs: OrderedDict[str, Blob]

    def forward(self, blobs: Iterable[str] | None = None, **inputs) -> dict[str, np.ndarray]: ...

    def backward(self, diffs: Iterable[str] | None = None, **top_diffs) -> dict[str, np.ndarray]: ...

    def _batch(self, blobs: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]: ...


def forward_all(net: Runnable, blobs: Iterable[str] | None = None, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Runs the net on all items of the inputs, batch by batch; the last one is filled up with zeros.

    inputs: an array for every input blob, by name; any number of items, the same for all. Returns the outputs
    and the extra `blobs`, name -> array over all items; what has no items (a loss) comes once a batch.
    """
    count, size = _item_count(inputs, net.inputs), _batch_size(net)
    parts: list[dict] = []
    for batch in net._batch(inputs):
        parts.append(_copies(net.forward(blobs=blobs, **batch)))
    return _joined(parts, size, count)


def forward_backward_all(
    net: Runnable, blobs: Iterable[str] | None = None, diffs: Iterable[str] | None = None, **arrays: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Runs the net forward and backward on all items, batch by batch; the last one is filled up with zeros.

    arrays: data for the input blobs and diffs for the output blobs, by name. Without any of either the blobs
    stay as set. Returns the outputs and extra `blobs`, and the diffs of the inputs and of the extra `diffs`.
    """
    count, size = _item_count(arrays, [*net.inputs, *net.outputs]), _batch_size(net)
    forward = {name: arrays[name] for name in net.inputs if name in arrays}
    backward = {name: arrays[name] for name in net.outputs if name in arrays}
    out_parts, diff_parts = [], []
    nothing: dict[str, np.ndarray] = {}
    for inputs, top_diffs in zip_longest(_batches(net, forward), _batches(net, backward), fillvalue=nothing):
        out_parts.append(_copies(net.forward(blobs=blobs, **inputs)))
        diff_parts.append(_copies(net.backward(diffs=diffs, **top_diffs)))
    return _joined(out_parts, size, count), _joined(diff_parts, size, count)


def batch(net: Runnable, blobs: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The arrays in pieces of the net's batch size (its first blob's); the last is filled up with zeros."""
    size = _batch_size(net)
    for start in range(0, len(next(iter(blobs.values()))), size):
        piece = {name: np.asarray(array[start : start + size]) for name, array in blobs.items()}
        missing = size - len(next(iter(piece.values())))
        yield {name: np.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1)) for name, a in piece.items()}


def _batches(net: Runnable, arrays: dict) -> Iterator[dict]:
    return net._batch(arrays) if arrays else iter(())


def _batch_size(net: Runnable) -> int:
    return next(iter(net.blobs.values())).shape[0]


def _item_count(arrays: dict, names: list[str]) -> int:
    """The number of items of all arrays. Raises ValueError where there are none, or several numbers."""
    counts = {name: len(array) for name, array in arrays.items()}
    unknown = set(counts) - set(names)
    if not counts or unknown or len(set(counts.values())) != 1 or 0 in counts.values():
        raise ValueError(
            f'arrays of one number of items, at least 1, are expected for {", ".join(names) or "no blob"}; '
            f'given {counts or "none"}'
        )
    return next(iter(counts.values()))


def _copies(outs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in outs.items()}


def _joined(parts: list[dict[str, np.ndarray]], batch_size: int, count: int) -> dict[str, np.ndarray]:
    """Each blob's arrays of all batches in one, without the rows of zeros at the end."""
    joined = {}
    for name, first in parts[0].items():
        rows = np.concatenate([np.atleast_1d(part[name]) for part in parts])
        per_item, rest = divmod(len(first), batch_size) if first.ndim else (0, 1)
        joined[name] = rows if rest else rows[: count * per_item]
    return joined
