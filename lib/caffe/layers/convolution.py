"""Convolution, Deconvolution and Im2col over 1 to 3 spatial axes (base_conv_layer.cpp, conv_layer.cpp,
deconv_layer.cpp, im2col_layer.cpp)."""

from __future__ import annotations

import math

import torch
from google.protobuf.message import Message

from caffe.blob import Blob
from caffe.kernels.convolution import Filter, Geometry, columns, convolve, convolve_backward
from caffe.layer import FunctionLayer, Layer, LayerError, register
from caffe.layers.axes import canonical_axis
from caffe.process import precision


def read_geometry(param: Message, n_axes: int) -> Geometry:
    """The filter that a ConvolutionParameter describes for `n_axes` spatial axes.

    Each option is given once, once an axis, or for two axes as _h and _w. Raises LayerError for any other
    number, for both ways at once, and for zeros.
    """

    def option(name: str, short: str, default: int | None) -> tuple[int, ...]:
        values = tuple(getattr(param, name))
        pair = [f'{short}_h', f'{short}_w']
        if short != 'dilation' and any(param.HasField(f) for f in pair):
            if n_axes != 2:
                raise LayerError(f'{pair[0]} & {pair[1]} can only be used for 2D convolution, not for {n_axes} axes.')
            if values:
                raise LayerError(f'Either {name} or {short}_h/w should be specified; not both.')
            return tuple(getattr(param, f) for f in pair)
        if len(values) == 0 and default is not None:
            return (default,) * n_axes
        if len(values) not in (1, n_axes):
            raise LayerError(
                f'{name} must be specified once, or once per spatial dimension '
                f'({name} specified {len(values)} times; {n_axes} spatial dims).'
            )
        return values * n_axes if len(values) == 1 else values

    geometry = Geometry(
        option('kernel_size', 'kernel', None), option('stride', 'stride', 1), option('pad', 'pad', 0),
        option('dilation', 'dilation', 1),
    )  # fmt: skip
    if not all(geometry.kernel):
        raise LayerError(f'Filter dimensions must be nonzero: {geometry.kernel}')
    if not all(geometry.stride):
        raise LayerError(f'Stride dimensions must be nonzero: {geometry.stride}')
    if not all(geometry.dilation):
        raise LayerError(f'Dilation dimensions must be nonzero: {geometry.dilation}')
    return geometry


def top_size(filter: Filter, size: tuple[int, ...]) -> tuple[int, ...]:
    """The size of what is made of an image. Raises LayerError for one that is too small."""
    g = filter.geometry
    if not filter.transposed:
        for n, p, e in zip(size, g.pad, g.extent, strict=True):
            if n + 2 * p < e:
                raise LayerError(f'the filter spans {g.extent}, more than the padded input: {size} + 2 * {g.pad}')
        return g.output_size(size)
    out = g.enlarged_size(size)
    if min(out, default=1) < 1:
        raise LayerError(f'pad {g.pad} leaves nothing of the output of an input of size {size}')
    return out


@register('Convolution')
class Convolution(Layer):
    """Each top is its bottom convolved with the same filters, plus the bias.

    Bottoms (..., C, spatial axes), C at `axis`; tops (..., num_output, smaller spatial axes). Parameters:
    filters (num_output, C / group, kernel), bias (num_output,) with `bias_term`. Without a spatial axis it is
    a product.
    """

    param_field = 'convolution_param'
    num_bottom = (1, None)
    num_top = (1, None)
    equal_bottom_top = True
    transposed = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param, shape = self.param, bottom[0].shape
        if any(blob in bottom for blob in top):
            raise LayerError('Layer does not allow in-place computation.')
        self._axis = canonical_axis(param.axis, shape)
        self._spatial = len(shape) - self._axis - 1
        if self._spatial > 3:
            raise LayerError(
                f'{self.type} works over up to 3 spatial axes; a bottom of shape {shape} has {self._spatial} '
                f'after its channels (axis {self._axis})'
            )
        geometry = read_geometry(param, self._spatial)
        self._channels = shape[self._axis]
        outputs, group = param.num_output, self.groups()
        if outputs == 0:
            raise LayerError(f'{self.type}: num_output must be positive')
        if group == 0 or self._channels % group:
            raise LayerError(f'{self.type}: the {self._channels} input channels cannot be split into {group} groups')
        if outputs % group:
            raise LayerError(f'Number of output should be multiples of group: {outputs} and {group}')
        first, second = (self._channels, outputs) if self.transposed else (outputs, self._channels)
        weight_shape = (first, second // group, *geometry.kernel)
        # A convolution over no axis is one over an axis of length 1.
        self._filter = Filter(geometry if self._spatial else Geometry((1,), (1,), (0,), (1,)), group, self.transposed)
        if self._spatial:
            top_size(self._filter, shape[self._axis + 1 :])  # a filter too large is refused before it is filled
        if self.blobs:
            self.check_params([weight_shape] + [(outputs,)] * param.bias_term)
            return
        self.new_param(weight_shape, param.weight_filler)
        if param.bias_term:
            self.new_param((outputs,), param.bias_filler)

    def groups(self) -> int:
        """Into how many groups the channels are split; called when `_channels` is known."""
        return self.param.group

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != self._axis + 1 + self._spatial:
            raise LayerError(f'bottom num_axes may not change: {self._axis + 1 + self._spatial} before, now {shape}')
        if shape[self._axis] != self._channels:
            raise LayerError(
                'Input size incompatible with convolution kernel: '
                f'made for {self._channels} channels, got a bottom of shape {shape}'
            )
        for i, blob in enumerate(bottom):
            if blob.shape != shape:
                raise LayerError(f'All inputs must have the same shape: bottom 0 is {shape}, bottom {i} {blob.shape}')
        size = shape[self._axis + 1 :]
        if self._spatial:
            size = top_size(self._filter, size)
        for blob in top:
            blob.reshape(*shape[: self._axis], self.param.num_output, *size)

    def _images(self, tensor: torch.Tensor) -> torch.Tensor:
        """(..., C, spatial) as (N, C, spatial), with one spatial axis at least."""
        if self._axis == 1 and self._spatial:
            return tensor
        count = math.prod(tensor.shape[: self._axis])
        return tensor.view(count, *(tensor.shape[self._axis :] if self._spatial else (tensor.shape[-1], 1)))

    def _weight(self) -> torch.Tensor:
        weight = self.blobs[0].read()
        return weight if self._spatial else weight.unsqueeze(-1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        weight, bias = self._weight(), self.blobs[1].read() if self.param.bias_term else None
        in_bf16 = precision.uses_bf16(weight, self.only_ranks)
        for x, y in zip(bottom, top, strict=True):
            memory = lambda y=y: self._images(y.memory_to_fill())
            y.write(convolve(self._images(x.read()), weight, bias, self._filter, in_bf16, memory).reshape(y.shape))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        learns = self.param_propagate_down[0]
        learns_bias = self.param.bias_term and self.param_propagate_down[1]
        weight = self._weight()
        in_bf16 = precision.uses_bf16_backward(weight)
        for x, y, down in zip(bottom, top, propagate_down, strict=True):
            if not (down or learns or learns_bias):
                continue
            diff, image, wanted = self._images(y.read_diff()), self._images(x.read()), (down, learns, learns_bias)
            memory = lambda x=x: self._images(x.diff_memory_to_fill())
            x_diff, weight_diff, bias_diff = convolve_backward(
                diff, image, weight, self._filter, wanted, memory, in_bf16
            )
            if x_diff is not None:
                x.write_diff(x_diff.reshape(x.shape))
            if weight_diff is not None:
                self.blobs[0].add_diff(weight_diff.reshape(self.blobs[0].shape))
            if bias_diff is not None:
                self.blobs[1].add_diff(bias_diff)


@register('Deconvolution')
class Deconvolution(Convolution):
    """The transpose of Convolution: what its backward pass does to the image, as a forward pass.

    Bottoms (..., C, spatial axes); tops (..., num_output, larger spatial axes). Filters (C, num_output /
    group, kernel).
    """

    transposed = True


@register('DepthwiseConvolution')
class DepthwiseConvolution(Convolution):
    """Convolution in which each channel has filters of its own (yonghenglh6/DepthwiseConvolution).

    `group` is the number of channels, and num_output a multiple of it. The filters are those of a Convolution with
    that group, so weights go from one to the other.
    """

    def groups(self) -> int:
        if self.param.group != self._channels:
            raise LayerError(
                f'{self.type}: group must be the number of channels, {self._channels}; it is {self.param.group}'
            )
        return self._channels


@register('ConvolutionDepthwise')
class ConvolutionDepthwise(Convolution):
    """DepthwiseConvolution by another name, whose group is always the number of channels."""

    def groups(self) -> int:
        if self.param.HasField('group') and self.param.group != self._channels:
            raise LayerError(f"{self.type}: remove group: {self.param.group}, it is the channels' {self._channels}")
        return self._channels


@register('Im2col')
class Im2col(FunctionLayer):
    """The pixels under each position of a filter, one column a position.

    Bottom (..., C, spatial axes) to top (..., C * kernel taps, output axes): all taps of the first channel
    come first.
    """

    param_field = 'convolution_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._axis = canonical_axis(self.param.axis, bottom[0].shape)
        n_axes = len(bottom[0].shape) - self._axis - 1
        if n_axes < 1:
            raise LayerError(f'Im2col needs a spatial axis after the channels; the bottom has shape {bottom[0].shape}')
        self._filter = Filter(read_geometry(self.param, n_axes))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        size = top_size(self._filter, shape[self._axis + 1 :])
        columns = shape[self._axis] * math.prod(self._filter.geometry.kernel)
        top[0].reshape(*shape[: self._axis], columns, *size)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0].reshape(-1, *bottoms[0].shape[self._axis :])  # (N, C, spatial)
        size = self._filter.geometry.output_size(x.shape[2:])
        return [columns(x, self._filter.geometry).reshape(*bottoms[0].shape[: self._axis], -1, *size)]
