"""export: a net as an ONNX model."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from caffe.layer_error import LayerError
from caffe.net import Net
from caffe.node import Node
from caffe.onnx_export import recipes
from caffe.onnx_export.graph import FLOAT, IR_VERSION, OPSET, Graph, drop_unused, rename
from caffe.onnx_export.recipes import NoEquivalentError, Place
from caffe.onnx_export.sizes import Shape, shapes_where_free

_MOST_BYTES = 2**31 - 2**20  # of a protobuf message, less the nodes


class ExportError(LayerError):
    """A net that does not export: all layers at fault are named, each with the reason."""


def export(net: Net, blobs: Sequence[str] = ()) -> onnx.ModelProto:
    """The net with its weights as an ONNX model, to be run as `net.forward()` runs it.

    Inputs and outputs are the net's, by the names of their blobs; `blobs` names more outputs. Lengths of axes are free
    where the net takes other lengths (`sizes`). A blob's value has the blob's name, the last one if layers work on it
    in place. Of a recurrent layer without expose_hidden each run starts with a hidden state of zeros.
    Raises ExportError, and ValueError for a name in `blobs` that the net lacks or weights beyond 2 GB.
    """
    recipes.load()
    unknown = [name for name in blobs if name not in net.blobs]
    if unknown:
        raise ValueError(f'this net has no blob {", ".join(unknown)}; it has {", ".join(net.blobs)}')
    shapes = shapes_where_free(net)
    graph = Graph(taken=net.blobs)
    values: dict[str, str] = {}  # blob -> its value as it is now
    parameters: dict[tuple, str] = {}
    problems = []
    for node in net.nodes:
        graph.prefix = node.name
        if node.layer.type == 'Input':
            for name in node.top_names:
                values[name] = graph.fresh(f'{name}/input')
            continue
        place = Place(
            graph, node.layer, [values[name] for name in node.bottom_names],
            [shapes[name] for name in node.bottom_names], len(node.tops),
            functools.partial(_parameter, graph, node, parameters),
            functools.partial(_values, node),
        )  # fmt: skip
        try:
            tops = recipes.recipe_of(node.layer.type)(place)
        except NoEquivalentError as error:
            problems.append(f'{node.where}: layer {node.name!r} ({node.layer.type}): {error}')
            tops = [graph.fresh('none') for _ in node.top_names]
        tops = [tops] if isinstance(tops, str) else tops
        for name, value in zip(node.top_names, tops, strict=False):
            values[name] = value
            if name in node.bottom_names or node.layer.type == 'Split':
                continue
            if value in place.bottoms or any(value == v for n, v in values.items() if n != name):
                values[name] = graph.op('Identity', value)
    if problems:
        raise ExportError('these layers do not export to ONNX: ' + '; '.join(problems))
    outputs = list(dict.fromkeys([*net.outputs, *blobs]))
    return _model(net, graph, values, shapes, outputs)


def _values(node: Node) -> list[np.ndarray]:
    """What the tops of a layer hold now."""
    return [np.array(top.data) for top in node.tops]


def _parameter(graph: Graph, node: Node, known: dict[tuple, str], k: int) -> str:
    """The k-th parameter of a layer as an initializer; one for layers that share it."""
    blob = node.layer.blobs[k]
    data = blob.data
    key = (data.__array_interface__['data'][0], data.shape)
    if key not in known:
        known[key] = graph.weights(data, f'{node.name}/{k}')
    return known[key]


def _model(
    net: Net, graph: Graph, values: dict[str, str], shapes: dict[str, Shape], outputs: list[str]
) -> onnx.ModelProto:
    graph.prefix = 'output'
    inserted = {name for node in net.nodes if node.layer.type == 'Split' for name in node.top_names}
    constants = {tensor.name for tensor in graph.initializers}
    names: dict[str, str] = {}
    for name, value in values.items():
        if value in names or value in constants:
            if name in outputs:  # another blob, or a constant, has the same value
                names[graph.op('Identity', value)] = name
        elif name not in inserted or name in outputs:
            names[value] = name
    rename(graph.nodes, names)
    drop_unused(graph, outputs)
    size = sum(len(tensor.raw_data) for tensor in graph.initializers)
    if size > _MOST_BYTES:
        raise ValueError(f'the weights have {size} bytes; an ONNX file holds {_MOST_BYTES}')
    made = helper.make_graph(
        graph.nodes, net.name or 'net',
        [helper.make_tensor_value_info(name, FLOAT, _named(name, shapes[name])) for name in net.inputs],
        [helper.make_tensor_value_info(name, FLOAT, _named(name, shapes[name])) for name in outputs],
        graph.initializers,
    )  # fmt: skip
    imports = [helper.make_opsetid('', OPSET)]
    return helper.make_model(made, opset_imports=imports, ir_version=IR_VERSION, producer_name='caffe export')


def _named(name: str, shape: Shape) -> list[int | str]:
    """A shape as ONNX has it: free axes by a name of their own."""
    letters = {4: 'NCHW'}.get(len(shape))
    return [n if n is not None else f'{name}.{letters[k] if letters else k}' for k, n in enumerate(shape)]
