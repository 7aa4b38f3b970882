"""Weights by our layers' names, written as a .caffemodel, and tried on a picture."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from google.protobuf import text_format

import caffe
import whole_file
from caffe.proto import caffe_pb2
from pretrained import WeightsError

Layers = Mapping[str, Sequence[np.ndarray]]

_LEARNED = {'Convolution', 'InnerProduct', 'BatchNorm', 'Scale'}


def save(layers: Layers, prototxt: str, path: str) -> None:
    """Writes `layers` as a .caffemodel, through the part of the net of `prototxt` that they are of.

    Layers of the net that have no weights here stay out of the file, so that training starts them from the fillers of
    its own prototxt. Raises WeightsError for weights of other layers or shapes than the net's.
    """
    param = caffe_pb2.NetParameter()
    with open(prototxt, encoding='utf-8') as file:
        try:
            text_format.Parse(file.read(), param)
        except text_format.ParseError as error:
            raise WeightsError(f'{prototxt}: not a prototxt: {error}') from None
    missing = set(layers) - {layer.name for layer in param.layer}
    if missing:
        raise WeightsError(f'{prototxt} has no layers {", ".join(sorted(missing))}, of which there are weights')
    last = max(k for k, layer in enumerate(param.layer) if layer.name in layers)
    del param.layer[last + 1 :]
    lacking = [layer.name for layer in param.layer if layer.type in _LEARNED and layer.name not in layers]
    if lacking:
        raise WeightsError(f'no weights of {", ".join(lacking)}, which come before layers that there are weights of')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    net = filled(text_format.MessageToString(param), layers, prototxt)
    with whole_file.beside(path) as made:
        net.save(made)


def filled(text: str, layers: Layers, name: str) -> caffe.Net:
    """The net of the prototxt `text`, called `name` in messages, to test with, its layers filled with `layers`."""
    caffe.set_mode_cpu()
    with tempfile.TemporaryDirectory() as folder:
        trunk = os.path.join(folder, 'net.prototxt')
        whole_file.write_text(trunk, text)
        net = caffe.Net(trunk, caffe.TEST)
    for layer, arrays in layers.items():
        blobs = net.params[layer]
        shapes, wanted = [a.shape for a in arrays], [tuple(blob.data.shape) for blob in blobs]
        if shapes != wanted:
            raise WeightsError(f'layer {layer!r}: weights of shapes {shapes}, but {name} has {wanted}')
        for blob, array in zip(blobs, arrays, strict=True):
            blob.data[...] = array
    return net


def probabilities(net: caffe.Net, picture: np.ndarray, means: Iterable[float]) -> np.ndarray:
    """What a classifier with input data and output prob says of a picture (224, 224, 3), BGR: (classes,)."""
    data = (picture.astype(np.float32) - np.array(list(means), np.float32)).transpose(2, 0, 1)
    net.blobs['data'].reshape(1, *data.shape)
    return net.forward(data=data[None])['prob'].ravel().copy()
