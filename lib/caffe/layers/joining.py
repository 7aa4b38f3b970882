"""Layers that put blobs together and take them apart: Concat, Slice, Split, Tile, Crop."""

from __future__ import annotations

from itertools import pairwise

import torch

from caffe.blob import Blob
from caffe.glog import warn_once
from caffe.layer import FunctionLayer, Layer, LayerError, register
from caffe.layers.axes import canonical_axis


def _axis_of(param, old_field: str, shape: tuple[int, ...]) -> int:
    """The axis that `axis`, or the older concat_dim / slice_dim, names."""
    if param.HasField(old_field):
        if param.HasField('axis'):
            raise LayerError(f'Either axis or {old_field} should be specified; not both.')
        axis = getattr(param, old_field)
        if axis >= len(shape):
            raise LayerError(f'{old_field} {axis} out of range for a bottom of shape {shape}')
        return axis
    return canonical_axis(param.axis, shape)


@register('Concat')
class Concat(Layer):
    """The bottoms one after the other along an axis (concat_layer.cpp)."""

    param_field = 'concat_param'
    num_bottom = (1, None)
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        first = bottom[0].shape
        self.axis = axis = _axis_of(self.param, 'concat_dim', first)
        for i, blob in enumerate(bottom):
            if len(blob.shape) != len(first):
                raise LayerError(
                    f'All inputs must have the same #axes: bottom 0 is {first}, bottom {i} is {blob.shape}'
                )
            if blob.shape[:axis] + blob.shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
                raise LayerError(
                    'All inputs must have the same shape, except at concat_axis '
                    f'({axis}): bottom 0 is {first}, bottom {i} is {blob.shape}'
                )
        top[0].reshape(*first[:axis], sum(b.shape[axis] for b in bottom), *first[axis + 1 :])
        if len(bottom) == 1:
            top[0].share_data(bottom[0])
            top[0].share_diff(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) > 1:
            top[0].write(torch.cat([b.read() for b in bottom], self.axis))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if len(bottom) == 1:
            return
        diffs = top[0].read_diff().split([b.shape[self.axis] for b in bottom], self.axis)
        for blob, diff, down in zip(bottom, diffs, propagate_down, strict=True):
            if down:
                blob.write_diff(diff.clone(memory_format=torch.contiguous_format))


@register('Slice')
class Slice(Layer):
    """The bottom cut along an axis, evenly or at slice_param.slice_point (slice_layer.cpp)."""

    param_field = 'slice_param'
    num_bottom = 1
    num_top = (1, None)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        self.axis = axis = _axis_of(self.param, 'slice_dim', shape)
        self.sizes = self._sizes(shape[axis], len(top))
        for blob, size in zip(top, self.sizes, strict=True):
            blob.reshape(*shape[:axis], size, *shape[axis + 1 :])
        if len(top) == 1:
            top[0].share_data(bottom[0])
            top[0].share_diff(bottom[0])

    def _sizes(self, length: int, n_top: int) -> list[int]:
        points = list(self.param.slice_point)
        if not points:
            if length % n_top:
                raise LayerError(f'Number of top blobs ({n_top}) should evenly divide input slice axis ({length})')
            return [length // n_top] * n_top
        if len(points) != n_top - 1:
            raise LayerError(f'{n_top} tops need {n_top - 1} slice_points, found {len(points)}: {points}')
        edges = [0, *points, length]
        if any(a >= b for a, b in pairwise(edges)):
            raise LayerError(f'slice_points must rise and lie within the axis of {length}, found {points}')
        return [b - a for a, b in pairwise(edges)]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(top) > 1:
            for blob, part in zip(top, bottom[0].read().split(self.sizes, self.axis), strict=True):
                blob.write(part.clone(memory_format=torch.contiguous_format))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0] and len(top) > 1:
            bottom[0].write_diff(torch.cat([t.read_diff() for t in top], self.axis))


@register('Split')
class Split(Layer):
    """One blob for several readers: tops share the bottom's data, diffs are summed (split_layer.cpp)."""

    num_bottom = 1
    num_top = (1, None)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            if blob is bottom[0]:
                raise LayerError('Layer does not allow in-place computation.')
            blob.reshape(*bottom[0].shape)
            blob.share_data(bottom[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        # A reader that needs no gradient leaves its diff at zero: nothing to add.
        diffs = [t.read_diff() for t in top if not t.diff_is_zero]
        if not diffs:
            bottom[0].clear_diff()
            return
        total = bottom[0].diff_memory_to_fill()
        if len(diffs) == 1:
            total.copy_(diffs[0])
        else:
            torch.add(*diffs[:2], out=total)
        for diff in diffs[2:]:
            total += diff


@register('Tile')
class Tile(FunctionLayer):
    """The bottom repeated tile_param.tiles times along an axis (tile_layer.cpp)."""

    param_field = 'tile_param'
    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.param.tiles <= 0:
            raise LayerError(f'Number of tiles must be positive, found {self.param.tiles}')
        self.axis = canonical_axis(self.param.axis, bottom[0].shape)
        shape = list(bottom[0].shape)
        shape[self.axis] *= self.param.tiles
        top[0].reshape(*shape)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        times = [1] * bottoms[0].dim()
        times[self.axis] = self.param.tiles
        return [bottoms[0].repeat(times)]


@register('Crop')
class Crop(Layer):
    """Bottom 0 cut to the size of bottom 1 from crop_param.axis on, at crop_param.offset (crop_layer.cpp)."""

    param_field = 'crop_param'
    num_bottom = 2
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape, size = bottom[0].shape, bottom[1].shape
        start = canonical_axis(self.param.axis, shape)
        offsets = list(self.param.offset)
        if len(offsets) > 1 and start + len(offsets) != len(shape):
            raise LayerError(
                'number of offset values specified must be equal to the number of dimensions following axis '
                f'{start}: {len(offsets)} offsets, bottom 0 is {shape}'
            )
        if len(size) < len(shape):
            raise LayerError(f'bottom 1 says the size of each axis of bottom 0: shapes {size} and {shape}')
        region = [slice(None)] * len(shape)
        top_shape = list(shape)
        for i in range(start, len(shape)):
            offset = 0 if not offsets else offsets[0] if len(offsets) == 1 else offsets[i - start]
            if shape[i] - offset < size[i]:
                raise LayerError(
                    f'the crop for dimension {i} is out-of-bounds: offset {offset} + size {size[i]} > {shape[i]}'
                )
            region[i] = slice(offset, offset + size[i])
            top_shape[i] = size[i]
        self.region = tuple(region)
        if tuple(top_shape) != shape and not self.layer_param.HasField('crop_param'):
            warn_once(
                f"Crop layer '{self.name}' has no crop_param, so it keeps the upper left corner (offset 0). The fork "
                'of Caffe that had Crop first (FCN and HED were written for it) found the offset from the layers '
                'between the bottoms; here write crop_param { axis: 2 offset: ... } (caffe.coord_map.crop computes it)',
                'crop_layer.cpp:23',
            )
        top[0].reshape(*top_shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].write(bottom[0].read()[self.region].clone(memory_format=torch.contiguous_format))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        diff = top[0].read_diff()
        if propagate_down[0]:
            grad = diff.new_zeros(bottom[0].shape)
            grad[self.region] = diff
            bottom[0].write_diff(grad)
        if propagate_down[1]:
            bottom[1].clear_diff()  # only its size is read
