"""Elementwise arithmetic of blobs and parameters: Eltwise, Scale, Bias. All may work in place."""

from __future__ import annotations

import math

import torch

from caffe.blob import Blob
from caffe.layer import Layer, LayerError, register
from caffe.layers.axes import canonical_axis


@register('Eltwise')
class Eltwise(Layer):
    """The sum (with coefficients), product or maximum of bottoms of one shape (eltwise_layer.cpp)."""

    param_field = 'eltwise_param'
    num_bottom = (2, None)
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        kinds = type(self.param)
        self.operation = kinds.EltwiseOp.Name(self.param.operation)
        coeff = list(self.param.coeff)
        if coeff and len(coeff) != len(bottom):
            raise LayerError(
                f'Eltwise Layer takes one coefficient per bottom blob: {len(coeff)} for {len(bottom)} bottoms'
            )
        if coeff and self.operation == 'PROD':
            raise LayerError('Eltwise layer only takes coefficients for summation.')
        self.coeff = coeff or [1.0] * len(bottom)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, blob in enumerate(bottom):
            if blob.shape != bottom[0].shape:
                raise LayerError(f'bottoms must have one shape: bottom[0] {bottom[0].shape}, bottom[{i}] {blob.shape}')
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        inputs = [b.read() for b in bottom]
        if self.operation == 'SUM':
            out = self._sum(inputs)
        elif self.operation == 'PROD':
            # In place, the top takes the memory of a factor that the backward pass needs.
            self.kept = inputs[0].clone() if top[0] is bottom[0] and self.needs_backward else None
            out = inputs[0] * inputs[1]
            for x in inputs[2:]:
                out *= x
        else:
            out, self.winner = self._max(inputs)
        top[0].write(out)

    def _sum(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        if self.coeff[0] == 1:
            out = torch.add(inputs[0], inputs[1], alpha=self.coeff[1])
        else:
            out = (inputs[0] * self.coeff[0]).add_(inputs[1], alpha=self.coeff[1])
        for x, c in zip(inputs[2:], self.coeff[2:], strict=True):
            out.add_(x, alpha=c)
        return out

    def _max(self, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The maximum and its bottom: of equal ones the second rather than the first, then the earliest."""
        first_wins = inputs[0] > inputs[1]
        out = torch.where(first_wins, inputs[0], inputs[1])
        winner = torch.where(first_wins, 0, 1)
        for i, x in enumerate(inputs[2:], start=2):
            larger = x > out
            out = torch.where(larger, x, out)
            winner = torch.where(larger, i, winner)
        return out, winner

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        diff = top[0].read_diff()
        grads = [self._gradient(i, diff, top, bottom) if down else None for i, down in enumerate(propagate_down)]
        for blob, grad in zip(bottom, grads, strict=True):
            if grad is not None:
                blob.write_diff(grad)

    def _gradient(self, i: int, diff: torch.Tensor, top, bottom) -> torch.Tensor:
        if self.operation == 'SUM':
            return diff * self.coeff[i] if self.coeff[i] != 1 else diff.clone()
        if self.operation == 'MAX':
            return diff * (self.winner == i)
        factors = [b.read() for b in bottom]
        if self.kept is not None:
            factors[0] = self.kept
        if not self.param.stable_prod_grad:
            return top[0].read() / factors[i] * diff
        grad = diff.clone()
        for j, x in enumerate(factors):
            if j != i:
                grad *= x
        return grad


def _operand_shape(param, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The parameter's shape: param.num_axes axes of bottom 0, from param.axis on (-1: all that follow)."""
    if param.num_axes < -1:
        raise LayerError(
            f'num_axes must be non-negative, or -1 to extend to the end of bottom[0]; found {param.num_axes}'
        )
    if param.num_axes == 0:
        return ()
    axis = canonical_axis(param.axis, shape)
    end = len(shape) if param.num_axes == -1 else axis + param.num_axes
    if end > len(shape):
        raise LayerError(
            f"the parameter's {param.num_axes} axes extend past bottom[0]'s shape {shape} "
            f'when applied starting with bottom[0] axis = {axis}'
        )
    return shape[axis:end]


def _flat_shape(what: str, axis: int, operand: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(outer, size of the operand, inner), as which bottom 0 meets its operand of (1, size, 1)."""
    axis = canonical_axis(axis, shape) if operand else 0
    if len(shape) < axis + len(operand):
        raise LayerError(
            f"{what} blob's shape {operand} extends past bottom[0]'s shape {shape} "
            f'when applied starting with bottom[0] axis = {axis}'
        )
    if shape[axis : axis + len(operand)] != operand:
        raise LayerError(
            f'dimension mismatch between bottom[0] {shape}, from axis {axis} on, and {what} of shape {operand}'
        )
    return math.prod(shape[:axis]), math.prod(operand), math.prod(shape[axis + len(operand) :])


def _store_gradient(layer: Layer, blob: Blob, grad: torch.Tensor) -> None:
    """Gradients of parameters add up, those of bottoms replace."""
    grad = grad.view(blob.shape)
    if any(blob is p for p in layer.blobs):
        blob.add_diff(grad)
    else:
        blob.write_diff(grad)


@register('Scale')
class Scale(Layer):
    """bottom 0 times a factor for each place along some axes: a parameter, or bottom 1 (scale_layer.cpp).

    With bias_term a second parameter of the factor's shape is added. The factor starts as 1, the bias as 0.
    """

    param_field = 'scale_param'
    num_bottom = (1, 2)
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        given = len(self.blobs)
        if len(bottom) == 1:
            operand = _operand_shape(self.param, shape)
            if not given:
                factor = self.new_param(operand, self.param.filler if self.param.HasField('filler') else None)
                if not self.param.HasField('filler'):
                    factor.data[...] = 1
        else:
            operand = bottom[1].shape
        if self.param.bias_term and given + len(bottom) < 3:
            self.new_param(operand, self.param.bias_filler if self.param.HasField('bias_filler') else None)

    def _factor(self, bottom) -> Blob:
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.flat = _flat_shape('scale', self.param.axis, self._factor(bottom).shape, bottom[0].shape)
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].read()
        self.kept = x.clone() if top[0] is bottom[0] and self.needs_backward else None
        out = x.view(self.flat) * self._factor(bottom).read().view(-1, 1)
        if self.param.bias_term:
            out += self.blobs[-1].read().view(-1, 1)
        top[0].write(out)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        diff = top[0].read_diff().view(self.flat)
        factor = self._factor(bottom)
        if self.param.bias_term and self.param_propagate_down[-1]:
            _store_gradient(self, self.blobs[-1], diff.sum((0, 2)))
        if propagate_down[1] if len(bottom) > 1 else self.param_propagate_down[0]:
            x = bottom[0].read() if self.kept is None else self.kept
            _store_gradient(self, factor, (diff * x.view(self.flat)).sum((0, 2)))
        if propagate_down[0]:
            bottom[0].write_diff(diff * factor.read().view(-1, 1))


@register('Bias')
class Bias(Layer):
    """bottom 0 plus a term for each place along some axes: a parameter, or bottom 1 (bias_layer.cpp)."""

    param_field = 'bias_param'
    num_bottom = (1, 2)
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) == 1 and not self.blobs:
            shape = _operand_shape(self.param, bottom[0].shape)
            self.new_param(shape, self.param.filler if self.param.HasField('filler') else None)

    def _term(self, bottom) -> Blob:
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.flat = _flat_shape('bias', self.param.axis, self._term(bottom).shape, bottom[0].shape)
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].write(bottom[0].read().view(self.flat) + self._term(bottom).read().view(-1, 1))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        diff = top[0].read_diff()
        if propagate_down[1] if len(bottom) > 1 else self.param_propagate_down[0]:
            _store_gradient(self, self._term(bottom), diff.view(self.flat).sum((0, 2)))
        if propagate_down[0] and bottom[0] is not top[0]:
            bottom[0].write_diff(diff.clone())
