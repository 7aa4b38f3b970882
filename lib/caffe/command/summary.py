"""Prints a net: layers, shapes of their tops, parameters, memory and work.

Memory is that of the tops' data, where a layer does not work in place; work is counted by caffe.work.
"""

from __future__ import annotations

import argparse

from caffe import work
from caffe.command import flags
from caffe.command.layer_work import is_inserted_split, layer_shapes
from caffe.command.table import mebibytes, quantity, shape, table
from caffe.net import Net


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument('model', metavar='net.prototxt')
    flags.add_phase(parser, 'TEST')
    flags.add_state(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    print(summary(flags.net(args, flags.phase(args))))


def summary(net: Net) -> str:
    """The table of a net, and its totals. Parameters that layers share are counted once, with their owner."""
    rows = []
    n_params = n_bytes = n_work = 0
    for node, shapes in zip(net.nodes, layer_shapes(net), strict=True):
        layer = node.layer
        if is_inserted_split(layer):
            continue
        own = net.learnable_params.owned(layer)
        params = sum(blob.count for blob, mine in zip(layer.blobs, own, strict=True) if mine)
        bottoms = [net.blobs[b] for b in node.bottom_names]
        tops = [net.blobs[t] for t in node.top_names]
        new = sum(4 * t.count for t in tops if not any(t.shares_data_with(b) for b in bottoms))
        multiply_adds = work.forward(shapes)
        shared = '' if all(own) else ' (shared)'
        rows.append(
            (
                layer.name,
                layer.type,
                ' '.join(shape(s) for s in shapes.tops),
                ' '.join(shape(s) for s in shapes.params) + shared,
                f'{params:,}' if params else '',
                mebibytes(new) if new else '',
                quantity(multiply_adds),
            )
        )
        n_params, n_bytes, n_work = n_params + params, n_bytes + new, n_work + multiply_adds
    header = ('layer', 'type', 'tops', 'parameters', 'count', 'MiB', 'multiply-adds')
    total = (f'{len(rows)} layers', '', '', '', f'{n_params:,}', mebibytes(n_bytes), quantity(n_work))
    title = f'{net.name or "net"}: inputs {", ".join(net.inputs) or "none"}; outputs {", ".join(net.outputs)}'
    memory = (
        f'Parameters: {mebibytes(4 * n_params)} MiB. Data: {mebibytes(n_bytes)} MiB. '
        'In training, diffs take as much again.'
    )
    return '\n'.join([title, '', table(header, rows, total, left=4), '', memory, '', _backward(net)])


def _backward(net: Net) -> str:
    """Which layers have no backward pass, by the reason."""
    reasons: dict[str, list[str]] = {}
    for node in net.nodes:
        if node.why_no_backward is not None and not is_inserted_split(node.layer):
            reasons.setdefault(node.why_no_backward, []).append(node.name)
    if not any(node.need_backward for node in net.nodes):
        return 'No layer has a backward pass: the net has no loss, or nothing in it learns.'
    if not reasons:
        return 'All layers have a backward pass.'
    return '\n'.join(['No backward pass:', *(f'  {", ".join(names)}: {why}' for why, names in reasons.items())])
