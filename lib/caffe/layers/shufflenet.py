"""ShuffleChannel, by which groups of ShuffleNet's convolutions learn of each other."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import FunctionLayer, LayerError, register


@register('ShuffleChannel')
class ShuffleChannel(FunctionLayer):
    """The channels of `group` groups dealt out: the first of each group, then the second of each (Zhang et al., 2017).

    Bottom and top (N, C, ...); C must be a multiple of group (shuffle_channel_layer.cpp of farmingyard/ShuffleNet).
    """

    param_field = 'shuffle_channel_param'
    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape, group = bottom[0].shape, self.param.group
        if len(shape) < 2 or group == 0 or shape[1] % group:
            raise LayerError(f'ShuffleChannel: a bottom of shape {shape} has no channels that {group} groups can share')
        if top[0] is bottom[0]:
            raise LayerError('ShuffleChannel Layer does not allow in-place computation.')
        top[0].reshape(*shape)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0]
        groups = (self.param.group, x.shape[1] // self.param.group)
        parts = x.reshape(x.shape[0], *groups, x.shape[2:].numel())
        return [parts.transpose(1, 2).reshape(x.shape)]
