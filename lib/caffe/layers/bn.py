"""BN: batch normalization with its scale and shift in one layer, as PSPNet's and SegNet's Caffes have it."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import FunctionLayer, LayerError, register
from caffe.proto import caffe_pb2


@register('BN')
class BN(FunctionLayer):
    """slope * (x - mean) / sqrt(variance + eps) + bias for each channel (bn_layer.cpp of yjxiong/caffe and PSPNet).

    Statistics are those of the batch in TRAIN, the gathered ones in TEST or with `frozen`. Parameters, (1, C, 1, 1)
    each: slope, bias, gathered mean and variance (biased), which the solver leaves alone: momentum of the old plus 1 -
    momentum of the batch's. `frozen` learns nothing.

    With SegNet's options (scale_filler, shift_filler, var_eps or bn_mode) it is SegNet's: scale and shift alone, the
    batch's statistics in both phases, or with bn_mode: INFERENCE none: scale * x + shift (alexgkendall/caffe-segnet).
    """

    param_field = 'bn_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape, param = bottom[0].shape, self.param
        if len(shape) < 2:
            raise LayerError(f'BN: the bottom must have shape (N, C, ...), got {shape}')
        self._channels = shape[1]
        of_segnet = [f for f in ('scale_filler', 'shift_filler', 'var_eps', 'bn_mode') if param.HasField(f)]
        of_psp = [f for f in ('slope_filler', 'bias_filler', 'momentum', 'eps', 'frozen') if param.HasField(f)]
        if of_segnet and of_psp:
            raise LayerError(f'BN: {of_segnet[0]} is of SegNet, {of_psp[0]} of PSPNet; the layer is one or the other')
        self._segnet = bool(of_segnet)
        self._learns = self._segnet or not param.frozen
        fillers = ('scale_filler', 'shift_filler') if self._segnet else ('slope_filler', 'bias_filler')
        count = 2 if self._segnet else 4
        if self.blobs:
            if len(self.blobs) != count or any(blob.count != self._channels for blob in self.blobs):
                raise LayerError(f'BN: {count} parameters of {self._channels} numbers are expected')
        else:
            for field in fillers:
                self.new_param((1, self._channels, 1, 1), getattr(param, field))
            if not self._segnet:
                for value in (0, param.frozen):
                    filler = caffe_pb2.FillerParameter(value=value)
                    self.new_param((1, self._channels, 1, 1), filler)
        for i in range(count):
            if len(self.layer_param.param) == i:
                self.layer_param.param.add()
            if i >= 2 or not self._learns:
                self.layer_param.param[i].lr_mult = self.layer_param.param[i].decay_mult = 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2 or shape[1] != self._channels:
            raise LayerError(f'BN: made for {self._channels} channels, got a bottom of shape {shape}')
        if top[0] is not bottom[0]:
            top[0].reshape(*shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self._segnet and not self.param.frozen and self.phase == caffe_pb2.TRAIN:
            mean, variance = self._statistics(bottom[0].read())
            for blob, new in ((self.blobs[2], mean), (self.blobs[3], variance)):
                blob.own().mul_(self.param.momentum).add_((1 - self.param.momentum) * new.view(blob.shape))
        super().forward(bottom, top)

    @staticmethod
    def _statistics(x):
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean = x.mean(axes, keepdim=True)
        return mean, (x - mean).square().mean(axes, keepdim=True)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0]
        slope, bias, *gathered = (p.view(1, -1, *[1] * (x.dim() - 2)) for p in params)
        if self._segnet and self.param.bn_mode == caffe_pb2.BNParameter.INFERENCE:
            return [slope * x + bias]
        if self._segnet or (self.phase == caffe_pb2.TRAIN and not self.param.frozen):
            mean, variance = self._statistics(x)
        else:
            mean, variance = (statistic.detach() for statistic in gathered)
        eps = self.param.var_eps if self._segnet else self.param.eps
        return [slope * ((x - mean) / (variance + eps).sqrt()) + bias]
