"""Layers that choose, reduce or end blobs (caffe.layers.selection)."""

from __future__ import annotations

import numpy as np

from caffe.onnx_export.recipes import Place, exports


@exports('ArgMax')
def argmax(at: Place) -> str:
    """TopK of the reversed axis, since of equal values Caffe takes the last and TopK the first."""
    g, k = at.graph, at.param.top_k
    along = at.param.HasField('axis')
    x, axis = (at.x, at.axis(at.param.axis)) if along else (g.op('Flatten', at.x, axis=1), 1)
    values, places = g.ops(
        'TopK', 2, g.op('Slice', x, g.ints(-1), g.ints(-(2**62)), g.ints(axis), g.ints(-1)), g.ints(k), axis=axis
    )
    last = g.op('Sub', g.dim(x, axis), g.ints(1))
    indices = g.cast(g.op('Sub', last, places), np.float32)
    if along:
        return values if at.param.out_max_val else indices
    rows = [g.reshape(y, [at.dims()[0], 1, k, *[1] * (at.rank - 3)]) for y in (indices, values)]
    return g.op('Concat', *rows, axis=1) if at.param.out_max_val else rows[0]


@exports('Filter')
def filter_(at: Place) -> list[str]:
    """Gather of the items for which the selector is not 0."""
    g = at.graph
    selector = g.cast(g.reshape(at.bottoms[-1], [-1]), bool)
    chosen = g.reshape(g.op('NonZero', selector), [-1])
    return [g.op('Gather', x, chosen, axis=0) for x in at.bottoms[:-1]]


@exports('BatchReindex')
def batch_reindex(at: Place) -> str:
    """Gather."""
    return at.graph.op('Gather', at.x, at.graph.cast(at.bottoms[1], np.int64), axis=0)


@exports('Reduction')
def reduction(at: Place) -> str:
    """ReduceSum, ReduceL1, ReduceSumSquare or ReduceMean of the axes from `axis` on."""
    operation = type(at.param).ReductionOp.Name(at.param.operation)
    kind = {'SUM': 'ReduceSum', 'ASUM': 'ReduceL1', 'SUMSQ': 'ReduceSumSquare', 'MEAN': 'ReduceMean'}[operation]
    axes = at.graph.ints(range(at.axis(at.param.axis), at.rank))
    return at.graph.times(at.graph.op(kind, at.x, axes, keepdims=0), at.param.coeff)


@exports('Silence')
def silence(at: Place) -> list[str]:
    """Nothing."""
    return []
