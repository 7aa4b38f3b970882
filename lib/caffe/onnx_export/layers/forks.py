"""Types of Caffe's forks: R-FCN's, SSD's and those of one layer each (caffe.layers.rfcn, .ssd, .senet, ...)."""

from __future__ import annotations

from caffe.onnx_export.recipes import Place, exports, no_equivalent
from caffe.proto import caffe_pb2

for _type in ('BoxAnnotatorOHEM', 'SoftmaxWithLossOHEM', 'SmoothL1LossOHEM', 'MultiBoxLoss'):
    no_equivalent(_type, 'it is for training alone')


@exports('Permute')
def permute(at: Place) -> str:
    """Transpose."""
    named = list(at.param.order)
    order = [*named, *(axis for axis in range(at.rank) if axis not in named)]
    return at.graph.op('Transpose', at.x, perm=order)


@exports('Axpy')
def axpy(at: Place) -> str:
    """Mul and Add."""
    g, dims = at.graph, at.dims()
    scale = g.reshape(at.x, [*dims[:2], *[1] * (len(at.shapes[1]) - 2)])
    return g.op('Add', g.op('Mul', scale, at.bottoms[1]), at.bottoms[2])


@exports('ShuffleChannel')
def shuffle_channel(at: Place) -> str:
    """Reshape, Transpose, Reshape."""
    g, dims, group = at.graph, at.dims(), at.param.group
    parts = g.reshape(at.x, [dims[0], group, -1, *dims[2:]])
    order = [0, 2, 1, *range(3, at.rank + 1)]
    return g.reshape(g.op('Transpose', parts, perm=order), dims)


@exports('Normalize')
def normalize(at: Place) -> str:
    """x divided by the root of ReduceSum of squares, times the scale."""
    g = at.graph
    axes = list(range(1, at.rank)) if at.param.across_spatial else [1]
    squares = g.op('ReduceSum', g.op('Mul', at.x, at.x), g.ints(axes), keepdims=1)
    scaled = g.op('Div', at.x, g.op('Sqrt', g.plus(squares, at.param.eps)))
    return g.op('Mul', scaled, g.reshape(at.weights(0), [-1, *[1] * (at.rank - 2)]))


@exports('BN')
def bn(at: Place) -> str:
    """Scale and shift of x less its mean, over its deviation: as gathered, or by ReduceMean where the layer says so."""
    g, param, of_segnet = at.graph, at.param, at.layer._segnet
    slope, bias, *gathered = (
        g.reshape(at.weights(k), [1, -1, *[1] * (at.rank - 2)]) for k in range(len(at.layer.blobs))
    )
    if of_segnet and param.bn_mode == caffe_pb2.BNParameter.INFERENCE:
        return g.op('Add', g.op('Mul', at.x, slope), bias)
    if of_segnet or (at.layer.phase == caffe_pb2.TRAIN and not param.frozen):
        axes = g.ints([k for k in range(at.rank) if k != 1])
        mean = g.op('ReduceMean', at.x, axes, keepdims=1)
        centred = g.op('Sub', at.x, mean)
        variance = g.op('ReduceMean', g.op('Mul', centred, centred), axes, keepdims=1)
    else:
        mean, variance = gathered
        centred = g.op('Sub', at.x, mean)
    deviation = g.op('Sqrt', g.plus(variance, param.var_eps if of_segnet else param.eps))
    return g.op('Add', g.op('Mul', slope, g.op('Div', centred, deviation)), bias)


@exports('Interp')
def interp(at: Place) -> str:
    """Slice, where pixels are cut off, and Resize, corners on corners."""
    g, p = at.graph, at.param
    num, channels, *size = at.dims()
    x = at.x
    if p.pad_beg or p.pad_end:
        ends = [p.pad_end or 2**31 - 1] * 2
        x = g.op('Slice', x, g.ints([-p.pad_beg] * 2), g.ints(ends), g.ints([2, 3]))
        size = [g.calculate('Sub', n, -(p.pad_beg + p.pad_end)) for n in size]
    if len(at.bottoms) == 2:
        size = at.dims(1)[2:]
    elif p.HasField('height'):
        size = [p.height, p.width]
    else:
        size = [g.calculate('Add', g.calculate('Div', g.calculate('Sub', n, 1), p.shrink_factor), 1) for n in size]
        size = [g.calculate('Add', n, g.calculate('Mul', g.calculate('Sub', n, 1), p.zoom_factor - 1)) for n in size]
    return g.op(
        'Resize', x, '', '', g.as_value([num, channels, *size]),
        mode='linear', coordinate_transformation_mode='align_corners',
    )  # fmt: skip


@exports('ReLU6')
def relu6(at: Place) -> str:
    """Clip; with a slope, Min, Mul and Add."""
    g = at.graph
    y = g.op('Clip', at.x, g.constant(0), g.constant(6))
    if not at.param.negative_slope:
        return y
    return g.op('Add', y, g.times(g.op('Min', at.x, g.constant(0)), at.param.negative_slope))
