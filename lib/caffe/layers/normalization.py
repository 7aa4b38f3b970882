"""Layers that divide by the strength of a neighbourhood or of a batch: LRN, BatchNorm, MVN."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from caffe.blob import Blob
from caffe.layer import FunctionLayer, Layer, LayerError, register
from caffe.proto import caffe_pb2


def channel_window_sum(x: torch.Tensor, size: int) -> torch.Tensor:
    """For each channel of x (N, C, H, W) the sum of the `size` (odd) channels around it; 0 outside."""
    total = x.clone()
    for shift in range(1, min(size // 2, x.shape[1] - 1) + 1):
        total[:, shift:] += x[:, :-shift]
        total[:, :-shift] += x[:, shift:]
    return total


@register('LRN')
class LRN(FunctionLayer):
    """Local response normalization (lrn_layer.cpp; Krizhevsky et al., 2012).

    ACROSS_CHANNELS: x / (k + alpha / n * s) ** beta; s sums squares of the n = local_size channels around.
    WITHIN_CHANNEL: x / (1 + alpha / n**2 * s) ** beta; s sums squares of the n x n pixels around.
    """

    param_field = 'lrn_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._size = self.param.local_size
        if self._size % 2 != 1:
            raise LayerError(f'LRN only supports odd values for local_size, got {self._size}')
        self._within = self.param.norm_region == caffe_pb2.LRNParameter.WITHIN_CHANNEL
        if self._within and self.param.k != 1:
            raise LayerError(f'LRN within a channel always has k = 1 (Caffe too); remove k: {self.param.k:g}')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise LayerError(
                f'Input must have 4 axes, corresponding to (num, channels, height, width); got {bottom[0].shape}'
            )
        if top[0] is not bottom[0]:
            top[0].reshape(*bottom[0].shape)

    def _denominator(self, x: torch.Tensor) -> torch.Tensor:
        return channel_window_sum(x * x, self._size).mul_(self.param.alpha / self._size).add_(self.param.k)

    def _to_minus_beta(self, x: torch.Tensor) -> torch.Tensor:
        if self.param.beta != 0.75:
            return x.pow(-self.param.beta)
        root = x.sqrt()  # Krizhevsky's value: two square roots take a fifth of the time of a power
        return root.mul_(root.sqrt()).reciprocal_()

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0]
        # The mean over the window, zeros around the image included: s / n**2.
        mean = F.avg_pool2d(x * x, self._size, stride=1, padding=self._size // 2)
        return [x * (1 + self.param.alpha * mean).pow(-self.param.beta)]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self._within:
            super().forward(bottom, top)
            return
        x, in_place = bottom[0].read(), top[0] is bottom[0]
        self._kept = [x.clone()] if in_place and self.needs_backward else None
        y = top[0].own() if in_place else top[0].memory_to_fill()
        for rows in _bands(x):
            part = x[:, :, rows]
            torch.mul(self._to_minus_beta(self._denominator(part)), part, out=y[:, :, rows])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self._within:
            super().backward(top, propagate_down, bottom)
        elif propagate_down[0]:
            bottom_data = bottom[0].read() if self._kept is None else self._kept[0]
            top_diff = top[0].read_diff()
            bottom_diff = bottom[0].own_diff() if top[0] is bottom[0] else bottom[0].diff_memory_to_fill()
            for rows in _bands(bottom_data):
                x, diff = bottom_data[:, :, rows], top_diff[:, :, rows]
                denominator = self._denominator(x)
                power = self._to_minus_beta(denominator)
                ratio = (diff * x).mul_(power).div_(denominator)  # top diff * top / denominator
                ratio = channel_window_sum(ratio, self._size).mul_(2 * self.param.alpha * self.param.beta / self._size)
                torch.sub(power.mul_(diff), ratio.mul_(x), out=bottom_diff[:, :, rows])


def _bands(x: torch.Tensor) -> list[slice]:
    """Rows of the images x (N, C, H, W) in portions, so that intermediate results stay in the caches."""
    rows = x.shape[2] if x.is_cuda else max(1, 2**19 * x.shape[2] // max(x.numel(), 1))
    return [slice(first, first + rows) for first in range(0, x.shape[2], rows)]


@register('BatchNorm')
class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + eps) for each channel (batch_norm_layer.cpp; Ioffe and Szegedy, 2015).

    The statistics are those of the batch in TRAIN, the gathered ones in TEST, unless use_global_stats says
    otherwise. Parameters, which the solver leaves alone: sums of means (C,) and of unbiased variances (C,),
    each forward pass counting moving_average_fraction times as much as the next; and the sum of these weights
    (1,), by which the first two are divided when they are used. Scale and shift are a layer of their own,
    Scale.
    """

    param_field = 'batch_norm_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        self._channels = shape[1] if len(shape) > 1 else 1
        self._global = self.phase == caffe_pb2.TEST
        if self.param.HasField('use_global_stats'):
            self._global = self.param.use_global_stats
        if not self.blobs:
            for size in (self._channels, self._channels, 1):
                self.new_param((size,))
        for i in range(3):
            if len(self.layer_param.param) == i:
                self.layer_param.param.add(lr_mult=0)
            elif self.layer_param.param[i].lr_mult != 0:
                raise LayerError(
                    'Cannot configure batch normalization statistics as layer parameters: '
                    f'param {i} must say lr_mult: 0, not {self.layer_param.param[i].lr_mult:g}'
                )
        self._normalized: torch.Tensor | None = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if (shape[1] if len(shape) > 1 else 1) != self._channels:
            raise LayerError(f'BatchNorm: made for {self._channels} channels, got a bottom of shape {shape}')
        if top[0] is not bottom[0]:
            top[0].reshape(*shape)

    def _by_channel(self, tensor: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) as (N, C, pixels)."""
        if tensor.dim() < 2:
            return tensor.view(-1, 1, 1)
        return tensor.view(tensor.shape[0], self._channels, tensor[0, 0].numel() if tensor.numel() else 0)

    def _gathered(self) -> tuple[torch.Tensor, torch.Tensor]:
        weight = self.blobs[2].read()
        factor = torch.where(weight == 0, 0.0, 1 / weight)
        return self.blobs[0].read() * factor, self.blobs[1].read() * factor

    def _gather(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        unbiased = count / (count - 1) if count > 1 else 1
        for blob, value in zip(self.blobs, (mean, variance * unbiased, 1), strict=True):
            blob.own().mul_(self.param.moving_average_fraction).add_(value)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = self._by_channel(bottom[0].read())
        if self._global:
            mean, variance = self._gathered()
            centred = x - mean[:, None]
        else:
            mean = x.mean(dim=(0, 2))
            centred = x - mean[:, None]
            variance = centred.square().mean(dim=(0, 2))
            self._gather(mean, variance, x.shape[0] * x.shape[2])
        self._deviation = (variance + self.param.eps).sqrt_()[:, None]
        y = centred.div_(self._deviation).view(top[0].shape)
        # A copy, since a layer that works in place on the top may follow.
        self._normalized = y.clone() if self.needs_backward and not self._global else None
        top[0].write(y)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        diff = self._by_channel(top[0].read_diff())
        if not self._global:
            assert self._normalized is not None
            y = self._by_channel(self._normalized)
            mean = diff.mean(dim=(0, 2))[:, None]
            along = (diff * y).mean(dim=(0, 2))[:, None]
            diff = diff - mean - along * y
        bottom[0].write_diff((diff / self._deviation).view(bottom[0].shape))


@register('MVN')
class MVN(Layer):
    """x minus its mean, by default divided by its standard deviation + eps (mvn_layer.cpp).

    The statistics are those of each channel of each image, or of each image with across_channels.
    """

    param_field = 'mvn_param'
    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) > 4:
            raise LayerError(f'MVN takes a bottom of at most 4 axes, got shape {bottom[0].shape}')
        if top[0] is not bottom[0]:
            b = bottom[0]
            top[0].reshape(b.num, b.channels, b.height, b.width)

    def _rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """One row for each set of elements that are normalized together."""
        rows = 1
        for n in tensor.shape[: 1 if self.param.across_channels else 2]:
            rows *= n
        return tensor.view(rows, tensor.numel() // max(rows, 1))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = self._rows(bottom[0].read())
        y = x - x.mean(dim=1, keepdim=True)
        if self.param.normalize_variance:
            self._deviation = y.square().mean(dim=1, keepdim=True).sqrt_().add_(self.param.eps)
            y.div_(self._deviation)
        self._normalized = y.clone() if self.needs_backward and self.param.normalize_variance else None
        top[0].write(y.view(top[0].shape))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        diff = self._rows(top[0].read_diff())
        out = diff - diff.mean(dim=1, keepdim=True)
        if self.param.normalize_variance:
            assert self._normalized is not None
            # As in Caffe, whose gradient neglects eps beside the deviation.
            out -= self._normalized * (diff * self._normalized).mean(dim=1, keepdim=True)
            out /= self._deviation
        bottom[0].write_diff(out.view(bottom[0].shape))
