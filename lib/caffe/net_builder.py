"""Making a net: from a NetParameter to layers, blobs and parameters (Net::Init, net.cpp)."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NoReturn

from caffe.backward_path import find_backward_path
from caffe.blob import Blob
from caffe.files.prototxt import NetSource, PrototxtError
from caffe.glog import warn_once
from caffe.kernels.host_memory import check_room
from caffe.layer import Layer, LayerError, check_types, native_type
from caffe.layers.python import check_backward, python_layer_class
from caffe.learnable import LearnableParams
from caffe.net_rules import included_layers, state_text, why_left_out
from caffe.node import Node, raise_located
from caffe.process import device
from caffe.proto import caffe_pb2
from caffe.ranking import find_what_only_ranks
from caffe.splits import insert_splits

_HAND_ON = ('Split', 'Reshape', 'Flatten', 'Dropout')  # whose tops may have the memory of their bottoms


@dataclass
class Graph:
    """What a net is made of.

    nodes: its layers in order; blobs: name -> Blob in the order of making; params: layer name -> its parameters;
    inputs, outputs: names of blobs; learnable: the parameters as a solver sees them.
    """

    nodes: list[Node] = field(default_factory=list)
    blobs: OrderedDict[str, Blob] = field(default_factory=OrderedDict)
    params: OrderedDict[str, list[Blob]] = field(default_factory=OrderedDict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    learnable: LearnableParams = field(default_factory=LearnableParams)


def build(param: caffe_pb2.NetParameter, source: NetSource) -> Graph:
    """Makes the layers that the net's state includes, Split layers among them, and decides on the backward pass.

    param: with its `state` set. source: where the layers stand. Raises LayerError, which names file, line and layer,
    and PrototxtError for a net without layers.
    """
    try:
        included = included_layers(param)
        placed = insert_splits([param.layer[i] for i in included])
    except LayerError as error:
        raise LayerError(f'{source.path}: {error}') from None
    if not param.layer:
        raise PrototxtError(source.path, 'a net needs layers; there are none in it')
    if not included:
        raise PrototxtError(
            source.path, f'include and exclude rules leave all layers out of the net in {state_text(param.state)}'
        )
    check_types((source.where(i), param.layer[i]) for i in included)
    graph = Graph()
    unread: set[str] = set()
    for layer_param, origin in placed:
        if not layer_param.HasField('phase'):
            layer_param.phase = param.state.phase
        place = _Place(param, source, included[origin], layer_param)
        _add_layer(graph, layer_param, place, unread)
    _warn_of_same_names(graph)
    _check_room_for_all(graph, source)
    graph.outputs = sorted(unread)  # as Caffe's std::set has them
    find_backward_path(graph.nodes, param.force_backward)
    find_what_only_ranks(graph.nodes)
    for node in graph.nodes:
        node.layer.needs_backward = node.need_backward
        try:
            check_backward(node.layer, node.bottom_need_backward)
        except LayerError as error:
            raise_located(error, node.layer, node.where, node.bottoms)
    return graph


@dataclass
class _Place:
    """Where a layer stands: the index-th of the net. A Split that the net puts in stands where its producer does."""

    net: caffe_pb2.NetParameter
    source: NetSource
    index: int
    layer: caffe_pb2.LayerParameter

    @property
    def where(self) -> str:
        return self.source.where(self.index)

    def refuse(self, message: str | Exception) -> NoReturn:
        raise LayerError(f"{self.where}: layer '{self.layer.name}' ({self.layer.type}): {message}")

    def missing_maker(self, blob: str) -> str | None:
        """The layer that would have made this blob, and why it does not."""
        for i, layer in enumerate(self.net.layer):
            if blob not in layer.top or i == self.index:
                continue
            rule = why_left_out(layer, self.net.state)
            maker = f"layer '{layer.name}' ({self.source.where(i)})"
            if i < self.index and rule is not None:
                return f'{maker} would make it, but {rule}'
            if i > self.index and rule is None:
                return f'{maker} makes it, but stands after this one'
        return None


def _add_layer(graph: Graph, param: caffe_pb2.LayerParameter, place: _Place, unread: set[str]) -> None:
    """Net::AppendBottom, AppendTop, AppendParam and the layer's SetUp. unread: blobs that nobody has read yet."""
    layer_type = _layer_type(param, place)
    bottoms = _bottoms(graph, param, place)
    tops = _tops(graph, param, layer_type, place)
    _check_counts(layer_type, param, len(tops), place)
    unread.difference_update(param.bottom)
    unread.update(param.top)
    if param.type == 'Input':
        graph.inputs.extend(param.top)
    try:
        layer = layer_type(param)
    except LayerError as error:
        place.refuse(error)
    layer.needs_backward = True
    try:
        layer.setup(bottoms, tops)
        layer.reshape(bottoms, tops)
    except Exception as error:
        if isinstance(error, LayerError):
            error = LayerError(f'{error}{_unshaped(graph, param, bottoms)}')
        raise_located(error, layer, place.where, bottoms)
    layer.loss_weights = _loss_weights(layer, param, place)
    losses = [(top, weight) for top, weight in zip(tops, layer.loss_weights, strict=True) if weight]
    for top, weight in losses:
        top.own_diff().fill_(weight)
    _register_params(graph, layer, param, place)
    names = list(param.bottom), list(param.top)
    graph.nodes.append(Node(layer, param.name, place.where, bottoms, tops, *names, losses))


def _unshaped(graph: Graph, param: caffe_pb2.LayerParameter, bottoms: list[Blob]) -> str:
    """What to add to a complaint about a bottom to which a Python layer has not given a shape; '' if there is none."""
    makers = {id(top): node for node in graph.nodes for top in node.tops}
    for name, bottom in zip(param.bottom, bottoms, strict=True):
        maker = makers.get(id(bottom))
        if maker is not None and maker.layer.type == 'Split' and not bottom.shape:
            maker = makers.get(id(maker.bottoms[0]))
        if maker is not None and maker.layer.type == 'Python' and not bottom.shape:
            return f"; {name} has no shape: reshape of '{maker.name}' ({maker.where}) has to call top[...].reshape(...)"
    return ''


def _warn_of_same_names(graph: Graph) -> None:
    """Layers of one name that have parameters: a file of weights tells layers apart by their names alone."""
    first: dict[str, Node] = {}
    for node in graph.nodes:
        if node.layer.blobs and node.name in first:
            warn_once(
                f"{node.where}: layer '{node.name}' has the name of the one at {first[node.name].where}: what is saved "
                'of the net can be neither loaded nor resumed. Give each a name of its own',
                'net.cpp:100',
            )
        if node.layer.blobs:
            first.setdefault(node.name, node)


def _check_room_for_all(graph: Graph, source: NetSource) -> None:
    """Each blob was held against the memory that is left; here what they take together in a forward pass."""
    if device.has_own_memory():
        return
    own = {id(top): top for node in graph.nodes if node.layer.type not in _HAND_ON for top in node.tops}
    largest = max(own.values(), key=lambda top: top.count, default=None)
    if largest is None:
        return
    name = next(name for name, blob in graph.blobs.items() if blob is largest)
    total = 4 * sum(top.count for top in own.values())
    try:
        check_room(total, f'{source.path}: this net of {len(own)} blobs, the largest {name!r} of {largest.shape},')
    except ValueError as error:
        raise LayerError(f'{error}. Take smaller images, or fewer of them at a time') from None


def _layer_type(param: caffe_pb2.LayerParameter, place: _Place) -> type[Layer]:
    try:
        return python_layer_class(param) if param.type == 'Python' else native_type(param.type)
    except LayerError as error:
        place.refuse(error)


def _bottoms(graph: Graph, param: caffe_pb2.LayerParameter, place: _Place) -> list[Blob]:
    if param.propagate_down and len(param.propagate_down) != len(param.bottom):
        place.refuse(
            f'propagate_down param must be specified either 0 or {len(param.bottom)} times (once a bottom), '
            f'not {len(param.propagate_down)}'
        )
    for j, name in enumerate(param.bottom):
        if name not in graph.blobs:
            hint = place.missing_maker(name) or 'no layer before makes it'
            near = difflib.get_close_matches(name, graph.blobs, n=1, cutoff=0.5)
            nearest = f"; the nearest that is there is '{near[0]}'" if near else ''
            place.refuse(f"Unknown bottom blob '{name}' (bottom index {j}): {hint}{nearest}")
    return [graph.blobs[name] for name in param.bottom]


def _tops(graph: Graph, param: caffe_pb2.LayerParameter, layer_type: type[Layer], place: _Place) -> list[Blob]:
    tops = []
    for j, name in enumerate(param.top):
        in_place = j < len(param.bottom) and param.bottom[j] == name
        if not in_place and name in graph.blobs:
            place.refuse(f"top blob '{name}' produced by multiple sources")
        tops.append(graph.blobs[name] if in_place else Blob())
        graph.blobs[name] = tops[-1]
    return tops + [Blob() for _ in range(len(tops), layer_type.auto_tops)]


def _check_counts(layer_type: type[Layer], param: caffe_pb2.LayerParameter, n_tops: int, place: _Place) -> None:
    """Layer::CheckBlobCounts."""
    for kind, count, allowed in (
        ('bottom', len(param.bottom), layer_type.num_bottom),
        ('top', n_tops, layer_type.num_top),
    ):
        least, most = allowed if isinstance(allowed, tuple) else (allowed, allowed)
        if count < least or (most is not None and count > most):
            wanted = f'{least}' if least == most else f'at least {least}' if most is None else f'{least} to {most}'
            place.refuse(f'takes {wanted} {kind} blob(s), the prototxt names {count}')
    if layer_type.equal_bottom_top and len(param.bottom) != len(param.top):
        place.refuse(
            f'{param.type} produces one top blob as output for each bottom blob input: '
            f'{len(param.bottom)}, {len(param.top)}'
        )


def _loss_weights(layer: Layer, param: caffe_pb2.LayerParameter, place: _Place) -> list[float]:
    n_tops = max(len(param.top), layer.auto_tops)
    if param.loss_weight and len(param.loss_weight) != n_tops:
        place.refuse(
            f'loss_weight must be unspecified or specified once per top: {len(param.loss_weight)} for {n_tops} tops'
        )
    return list(param.loss_weight) or [layer.default_loss_weight, *[0.0] * n_tops][:n_tops]


def _register_params(graph: Graph, layer: Layer, param: caffe_pb2.LayerParameter, place: _Place) -> None:
    """Which of a layer's parameters learn, and which it shares with a layer before (Net::AppendParam)."""
    if len(param.param) > len(layer.blobs):
        place.refuse(
            f'too many params specified: {len(param.param)} param {{ }} blocks for {len(layer.blobs)} parameters'
        )
    if layer.blobs:
        graph.params[param.name] = layer.blobs
    for k, blob in enumerate(layer.blobs):
        spec = param.param[k] if k < len(param.param) else caffe_pb2.ParamSpec()
        layer.param_propagate_down.append(spec.lr_mult != 0)
        try:
            graph.learnable.add(blob, spec, len(graph.nodes), param.name, k)
        except LayerError as error:
            place.refuse(error)
