"""Scores a net: runs it on its own data and prints the mean of each output."""

from __future__ import annotations

import argparse

import caffe
from caffe.command import flags
from caffe.glog import log
from caffe.net import Net


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument('--model', required=True, metavar='net.prototxt')
    parser.add_argument('--weights', required=True, metavar='A.caffemodel,B.caffemodel')
    parser.add_argument('--iterations', type=flags.positive, default=50, metavar='N', help='default: 50')
    flags.add_state(parser)
    flags.add_gpu(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    flags.choose_device(args.gpu, 'caffe.cpp:279')
    net = flags.net(args, caffe.TEST)
    for weights in args.weights.split(','):
        net.copy_from(weights)
    log(f'Running for {args.iterations} iterations.', 'caffe.cpp:285')
    score(net, args.iterations)


def score(net: Net, iterations: int) -> None:
    """Logs each number of each output for each pass, then the mean loss and the means."""
    totals: dict[str, list[float]] = {}
    loss = 0.0
    for i in range(iterations):
        loss += float(net._forward(0, len(net.layers) - 1))
        for name in net.outputs:
            values = net.blobs[name].read().reshape(-1).tolist()
            for value in values:
                log(f'Batch {i}, {name} = {value:.6g}', 'caffe.cpp:308')
            before = totals.get(name, [0.0] * len(values))
            totals[name] = [total + value for total, value in zip(before, values, strict=True)]
    log(f'Loss: {loss / iterations:.6g}', 'caffe.cpp:313')
    weights = net.blob_loss_weights
    for name, values in totals.items():
        for value in values:
            mean, weight = value / iterations, weights[name]
            part = f' (* {weight:.6g} = {weight * mean:.6g} loss)' if weight else ''
            log(f'{name} = {mean:.6g}{part}', 'caffe.cpp:325')
