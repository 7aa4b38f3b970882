"""Layers that change only the shape: Flatten, Reshape. Top and bottom are one memory, data and diff."""

from __future__ import annotations

import math

from caffe.blob import Blob
from caffe.layer import Layer, LayerError, register
from caffe.layers.axes import canonical_axis


class _SameMemory(Layer):
    num_bottom = 1
    num_top = 1

    def new_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The top's shape for a bottom of this shape."""
        raise NotImplementedError

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if top[0] is bottom[0]:
            raise LayerError(f'{self.type} Layer does not allow in-place computation.')
        top[0].reshape(*self.new_shape(bottom[0].shape))
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])


@register('Flatten')
class Flatten(_SameMemory):
    """Makes one axis of flatten_param.axis .. end_axis, both included (flatten_layer.cpp)."""

    param_field = 'flatten_param'

    def new_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        start, end = canonical_axis(self.param.axis, shape), canonical_axis(self.param.end_axis, shape)
        if start > end:
            raise LayerError(f'end_axis {end} lies before axis {start} (bottom of shape {shape})')
        return *shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]


@register('Reshape')
class Reshape(_SameMemory):
    """Gives the axes axis .. axis + num_axes - 1 the dimensions of reshape_param.shape (reshape_layer.cpp).

    A dimension 0 is that of the bottom at this place, one -1 is what is left over.
    """

    param_field = 'reshape_param'

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.dims = list(self.param.shape.dim)
        if self.dims.count(-1) > 1:
            raise LayerError(
                f'new shape {self.dims} contains multiple -1 dims; at most a single (1) value of -1 may be specified'
            )
        if any(d < -1 for d in self.dims):
            raise LayerError(f'new shape {self.dims} has a dimension that is neither a size, nor 0, nor -1')

    def new_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        start = self.param.axis if self.param.axis >= 0 else len(shape) + self.param.axis + 1
        if not 0 <= start <= len(shape):
            raise LayerError(f'axis {self.param.axis} out of range for {len(shape)}-D input blob')
        if self.param.num_axes < -1:
            raise LayerError(f'num_axes must be >= 0, or -1 for all; found {self.param.num_axes}')
        end = len(shape) if self.param.num_axes == -1 else start + self.param.num_axes
        if end > len(shape):
            raise LayerError(f'end_axis = axis + num_axes = {end} is out of range for {len(shape)}-D input blob')
        dims = list(self.dims)
        for i, dim in enumerate(dims):
            if dim == 0:
                if start + i >= len(shape):
                    raise LayerError(
                        f'new shape {self.dims} contains a 0 at place {i}, '
                        f'but there was no corresponding bottom axis to copy in {shape}'
                    )
                dims[i] = shape[start + i]
        new = [*shape[:start], *dims, *shape[end:]]
        if -1 in dims:
            new[start + dims.index(-1)] = _left_over(shape, new)
        if math.prod(new) != math.prod(shape):
            raise LayerError(f'output count must match input count: bottom {shape}, top {tuple(new)}')
        return tuple(new)


def _left_over(shape: tuple[int, ...], new: list[int]) -> int:
    """The size at the -1 in `new`. Axes of size 0 (a batch of nothing) are left out on both sides."""
    have = math.prod(n for n in shape if n)
    stated = math.prod(n for n in new if n > 0)
    if have % stated:
        raise LayerError(
            f'bottom count ({have}) must be divisible by the product of the specified dimensions ({stated}): '
            f'bottom {shape}, new shape {new}'
        )
    return have // stated
