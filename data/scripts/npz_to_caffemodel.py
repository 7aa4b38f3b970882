#!/usr/bin/env python3
"""Write weights kept in an .npz file as a .caffemodel.

    python data/scripts/npz_to_caffemodel.py --weights vgg16_trunk_fp16.npz \\
        --net models/bccd/VGG16/fast_rcnn/test.prototxt --out data/imagenet_models/VGG16_trunk.caffemodel

The arrays are named <layer>/0 (weights) and <layer>/1 (bias), in Caffe's shapes, of any floating-point type.
Layers of the net that the file lacks stay out of the .caffemodel, so that training starts them from the
fillers of its own prototxt.
"""

import argparse
import os
import sys
import tempfile
import zipfile

import numpy as np
from google.protobuf import text_format

PROJECT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
sys.path.insert(0, os.path.join(PROJECT, 'tools'))
import _init_paths  # noqa: E402, F401

import whole_file  # noqa: E402
from _command_line import run  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--weights', required=True, metavar='FILE', help='the .npz file')
    parser.add_argument('--net', required=True, metavar='FILE', help='prototxt of a net with these layers')
    parser.add_argument('--out', required=True, metavar='FILE', help='the .caffemodel to write')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args()
    layers = read_layers(args.weights)
    save(layers, args.net, args.out)
    print(f'wrote {args.out}: {len(layers)} layers, {", ".join(layers)}')


def read_layers(path: str) -> dict[str, list[np.ndarray]]:
    """Layer name -> its arrays, float32. Raises ValueError for a file that is not of this kind."""
    try:
        with np.load(path, allow_pickle=False) as f:
            arrays = {key: f[key].astype(np.float32) for key in f.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as e:
        raise ValueError(f'{path}: not an .npz file of plain arrays ({e})') from None
    layers: dict[str, dict[int, np.ndarray]] = {}
    for key, array in arrays.items():
        name, _, number = key.rpartition('/')
        if not name or not number.isdigit():
            raise ValueError(f'{path}: array {key!r}; expected names like conv1_1/0 and conv1_1/1')
        layers.setdefault(name, {})[int(number)] = array
    for name, of_layer in layers.items():
        if sorted(of_layer) != list(range(len(of_layer))):
            raise ValueError(f'{path}: layer {name!r} has arrays {sorted(of_layer)}; expected 0, 1, ...')
    return {name: [of_layer[k] for k in sorted(of_layer)] for name, of_layer in layers.items()}


def save(layers: dict[str, list[np.ndarray]], prototxt: str, path: str) -> None:
    """Write the layers as a .caffemodel, through a net that consists of the trunk of ``prototxt`` alone."""
    import caffe
    from caffe.proto import caffe_pb2

    param = caffe_pb2.NetParameter()
    with open(prototxt, encoding='utf-8') as f:
        text_format.Merge(f.read(), param)
    missing = set(layers) - {layer.name for layer in param.layer}
    if missing:
        raise ValueError(f'{prototxt} has no layers {", ".join(sorted(missing))}, of which there are weights')
    # The net up to the last of these layers: what comes after it would be saved untrained.
    last = max(k for k, layer in enumerate(param.layer) if layer.name in layers)
    del param.layer[last + 1 :]
    untrained = {'Convolution', 'InnerProduct'}
    lacking = [x.name for x in param.layer if x.type in untrained and x.name not in layers]
    if lacking:
        raise ValueError(f'no weights of {", ".join(lacking)}, which come before layers that there are weights of')

    caffe.set_mode_cpu()
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        trunk = os.path.join(folder, 'trunk.prototxt')
        with open(trunk, 'w', encoding='utf-8') as f:
            f.write(text_format.MessageToString(param))
        net = caffe.Net(trunk, caffe.TEST)
    for name, arrays in layers.items():
        blobs = net.params[name]
        if [tuple(b.data.shape) for b in blobs] != [a.shape for a in arrays]:
            raise ValueError(
                f'layer {name!r}: weights of shapes {[a.shape for a in arrays]}, but {prototxt} has '
                f'{[tuple(b.data.shape) for b in blobs]}'
            )
        for blob, array in zip(blobs, arrays, strict=True):
            blob.data[...] = array
    with whole_file.beside(path) as made:
        net.save(made)


if __name__ == '__main__':
    run(main)
