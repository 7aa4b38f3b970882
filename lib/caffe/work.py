"""How much work a layer does: multiply-adds, from shapes alone.

One multiplication and the addition of its product count as one. Counted are the types whose products cost
the time of a net: filters, matrices, and what scales or averages element by element. Types that only compare,
move or add (ReLU, MAX pooling, Concat, data) count 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

Shape = tuple[int, ...]
Shapes = Sequence[Shape]


class LayerShapes(NamedTuple):
    """What the work of a layer depends on: its LayerParameter and the shapes of its blobs."""

    param: Any
    bottoms: Shapes
    tops: Shapes
    params: Shapes


def forward(layer: LayerShapes) -> int:
    """The multiply-adds of one forward pass."""
    count = _COUNTS.get(layer.param.type)
    return count(layer) if count is not None else 0


def backward(layer: LayerShapes, params_learn: Sequence[bool], bottoms_need: Sequence[bool]) -> int:
    """The multiply-adds of one backward pass.

    Layers with parameters do the work of a forward pass once for the gradient of the weights, if those learn,
    and once for that of the bottoms, if it is needed. Others do it once.
    """
    passes = any(bottoms_need) + bool(layer.params and any(params_learn))
    return forward(layer) * passes


# ---- Each type


def _size(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _convolution(layer: LayerShapes) -> int:
    """Each number of a top is a product of one filter, C / group x kernel, with the pixels under it."""
    return _size(layer.tops) * math.prod(layer.params[0][1:])


def _deconvolution(layer: LayerShapes) -> int:
    """Each number of a bottom multiplies one filter, num_output / group x kernel."""
    return _size(layer.bottoms) * math.prod(layer.params[0][1:])


def _inner_product(layer: LayerShapes) -> int:
    """The matrix once for each row; one of its axes is num_output, the last axis of the top."""
    rows = _size(layer.tops) // layer.tops[0][-1] if layer.tops[0][-1] else 0
    return rows * math.prod(layer.params[0])


def _recurrent(layer: LayerShapes) -> int:
    """Each matrix once for each step and stream; the static input's once for each stream."""
    steps, streams = layer.bottoms[0][:2]
    matrices = [math.prod(shape) for shape in layer.params if len(shape) == 2]
    has_static = len(matrices) > {'LSTM': 2, 'RNN': 3}[layer.param.type]
    static = matrices.pop(1) if has_static else 0
    return streams * (steps * sum(matrices) + static)


def _pooling(layer: LayerShapes) -> int:
    """Averages: an addition for each pixel under each window. MAX and STOCHASTIC compare."""
    param = layer.param.pooling_param
    if param.pool != param.AVE:
        return 0
    height, width = param.kernel_h or param.kernel_size, param.kernel_w or param.kernel_size
    if param.global_pooling:
        height, width = layer.bottoms[0][2:]
    return math.prod(layer.tops[0]) * height * width


def _lrn(layer: LayerShapes) -> int:
    """A square for each neighbour, then the scaling of the element."""
    param = layer.param.lrn_param
    neighbours = param.local_size ** (2 if param.norm_region == param.WITHIN_CHANNEL else 1)
    return _size(layer.tops) * (neighbours + 1)


def _each_element(layer: LayerShapes) -> int:
    return _size(layer.tops)


def _each_input(layer: LayerShapes) -> int:
    """PROD and SUM: each element of each bottom. MAX compares."""
    param = layer.param.eltwise_param
    return 0 if param.operation == param.MAX else _size(layer.bottoms)


def _reduction(layer: LayerShapes) -> int:
    return math.prod(layer.bottoms[0])


_COUNTS = {
    'Axpy': _each_element,
    'BN': _each_element,
    'BatchNorm': _each_element,
    'Convolution': _convolution,
    'ConvolutionDepthwise': _convolution,
    'Deconvolution': _deconvolution,
    'DepthwiseConvolution': _convolution,
    'Eltwise': _each_input,
    'EuclideanLoss': _reduction,
    'InnerProduct': _inner_product,
    'LRN': _lrn,
    'LSTM': _recurrent,
    'MVN': _each_element,
    'Normalize': _each_element,
    'PReLU': _each_element,
    'Pooling': _pooling,
    'Power': _each_element,
    'RNN': _recurrent,
    'Reduction': _reduction,
    'Scale': _each_element,
    'SmoothL1Loss': _reduction,
}
