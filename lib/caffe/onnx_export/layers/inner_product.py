"""Products with a learned matrix (caffe.layers.inner_product)."""

from __future__ import annotations

import math

import numpy as np

from caffe.onnx_export.recipes import Place, exports


@exports('InnerProduct')
def inner_product(at: Place) -> str:
    """Gemm of the bottom as a matrix."""
    g, axis, outputs = at.graph, at.axis(at.param.axis), at.param.num_output
    inputs = math.prod(at.param_shape(0)) // outputs
    matrix = at.x if axis == 1 and at.rank == 2 else g.op('Reshape', at.x, g.ints([-1, inputs]))
    bias = [at.weights(1)] if at.param.bias_term else []
    y = g.op('Gemm', matrix, at.weights(0), *bias, transB=0 if at.param.transpose else 1)
    return y if axis == 1 else g.reshape(y, [*at.dims()[:axis], outputs])


@exports('Embed')
def embed(at: Place) -> str:
    """Gather of the weights' rows."""
    y = at.graph.op('Gather', at.weights(0), at.graph.cast(at.x, np.int64), axis=0)
    return at.graph.op('Add', y, at.weights(1)) if at.param.bias_term else y
