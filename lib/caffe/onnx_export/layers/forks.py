"""Types of Caffe's forks: R-FCN's, SSD's and those of one layer each (caffe.layers.rfcn, .ssd, .senet, ...)."""

from __future__ import annotations

from caffe.onnx_export.recipes import Place, exports, no_equivalent

for _type in ('BoxAnnotatorOHEM', 'SoftmaxWithLossOHEM', 'SmoothL1LossOHEM', 'MultiBoxLoss'):
    no_equivalent(_type, 'it is for training alone')
for _type in ('DetectionOutput', 'Proposal'):
    no_equivalent(_type, 'its recipe is not written; export the net up to its bottoms')
for _type in ('BN', 'Interp', 'Normalize', 'PSROIPooling', 'PriorBox', 'ROIAlign'):
    no_equivalent(_type, 'its recipe is not written')


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


@exports('ReLU6')
def relu6(at: Place) -> str:
    """Clip; with a slope, Min, Mul and Add."""
    g = at.graph
    y = g.op('Clip', at.x, g.constant(0), g.constant(6))
    if not at.param.negative_slope:
        return y
    return g.op('Add', y, g.times(g.op('Min', at.x, g.constant(0)), at.param.negative_slope))
