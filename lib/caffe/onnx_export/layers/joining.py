"""Layers that put blobs together and take them apart (caffe.layers.joining)."""

from __future__ import annotations

from itertools import pairwise

from caffe.onnx_export.recipes import Place, exports


def _axis(at: Place, old_field: str) -> int:
    return getattr(at.param, old_field) if at.param.HasField(old_field) else at.axis(at.param.axis)


@exports('Concat')
def concat(at: Place) -> str:
    """Concat."""
    return at.graph.op('Concat', *at.bottoms, axis=_axis(at, 'concat_dim'))


@exports('Slice')
def slice_(at: Place) -> list[str]:
    """Split, by lengths or evenly; Slice where the length of the last part is the input's to say."""
    axis, points = _axis(at, 'slice_dim'), list(at.param.slice_point)
    length = at.shapes[0][axis]
    if at.n_tops == 1:
        return [at.graph.op('Identity', at.x)]
    if not points:
        return at.graph.ops('Split', at.n_tops, at.x, axis=axis, num_outputs=at.n_tops)
    if length is not None:
        sizes = [b - a for a, b in pairwise([0, *points, length])]
        return at.graph.ops('Split', at.n_tops, at.x, at.graph.ints(sizes), axis=axis)
    edges = pairwise([0, *points, 2**62])
    ints = at.graph.ints
    return [at.graph.op('Slice', at.x, ints(a), ints(b), ints(axis)) for a, b in edges]


@exports('Split')
def split(at: Place) -> list[str]:
    """Nothing: a value may have several readers."""
    return at.bottoms * at.n_tops


@exports('Tile')
def tile(at: Place) -> str:
    """Tile."""
    repeats = [1] * at.rank
    repeats[at.axis(at.param.axis)] = at.param.tiles
    return at.graph.op('Tile', at.x, at.graph.ints(repeats))


@exports('Crop')
def crop(at: Place) -> str:
    """Slice, to the lengths of the second bottom."""
    start, g = at.axis(at.param.axis), at.graph
    axes = range(start, at.rank)
    offsets = list(at.param.offset) or [0]
    if len(offsets) == 1:
        offsets *= len(axes)
    sizes = at.dims(1)
    ends = [g.calculate('Add', sizes[axis], offset) for axis, offset in zip(axes, offsets, strict=True)]
    return g.op('Slice', at.x, g.ints(offsets), g.as_value(ends), g.ints(axes))
