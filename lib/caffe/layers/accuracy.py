"""Accuracy: how many predictions have their label among the top k (accuracy_layer.cpp)."""

from __future__ import annotations

import math

import torch

from caffe.blob import Blob
from caffe.layer import Layer, LayerError, register
from caffe.layers.axes import canonical_axis
from caffe.layers.labels import label_indices


@register('Accuracy')
class Accuracy(Layer):
    """The fraction of labels whose score is among the accuracy_param.top_k highest along its axis.

    Top 0: that number (no axes); top 1, if there: the same for each class, 0 for a class that does not occur.
    Equal scores count against the label. No backward pass.
    """

    param_field = 'accuracy_param'
    num_bottom = 2
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ignore = self.param.ignore_label if self.param.HasField('ignore_label') else None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        axis = canonical_axis(self.param.axis, shape)
        self.outer, self.classes, self.inner = (
            math.prod(shape[:axis]),
            shape[axis],
            math.prod(shape[axis + 1 :]),
        )
        if self.param.top_k > self.classes:
            raise LayerError(
                'top_k must be less than or equal to the number of classes: '
                f'top_k {self.param.top_k}, {self.classes} classes'
            )
        if self.outer * self.inner != bottom[1].count:
            raise LayerError(
                'Number of labels must match number of predictions; e.g., if label axis == 1 and prediction shape is '
                '(N, C, H, W), label count (number of labels) must be N*H*W, with integer values in {0, 1, ..., C-1}. '
                f'Found predictions {shape}, axis {axis}, and labels {bottom[1].shape}.'
            )
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(self.classes)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        scores = bottom[0].read().view(self.outer, self.classes, self.inner)
        labels = bottom[1].read().view(self.outer, 1, self.inner)
        labels, valid = label_indices(labels, self.classes, self.ignore)
        # The label itself is among those that score as much, hence <=.
        right = (scores >= scores.gather(1, labels)).sum(1, keepdim=True) <= self.param.top_k
        counted = torch.ones_like(right) if valid is None else valid
        right = (right & counted).float()
        top[0].write(right.sum() / counted.sum().clamp_(min=1))
        if len(top) > 1:
            zeros = scores.new_zeros(self.classes)
            total = zeros.index_add(0, labels.flatten(), counted.flatten().float())
            top[1].write(zeros.index_add(0, labels.flatten(), right.flatten()) / total.clamp_min_(1))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if any(propagate_down):
            raise LayerError('Accuracy has no gradient; give its bottoms propagate_down: false')
