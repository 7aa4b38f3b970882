"""Layers that compute each element of the top from the same element of the bottom (Caffe's neuron_layer.hpp).

All may be in place (top and bottom one blob) except AbsVal, as in Caffe.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from caffe.blob import Blob
from caffe.layer import FunctionLayer, Layer, LayerError, register

# By their whole names: to choose one of several takes torch longer than a small tensor does
_relu_backward, _relu_backward_in_place = (
    torch.ops.aten.threshold_backward.default, torch.ops.aten.threshold_backward.grad_input
)  # fmt: skip


class _Elementwise(FunctionLayer):
    """One bottom, one top, one shape."""

    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if top[0] is not bottom[0]:
            top[0].reshape(*bottom[0].shape)


@register('ReLU')
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0) (relu_layer.cpp)."""

    param_field = 'relu_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._slope = self.param.negative_slope

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if top[0] is not bottom[0]:
            top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if top[0] is bottom[0]:
            x = top[0].own()
            F.leaky_relu_(x, self._slope) if self._slope else x.relu_()
        else:
            x = bottom[0].read()
            top[0].write(F.leaky_relu(x, self._slope) if self._slope else torch.relu(x))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        # In place the bottom holds the top's data, which has the same sign (for slopes that are not negative).
        x, diff = bottom[0].read(), top[0].read_diff()
        if self._slope:
            bottom[0].write_diff(torch.ops.aten.leaky_relu_backward.default(diff, x, self._slope, False))
        elif top[0] is bottom[0]:
            diff = top[0].own_diff()
            _relu_backward_in_place(diff, x, 0, grad_input=diff)
        else:
            bottom[0].write_diff(_relu_backward(diff, x, 0))


@register('PReLU')
class PReLU(_Elementwise):
    """max(x, 0) + slope * min(x, 0); a slope is learned for each channel, or one with channel_shared.

    Parameter: the slopes (C,), or () when shared, 0.25 unless a filler is given (prelu_layer.cpp; He et al.,
    'Delving deep into rectifiers', 2015).
    """

    param_field = 'prelu_param'

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise LayerError(f'Number of axes of bottom blob must be >=2, got shape {shape}.')
        self._channels = shape[1]
        slopes = () if self.param.channel_shared else (self._channels,)
        if self.blobs:
            if self.blobs[0].count != math.prod(slopes):
                raise LayerError(f'Negative slope size is inconsistent with prototxt config: {self.blobs[0]}, {slopes}')
            return
        filler = self.param.filler
        if not self.param.HasField('filler'):
            filler = type(filler)(type='constant', value=0.25)
        self.new_param(slopes, filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].shape[1] != self._channels:
            raise LayerError(f'PReLU: made for {self._channels} channels, got a bottom of shape {bottom[0].shape}')
        super().reshape(bottom, top)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0]
        slope = params[0].reshape(1, -1, *(1,) * (x.dim() - 2))
        return [torch.where(x > 0, x, slope * x)]


@register('ELU')
class ELU(_Elementwise):
    """x where positive, else alpha * (exp(x) - 1) (elu_layer.cpp; Clevert et al., 2015)."""

    param_field = 'elu_param'

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [F.elu(bottoms[0], self.param.alpha)]


class _FromTop(_Elementwise):
    """A layer whose gradient follows from its top: nothing is computed again, and in place costs nothing."""

    def gradient(self, diff: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The bottom's diff, from the top's diff and data."""
        raise NotImplementedError(f'{type(self).__name__} does not say its gradient')

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].write(self.compute([bottom[0].read()], [])[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].write_diff(self.gradient(top[0].read_diff(), top[0].read()))


@register('Sigmoid')
class Sigmoid(_FromTop):
    """1 / (1 + exp(-x)) (sigmoid_layer.cpp)."""

    gradient = staticmethod(torch.ops.aten.sigmoid_backward)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.sigmoid(bottoms[0])]


@register('TanH')
class TanH(_FromTop):
    """The hyperbolic tangent (tanh_layer.cpp)."""

    gradient = staticmethod(torch.ops.aten.tanh_backward)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.tanh(bottoms[0])]


@register('BNLL')
class BNLL(_Elementwise):
    """log(1 + exp(x)), the binomial normal log likelihood (bnll_layer.cpp)."""

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [F.softplus(bottoms[0])]


@register('Swish')
class Swish(_Elementwise):
    """x * sigmoid(beta * x) (swish_layer.cpp; Ramachandran et al., 2017)."""

    param_field = 'swish_param'

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0]
        return [x * torch.sigmoid(self.param.beta * x)]


@register('AbsVal')
class AbsVal(_Elementwise):
    """|x| (absval_layer.cpp)."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if top[0] is bottom[0]:
            raise LayerError('AbsVal Layer does not allow in-place computation.')

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [bottoms[0].abs()]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].write_diff(bottom[0].read().sign().mul_(top[0].read_diff()))


@register('Clip')
class Clip(_Elementwise):
    """x held between clip_param's min and max (clip_layer.cpp)."""

    param_field = 'clip_param'

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        for bound in ('min', 'max'):
            if not self.param.HasField(bound):
                raise LayerError(f'Clip: clip_param needs a {bound}')
        if self.param.min > self.param.max:
            raise LayerError(f'Clip: min {self.param.min:g} is larger than max {self.param.max:g}')

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [bottoms[0].clamp(self.param.min, self.param.max)]


@register('ReLU6')
class ReLU6(_Elementwise):
    """min(max(x, 0), 6) + negative_slope * min(x, 0) (Krizhevsky, 2010; forks for MobileNetV2)."""

    param_field = 'relu6_param'

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        y = bottoms[0].clamp(0, 6)
        return [y + self.param.negative_slope * bottoms[0].clamp(max=0) if self.param.negative_slope else y]


@register('Exp')
class Exp(_Elementwise):
    """base ** (shift + scale * x); base -1 stands for e (exp_layer.cpp)."""

    param_field = 'exp_param'

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._log_base = _log_base(self.param.base, self.type)
        self._factor = math.exp(self._log_base * self.param.shift)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.exp(self._log_base * self.param.scale * bottoms[0]) * self._factor]


@register('Log')
class Log(_Elementwise):
    """The logarithm of shift + scale * x to the given base; base -1 stands for e (log_layer.cpp)."""

    param_field = 'log_param'

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        log_base = _log_base(self.param.base, self.type)
        if log_base == 0:
            raise LayerError('Log: there is no logarithm to base 1')
        self._base_scale = 1 / log_base

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.log(self.param.scale * bottoms[0] + self.param.shift) * self._base_scale]


def _log_base(base: float, layer_type: str) -> float:
    """The natural logarithm of `base`; -1 stands for e. Raises LayerError where it is not positive."""
    if base == -1:
        return 1.0
    if base <= 0:
        raise LayerError(f'{layer_type}: base must be positive, or -1 for e; got {base:g}')
    return math.log(base)


@register('Power')
class Power(_Elementwise):
    """(shift + scale * x) ** power (power_layer.cpp). The derivative is 0 everywhere if power * scale is."""

    param_field = 'power_param'

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        p = self.param
        if p.power * p.scale == 0:  # a constant, as Caffe computes it: 0 ** 0 is 1
            return [torch.full_like(bottoms[0], 1.0 if p.power == 0 else p.shift).pow(p.power)]
        y = bottoms[0] * p.scale + p.shift if p.shift else bottoms[0] * p.scale
        return [y if p.power == 1 else y.pow(p.power)]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.param.power != 1:
            super().backward(top, propagate_down, bottom)
        elif propagate_down[0]:
            bottom[0].write_diff(top[0].read_diff() * self.param.scale)


@register('Threshold')
class Threshold(_Elementwise):
    """1 where x > threshold, else 0 (threshold_layer.cpp). It has no backward pass."""

    param_field = 'threshold_param'

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [(bottoms[0] > self.param.threshold).to(bottoms[0].dtype)]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            raise LayerError('Threshold has no gradient; say propagate_down: false')
