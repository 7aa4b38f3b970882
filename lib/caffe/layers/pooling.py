"""Pooling and SPP: the maximum, mean or a random pixel of windows (pooling_layer.cu, spp_layer.cpp)."""

from __future__ import annotations

import math

import torch
from google.protobuf.message import Message

from caffe.blob import Blob
from caffe.kernels.pooling import Pair, Windows, pool, pool_backward, pyramid_windows
from caffe.layer import Layer, LayerError, register
from caffe.process import device
from caffe.proto import caffe_pb2


def method_of(param: Message) -> str:
    """'MAX', 'AVE' or 'STOCHASTIC', as a PoolingParameter or SPPParameter says."""
    return caffe_pb2.PoolingParameter.PoolMethod.Name(param.pool)


def read_windows(param: caffe_pb2.PoolingParameter, size: Pair) -> Windows:
    """The windows of a PoolingParameter for images of this size. Raises LayerError as Caffe's CHECKs do."""

    def option(name: str, short: str) -> Pair:
        has_h, has_w = param.HasField(f'{short}_h'), param.HasField(f'{short}_w')
        if has_h != has_w or (has_h and param.HasField(name)):
            raise LayerError(f'{short} is {name} OR {short}_h and {short}_w; not both, and not one of them.')
        return (getattr(param, f'{short}_h'), getattr(param, f'{short}_w')) if has_h else (getattr(param, name),) * 2

    stride, pad = option('stride', 'stride'), option('pad', 'pad')
    if param.global_pooling:
        if any(param.HasField(f) for f in ('kernel_size', 'kernel_h', 'kernel_w')):
            raise LayerError('With Global_pooling: true Filter size cannot specified')
        if pad != (0, 0) or stride != (1, 1):
            raise LayerError('With Global_pooling: true; only pad = 0 and stride = 1')
        kernel = size
    else:
        kernel = option('kernel_size', 'kernel')
    round_up = param.round_mode == caffe_pb2.PoolingParameter.CEIL
    return _checked(Windows(kernel, stride, pad, round_up), method_of(param))


def _checked(windows: Windows, method: str) -> Windows:
    if min(windows.kernel) == 0:
        raise LayerError(f'Filter dimensions cannot be zero: kernel (height, width) is {windows.kernel}')
    if min(windows.stride) == 0:
        raise LayerError(f'Pooling: stride cannot be zero: {windows.stride}')
    if any(windows.pad):
        if method == 'STOCHASTIC':
            raise LayerError('Padding implemented only for average and max pooling.')
        if windows.pad[0] >= windows.kernel[0] or windows.pad[1] >= windows.kernel[1]:
            raise LayerError(f'Pooling: pad {windows.pad} must be smaller than the kernel {windows.kernel}')
    return windows


def _image_size(shape: tuple[int, ...]) -> Pair:
    """Height and width of images (N, C, H, W)."""
    if len(shape) != 4:
        raise LayerError(f'Input must have 4 axes, corresponding to (num, channels, height, width); got {shape}')
    if 0 in shape[2:]:
        raise LayerError(f'Input dimensions cannot be zero: {shape}')
    return shape[2], shape[3]


def _count(windows: Windows, size: Pair) -> Pair:
    counts = windows.number(size)
    if min(counts) < 1:
        kernel = f'kernel {windows.kernel}, pad {windows.pad}'
        raise LayerError(f'Pooling: an input of size {size} is too small for {kernel}')
    return counts


def _generator(method: str, phase: int) -> torch.Generator | None:
    """What stochastic pooling draws with: it does so in training alone."""
    return device.generator() if method == 'STOCHASTIC' and phase == caffe_pb2.TRAIN else None


@register('Pooling')
class Pooling(Layer):
    """The maximum (MAX), mean (AVE) or a random pixel (STOCHASTIC) of each window of the bottom (N, C, H, W).

    A second top of MAX takes the place h * W + w of each maximum.
    """

    param_field = 'pooling_param'
    num_bottom = 1
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._method = method_of(self.param)
        self._place: torch.Tensor | None = None
        self._pooled_size: Pair | None = None
        if top[0] is bottom[0]:
            raise LayerError('Layer does not allow in-place computation.')
        if len(top) > 1 and self._method != 'MAX':
            raise LayerError('Pooling: only MAX has a second top, the places of the maxima')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        size = _image_size(shape)
        if size != self._pooled_size:
            self._windows, self._pooled_size = read_windows(self.param, size), size
        for blob in top:
            blob.reshape(*shape[:2], *_count(self._windows, size))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        places = self.needs_backward or len(top) > 1
        generator = _generator(self._method, self.phase)
        y, self._place = pool(bottom[0].read(), self._windows, self._method, places, generator, top[0].memory_to_fill)
        top[0].write(y)
        if len(top) > 1 and self._place is not None:
            top[1].write(self._place.float())

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            x = bottom[0].read()
            bottom[0].write_diff(pool_backward(top[0].read_diff(), x, self._windows, self._method, self._place))


@register('SPP')
class SPP(Layer):
    """Spatial pyramid pooling: the bottom (N, C, H, W) pooled into 1, 2 x 2, 4 x 4, ... bins, side by side.

    Top (N, C * all bins), each level with its channels in order; (N, C, 1, 1) for a pyramid of height 1
    (spp_layer.cpp; He, Zhang, Ren and Sun, 2014).
    """

    param_field = 'spp_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._method = method_of(self.param)
        self._places: list[torch.Tensor | None] = [None] * self.param.pyramid_height
        if self.param.pyramid_height == 0:
            raise LayerError('SPP: pyramid_height must be positive')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        size = _image_size(shape)
        self._levels = [
            _checked(pyramid_windows(size, level), self._method) for level in range(self.param.pyramid_height)
        ]
        self._counts = [_count(windows, size) for windows in self._levels]
        if len(self._counts) == 1:
            top[0].reshape(*shape[:2], *self._counts[0])
        else:
            top[0].reshape(shape[0], shape[1] * sum(map(math.prod, self._counts)))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, generator = bottom[0].read(), _generator(self._method, self.phase)
        pooled = [pool(x, windows, self._method, self.needs_backward, generator) for windows in self._levels]
        self._places = [place for _, place in pooled]
        top[0].write(torch.cat([y.flatten(1) for y, _ in pooled], dim=1).view(top[0].shape))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        x = bottom[0].read()
        parts = top[0].read_diff().flatten(1).split([x.shape[1] * math.prod(c) for c in self._counts], dim=1)
        total = torch.zeros_like(x)
        for windows, place, count, part in zip(self._levels, self._places, self._counts, parts, strict=True):
            total += pool_backward(part.reshape(*x.shape[:2], *count), x, windows, self._method, place)
        bottom[0].write_diff(total)
