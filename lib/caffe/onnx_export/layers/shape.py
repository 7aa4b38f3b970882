"""Layers that change only the shape (caffe.layers.shape)."""

from __future__ import annotations

from caffe.onnx_export.recipes import Place, exports


@exports('Flatten')
def flatten(at: Place) -> str:
    """Reshape of one axis out of several."""
    start, end = at.axis(at.param.axis), at.axis(at.param.end_axis)
    dims = at.dims()
    return at.graph.reshape(at.x, [*dims[:start], at.graph.product(dims[start : end + 1]), *dims[end + 1 :]])


@exports('Reshape')
def reshape(at: Place) -> str:
    """Reshape, the lengths that stay taken from the bottom."""
    start = at.param.axis if at.param.axis >= 0 else at.rank + at.param.axis + 1
    end = at.rank if at.param.num_axes == -1 else start + at.param.num_axes
    dims = at.dims()
    new = [dims[start + i] if d == 0 else d for i, d in enumerate(at.param.shape.dim)]
    return at.graph.reshape(at.x, [*dims[:start], *new, *dims[end:]])
