"""Interp: bilinear resizing of maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from caffe.blob import Blob
from caffe.layer import FunctionLayer, LayerError, register


@register('Interp')
class Interp(FunctionLayer):
    """Maps of another size, by bilinear interpolation, corners on corners (interp_layer.cpp of deeplab-public-ver2).

    Bottom (N, C, H, W); a second one, if there is, gives its height and width to the top. Else height and width say
    it, or shrink_factor s: (H - 1) / s + 1, then zoom_factor z: H + (H - 1) * (z - 1). pad_beg and pad_end, 0 or less,
    cut pixels off first.
    """

    param_field = 'interp_param'
    num_bottom = (1, 2)
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.param
        if param.pad_beg > 0 or param.pad_end > 0:
            raise LayerError(
                'Only supports non-pos padding (cropping) for now; got '
                f'pad_beg: {param.pad_beg} pad_end: {param.pad_end}'
            )
        factors = [name for name in ('zoom_factor', 'shrink_factor') if param.HasField(name)]
        sizes = [name for name in ('height', 'width') if param.HasField(name)]
        if len(sizes) == 1 or bool(factors) + bool(sizes) + (len(bottom) == 2) != 1:
            raise LayerError(
                'Output dimension specified either by zoom_factor and shrink_factor, or by height and width, or by a '
                f'second bottom; got {len(bottom)} bottoms and {factors + sizes}'
            )
        if any(getattr(param, name) < 1 for name in factors + sizes):
            raise LayerError(f'{", ".join(factors + sizes)} must be positive')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape, param = bottom[0].shape, self.param
        if any(len(blob.shape) != 4 for blob in bottom):
            raise LayerError(f'Interp: bottoms must have shape (N, C, H, W); got {[blob.shape for blob in bottom]}')
        size = tuple(n + param.pad_beg + param.pad_end for n in shape[2:])
        if min(size) < 1:
            raise LayerError(f'Interp: pad_beg and pad_end leave nothing of a bottom of shape {shape}')
        if len(bottom) == 2:
            self._size = bottom[1].shape[2:]
        elif param.HasField('height'):
            self._size = (param.height, param.width)
        else:
            size = tuple((n - 1) // param.shrink_factor + 1 for n in size)
            self._size = tuple(n + (n - 1) * (param.zoom_factor - 1) for n in size)
        if min(self._size) < 1:
            raise LayerError(f'Interp: height and width should be positive; got {self._size}')
        top[0].reshape(*shape[:2], *self._size)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0]
        first, height, width = -self.param.pad_beg, x.shape[2] + self.param.pad_end, x.shape[3] + self.param.pad_end
        x = x[:, :, first:height, first:width]
        return [F.interpolate(x, size=self._size, mode='bilinear', align_corners=True)]
