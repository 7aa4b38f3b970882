"""Convolution, Deconvolution and Im2col over 1 to 3 spatial axes (base_conv_layer.cpp, conv_layer.cpp,
deconv_layer.cpp, im2col_layer.cpp)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from caffe.blob import Blob
from caffe.layer import FunctionLayer, Layer, LayerError, register
from caffe.layers import winograd
from caffe.layers.axes import canonical_axis
from caffe.layers.inner_product import check_params
from caffe.process import device, precision


class Geometry(NamedTuple):
    """How a filter walks over the image: one number for each spatial axis in each field."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """The pixels from a filter's first tap to its last."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of what a convolution makes of an image. Raises LayerError for an image too small."""
        for n, p, e in zip(size, self.pad, self.extent, strict=True):
            if n + 2 * p < e:
                raise LayerError(f'the filter spans {self.extent}, more than the padded input: {size} + 2 * {self.pad}')
        return tuple(
            (n + 2 * p - e) // s + 1 for n, p, e, s in zip(size, self.pad, self.extent, self.stride, strict=True)
        )

    def enlarged_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of what a deconvolution makes of an image. Raises LayerError where nothing is left."""
        out = tuple(
            s * (n - 1) + e - 2 * p for n, s, e, p in zip(size, self.stride, self.extent, self.pad, strict=True)
        )
        if min(out, default=1) < 1:
            raise LayerError(f'pad {self.pad} leaves nothing of the output of an input of size {size}')
        return out


def read_geometry(param, n_axes: int) -> Geometry:
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


# Where Winograd's way gains (docs/performance.md): its products have to run faster than memory does.
_WINOGRAD = Geometry((3, 3), (1, 1), (1, 1), (1, 1))
_BAND = 2**21  # numbers of a top that are computed at once, where it has many
_HAS_AVX = torch.backends.cpu.get_cpu_capability().startswith('AVX')


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

    def setup(self, bottom, top):
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
        outputs, group = param.num_output, param.group
        if outputs == 0:
            raise LayerError(f'{self.type}: num_output must be positive')
        if group == 0 or self._channels % group:
            raise LayerError(f'{self.type}: the {self._channels} input channels cannot be split into {group} groups')
        if outputs % group:
            raise LayerError(f'Number of output should be multiples of group: {outputs} and {group}')
        first, second = (self._channels, outputs) if self.transposed else (outputs, self._channels)
        weight_shape = (first, second // group, *geometry.kernel)
        # A convolution over no axis is one over an axis of length 1.
        self._geometry = geometry if self._spatial else Geometry((1,), (1,), (0,), (1,))
        if self.blobs:
            check_params(self.blobs, [weight_shape] + [(outputs,)] * param.bias_term)
            return
        self.new_param(weight_shape, param.weight_filler)
        if param.bias_term:
            self.new_param((outputs,), param.bias_filler)

    def reshape(self, bottom, top):
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
            size = self._geometry.enlarged_size(size) if self.transposed else self._geometry.output_size(size)
        for blob in top:
            blob.reshape(*shape[: self._axis], self.param.num_output, *size)

    def _images(self, tensor: torch.Tensor) -> torch.Tensor:
        """(..., C, spatial) as (N, C, spatial), with one spatial axis at least."""
        count = math.prod(tensor.shape[: self._axis])
        return tensor.view(count, *(tensor.shape[self._axis :] if self._spatial else (tensor.shape[-1], 1)))

    def _weight(self) -> torch.Tensor:
        weight = self.blobs[0].read()
        return weight if self._spatial else weight.unsqueeze(-1)

    def _options(self) -> tuple:
        g = self._geometry
        return g.stride, g.pad, g.dilation, self.transposed, (0,) * len(g.kernel), self.param.group

    def _by_winograd(self, x: torch.Tensor) -> bool:
        """Whether Winograd's products are the faster way. A rule of shapes, not a measurement: alike on every run."""
        if self._geometry != _WINOGRAD or self.transposed or self.param.group > 1 or x.is_cuda or not _HAS_AVX:
            return False
        channels, filters = self._channels, self.param.num_output
        return min(channels, filters) >= 128 and channels * filters >= 2**15 and math.prod(x.shape[2:]) > 1024

    def forward(self, bottom, top):
        bias = self.blobs[1].read() if self.param.bias_term else None
        low = precision.get_precision() == 'bf16'
        for x, y in zip(bottom, top, strict=True):
            image, weight = self._images(x.read()), self._weight()
            if self._by_winograd(image) and not low:
                winograd.convolve(image, weight, bias, self._geometry.pad, self._images(y.overwrite()))
            elif self._in_bands(y):
                self._convolve_bands(image, weight, bias, self._images(y.overwrite()), low)
            else:
                y.write(self._convolve(image, weight, bias, low).reshape(y.shape))

    def _convolve(self, image, weight, bias, low: bool, pad: tuple[int, ...] | None = None) -> torch.Tensor:
        stride, own_pad, *rest = self._options()
        options = (stride, own_pad if pad is None else pad, *rest)
        if low:
            return precision.rounded(torch.convolution, image, weight, bias, *options)
        return torch.convolution(image, weight, bias, *options)

    def _in_bands(self, top: Blob) -> bool:
        return self._spatial == 2 and not self.transposed and not device.has_own_memory() and top.count > 2 * _BAND

    def _convolve_bands(self, image, weight, bias, out: torch.Tensor, low: bool) -> None:
        """Some rows of `out` (N, K, H', W') at a time: torch needs as much memory again as it writes, and more."""
        g, height = self._geometry, image.shape[2]
        reach = g.dilation[0] * (g.kernel[0] - 1) + 1
        rows = max(1, _BAND * out.shape[2] // out.numel())
        for first in range(0, out.shape[2], rows):
            y = out[:, :, first : first + rows]
            start = first * g.stride[0] - g.pad[0]
            end = start + (y.shape[2] - 1) * g.stride[0] + reach
            x = image[:, :, max(start, 0) : max(end, 0)]
            above, below = max(min(end, 0) - start, 0), max(end - max(height, start), 0)  # of the padding
            if above or below:
                x = torch.nn.functional.pad(x, (0, 0, above, below))
            y.copy_(self._convolve(x, weight, bias, low, (0, g.pad[1])))

    def backward(self, top, propagate_down, bottom):
        learns = self.param_propagate_down[0]
        learns_bias = self.param.bias_term and self.param_propagate_down[1]
        for x, y, down in zip(bottom, top, propagate_down, strict=True):
            if not (down or learns or learns_bias):
                continue
            diff, image, weight = self._images(y.read_diff()), self._images(x.read()), self._weight()
            if self._by_winograd(image):
                if down:
                    winograd.image_gradient(diff, weight, self._geometry.pad, self._images(x.overwrite_diff()))
                weight_diff = winograd.weight_gradient(image, diff, self._geometry.pad) if learns else None
                bias_diff = diff.sum(dim=(0, 2, 3)) if learns_bias else None
            else:
                x_diff, weight_diff, bias_diff = torch.ops.aten.convolution_backward(
                    diff, image, weight, [self.param.num_output], *self._options(), [down, learns, learns_bias]
                )
                if down:
                    x.write_diff(x_diff.reshape(x.shape))
            if learns:
                self.blobs[0].add_diff(weight_diff.reshape(self.blobs[0].shape).contiguous())
            if learns_bias:
                self.blobs[1].add_diff(bias_diff)


@register('Deconvolution')
class Deconvolution(Convolution):
    """The transpose of Convolution: what its backward pass does to the image, as a forward pass.

    Bottoms (..., C, spatial axes); tops (..., num_output, larger spatial axes). Filters (C, num_output /
    group, kernel).
    """

    transposed = True


@register('Im2col')
class Im2col(FunctionLayer):
    """The pixels under each position of a filter, one column a position.

    Bottom (..., C, spatial axes) to top (..., C * kernel taps, output axes): all taps of the first channel
    come first.
    """

    param_field = 'convolution_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom, top):
        self._axis = canonical_axis(self.param.axis, bottom[0].shape)
        n_axes = len(bottom[0].shape) - self._axis - 1
        if n_axes < 1:
            raise LayerError(f'Im2col needs a spatial axis after the channels; the bottom has shape {bottom[0].shape}')
        self._geometry = read_geometry(self.param, n_axes)

    def reshape(self, bottom, top):
        shape = bottom[0].shape
        size = self._geometry.output_size(shape[self._axis + 1 :])
        columns = shape[self._axis] * math.prod(self._geometry.kernel)
        top[0].reshape(*shape[: self._axis], columns, *size)

    def compute(self, bottoms, params):
        g, n_axes = self._geometry, len(self._geometry.kernel)
        x = bottoms[0].reshape(-1, *bottoms[0].shape[self._axis :])  # (N, C, spatial)
        size = g.output_size(tuple(x.shape[2:]))
        x = torch.nn.functional.pad(x, [p for pad in reversed(g.pad) for p in (pad, pad)])
        for i in reversed(range(n_axes)):  # each spatial axis becomes two: tap, position
            tap = torch.arange(g.kernel[i], device=x.device) * g.dilation[i]
            position = torch.arange(size[i], device=x.device) * g.stride[i]
            index = tap[:, None] + position
            x = x.index_select(2 + i, index.view(-1)).unflatten(2 + i, index.shape)
        taps = range(2, 2 + 2 * n_axes, 2)
        x = x.permute(0, 1, *taps, *(t + 1 for t in taps))
        return [x.reshape(*bottoms[0].shape[: self._axis], -1, *size)]
