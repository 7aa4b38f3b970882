"""Layers that choose, reduce or end blobs: ArgMax, Filter, BatchReindex, Reduction, Silence."""

from __future__ import annotations

import math

import torch

from caffe.blob import Blob
from caffe.layer import FunctionLayer, Layer, LayerError, register
from caffe.layers.axes import canonical_axis


@register('ArgMax')
class ArgMax(Layer):
    """The indices of the top_k largest values, largest first; of equal ones the last (argmax_layer.cpp).

    Without `axis` over all of each item: top (N, 1, top_k), or (N, 2, top_k) with the values too if
    out_max_val. With `axis` along that axis: indices or, if out_max_val, values. No backward pass.
    """

    param_field = 'argmax_param'
    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape, top_k = bottom[0].shape, self.param.top_k
        self.axis = canonical_axis(self.param.axis, shape) if self.param.HasField('axis') else None
        if top_k < 1:
            raise LayerError('top k must not be less than 1.')
        size = math.prod(shape[1:]) if self.axis is None else shape[self.axis]
        if top_k > size:
            what = 'flattened bottom blob per instance' if self.axis is None else 'axis'
            raise LayerError(
                f'top_k must be less than or equal to the dimension of the {what}: top_k {top_k}, dimension {size}'
            )
        if self.axis is not None:
            top[0].reshape(*shape[: self.axis], top_k, *shape[self.axis + 1 :])
        else:
            top[0].reshape(shape[0], 2 if self.param.out_max_val else 1, top_k, *[1] * (len(shape) - 3))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].read()
        if self.axis is None:
            values, indices = _largest(x.reshape(x.shape[0], math.prod(x.shape[1:])), self.param.top_k, 1)
            top[0].write(torch.stack([indices, values], 1) if self.param.out_max_val else indices)
        else:
            values, indices = _largest(x, self.param.top_k, self.axis)
            top[0].write((values if self.param.out_max_val else indices).contiguous())

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if any(propagate_down):
            raise LayerError('ArgMax has no gradient; give its bottom propagate_down: false')


def _largest(x: torch.Tensor, k: int, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest values along an axis and their indices as floats; of equal ones the later comes first."""
    values, indices = x.flip(axis).sort(dim=axis, descending=True, stable=True)
    return values.narrow(axis, 0, k).clone(), (x.shape[axis] - 1 - indices.narrow(axis, 0, k)).float()


@register('Filter')
class Filter(Layer):
    """The items of each bottom for which the selector, the last bottom, is not 0 (filter_layer.cpp).

    The tops' length depends on the selector's values, so this layer waits for the device.
    """

    num_bottom = (2, None)
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(top) != len(bottom) - 1:
            raise LayerError(f'Top.size() should be equal to bottom.size() - 1: {len(top)} tops, {len(bottom)} bottoms')
        self.first_reshape = True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        selector = bottom[-1]
        if any(n != 1 for n in selector.shape[1:]):
            raise LayerError(
                f'Selector blob dimensions must be singletons (1), except the first; found {selector.shape}'
            )
        for i, blob in enumerate(bottom[:-1]):
            if blob.shape[:1] != selector.shape[:1]:
                raise LayerError(
                    'Each bottom should have the same 0th dimension as the selector blob: '
                    f'bottom {i} {blob.shape}, selector {selector.shape}'
                )
        if self.first_reshape:  # nothing is selected yet: the net is made for all items
            length = selector.shape[0]
            self.first_reshape = False
        else:
            self.chosen = selector.read().view(-1).nonzero().view(-1)
            length = self.chosen.numel()
        for blob, source in zip(top, bottom, strict=False):
            blob.reshape(length, *source.shape[1:])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob, source in zip(top, bottom, strict=False):
            blob.write(source.read().index_select(0, self.chosen))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[-1]:
            raise LayerError('Filter Layer cannot backpropagate to filter index inputs')
        for blob, source, down in zip(top, bottom, propagate_down, strict=False):
            if down:
                diff = blob.read_diff()
                source.write_diff(diff.new_zeros(source.shape).index_copy_(0, self.chosen, diff))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index < len(self.layer_param.bottom) - 1


@register('BatchReindex')
class BatchReindex(Layer):
    """The items of bottom 0 that bottom 1 lists, in its order, repeats too (batch_reindex_layer.cpp)."""

    num_bottom = 2
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[1].shape) != 1:
            raise LayerError(f'bottom 1 must have one axis, the indices; found shape {bottom[1].shape}')
        top[0].reshape(bottom[1].shape[0], *bottom[0].shape[1:])

    def _indices(self, bottom) -> torch.Tensor:
        indices = bottom[1].read().long()
        size = bottom[0].shape[0]
        if indices.device.type == 'cpu' and indices.numel() and not 0 <= indices.min() <= indices.max() < size:
            raise LayerError(
                f'Index specified for reindex layer was negative or not below the batch size {size}: '
                f'indices are {int(indices.min())} .. {int(indices.max())}'
            )
        return indices

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].write(bottom[0].read().index_select(0, self._indices(bottom)))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            raise LayerError('Cannot backprop to index.')
        if propagate_down[0]:
            diff = top[0].read_diff()
            bottom[0].write_diff(diff.new_zeros(bottom[0].shape).index_add_(0, self._indices(bottom), diff))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0


@register('Reduction')
class Reduction(FunctionLayer):
    """coeff times the SUM, ASUM (of |x|), SUMSQ or MEAN of the axes from `axis` on (reduction_layer.cpp)."""

    param_field = 'reduction_param'
    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = canonical_axis(self.param.axis, bottom[0].shape)
        top[0].reshape(*bottom[0].shape[: self.axis])

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0].flatten(self.axis)
        operation = type(self.param).ReductionOp.Name(self.param.operation)
        if operation == 'ASUM':
            x = x.abs()
        elif operation == 'SUMSQ':
            x = x.square()
        coeff = self.param.coeff / x.shape[-1] if operation == 'MEAN' else self.param.coeff
        return [x.sum(-1) * coeff]


@register('Silence')
class Silence(Layer):
    """Takes blobs that nobody reads, so that they are no outputs of the net (silence_layer.cpp)."""

    num_bottom = (1, None)
    num_top = 0

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, down in zip(bottom, propagate_down, strict=True):
            if down:
                blob.clear_diff()
