"""Pictures of nets: layers as boxes, blobs as octagons, drawn by Graphviz (pycaffe's draw.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pydot
from google.protobuf.message import Message

import whole_file
from caffe.files.upgrade import upgrade_net
from caffe.net_rules import included_layers
from caffe.proto import caffe_pb2

TEXT_FORMATS = ('dot', 'gv', 'raw')  # written without Graphviz's programs

_COLORS = {
    'Convolution': '#FF5050',
    'Deconvolution': '#FF5050',
    'Pooling': '#FF9900',
    'InnerProduct': '#CC33FF',
}
_FONT: dict[str, Any] = {'fontname': 'Helvetica', 'fontsize': 12}
_LAYER: dict[str, Any] = {**_FONT, 'shape': 'box', 'style': 'filled'}
_BLOB: dict[str, Any] = {**_FONT, 'shape': 'octagon', 'style': 'filled', 'fillcolor': '#E0E0E0'}


def choose_color_by_layertype(layertype: str) -> str:
    """The color of a layer's box, '#RRGGBB'."""
    return _COLORS.get(layertype, '#6495ED')


def get_layer_label(layer: Message, rankdir: str = 'LR', display_lrm: bool = False) -> str:
    """The words in a layer's box: its name, type, windows and, if wanted, its learning-rate multipliers.

    rankdir: pictures that run from left to right ('LR', 'RL') have higher, others wider boxes.
    """
    words = [layer.name, f'({layer.type})']
    if layer.type in ('Convolution', 'Deconvolution'):
        words += _windows(layer.convolution_param)
    elif layer.type == 'Pooling':
        param = layer.pooling_param
        words[1] = f'({param.PoolMethod.Name(param.pool)} {layer.type})'
        words += ['global'] if param.global_pooling else _windows(param)
    if display_lrm and (layer.param or layer.type in _COLORS) and layer.type != 'Pooling':
        words.append('lr mult: ' + (', '.join(f'{p.lr_mult:g}' for p in layer.param) or '1'))
    return ('\n' if rankdir in ('LR', 'RL') else ' ').join(words)


def _windows(param: Message) -> list[str]:
    """['kernel size: 3', 'stride: 1', 'pad: 0'] of a ConvolutionParameter or PoolingParameter."""
    words = []
    for name, stem, default in (('kernel_size', 'kernel', '?'), ('stride', 'stride', 1), ('pad', 'pad', 0)):
        value = getattr(param, name)
        if param.HasField(f'{stem}_h') or param.HasField(f'{stem}_w'):
            values = [getattr(param, f'{stem}_h'), getattr(param, f'{stem}_w')]
        else:
            values = list(value) if hasattr(value, 'extend') else [value]
        words.append(f'{name.replace("_", " ")}: ' + ('x'.join(map(str, values)) or str(default)))
    return words


def get_edge_label(layer: Message) -> str:
    """The words beside the arrow out of a layer: the batch size of data, the number of outputs."""
    if layer.type == 'Data':
        return f'Batch {layer.data_param.batch_size}'
    if layer.type in ('Convolution', 'Deconvolution'):
        return str(layer.convolution_param.num_output)
    if layer.type == 'InnerProduct':
        return str(layer.inner_product_param.num_output)
    return ''


def get_pydot_graph(
    caffe_net: Message,
    rankdir: str = 'LR',
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> pydot.Dot:
    """A NetParameter as a graph.

    rankdir: where the picture runs to, 'LR' (left to right), 'RL', 'TB' (top to bottom) or 'BT'. phase: only
    the layers that a net of this phase has (caffe.TRAIN, caffe.TEST); None: all. Raises ValueError for
    another rankdir.
    """
    if rankdir not in ('LR', 'RL', 'TB', 'BT'):
        raise ValueError(f'rankdir is LR, RL, TB or BT, not {rankdir!r}')
    net = upgrade_net(caffe_net).message
    layers = list(net.layer)
    if phase is not None:
        state = caffe_pb2.NetParameter()
        state.CopyFrom(net)
        state.state.phase = phase
        layers = [net.layer[i] for i in included_layers(state)]
    graph = pydot.Dot(pydot.make_quoted(net.name or 'Net'), graph_type='digraph', rankdir=rankdir)
    blobs: dict[str, str] = {}

    def blob(name: str) -> str:
        if name not in blobs:
            blobs[name] = f'blob{len(blobs)}'
            graph.add_node(pydot.Node(blobs[name], label=pydot.make_quoted(name), **_BLOB))
        return blobs[name]

    for i, layer in enumerate(layers):
        node, in_place = f'layer{i}', set(layer.bottom) & set(layer.top)
        color = '#90EE90' if in_place else choose_color_by_layertype(layer.type)
        label = pydot.make_quoted(get_layer_label(layer, rankdir, display_lrm))
        graph.add_node(pydot.Node(node, label=label, fillcolor=pydot.make_quoted(color), **_LAYER))
        for name in layer.bottom:
            ends: dict[str, Any] = {'dir': 'both'} if name in in_place else {}
            graph.add_edge(pydot.Edge(blob(name), node, **ends))
        for name in layer.top:
            if name not in in_place:
                words = pydot.make_quoted(' ' + get_edge_label(layer) if label_edges else '')  # not on the line
                graph.add_edge(pydot.Edge(node, blob(name), label=words, **_FONT))
    return graph


def draw_net(
    caffe_net: Message,
    rankdir: str = 'LR',
    ext: str = 'png',
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """A picture of a NetParameter in a format of Graphviz ('png', 'svg', 'pdf', ...), or its text ('dot').

    Raises RuntimeError where Graphviz is missing, ValueError for a format that it does not know.
    """
    graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    if ext in TEXT_FORMATS:
        return graph.to_string().encode()
    if shutil.which('dot') is None:
        raise RuntimeError(
            "drawing needs Graphviz's program `dot`, which is not on PATH: install graphviz "
            '(apt-get or brew install graphviz), or draw to a .dot file, which needs no program'
        )
    done = subprocess.run(['dot', f'-T{ext}'], input=graph.to_string().encode(), capture_output=True)
    if done.returncode:
        raise ValueError(f'Graphviz cannot draw {ext!r}: {done.stderr.decode(errors="replace").strip()}')
    return done.stdout


def draw_net_to_file(
    caffe_net: Message,
    filename: str,
    rankdir: str = 'LR',
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Draws a NetParameter to a file, in the format that the name's ending says.

    The file appears whole or not at all. Raises ValueError for a name without an ending, and what `draw_net`
    raises.
    """
    ext = os.path.splitext(filename)[1][1:]
    if not ext:
        raise ValueError(f'{filename}: the ending says the format: .png, .svg, .pdf, .dot')
    whole_file.write(filename, draw_net(caffe_net, rankdir, ext, phase, display_lrm))
