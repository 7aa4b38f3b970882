"""Softmax along one axis (softmax_layer.cpp)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import Layer, register
from caffe.layers.axes import canonical_axis


@register('Softmax')
class Softmax(Layer):
    """exp(x) / sum(exp(x)) along softmax_param.axis (1 unless told otherwise). Works in place."""

    param_field = 'softmax_param'
    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = canonical_axis(self.param.axis, bottom[0].shape)
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].write(torch.softmax(bottom[0].read(), self.axis))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            prob, diff = top[0].read(), top[0].read_diff()
            bottom[0].write_diff(prob * (diff - (prob * diff).sum(self.axis, keepdim=True)))
