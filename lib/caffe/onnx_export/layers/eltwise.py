"""Elementwise arithmetic of blobs and parameters (caffe.layers.eltwise)."""

from __future__ import annotations

from functools import reduce

from caffe.onnx_export.recipes import Place, exports


@exports('Eltwise')
def eltwise(at: Place) -> str:
    """Add of the bottoms times their coefficients, Mul, or Max."""
    operation = type(at.param).EltwiseOp.Name(at.param.operation)
    if operation == 'MAX':
        return at.graph.op('Max', *at.bottoms)
    terms = at.bottoms
    if operation == 'SUM' and at.param.coeff:
        terms = [at.graph.times(x, c) for x, c in zip(terms, at.param.coeff, strict=True)]
    return reduce(lambda a, b: at.graph.op('Add' if operation == 'SUM' else 'Mul', a, b), terms)


def _along(at: Place, operand: str, axes: int) -> str:
    """An operand of so many axes, made to lie on those of the bottom from param.axis on."""
    trailing = at.rank - at.axis(at.param.axis) - axes if axes else 0
    if not trailing:
        return operand
    return at.graph.op('Unsqueeze', operand, at.graph.ints(range(axes, axes + trailing)))


def _operand(at: Place) -> tuple[str, int]:
    """The second bottom or the first parameter, and how many axes it has."""
    if len(at.bottoms) > 1:
        return at.bottoms[1], len(at.shapes[1])
    return at.weights(0), len(at.param_shape(0))


@exports('Scale')
def scale(at: Place) -> str:
    """Mul, and Add with bias_term."""
    factor, axes = _operand(at)
    y = at.graph.op('Mul', at.x, _along(at, factor, axes))
    if at.param.bias_term:
        y = at.graph.op('Add', y, _along(at, at.weights(len(at.layer.blobs) - 1), axes))
    return y


@exports('Bias')
def bias(at: Place) -> str:
    """Add."""
    return at.graph.op('Add', at.x, _along(at, *_operand(at)))
