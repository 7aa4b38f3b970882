"""One layer without a net around it: made from the text of its `layer { }` block, run on arrays."""

from __future__ import annotations

import numpy as np
import torch
from google.protobuf import text_format

from caffe.blob import Blob
from caffe.layer import Layer, native_type
from caffe.proto import caffe_pb2


def make(text: str, *arrays, phase: str = 'TEST', in_place: bool = False) -> tuple[Layer, list[Blob], list[Blob]]:
    """The layer after setup and reshape, its bottoms (holding `arrays`) and its tops.

    text: the fields of a LayerParameter, e.g. 'type: "Softmax" top: "y"'; as many tops are made as it names.
    """
    param = caffe_pb2.LayerParameter(phase=caffe_pb2.Phase.Value(phase))
    text_format.Parse(text, param)
    if not param.bottom:
        param.bottom.extend(f'bottom{i}' for i in range(len(arrays)))
    layer = native_type(param.type)(param)
    bottom = []
    for array in arrays:
        array = np.asarray(array, np.float32)
        bottom.append(Blob(*array.shape))
        bottom[-1].data[...] = array
    top = [Blob() for _ in param.top]
    if in_place:
        top[0] = bottom[0]
    layer.needs_backward = True
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    layer.param_propagate_down = [True] * len(layer.blobs)
    return layer, bottom, top


@torch.no_grad()
def forward(layer: Layer, bottom: list[Blob], top: list[Blob]) -> list[np.ndarray]:
    """Copies of the tops after a reshape and a forward pass."""
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    return [np.array(t.data) for t in top]


@torch.no_grad()
def backward(layer: Layer, bottom: list[Blob], top: list[Blob], *top_diffs, down=None) -> list[np.ndarray]:
    """Copies of the bottoms' diffs after a backward pass with these diffs of the tops."""
    for blob, diff in zip(top, top_diffs, strict=True):
        blob.diff[...] = diff
    layer.backward(top, [True] * len(bottom) if down is None else down, bottom)
    return [np.array(b.diff) for b in bottom]


def run(text: str, *arrays, phase: str = 'TEST') -> list[np.ndarray]:
    """The tops of a layer for these bottoms."""
    return forward(*make(text, *arrays, phase=phase))
