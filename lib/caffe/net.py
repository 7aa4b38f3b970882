"""Net: a prototxt made into layers and blobs that run forward and backward (net.cpp, with the interface of pycaffe.py).

How it is made is in `net_builder`, which layers have a backward pass in `backward_path`, how weights come in and go out
in `net_weights`.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from caffe import batches, net_weights
from caffe.blob import Blob
from caffe.files.prototxt import NetSource, read_net
from caffe.frozen_layers import FrozenLayers
from caffe.glog import log, warn_once
from caffe.layer import Layer
from caffe.learnable import LearnableParams
from caffe.net_builder import build
from caffe.node import Node
from caffe.process.denormals import denormals_as_zero
from caffe.proto import caffe_pb2


class Net:
    """A net made from a prototxt.

    `Net('train.prototxt', caffe.TRAIN)`, `Net('test.prototxt', 'weights.caffemodel', caffe.TEST)` or
    `Net('test.prototxt', caffe.TEST, weights='weights.caffemodel', level=0, stages=['deploy'])`.

    Attributes (as in pycaffe):

    * blobs: name -> Blob, every blob in the order of making; params: layer name -> its parameter Blobs.
    * layers: the layers; layer_dict: by name; inputs, outputs: names of the net's input and output blobs, the
      outputs in the order of the alphabet.
    * top_names, bottom_names: layer name -> blob names; blob_loss_weights: blob name -> weight in the loss.

    Beyond pycaffe: nodes, a record a layer, with what the net knows of it.

    Raises FileNotFoundError, PrototxtError (the file is not a net, or one without layers) or LayerError (file, line
    and layer are named).
    """

    def __init__(self, network_file: str, *args, phase=None, level: int = 0, stages=None, weights=None):
        old_form = bool(args) and isinstance(args[0], str | os.PathLike)  # (network, weights, phase)
        order = ('weights', 'phase') if old_form else ('phase', 'level', 'stages', 'weights')
        given = {'phase': phase, 'level': level or None, 'stages': stages, 'weights': weights}
        if len(args) > len(order) or any(given[name] is not None for name in order[: len(args)]):
            raise TypeError('Net takes (network_file, phase, level=0, stages=None, weights=None)')
        given.update(zip(order, args, strict=False))
        phase, level, stages, weights = given['phase'], given['level'] or 0, given['stages'], given['weights']
        if phase not in (caffe_pb2.TRAIN, caffe_pb2.TEST):
            if phase is None and weights in ('TRAIN', 'TEST'):  # a text stands where weights may
                raise TypeError(f'phase must be caffe.{weights}, not the text {weights!r}')
            got = f'got {phase!r}'
            if phase is None:
                more = '' if weights is None else f', {os.fspath(weights)!r}'
                got = f'none is given: Net({os.fspath(network_file)!r}{more}, caffe.TEST)'
            raise TypeError(f'phase must be caffe.TRAIN (0) or caffe.TEST (1), {got}')
        param, source = read_net(os.fspath(network_file))
        param.state.phase = phase
        param.state.level = level
        param.state.stage.extend([stages] if isinstance(stages, str) else stages or [])
        self._build(param, source)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def from_param(cls, param: caffe_pb2.NetParameter, source: NetSource) -> Net:
        """A net from a message whose `state` is set; `source` names file and lines for errors."""
        net = cls.__new__(cls)
        net._build(param, source)
        return net

    def _build(self, param: caffe_pb2.NetParameter, source: NetSource) -> None:
        for note in source.notes:
            warn_once(f'{source.path}: {note}', 'upgrade_proto.cpp:53')
        self.name = param.name
        self._debug_info = param.debug_info
        graph = build(param, source)
        self.nodes: list[Node] = graph.nodes
        self.layers: list[Layer] = [node.layer for node in graph.nodes]
        self.blobs, self.params = graph.blobs, graph.params
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._learnable = graph.learnable
        self._frozen: FrozenLayers | None = None
        self._hooks: dict[str, list[Callable[[int], None]]] = {
            'before_forward': [],
            'after_forward': [],
            'before_backward': [],
            'after_backward': [],
        }

    # -- running it

    @torch.no_grad()
    @denormals_as_zero
    def _forward(self, start: int, end: int) -> torch.Tensor | float:
        """Runs the layers start..end. Returns their weighted loss as a tensor on the device (0.0 without any)."""
        loss: torch.Tensor | float = 0.0
        is_whole = start == 0 and end == len(self.nodes) - 1 and not self._debug_info
        frozen = self._frozen if is_whole else None
        before, after = self._hooks['before_forward'], self._hooks['after_forward']
        for i, node in enumerate(self.nodes[start : end + 1], start):
            for hook in before:
                hook(i)
            if frozen is None or i not in frozen.span:
                node.forward()
            elif i == frozen.span.start:
                frozen.forward()
            if node.losses:
                loss = loss + node.loss()
            if self._debug_info:
                self._log_forward(node)
            for hook in after:
                hook(i)
        return loss

    @torch.no_grad()
    @denormals_as_zero
    def _backward(self, start: int, end: int) -> None:
        """Runs the backward passes of the layers start..end, downwards."""
        before, after = self._hooks['before_backward'], self._hooks['after_backward']
        for i in range(start, end - 1, -1):
            node = self.nodes[i]
            for hook in before:
                hook(i)
            if node.need_backward:
                node.backward()
                if self._debug_info:
                    self._log_backward(node)
            for hook in after:
                hook(i)

    def forward_backward(self) -> torch.Tensor | float:
        """One forward and one backward pass (Net::ForwardBackward). Returns the loss on the device."""
        loss = self._forward(0, len(self.layers) - 1)
        self._backward(len(self.layers) - 1, 0)
        return loss

    def _layer_index(self, name: str) -> int:
        if name not in self._layer_names:
            raise ValueError(f'this net has no layer {name!r}; it has {", ".join(self._layer_names)}')
        return self._layer_names.index(name)

    def forward(
        self, blobs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **inputs
    ) -> dict[str, np.ndarray]:
        """Runs the net, or the layers from `start` to `end` (both included), on the given inputs.

        inputs: an array for every input blob, by name, with as many rows as the blob. Without any, blobs stay as set.
        Returns the outputs (the tops of `end`, if given) and the extra `blobs`, name -> live array.
        """
        first = 0 if start is None else self._layer_index(start)
        last = len(self.layers) - 1 if end is None else self._layer_index(end)
        names = self.outputs if end is None else self.top_names[end]
        if inputs:
            _check_names('Input blob arguments do not match net inputs', inputs, self.inputs)
            for name, array in inputs.items():
                if np.shape(array)[0] != self.blobs[name].shape[0]:
                    raise ValueError(
                        f'Input is not batch sized: {name} has {np.shape(array)[0]} rows, '
                        f'the blob {self.blobs[name].shape[0]}'
                    )
                self.blobs[name].data[...] = array
        self._forward(first, last)
        return {name: self.blobs[name].data for name in dict.fromkeys([*names, *(blobs or [])])}

    def backward(
        self, diffs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **top_diffs
    ) -> dict[str, np.ndarray]:
        """Runs the backward passes from layer `start` (default: the last) down to `end` (default: the first).

        top_diffs: an array for every output blob, by name. Returns the diffs of the inputs (the bottoms of `end`, if
        given) and of the extra `diffs`, name -> live array.
        """
        first = len(self.layers) - 1 if start is None else self._layer_index(start)
        last = 0 if end is None else self._layer_index(end)
        names = self.inputs if end is None else self.bottom_names[end]
        if top_diffs:
            _check_names('Top diff arguments do not match net outputs', top_diffs, self.outputs)
            for name, array in top_diffs.items():
                if np.ndim(array) and np.shape(array)[:1] != self.blobs[name].shape[:1]:
                    raise ValueError(f'Diff is not batch sized: {name}')
                self.blobs[name].diff[...] = array
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in dict.fromkeys([*names, *(diffs or [])])}

    forward_all = batches.forward_all
    forward_backward_all = batches.forward_backward_all
    _batch = batches.batch

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Gives the net's first layer, a MemoryData, (N, C, H, W) data and N labels to take its batches from."""
        if not self.layers or self.layers[0].type != 'MemoryData':
            first = f'it is {self.layers[0].type}' if self.layers else 'there is none'
            raise ValueError(f'set_input_arrays may only be called if the first layer is a MemoryData; {first}')
        layer: Any = self.layers[0]
        layer.set_arrays(np.asarray(data), np.asarray(labels))

    _set_input_arrays = set_input_arrays

    def reshape(self) -> None:
        """Carries new input shapes through all layers (Net::Reshape)."""
        for node in self.nodes:
            node.reshape()

    def clear_param_diffs(self) -> None:
        for blob in self._learnable.blobs:
            blob.clear_diff()

    def keep_frozen(self, gib: float, folder: str | os.PathLike | None = None) -> FrozenLayers:
        """Has what the frozen first layers make of an input kept for when it comes again, in up to `gib` GiB.

        They are the memory of this process or, with `folder`, files there. Numbers are the same bit by bit. So are
        inner blobs, which are computed when they are read. It serves whole forward passes without debug_info. Hooks are
        called for each layer; before and after those that are frozen they find the blobs as the last of these left
        them, and nothing reads what they write there. Returns the record of hits, misses and memory. Raises ValueError
        where no layer is frozen, on a GPU, and for a limit that is not positive or more than the memory that is left,
        OSError for a folder that cannot be written to.
        """
        self._frozen = FrozenLayers(self.nodes, gib, folder)
        return self._frozen

    # -- looking at it

    def why_no_backward(self, layer: str) -> str | None:
        """Why the layer of this name has no backward pass; None if it has one. The reasons: `backward_path`."""
        return self.nodes[self._layer_index(layer)].why_no_backward

    @property
    def _layer_names(self) -> list[str]:
        return [node.name for node in self.nodes]

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        return OrderedDict((node.name, node.layer) for node in self.nodes)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((node.name, node.top_names) for node in self.nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((node.name, node.bottom_names) for node in self.nodes)

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    def _top_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in self.nodes[layer].top_names]

    def _bottom_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in self.nodes[layer].bottom_names]

    @property
    def _inputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.outputs]

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        weights = OrderedDict.fromkeys(self.blobs, 0.0)
        for node in self.nodes:
            weights.update(zip(node.top_names, node.layer.loss_weights, strict=False))
        return weights

    @property
    def _blob_loss_weights(self) -> list[float]:
        return list(self.blob_loss_weights.values())

    @property
    def learnable_params(self) -> LearnableParams:
        """The parameters that a solver updates, shared ones once, with their multipliers."""
        return self._learnable

    def before_forward(self, callback: Callable[[int], None]) -> None:
        """Has callback(layer index) called before each layer's forward pass."""
        self._hooks['before_forward'].append(callback)

    def after_forward(self, callback: Callable[[int], None]) -> None:
        """Has callback(layer index) called after each layer's forward pass."""
        self._hooks['after_forward'].append(callback)

    def before_backward(self, callback: Callable[[int], None]) -> None:
        """Has callback(layer index) called before each layer's place in the backward pass."""
        self._hooks['before_backward'].append(callback)

    def after_backward(self, callback: Callable[[int], None]) -> None:
        """Has callback(layer index) called after each layer's place in the backward pass."""
        self._hooks['after_backward'].append(callback)

    @staticmethod
    def _log_forward(node: Node) -> None:
        for name, top in zip(node.top_names, node.tops, strict=False):
            mean = top.read().abs().mean().item() if top.count else 0.0
            log(f'    [Forward] Layer {node.name}, top blob {name} data: {mean:.6g}', 'net.cpp:590')
        for k, blob in enumerate(node.layer.blobs):
            mean = blob.read().abs().mean().item()
            log(f'    [Forward] Layer {node.name}, param blob {k} data: {mean:.6g}', 'net.cpp:602')

    @staticmethod
    def _log_backward(node: Node) -> None:
        for name, bottom, need in zip(node.bottom_names, node.bottoms, node.bottom_need_backward, strict=True):
            if need:
                mean = bottom.read_diff().abs().mean().item()
                log(f'    [Backward] Layer {node.name}, bottom blob {name} diff: {mean:.6g}', 'net.cpp:619')
        for k, blob in enumerate(node.layer.blobs):
            if node.layer.param_propagate_down[k]:
                mean = blob.read_diff().abs().mean().item()
                log(f'    [Backward] Layer {node.name}, param blob {k} diff: {mean:.6g}', 'net.cpp:629')

    # -- weights in and out

    copy_from = net_weights.copy_from
    load_hdf5 = net_weights.copy_from
    save = net_weights.save
    save_hdf5 = net_weights.save_hdf5
    share_with = net_weights.share_with


def _check_names(message: str, given: dict, expected: list[str]) -> None:
    if set(given) != set(expected):
        raise ValueError(f'{message}: given {sorted(given)}, expected {sorted(expected)}')
