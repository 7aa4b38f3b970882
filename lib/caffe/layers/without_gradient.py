"""What layers have in common whose tops do not change with small changes of their bottoms."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import Layer


class LayerWithoutGradient(Layer):
    """A layer whose bottoms get a diff of zero where one is asked for; force_backward asks for none."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, down in zip(bottom, propagate_down, strict=True):
            if down:
                blob.write_diff(torch.zeros_like(blob.read()))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return False
