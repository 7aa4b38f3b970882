"""Dropout (dropout_layer.cpp; Srivastava et al., 'Dropout', JMLR 2014)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import Layer, LayerError, register
from caffe.process import device
from caffe.proto import caffe_pb2

_PORTION = 2**19  # elements whose random numbers stay in a CPU's caches; a multiple of four


def draw_mask(mask: torch.Tensor, keep: float, generator: torch.Generator) -> None:
    """Fills a flat float32 tensor on the generator's device: 1 with probability `keep`, given to 1/65536, else 0.

    Four elements share a random 64-bit number, which on a CPU takes a fifth of Tensor.bernoulli_'s time.
    """
    numbers = torch.empty((mask.numel() + 3) // 4, dtype=torch.int64, device=mask.device)
    numbers.random_(-(2**63), None, generator=generator)
    bits = numbers.view(torch.int16)[: mask.numel()]  # uniform in -32768 ... 32767
    torch.lt(bits, min(max(round(keep * 65536), 1), 65535) - 32768, out=mask)


@register('Dropout')
class Dropout(Layer):
    """In TRAIN zeroes each element with probability dropout_ratio, multiplies the others by 1 / (1 - it).

    In TEST the identity: the scaling is done at training time. With scale_train: false, as in the Fast R-CNN branch,
    the others stay as they are in TRAIN, and all are multiplied by 1 - dropout_ratio in TEST. A ratio of 0 switches
    the layer off. May be in place.
    """

    param_field = 'dropout_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._ratio = self.param.dropout_ratio
        if not 0 <= self._ratio < 1:
            raise LayerError(
                f'Dropout: dropout_ratio must be at least 0 (drop nothing) and less than 1; got {self._ratio:g}'
            )
        training = self.phase == caffe_pb2.TRAIN
        self._drops = training and self._ratio > 0
        # What is kept is multiplied by this, in the phase that scales
        self._scale = 1.0
        if self.param.scale_train == training:
            self._scale = 1 / (1 - self._ratio) if training else 1 - self._ratio
        self._keep: torch.Tensor | None = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if top[0] is not bottom[0]:
            top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        in_place = top[0] is bottom[0]
        if not self._drops:
            if self._scale != 1:
                torch.mul(bottom[0].read(), self._scale, out=top[0].own() if in_place else top[0].memory_to_fill())
            elif not in_place:
                top[0].write(bottom[0].read().clone())
            return
        x = bottom[0].read()
        y = top[0].own() if in_place else top[0].memory_to_fill()
        self._keep = torch.empty_like(x) if self.needs_backward else None
        portion = x.numel() if x.is_cuda else _PORTION
        for first in range(0, x.numel(), portion):
            part = slice(first, first + portion)
            data, out = x.view(-1)[part], y.view(-1)[part]
            mask = torch.empty_like(data) if self._keep is None else self._keep.view(-1)[part]
            draw_mask(mask, 1 - self._ratio, device.generator())
            torch.mul(data, mask.mul_(self._scale), out=out)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        in_place = top[0] is bottom[0]
        if not self._drops:
            if in_place:
                bottom[0].own_diff().mul_(self._scale)
            else:
                bottom[0].write_diff(top[0].read_diff() * self._scale)
            return
        if self._keep is None or self._keep.shape != top[0].shape:
            raise LayerError('Dropout: the backward pass needs the mask of a forward pass on the same shape')
        if in_place:
            bottom[0].own_diff().mul_(self._keep)
        else:
            bottom[0].write_diff(top[0].read_diff() * self._keep)
