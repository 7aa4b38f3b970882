"""Axpy, by which SENets weigh the channels of a residual block."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import FunctionLayer, LayerError, register


@register('Axpy')
class Axpy(FunctionLayer):
    """scale * x + y, a scale for each channel (axpy_layer.cpp of hujie-frank/SENet; Hu et al., 2018).

    Bottoms: scale (N, C) or (N, C, 1, 1), x (N, C, ...), y of x's shape.
    """

    num_bottom = 3
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        scale, x, y = (blob.shape for blob in bottom)
        if len(x) < 2 or scale[:2] != x[:2] or bottom[0].count != x[0] * x[1]:
            raise LayerError(f'Axpy: bottom 0 must hold a scale for each image and channel of {x}; got {scale}')
        if x != y:
            raise LayerError(f'Axpy: bottoms 1 and 2 must have one shape; got {x} and {y}')
        if any(top[0] is blob for blob in bottom):
            raise LayerError('Axpy Layer does not allow in-place computation.')
        top[0].reshape(*x)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        scale, x, y = bottoms
        return [scale.reshape(*x.shape[:2], *[1] * (x.dim() - 2)) * x + y]
