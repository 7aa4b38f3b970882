"""Layers that divide by the strength of a neighbourhood or of a batch (caffe.layers.normalization)."""

from __future__ import annotations

import numpy as np

from caffe.layer import Phase
from caffe.onnx_export.recipes import Place, exports
from caffe.proto import caffe_pb2


@exports('LRN')
def lrn(at: Place) -> str:
    """LRN across channels; within a channel by AveragePool, zeros around the image included."""
    p, g = at.param, at.graph
    if p.norm_region == caffe_pb2.LRNParameter.ACROSS_CHANNELS:
        return g.op('LRN', at.x, alpha=p.alpha, beta=p.beta, bias=p.k, size=p.local_size)
    mean = g.op(
        'AveragePool', g.op('Mul', at.x, at.x), kernel_shape=[p.local_size] * 2, pads=[p.local_size // 2] * 4,
        count_include_pad=1,
    )  # fmt: skip
    return g.op('Mul', at.x, g.op('Pow', at.graph.plus(at.graph.times(mean, p.alpha), 1), g.constant(-p.beta)))


@exports('BatchNorm')
def batch_norm(at: Place) -> str:
    """BatchNormalization with the gathered statistics; those of the batch by ReduceMean where the layer says so."""
    g, epsilon = at.graph, at.param.eps
    gathered = at.layer.phase == Phase.TEST
    if at.param.HasField('use_global_stats'):
        gathered = at.param.use_global_stats
    if gathered:
        mean, variance, weight = (blob.data for blob in at.layer.blobs)
        factor = np.float32(0 if weight[0] == 0 else 1 / weight[0])
        mean, variance = mean * factor, variance * factor
        if at.rank < 2:
            return g.op('Div', g.op('Sub', at.x, g.constant(mean)), g.constant(np.sqrt(variance + np.float32(epsilon))))
        ones = np.ones_like(mean)
        return g.op('BatchNormalization', at.x, *map(g.constant, (ones, 0 * ones, mean, variance)), epsilon=epsilon)
    axes = g.ints([k for k in range(at.rank) if k != 1])
    centred = g.op('Sub', at.x, g.op('ReduceMean', at.x, axes, keepdims=1))
    variance = g.op('ReduceMean', g.op('Mul', centred, centred), axes, keepdims=1)
    return g.op('Div', centred, g.op('Sqrt', at.graph.plus(variance, epsilon)))


@exports('MVN')
def mvn(at: Place) -> str:
    """x minus ReduceMean, divided by the deviation."""
    g = at.graph
    x = g.reshape(at.x, [*at.dims(), *[1] * (4 - at.rank)]) if at.rank < 4 else at.x
    axes = g.ints([1, 2, 3] if at.param.across_channels else [2, 3])
    y = g.op('Sub', x, g.op('ReduceMean', x, axes, keepdims=1))
    if at.param.normalize_variance:
        deviation = g.op('Sqrt', g.op('ReduceMean', g.op('Mul', y, y), axes, keepdims=1))
        y = g.op('Div', y, at.graph.plus(deviation, at.param.eps))
    return y
