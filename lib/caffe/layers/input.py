"""Layers without bottoms, filled by the user, by fillers or by training: Input, DummyData, Parameter."""

from __future__ import annotations

from caffe.blob import Blob
from caffe.fillers import fill
from caffe.layer import Layer, LayerError, register


@register('Input')
class Input(Layer):
    """Blobs that the user fills before a forward pass (input_layer.cpp)."""

    param_field = 'input_param'
    num_bottom = 0
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = self.param.shape
        if len(shapes) not in (0, 1, len(top)):
            raise LayerError(
                "Must specify 'shape' once, once per top blob, or not at all: "
                f'{len(top)} tops vs. {len(shapes)} shapes.'
            )
        for i, blob in enumerate(top if shapes else []):
            blob.reshape(*shapes[i if len(shapes) > 1 else 0].dim)


@register('DummyData')
class DummyData(Layer):
    """Blobs filled by fillers (dummy_data_layer.cpp).

    Constant ones are filled once, and keep what a user writes to them; others are filled again in each forward
    pass. Without a filler: zeros.
    """

    param_field = 'dummy_data_param'
    num_bottom = 0
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.fillers = self._one_each('data_filler', list(self.param.data_filler), len(top), allow_none=True)
        for blob, shape in zip(top, self._shapes(len(top)), strict=True):
            blob.reshape(*shape)
        for blob, filler in zip(top, self.fillers, strict=True):
            if filler is not None:
                fill(blob, filler)

    def _one_each(self, field: str, values: list, n_top: int, allow_none: bool = False) -> list:
        if allow_none and not values:
            return [None] * n_top
        if len(values) not in (1, n_top):
            raise LayerError(
                f'Must specify {field} {"0 times, " if allow_none else ""}once, or once per top blob: '
                f'{n_top} tops, {len(values)} given'
            )
        return values * n_top if len(values) == 1 else values

    def _shapes(self, n_top: int) -> list[list[int]]:
        param = self.param
        legacy = ('num', 'channels', 'height', 'width')
        if any(getattr(param, field) for field in legacy):
            if param.shape:
                raise LayerError('Both shape and legacy fields (num, channels, height, width) were specified')
            columns = [self._one_each(field, list(getattr(param, field)), n_top) for field in legacy]
            return [list(dims) for dims in zip(*columns, strict=True)]
        return [list(shape.dim) for shape in self._one_each('shape', list(param.shape), n_top)]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob, filler in zip(top, self.fillers, strict=True):
            if filler is not None and filler.type != 'constant':
                fill(blob, filler)


@register('Parameter')
class Parameter(Layer):
    """A learned blob as a top: shape parameter_param.shape, zeros to begin with (parameter_layer.hpp)."""

    param_field = 'parameter_param'
    num_bottom = 0
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.blobs:
            self.new_param(tuple(self.param.shape.dim))
        top[0].reshape(*self.blobs[0].shape)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].share_data(self.blobs[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        # Caffe shares the diff too, so that with iter_size > 1 only the last pass counts; here they add up.
        if self.param_propagate_down[0]:
            self.blobs[0].add_diff(top[0].read_diff().clone())
