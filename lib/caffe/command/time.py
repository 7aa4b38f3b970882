"""Times a net: forward and backward pass of each layer, and how fast its arithmetic goes.

Milliseconds are means over the iterations, after one that does not count. The work is counted by caffe.work;
a multiply-add is two floating-point operations. A net without a loss goes backward as if one followed, as in Caffe,
whose tool calls every layer's backward pass.
"""

from __future__ import annotations

import argparse

from caffe import work
from caffe.backward_path import as_if_a_loss_followed
from caffe.command import flags
from caffe.command.layer_work import is_inserted_split, layer_shapes
from caffe.command.table import shape, table
from caffe.glog import log
from caffe.layer import LayerError
from caffe.net import Net
from caffe.timer import Timer


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument('--model', required=True, metavar='net.prototxt')
    parser.add_argument('--iterations', type=flags.positive, default=50, metavar='N', help='default: 50')
    flags.add_phase(parser, 'TRAIN')
    flags.add_state(parser)
    flags.add_gpu(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    flags.choose_device(args.gpu, 'caffe.cpp:348')
    net = flags.net(args, flags.phase(args))
    has_loss = any(node.losses for node in net.nodes)
    if not has_loss:
        as_if_a_loss_followed(net.nodes)
    log('Performing Forward', 'caffe.cpp:353')
    loss = float(net._forward(0, len(net.layers) - 1))
    log(f'Initial loss: {loss:.6g}', 'caffe.cpp:358')
    log('Performing Backward', 'caffe.cpp:359')
    if has_loss:
        net._backward(len(net.layers) - 1, 0)
    else:
        _go_backward_from_ones(net)
    log('*** Benchmark begins ***', 'caffe.cpp:367')
    log(f'Testing for {args.iterations} iterations.', 'caffe.cpp:368')
    forward, backward = measure(net, args.iterations)
    print(report(net, forward, backward))
    log(f'Average Forward pass: {sum(forward):.6g} ms.', 'caffe.cpp:408')
    log(f'Average Backward pass: {sum(backward):.6g} ms.', 'caffe.cpp:410')
    log(f'Average Forward-Backward: {sum(forward) + sum(backward):.6g} ms.', 'caffe.cpp:412')
    log(f'Total Time: {(sum(forward) + sum(backward)) * args.iterations:.6g} ms.', 'caffe.cpp:414')
    log('*** Benchmark ends ***', 'caffe.cpp:415')


def _go_backward_from_ones(net: Net) -> None:
    """One backward pass from gradients of 1. Layers that refuse have none from now on."""
    for name in net.outputs:
        net.blobs[name].own_diff().fill_(1)
    for i in reversed(range(len(net.layers))):
        try:
            net._backward(i, i)
        except LayerError:
            net.nodes[i].need_backward = False


def measure(net: Net, iterations: int) -> tuple[list[float], list[float]]:
    """The mean milliseconds of each layer's forward and of its backward pass."""
    forward, backward = ([0.0] * len(net.layers) for _ in range(2))

    def clocked(times: list[float], run, i: int) -> None:
        timer = Timer()
        timer.start()
        run(i, i)
        times[i] += timer.ms / iterations

    for _ in range(iterations):
        net.clear_param_diffs()
        for i in range(len(net.layers)):
            clocked(forward, net._forward, i)
        for i in reversed(range(len(net.layers))):
            clocked(backward, net._backward, i)
    return forward, backward


def report(net: Net, forward: list[float], backward: list[float]) -> str:
    """The table of a net whose layers took these milliseconds."""
    rows = []
    all_work = [0, 0]
    for i, (node, shapes) in enumerate(zip(net.nodes, layer_shapes(net), strict=True)):
        layer = node.layer
        need = node.bottom_need_backward if node.need_backward else []
        learn = layer.param_propagate_down if node.need_backward else []
        works = work.forward(shapes), work.backward(shapes, learn, need)
        all_work = [total + new for total, new in zip(all_work, works, strict=True)]
        if not is_inserted_split(layer):
            tops = ' '.join(shape(s) for s in shapes.tops)
            went_back = [backward[i]] if node.need_backward else [None]
            cells = _cells(forward[i], works[0]) + _cells(went_back[0], works[1])
            rows.append((layer.name, layer.type, tops, *cells))
    header = ('layer', 'type', 'tops', 'forward ms', 'GFLOP/s', 'backward ms', 'GFLOP/s')
    sums = _cells(sum(forward), all_work[0]) + _cells(sum(backward), all_work[1])
    text = table(header, rows, (f'{len(rows)} layers', '', '', *sums), left=3)
    if not any(node.need_backward for node in net.nodes):
        text += '\n\nNothing goes backward: nothing in this net learns.'
    return text


def _cells(milliseconds: float | None, multiply_adds: int) -> tuple[str, str]:
    """A time and the speed of its arithmetic; None for a pass that there is not."""
    if milliseconds is None:
        return '', ''
    speed = 2 * multiply_adds / max(milliseconds, 1e-9) / 1e6
    return f'{milliseconds:.3f}', f'{speed:.1f}' if multiply_adds else ''
