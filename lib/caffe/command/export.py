"""Writes a net with its weights as an ONNX file, for the TEST phase."""

from __future__ import annotations

import argparse

import caffe
import whole_file
from caffe.command import flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument('--def', '--model', dest='model', required=True, metavar='net.prototxt')
    parser.add_argument('--net', '--weights', dest='weights', required=True, metavar='A.caffemodel,B.caffemodel')
    parser.add_argument('--out', required=True, metavar='net.onnx', help='the file to write')
    parser.add_argument('--blobs', default='', metavar='A,B', help="outputs besides the net's own")
    flags.add_state(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    try:
        from caffe.onnx_export.model import export
    except ModuleNotFoundError as error:
        if error.name != 'onnx':
            raise
        raise ImportError("export needs the package onnx: pip install onnx (the project's extra [export])") from None

    net = flags.net(args, caffe.TEST)
    for weights in args.weights.split(','):
        net.copy_from(weights)
    model = export(net, [name for name in args.blobs.split(',') if name])
    whole_file.write(args.out, [model.SerializeToString()])
    for word, values in (('in', model.graph.input), ('out', model.graph.output)):
        for value in values:
            dims = (d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim)
            print(f'{word:3} {value.name} {" x ".join(dims) or "a number"}')
    print(args.out)
