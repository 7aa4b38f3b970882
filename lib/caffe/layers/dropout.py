"""Dropout (dropout_layer.cpp; Srivastava et al., 'Dropout', JMLR 2014)."""

from __future__ import annotations

import math

import torch

from caffe import device
from caffe.layer import Layer, LayerError, register
from caffe.proto import caffe_pb2


def keep_mask(shape: tuple[int, ...], keep: float, generator: torch.Generator) -> torch.Tensor:
    """float32 of this shape: 1 with probability `keep`, given to 1/65536, else 0; on the generator's device.

    Four elements share a random 64-bit number, which on a CPU takes a fifth of Tensor.bernoulli_'s time.
    """
    count = math.prod(shape)
    numbers = torch.empty((count + 3) // 4, dtype=torch.int64, device=generator.device)
    numbers.random_(-(2**63), None, generator=generator)
    bits = numbers.view(torch.int16)[:count].view(shape)  # uniform in -32768 ... 32767
    threshold = min(max(round(keep * 65536), 1), 65535) - 32768
    return torch.lt(bits, threshold, out=torch.empty(shape, dtype=torch.float32, device=generator.device))


@register('Dropout')
class Dropout(Layer):
    """In TRAIN zeroes each element with probability dropout_ratio, multiplies the others by 1 / (1 - it).

    In TEST the identity: the scaling is done at training time. May be in place.
    """

    param_field = 'dropout_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom, top):
        self._ratio = self.param.dropout_ratio
        if not 0 < self._ratio < 1:
            raise LayerError(f'Dropout: dropout_ratio must lie between 0 and 1, both excluded; got {self._ratio:g}')
        self._scale = 1 / (1 - self._ratio)
        self._keep: torch.Tensor | None = None

    def reshape(self, bottom, top):
        if top[0] is not bottom[0]:
            top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        in_place = top[0] is bottom[0]
        if self.phase == caffe_pb2.TEST:
            if not in_place:
                top[0].write(bottom[0].read().clone())
            return
        keep = keep_mask(bottom[0].shape, 1 - self._ratio, device.generator()).mul_(self._scale)
        self._keep = keep if self.needs_backward else None
        if in_place:
            top[0].own().mul_(keep)
        else:
            top[0].write(bottom[0].read() * keep)

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        in_place = top[0] is bottom[0]
        if self.phase == caffe_pb2.TEST:
            if not in_place:
                bottom[0].write_diff(top[0].read_diff().clone())
            return
        if self._keep is None or self._keep.shape != top[0].shape:
            raise LayerError('Dropout: the backward pass needs the mask of a forward pass on the same shape')
        if in_place:
            bottom[0].own_diff().mul_(self._keep)
        else:
            bottom[0].write_diff(top[0].read_diff() * self._keep)
