"""Losses and Accuracy, for nets that take labels as an input (caffe.layers.loss, caffe.layers.accuracy).

A deploy.prototxt has none of them. Labels are not checked: one outside the classes gives a wrong number.
"""

from __future__ import annotations

import numpy as np

from caffe.layers.loss import FLT_MIN, LOG_THRESHOLD, normalization_mode
from caffe.onnx_export.recipes import Place, exports


def _total(at: Place, x: str) -> str:
    """The sum of all numbers, without axes."""
    return at.graph.op('ReduceSum', x, keepdims=0)


def _number(at: Place, dims) -> str:
    """A product of lengths as a float without axes, at least 1."""
    g = at.graph
    count = g.calculate('Max', g.product(dims), 1)
    return g.op('Squeeze', g.cast(g.as_value([count]), np.float32), g.ints(0))


def _over_rows(at: Place, x: str, half: bool = False) -> str:
    """The sum of x divided by the rows of the first bottom, and by 2."""
    mean = at.graph.op('Div', _total(at, x), _number(at, at.dims()[:1]))
    return at.graph.times(mean, 0.5) if half else mean


def _clamped(at: Place, x: str, least: float = 0) -> str:
    return at.graph.op('Max', x, at.graph.constant(least))


def _like(at: Place, x: str, other: str) -> str:
    """x in the shape of another."""
    return at.graph.op('Reshape', x, at.graph.op('Shape', other))


def _difference(at: Place) -> str:
    return at.graph.op('Sub', at.x, _like(at, at.bottoms[1], at.x))


def _flat_classes(at: Place, axis: int) -> list:
    """(outer, classes, inner) as lengths."""
    dims = at.dims()
    return [at.graph.product(dims[:axis]), dims[axis], at.graph.product(dims[axis + 1 :])]


def _labels(at: Place, shape: list, ignore: int | None) -> tuple[str, str | None]:
    """Labels (outer, 1, inner) int64, 0 where ignored, and a mask of those that count."""
    g = at.graph
    labels = g.cast(g.reshape(at.bottoms[1], [shape[0], 1, shape[2]]), np.int64)
    if ignore is None:
        return labels, None
    valid = g.op('Not', g.op('Equal', labels, g.ints(ignore)))
    return g.op('Where', valid, labels, g.ints(0)), valid


def _ignored(param) -> int | None:
    return param.ignore_label if param.HasField('ignore_label') else None


def _normalized(at: Place, losses: str, mode: str, outer: list, inner: list, valid: str | None) -> str:
    """The sum of the losses that count, divided as LossParameter.normalization says."""
    g = at.graph
    if valid is not None:
        losses = g.op('Where', valid, losses, g.constant(0))
    total = _total(at, losses)
    if mode == 'VALID' and valid is not None:
        return g.op('Div', total, _clamped(at, _total(at, g.cast(valid, np.float32)), 1))
    dims = {'FULL': [*outer, *inner], 'VALID': [*outer, *inner], 'BATCH_SIZE': outer, 'NONE': []}[mode]
    return g.op('Div', total, _number(at, dims))


def _softmaxed(at: Place, axis: int) -> tuple[list, str, str, str | None]:
    """What losses of a softmax have in common: its shape (outer, classes, inner), the softmax, labels and mask."""
    g = at.graph
    shape = _flat_classes(at, axis)
    prob = g.op('Softmax', at.x, axis=axis)
    labels, valid = _labels(at, shape, _ignored(at.layer.layer_param.loss_param))
    return shape, prob, labels, valid


@exports('SoftmaxWithLoss')
def softmax_with_loss(at: Place) -> list[str]:
    """Softmax, GatherElements and Log."""
    g = at.graph
    shape, prob, labels, valid = _softmaxed(at, at.axis(at.layer.layer_param.softmax_param.axis))
    picked = g.op('GatherElements', g.reshape(prob, shape), labels, axis=1)
    losses = g.op('Neg', g.op('Log', _clamped(at, picked, FLT_MIN)))
    mode = normalization_mode(at.layer.layer_param.loss_param)
    return [_normalized(at, losses, mode, [shape[0]], [shape[2]], valid), prob][: max(at.n_tops, 1)]


@exports('InfogainLoss')
def infogain_loss(at: Place) -> list[str]:
    """Softmax, Gather of the matrix's rows and Log."""
    g = at.graph
    shape, prob, labels, valid = _softmaxed(at, at.axis(at.param.axis))
    matrix = at.bottoms[2] if len(at.bottoms) > 2 else g.constant(at.layer.matrix.data)
    rows = g.op('Gather', g.reshape(matrix, [shape[1], shape[1]]), g.op('Squeeze', labels, g.ints(1)), axis=0)
    rows = g.op('Transpose', rows, perm=[0, 2, 1])
    logs = g.op('Log', _clamped(at, g.reshape(prob, shape), LOG_THRESHOLD))
    losses = g.op('Neg', g.op('ReduceSum', g.op('Mul', rows, logs), g.ints(1), keepdims=1))
    mode = normalization_mode(at.layer.layer_param.loss_param)
    return [_normalized(at, losses, mode, [shape[0]], [shape[2]], valid), prob][: max(at.n_tops, 1)]


@exports('SigmoidCrossEntropyLoss')
def sigmoid_cross_entropy_loss(at: Place) -> str:
    """max(x, 0) - x * t + Softplus(-|x|)."""
    g = at.graph
    targets = _like(at, at.bottoms[1], at.x)
    losses = g.op('Sub', _clamped(at, at.x), g.op('Mul', at.x, targets))
    losses = g.op('Add', losses, g.op('Softplus', g.op('Neg', g.op('Abs', at.x))))
    loss_param, valid = at.layer.layer_param.loss_param, None
    if (ignore := _ignored(loss_param)) is not None:
        valid = g.op('Not', g.op('Equal', g.cast(targets, np.int64), g.ints(ignore)))
    dims = at.dims()
    return _normalized(at, losses, normalization_mode(loss_param, 'BATCH_SIZE'), dims[:1], dims[1:], valid)


@exports('EuclideanLoss')
def euclidean_loss(at: Place) -> str:
    """ReduceSum of squares."""
    diff = _difference(at)
    return _over_rows(at, at.graph.op('Mul', diff, diff), half=True)


@exports('SmoothL1Loss')
def smooth_l1_loss(at: Place) -> str:
    """Where between the parabola and the line."""
    g, sigma2 = at.graph, at.param.sigma**2
    diff = _difference(at)
    if len(at.bottoms) > 2:
        diff = g.op('Mul', diff, _like(at, at.bottoms[2], at.x))
    size = g.op('Abs', diff)
    near = g.op('Less', size, g.constant(1 / sigma2))
    errors = g.op(
        'Where', near, at.graph.times(g.op('Mul', diff, diff), 0.5 * sigma2), at.graph.plus(size, -0.5 / sigma2)
    )
    if len(at.bottoms) > 3:
        errors = g.op('Mul', errors, _like(at, at.bottoms[3], at.x))
    return _over_rows(at, errors)


@exports('HingeLoss')
def hinge_loss(at: Place) -> str:
    """Margins of scores against the OneHot labels."""
    g = at.graph
    scores = g.op('Flatten', at.x, axis=1)
    classes = g.product(at.dims()[1:])
    labels = g.cast(g.reshape(at.bottoms[1], [-1]), np.int64)
    sign = g.op('OneHot', labels, g.as_value([classes]), g.constant([1, -1]), axis=1)
    margin = _clamped(at, at.graph.plus(g.op('Mul', sign, scores), 1))
    is_l2 = at.param.norm == type(at.param).L2
    return _over_rows(at, g.op('Mul', margin, margin) if is_l2 else margin)


@exports('ContrastiveLoss')
def contrastive_loss(at: Place) -> str:
    """ReduceSumSquare of the pairs' differences, and Where."""
    g, margin = at.graph, at.param.margin
    diff = g.op('Flatten', _difference(at), axis=1)
    dist_sq = g.op('ReduceSumSquare', diff, g.ints(1), keepdims=1)
    similar = g.cast(g.cast(g.reshape(at.bottoms[2], [-1, 1]), np.int64), bool)
    dist = dist_sq if at.param.legacy_version else g.op('Sqrt', dist_sq)
    missing = _clamped(at, g.op('Sub', g.constant(margin), dist))
    apart = missing if at.param.legacy_version else g.op('Mul', missing, missing)
    return _over_rows(at, g.op('Where', similar, dist_sq, apart), half=True)


@exports('MultinomialLogisticLoss')
def multinomial_logistic_loss(at: Place) -> str:
    """GatherElements and Log."""
    g = at.graph
    labels = g.cast(g.reshape(at.bottoms[1], [-1, 1]), np.int64)
    picked = g.op('GatherElements', g.op('Flatten', at.x, axis=1), labels, axis=1)
    return g.op('Neg', _over_rows(at, g.op('Log', _clamped(at, picked, LOG_THRESHOLD))))


@exports('Accuracy')
def accuracy(at: Place) -> list[str]:
    """How many scores reach the label's, compared with top_k."""
    g = at.graph
    shape = _flat_classes(at, at.axis(at.param.axis))
    scores = g.reshape(at.x, shape)
    labels, valid = _labels(at, shape, _ignored(at.param))
    own = g.op('GatherElements', scores, labels, axis=1)
    reach = g.cast(g.op('GreaterOrEqual', scores, own), np.int64)
    right = g.op('LessOrEqual', g.op('ReduceSum', reach, g.ints(1), keepdims=1), g.ints(at.param.top_k))
    right = g.cast(right if valid is None else g.op('And', right, valid), np.float32)
    counted = g.op('Expand', g.constant(1), g.op('Shape', right)) if valid is None else g.cast(valid, np.float32)
    tops = [g.op('Div', _total(at, right), _clamped(at, _total(at, counted), 1))]
    if at.n_tops > 1:
        count = g.op('Squeeze', g.as_value([shape[1]]), g.ints(0))
        classes = g.op('Range', g.constant(0, np.int64), count, g.constant(1, np.int64))
        member = g.cast(g.op('Equal', g.reshape(labels, [-1, 1]), classes), np.float32)

        def per_class(x: str) -> str:
            return g.op('ReduceSum', g.op('Mul', member, g.reshape(x, [-1, 1])), g.ints(0), keepdims=0)

        tops.append(g.op('Div', per_class(right), _clamped(at, per_class(counted), 1)))
    return tops
