"""Layers that compute each element of the top from the same element of the bottom (caffe.layers.activation)."""

from __future__ import annotations

import math

from numpy import float32

from caffe.onnx_export.recipes import Place, exports


@exports('ReLU')
def relu(at: Place) -> str:
    """Relu, or LeakyRelu with a slope."""
    slope = at.param.negative_slope
    return at.graph.op('LeakyRelu', at.x, alpha=slope) if slope else at.graph.op('Relu', at.x)


@exports('PReLU')
def prelu(at: Place) -> str:
    """PRelu, the slopes along axis 1."""
    slopes = at.graph.op('Reshape', at.weights(0), at.graph.ints([-1] + [1] * (at.rank - 2)))
    return at.graph.op('PRelu', at.x, slopes)


@exports('ELU')
def elu(at: Place) -> str:
    """Elu."""
    return at.graph.op('Elu', at.x, alpha=at.param.alpha)


@exports('Sigmoid')
def sigmoid(at: Place) -> str:
    """Sigmoid."""
    return at.graph.op('Sigmoid', at.x)


@exports('TanH')
def tanh(at: Place) -> str:
    """Tanh."""
    return at.graph.op('Tanh', at.x)


@exports('BNLL')
def bnll(at: Place) -> str:
    """Softplus."""
    return at.graph.op('Softplus', at.x)


@exports('Swish')
def swish(at: Place) -> str:
    """x * Sigmoid(beta * x)."""
    return at.graph.op('Mul', at.x, at.graph.op('Sigmoid', at.graph.times(at.x, at.param.beta)))


@exports('AbsVal')
def absval(at: Place) -> str:
    """Abs."""
    return at.graph.op('Abs', at.x)


@exports('Clip')
def clip(at: Place) -> str:
    """Clip."""
    return at.graph.op('Clip', at.x, at.graph.constant(at.param.min), at.graph.constant(at.param.max))


@exports('Exp')
def exp(at: Place) -> str:
    """Exp(ln(base) * scale * x) times base ** shift."""
    log_base = 1.0 if at.param.base == -1 else math.log(at.param.base)
    power = at.graph.op('Exp', at.graph.times(at.x, log_base * at.param.scale))
    return at.graph.times(power, math.exp(log_base * at.param.shift))


@exports('Log')
def log(at: Place) -> str:
    """Log(shift + scale * x) / ln(base)."""
    inner = at.graph.plus(at.graph.times(at.x, at.param.scale), at.param.shift)
    return at.graph.times(at.graph.op('Log', inner), 1.0 if at.param.base == -1 else 1 / math.log(at.param.base))


@exports('Power')
def power(at: Place) -> str:
    """Pow(shift + scale * x, power); a constant where x counts for nothing."""
    p = at.param
    if p.power * p.scale == 0:
        value = at.graph.constant(1.0 if p.power == 0 else p.shift**p.power)
        return at.graph.op('Expand', value, at.graph.op('Shape', at.x))
    inner = at.graph.plus(at.graph.times(at.x, p.scale), p.shift)
    if p.power == 1:
        return inner if inner != at.x else at.graph.op('Identity', inner)
    return at.graph.op('Pow', inner, at.graph.constant(p.power))


@exports('Threshold')
def threshold(at: Place) -> str:
    """Greater, as 0 and 1."""
    return at.graph.cast(at.graph.op('Greater', at.x, at.graph.constant(at.param.threshold)), float32)
