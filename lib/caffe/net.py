"""Net: a prototxt made into layers and blobs that run forward and backward (net.cpp, and pycaffe.py's face of it)."""

from __future__ import annotations

import difflib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable

import numpy as np
import torch

from caffe import batches
from caffe.blob import Blob
from caffe.files import model_file
from caffe.files.prototxt import read_net
from caffe.glog import log, warn_once
from caffe.layer import Layer, LayerError, native_type
from caffe.layers.python import python_layer_class
from caffe.learnable import LearnableParams, shape_string
from caffe.net_rules import included_layers
from caffe.process.denormals import denormals_as_zero
from caffe.proto import caffe_pb2
from caffe.splits import insert_splits


class Net:
    """A net made from a prototxt.

    ``Net('train.prototxt', caffe.TRAIN)``, ``Net('test.prototxt', 'weights.caffemodel', caffe.TEST)`` or
    ``Net('test.prototxt', caffe.TEST, weights='weights.caffemodel', level=0, stages=['deploy'])``.

    Attributes (as in pycaffe):

    * blobs: name -> Blob, every blob in the order of making; params: layer name -> its parameter Blobs.
    * layers: the layers; layer_dict: by name; inputs, outputs: names of the net's input and output blobs, the
      outputs in the order of the alphabet.
    * top_names, bottom_names: layer name -> blob names; blob_loss_weights: blob name -> weight in the loss.

    Raises FileNotFoundError, PrototxtError (the file is not a net) or LayerError (file, line and layer are named).
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
            raise TypeError(f'phase must be caffe.TRAIN (0) or caffe.TEST (1), got {phase!r}')
        param, source = read_net(os.fspath(network_file))
        param.state.phase = phase
        param.state.level = level
        param.state.stage.extend([stages] if isinstance(stages, str) else stages or [])
        self._build(param, source)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def from_param(cls, param: caffe_pb2.NetParameter, source) -> Net:
        """A net from a message whose `state` is set; `source` names file and lines for errors."""
        net = cls.__new__(cls)
        net._build(param, source)
        return net

    # -- making the net (Net::Init)

    def _build(self, param: caffe_pb2.NetParameter, source) -> None:
        for note in source.notes:
            warn_once(f'{source.path}: {note}', 'upgrade_proto.cpp:53')
        self.name = param.name
        self._param = param
        self._source = source
        self._debug_info = param.debug_info
        self.blobs: OrderedDict[str, Blob] = OrderedDict()
        self.params: OrderedDict[str, list[Blob]] = OrderedDict()
        self.layers: list[Layer] = []
        self._layer_names: list[str] = []
        self._where: list[str] = []
        self._bottoms: list[list[Blob]] = []
        self._tops: list[list[Blob]] = []
        self._bottom_blob_names: list[list[str]] = []
        self._top_blob_names: list[list[str]] = []
        self._bottom_need_backward: list[list[bool]] = []
        self._layer_need_backward: list[bool] = []
        self._loss_tops: list[list[tuple[Blob, float]]] = []
        self.inputs: list[str] = []
        self._hooks: dict[str, list[Callable[[int], None]]] = {
            'before_forward': [],
            'after_forward': [],
            'before_backward': [],
            'after_backward': [],
        }
        self._learnable = LearnableParams()
        self._ran: set[int] = set()  # layers that have had a forward pass
        try:
            included = included_layers(param)
            placed = insert_splits([param.layer[i] for i in included])
        except LayerError as error:
            raise LayerError(f'{source.path}: {error}') from None
        need_backward: dict[str, bool] = {}  # blob name -> somebody upstream of it learns
        available: set[str] = set()  # blobs that nobody has read yet
        for layer_param, origin in placed:
            self._append_layer(layer_param, source.where(included[origin]), need_backward, available)
        self.outputs = sorted(available)  # as Caffe's std::set has them
        self._find_backward_path()
        if param.force_backward:
            self._force_backward()
        for layer, need in zip(self.layers, self._layer_need_backward, strict=True):
            layer.needs_backward = need

    def _append_layer(self, layer_param, where, need_backward, available) -> None:
        def refuse(message):
            raise LayerError(f"{where}: layer '{layer_param.name}' ({layer_param.type}): {message}")

        if not layer_param.HasField('phase'):
            layer_param.phase = self._param.state.phase
        try:
            is_python = layer_param.type == 'Python'
            layer_type = python_layer_class(layer_param) if is_python else native_type(layer_param.type)
        except LayerError as error:
            refuse(error)
        n_bottom, n_top = len(layer_param.bottom), len(layer_param.top)
        if layer_param.propagate_down and len(layer_param.propagate_down) != n_bottom:
            refuse(
                f'propagate_down param must be specified either 0 or {n_bottom} times (once a bottom), '
                f'not {len(layer_param.propagate_down)}'
            )
        bottoms, bottom_need = [], []
        for j, name in enumerate(layer_param.bottom):
            if name not in self.blobs:
                near = difflib.get_close_matches(name, self.blobs, n=1, cutoff=0.5)
                hint = f"; the nearest that is there is '{near[0]}'" if near else ''
                refuse(f"Unknown bottom blob '{name}' (bottom index {j}): no layer before makes it{hint}")
            available.discard(name)
            bottoms.append(self.blobs[name])
            # as in Caffe, propagate_down decides where it is given: true asks for a gradient nobody upstream needs
            bottom_need.append(layer_param.propagate_down[j] if layer_param.propagate_down else need_backward[name])
        tops = []
        for j, name in enumerate(layer_param.top):
            if j < n_bottom and layer_param.bottom[j] == name:  # in place
                tops.append(self.blobs[name])
            elif name in self.blobs:
                refuse(f"top blob '{name}' produced by multiple sources")
            else:
                tops.append(Blob())
                self.blobs[name] = tops[-1]
            available.add(name)
            if layer_param.type == 'Input':
                self.inputs.append(name)
        while len(tops) < layer_type.auto_tops:
            tops.append(Blob())
        _check_count(refuse, 'bottom', n_bottom, layer_type.num_bottom)
        _check_count(refuse, 'top', len(tops), layer_type.num_top)
        if layer_type.equal_bottom_top and n_bottom != n_top:
            refuse(
                f'{layer_param.type} produces one top blob as output for each bottom blob input: {n_bottom}, {n_top}'
            )

        try:
            layer = layer_type(layer_param)
        except LayerError as error:
            refuse(error)
        layer.needs_backward = True
        try:
            layer.setup(bottoms, tops)
            layer.reshape(bottoms, tops)
        except Exception as error:
            raise _located(error, layer, where, bottoms) from error.__cause__
        if len(layer_param.param) > len(layer.blobs):
            refuse(
                f'too many params specified: {len(layer_param.param)} param {{ }} blocks '
                f'for {len(layer.blobs)} parameters'
            )
        layer.loss_weights = self._loss_weights(layer, layer_param, refuse)
        losses = [(top, w) for top, w in zip(tops, layer.loss_weights, strict=True) if w]
        for top, weight in losses:
            top.own_diff().fill_(weight)

        index = len(self.layers)
        self.layers.append(layer)
        self._layer_names.append(layer_param.name)
        self._where.append(where)
        self._bottoms.append(bottoms)
        self._tops.append(tops)
        self._bottom_blob_names.append(list(layer_param.bottom))
        self._top_blob_names.append(list(layer_param.top))
        self._loss_tops.append(losses)
        if layer.blobs:
            self.params[layer_param.name] = layer.blobs
        learns = False
        for k, blob in enumerate(layer.blobs):
            spec = layer_param.param[k] if k < len(layer_param.param) else caffe_pb2.ParamSpec()
            layer.param_propagate_down.append(spec.lr_mult != 0)
            learns |= spec.lr_mult != 0
            try:
                self._learnable.add(blob, spec, index, layer_param.name, k)
            except LayerError as error:
                refuse(error)
        needs = learns or any(bottom_need)
        self._bottom_need_backward.append(bottom_need)
        self._layer_need_backward.append(needs)
        for name in layer_param.top:
            need_backward[name] = needs

    def _loss_weights(self, layer, layer_param, refuse) -> list[float]:
        n_tops = max(len(layer_param.top), layer.auto_tops)
        if layer_param.loss_weight:
            if len(layer_param.loss_weight) != n_tops:
                refuse(
                    'loss_weight must be unspecified or specified once per top: '
                    f'{len(layer_param.loss_weight)} for {n_tops} tops'
                )
            return list(layer_param.loss_weight)
        weights = [0.0] * n_tops
        if weights:
            weights[0] = layer.default_loss_weight
        return weights

    def _find_backward_path(self) -> None:
        """Goes back from the losses; skips what adds nothing to them or is only read with propagate_down false."""
        under_loss: set[str] = set()
        skipped: set[str] = set()
        for i in reversed(range(len(self.layers))):
            tops = self._top_blob_names[i]
            contributes = bool(self._loss_tops[i]) or any(name in under_loss for name in tops)
            skip = all(name in skipped for name in tops) and not self._loss_tops[i]
            if self._layer_need_backward[i] and skip:
                self._layer_need_backward[i] = False
                self._bottom_need_backward[i] = [False] * len(self._bottoms[i])
            if not contributes:
                self._layer_need_backward[i] = False
                self._bottom_need_backward[i] = [False] * len(self._bottoms[i])
            for j, name in enumerate(self._bottom_blob_names[i]):
                if contributes:
                    under_loss.add(name)
                if not self._bottom_need_backward[i][j]:
                    skipped.add(name)

    def _force_backward(self) -> None:
        for i, layer in enumerate(self.layers):
            self._layer_need_backward[i] = True
            for j in range(len(self._bottoms[i])):
                self._bottom_need_backward[i][j] |= layer.allow_force_backward(j)
            layer.param_propagate_down = [True] * len(layer.blobs)

    # -- running it

    @torch.no_grad()
    @denormals_as_zero
    def _forward(self, start: int, end: int) -> torch.Tensor | float:
        """Runs the layers start..end. Returns their weighted loss as a tensor on the device (0.0 without any)."""
        loss = 0.0
        for i in range(start, end + 1):
            layer, bottoms, tops = self.layers[i], self._bottoms[i], self._tops[i]
            for hook in self._hooks['before_forward']:
                hook(i)
            try:
                layer.reshape(bottoms, tops)
                layer.forward(bottoms, tops)
                self._ran.add(i)
            except Exception as error:
                raise _located(error, layer, self._where[i], self._bottoms[i]) from error.__cause__
            for top, weight in self._loss_tops[i]:
                if top.count == 1:
                    loss = loss + weight * top.read().view(())
                else:  # Caffe: the dot product with the diffs, which hold the weight
                    top.write_diff(torch.full_like(top.read(), weight))
                    loss = loss + weight * top.read().sum()
            if self._debug_info:
                self._log_forward(i)
            for hook in self._hooks['after_forward']:
                hook(i)
        return loss

    @torch.no_grad()
    @denormals_as_zero
    def _backward(self, start: int, end: int) -> None:
        """Runs the backward passes of the layers start..end, downwards."""
        for i in range(start, end - 1, -1):
            for hook in self._hooks['before_backward']:
                hook(i)
            if self._layer_need_backward[i]:
                try:
                    self.layers[i].backward(self._tops[i], self._bottom_need_backward[i], self._bottoms[i])
                except Exception as error:
                    if i not in self._ran:  # what it keeps for this pass is not there
                        error = LayerError(f'the backward pass needs a forward pass before it ({error})')
                    raise _located(error, self.layers[i], self._where[i], self._bottoms[i]) from error.__cause__
                if self._debug_info:
                    self._log_backward(i)
            for hook in self._hooks['after_backward']:
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

    def forward(self, blobs: Iterable[str] | None = None, start=None, end=None, **inputs) -> dict[str, np.ndarray]:
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

    def backward(self, diffs: Iterable[str] | None = None, start=None, end=None, **top_diffs) -> dict[str, np.ndarray]:
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
        self.layers[0].set_arrays(np.asarray(data), np.asarray(labels))

    _set_input_arrays = set_input_arrays

    def reshape(self) -> None:
        """Carries new input shapes through all layers (Net::Reshape)."""
        for i, layer in enumerate(self.layers):
            try:
                layer.reshape(self._bottoms[i], self._tops[i])
            except Exception as error:
                raise _located(error, layer, self._where[i], self._bottoms[i]) from error.__cause__

    def clear_param_diffs(self) -> None:
        for blob in self._learnable.blobs:
            blob.clear_diff()

    # -- looking at it

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict(zip(self._layer_names, self._top_blob_names, strict=True))

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict(zip(self._layer_names, self._bottom_blob_names, strict=True))

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    def _top_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in self._top_blob_names[layer]]

    def _bottom_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in self._bottom_blob_names[layer]]

    @property
    def _inputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.outputs]

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        weights = OrderedDict.fromkeys(self.blobs, 0.0)
        for names, layer in zip(self._top_blob_names, self.layers, strict=True):
            weights.update(zip(names, layer.loss_weights, strict=False))
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

    def _log_forward(self, i: int) -> None:
        for name, top in zip(self._top_blob_names[i], self._tops[i], strict=False):
            mean = top.read().abs().mean().item() if top.count else 0.0
            log(f'    [Forward] Layer {self._layer_names[i]}, top blob {name} data: {mean:.6g}', 'net.cpp:590')
        for k, blob in enumerate(self.layers[i].blobs):
            mean = blob.read().abs().mean().item()
            log(f'    [Forward] Layer {self._layer_names[i]}, param blob {k} data: {mean:.6g}', 'net.cpp:602')

    def _log_backward(self, i: int) -> None:
        need = self._bottom_need_backward[i]
        for name, bottom, down in zip(self._bottom_blob_names[i], self._bottoms[i], need, strict=True):
            if down:
                mean = bottom.read_diff().abs().mean().item()
                log(f'    [Backward] Layer {self._layer_names[i]}, bottom blob {name} diff: {mean:.6g}', 'net.cpp:619')
        for k, blob in enumerate(self.layers[i].blobs):
            if self.layers[i].param_propagate_down[k]:
                mean = blob.read_diff().abs().mean().item()
                log(f'    [Backward] Layer {self._layer_names[i]}, param blob {k} diff: {mean:.6g}', 'net.cpp:629')

    # -- weights in and out

    def copy_from(self, weights_file: str) -> None:
        """Copies the parameters of a .caffemodel (or .h5) file into layers of the same name.

        Layers that this net lacks are skipped with a log line, and layers that the file lacks stay as they are. A
        shape mismatch raises ValueError with both shapes; nothing has been copied then.
        """
        copies = []
        for layer_name, _, stored in model_file.read_weights(os.fspath(weights_file)):
            if layer_name not in self._layer_names:
                log(f'Ignoring source layer {layer_name}', 'net.cpp:742')
                continue
            layer = self.layers[self._layer_names.index(layer_name)]
            targets = layer.blobs
            # HDF5 files have a shared parameter once, with the layer that owns it.
            stored = stored + [None] * (len(targets) - len(stored))
            owned = self._learnable.owned(layer)
            if len(stored) > len(targets) or any(s is None and own for s, own in zip(stored, owned, strict=True)):
                raise ValueError(
                    f"{weights_file}: incompatible number of blobs for layer '{layer_name}': "
                    f'{sum(s is not None for s in stored)} in the file, {len(targets)} in the net'
                )
            for k, (source, target) in enumerate(zip(stored, targets, strict=True)):
                if source is None:
                    continue
                if not source.fits(target.shape):
                    raise ValueError(
                        f"{weights_file}: Cannot copy param {k} weights from layer '{layer_name}'; shape mismatch.  "
                        f'Source param shape is {shape_string(source.data.shape)}; target param shape is '
                        f"{shape_string(target.shape)}. To learn this layer's parameters from scratch rather than "
                        'copying from a saved net, rename the layer.'
                    )
                copies.append((target, source.data))
        for target, array in copies:
            target.data[...] = array.reshape(target.shape)

    load_hdf5 = copy_from

    def save(self, path: str, write_diff: bool = False) -> None:
        """Writes all parameters as a .caffemodel (Net::ToProto). The file appears whole or not at all."""
        layers = ((layer.layer_param, _arrays(layer, write_diff)) for layer in self.layers)
        model_file.write_weights(os.fspath(path), self.name, layers)

    def save_hdf5(self, path: str, write_diff: bool = False) -> None:
        """Writes all parameters in Caffe's HDF5 layout (Net::ToHDF5). The file appears whole or not at all."""
        layers = (
            (layer.layer_param, _arrays(layer, write_diff), self._learnable.owned(layer)) for layer in self.layers
        )
        model_file.write_weights_hdf5(os.fspath(path), layers, write_diff)

    def share_with(self, other: Net) -> None:
        """Uses the parameters of another net's layers of the same name from now on (Net::ShareTrainedLayersWith)."""
        theirs = other.layer_dict
        for name, layer in self.layer_dict.items():
            if name not in theirs:
                continue
            if len(layer.blobs) != len(theirs[name].blobs):
                raise ValueError(f"incompatible number of blobs for layer '{name}'")
            for k, (mine, its) in enumerate(zip(layer.blobs, theirs[name].blobs, strict=True)):
                if mine.shape != its.shape:
                    raise ValueError(
                        f"Cannot share param {k} weights from layer '{name}'; shape mismatch.  Source param shape is "
                        f'{shape_string(its.shape)}; target param shape is {shape_string(mine.shape)}'
                    )
                mine.share_data(its)


def _arrays(layer: Layer, with_diff: bool) -> list[tuple[np.ndarray, np.ndarray | None]]:
    return [(blob.data, blob.diff if with_diff else None) for blob in layer.blobs]


def _check_count(refuse, kind: str, count: int, allowed) -> None:
    least, most = allowed if isinstance(allowed, tuple) else (allowed, allowed)
    if count < least or (most is not None and count > most):
        if least == most:
            wanted = f'{least}'
        elif most is None:
            wanted = f'at least {least}'
        else:
            wanted = f'{least} to {most}'
        refuse(f'takes {wanted} {kind} blob(s), the prototxt names {count}')


def _check_names(message: str, given: dict, expected: list[str]) -> None:
    if set(given) != set(expected):
        raise ValueError(f'{message}: given {sorted(given)}, expected {sorted(expected)}')


def _located(error: Exception, layer: Layer, where: str, bottoms: list[Blob]) -> Exception:
    """A native layer's complaint with place and bottoms; any other exception whole, with a note of the place."""
    kind = layer.layer_param.type
    if isinstance(error, LayerError):
        named = zip(layer.layer_param.bottom, bottoms, strict=True)
        shapes = ', '.join(f'{name} {blob.shape}' for name, blob in named)
        return LayerError(
            f"{where}: layer '{layer.name}' ({kind}): {error}" + (f' [bottoms: {shapes}]' if shapes else '')
        )
    if hasattr(error, 'add_note'):  # Python 3.11
        error.add_note(f"in layer '{layer.name}' ({kind}) of {where}")
    return error
