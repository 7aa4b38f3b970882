"""InnerProduct and Embed: products with a learned matrix (inner_product_layer.cpp, embed_layer.cpp)."""

from __future__ import annotations

import math

import torch

from caffe.blob import Blob
from caffe.kernels import bf16
from caffe.kernels.matrix import multiply
from caffe.layer import Layer, LayerError, register
from caffe.layers.axes import canonical_axis
from caffe.process import precision


@register('InnerProduct')
class InnerProduct(Layer):
    """Top (..., num_output) = bottom, flattened from `axis` on, times the weights, plus the bias.

    Parameters: weights (num_output, K), or (K, num_output) with `transpose`; bias (num_output,) with
    `bias_term`.
    """

    param_field = 'inner_product_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        n = self.param.num_output
        if n == 0:
            raise LayerError('InnerProduct: num_output must be positive')
        if top[0] is bottom[0]:
            raise LayerError('Layer does not allow in-place computation.')
        self._axis = canonical_axis(self.param.axis, bottom[0].shape)
        self._inputs = math.prod(bottom[0].shape[self._axis :])
        self._transpose = self.param.transpose
        weight_shape = (self._inputs, n) if self._transpose else (n, self._inputs)
        shapes: list[tuple[int, ...]] = [weight_shape] + [(n,)] * self.param.bias_term
        if self.blobs:
            self.check_params(shapes)
            return
        self.new_param(weight_shape, self.param.weight_filler)
        if self.param.bias_term:
            self.new_param((n,), self.param.bias_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        inputs = math.prod(shape[self._axis :])
        if inputs != self._inputs:
            raise LayerError(
                'Input size incompatible with inner product parameters: '
                f'the weights take {self._inputs} inputs, a bottom of shape {shape} has {inputs}'
            )
        top[0].reshape(*shape[: self._axis], self.param.num_output)

    def _matrix(self, tensor: torch.Tensor, width: int) -> torch.Tensor:
        return tensor if tensor.dim() == 2 and tensor.shape[1] == width else tensor.view(tensor.numel() // width, width)

    def _bf16_gains(self, bottom: Blob) -> bool:
        weight, rows = self.blobs[0].read(), bottom.count // max(self._inputs, 1)
        numbers = bottom.count + weight.numel() + rows * self.param.num_output
        return bf16.gains(weight.device, rows * weight.numel(), numbers)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        weight = self.blobs[0].read()
        weight = weight if self._transpose else weight.t()
        rows = bottom[0].rows if self._axis == 1 else None
        in_bf16 = precision.uses_bf16(weight, self.only_ranks) and self._bf16_gains(bottom[0])
        y = self._matrix(top[0].memory_to_fill(), self.param.num_output)
        if rows is None:
            multiply(self._matrix(bottom[0].read(), self._inputs), weight, y, in_bf16=in_bf16)
        else:
            rows.times(weight, y, in_bf16)
        if self.param.bias_term:
            y.add_(self.blobs[1].read())

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        diff = self._matrix(top[0].read_diff(), self.param.num_output)
        weight = self.blobs[0].read()
        in_bf16 = precision.uses_bf16_backward(weight) and self._bf16_gains(bottom[0])
        if self.param_propagate_down[0]:
            x = self._matrix(bottom[0].read(), self._inputs)
            self.blobs[0].add_product_diff(*((x, diff) if self._transpose else (diff, x)), in_bf16)
        if self.param.bias_term and self.param_propagate_down[1]:
            self.blobs[1].add_diff(diff.sum(dim=0))
        if propagate_down[0]:
            x_diff = self._matrix(bottom[0].diff_memory_to_fill(), self._inputs)
            multiply(diff, weight.t() if self._transpose else weight, x_diff, in_bf16=in_bf16)


@register('Embed')
class Embed(Layer):
    """Top (..., num_output): for each index in the bottom that row of the weights, plus the bias.

    An InnerProduct of one-hot vectors. Parameters: weights (input_dim, num_output); bias (num_output,) with
    `bias_term`.
    """

    param_field = 'embed_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        rows, n = self.param.input_dim, self.param.num_output
        if n == 0:
            raise LayerError('EmbedLayer num_output must be positive.')
        if rows == 0:
            raise LayerError('EmbedLayer input_dim must be positive.')
        if self.blobs:
            self.check_params([(rows, n)] + [(n,)] * self.param.bias_term)
            return
        self.new_param((rows, n), self.param.weight_filler)
        if self.param.bias_term:
            self.new_param((n,), self.param.bias_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(*bottom[0].shape, self.param.num_output)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        values = bottom[0].read().view(-1)
        index = values.long()
        wrong = (index < 0) | (index >= self.param.input_dim) | (index != values)
        if wrong.any():
            at = int(wrong.nonzero()[0])
            raise LayerError(
                f'Embed: indices are whole numbers from 0 to {self.param.input_dim - 1} (input_dim - 1); '
                f'element {at} of the bottom is {float(values[at]):g}'
            )
        y = self.blobs[0].read().index_select(0, index)
        if self.param.bias_term:
            y += self.blobs[1].read()
        top[0].write(y.view(top[0].shape))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            raise LayerError("Can't backpropagate to EmbedLayer input.")
        diff = top[0].read_diff().view(-1, self.param.num_output)
        if self.param_propagate_down[0]:
            self.blobs[0].own_diff().index_add_(0, bottom[0].read().view(-1).long(), diff)
        if self.param.bias_term and self.param_propagate_down[1]:
            self.blobs[1].add_diff(diff.sum(dim=0))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return False
