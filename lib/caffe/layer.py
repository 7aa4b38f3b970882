"""Layer: the base of every layer, native or written by a user in Python, and the registry of types.

A layer has four methods, with pycaffe's signatures: `setup`, `reshape`, `forward`, `backward`. Native layers read and
write tensors (`blob.read()`, `blob.write(t)`), Python layers the arrays `blob.data` and `blob.diff`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from google.protobuf.message import Message

from caffe import forks
from caffe.blob import Blob, BlobVec
from caffe.fillers import fill
from caffe.layer_error import LayerError
from caffe.proto import caffe_pb2

LayerType = TypeVar('LayerType', bound='type[Layer]')

_TYPES: dict[str, type[Layer]] = {}


class Phase(enum.IntEnum):
    """What `layer.phase` is: the int of BVLC Caffe (0, 1), printed as the Fast R-CNN branch does ('TRAIN', 'TEST').

    So both `self.phase == 0` and `cfg[str(self.phase)]` of published Python layers work.
    """

    TRAIN = caffe_pb2.TRAIN
    TEST = caffe_pb2.TEST

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec.endswith(tuple('bcdoxXn')) else format(self.name, spec)


class Layer:
    """One layer of a net. Python layers derive from it and override the four methods.

    Attributes that a Python layer may use: `param_str` (its python_param.param_str), `phase` (a Phase),
    `blobs` (its parameters: `self.blobs.add_blob(3, 4)` in setup), `type`, `layer_param`.

    Class attributes that a native layer states:

    * param_field: the field of LayerParameter with its options, e.g. 'convolution_param'; found as `self.param`.
    * num_bottom, num_top: how many blobs it takes and gives: a number, or (at least, at most) with None for no bound.
    * equal_bottom_top: as many tops as bottoms.
    * is_loss: bottom 1 holds labels, which force_backward does not reach.
    * default_loss_weight: the loss_weight of top 0 where the prototxt gives none.
    * ranks_by: the bottoms, by number, whose values decide what of the others is handed on, and are not handed on
      themselves. Layers that serve nothing else need no full precision (`caffe.ranking`). A Python layer may say it.
    * auto_tops: how many tops the layer has where the prototxt names fewer (a loss may be left unnamed).
    """

    param_field: str | None = None
    num_bottom: int | tuple[int, int | None] = (0, None)
    num_top: int | tuple[int, int | None] = (0, None)
    equal_bottom_top = False
    is_loss = False
    default_loss_weight = 0.0
    auto_tops = 0
    ranks_by: tuple[int, ...] = ()

    def __init__(self, layer_param: Message, phase: int | None = None):
        self.layer_param = layer_param
        self.name = layer_param.name
        self.phase = Phase(layer_param.phase if phase is None else phase)
        self.blobs = BlobVec()
        for given in layer_param.blobs:
            self._add_given_blob(given)
        self.param: Any = getattr(layer_param, self.param_field) if self.param_field else None
        self.param_propagate_down: list[bool] = []  # set by the net: which parameters need their gradient
        self.needs_backward = False  # set by the net: whether backward will be called
        self.only_ranks = False  # set by the net: whether its tops serve for nothing but a choice (`caffe.ranking`)
        self.loss_weights: list[float] = []  # set by the net: one a top

    def _add_given_blob(self, given: Message) -> None:
        """Adds a parameter whose values stand in the prototxt, as a BlobProto (Blob::FromProto)."""
        legacy = ('num', 'channels', 'height', 'width')
        is_legacy = any(map(given.HasField, legacy))
        shape = [getattr(given, axis) for axis in legacy] if is_legacy else list(given.shape.dim)
        values = given.double_data or given.data
        if len(values) != math.prod(shape):
            raise LayerError(f'blobs {{ }} of shape {shape} has {len(values)} numbers as its data')
        self.blobs.add_blob(*shape).data[...] = np.reshape(values, shape)

    @property
    def type(self) -> str:
        return self.layer_param.type

    @property
    def param_str(self) -> str:
        return self.layer_param.python_param.param_str

    param_str_ = param_str  # the name in the Fast R-CNN branch of Caffe

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Once, before the first reshape: reads options, makes parameters."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Before every forward pass: gives the tops their shapes."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Computes the tops' data from the bottoms' data."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Computes the bottoms' diffs where `propagate_down`, and adds to the parameters' diffs."""

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Whether force_backward reaches this bottom (false for labels)."""
        return not (self.is_loss and bottom_index == 1)

    def new_param(self, shape: tuple[int, ...], filler: Message | None = None) -> Blob:
        """Adds a parameter of this shape to `blobs`, filled as its FillerParameter says (zeros without one)."""
        blob = self.blobs.add_blob(*shape)
        if filler is not None:
            fill(blob, filler)
        return blob

    def check_params(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raises LayerError unless parameters that were given before setup have these shapes: weight, then bias."""
        if len(self.blobs) != len(shapes):
            raise LayerError(f'Incorrect number of weight blobs: expected {len(shapes)}, got {len(self.blobs)}')
        for name, blob, shape in zip(('weight', 'bias'), self.blobs, shapes, strict=False):
            if blob.shape != shape:
                raise LayerError(f'Incorrect {name} shape: expected shape {shape}; instead, shape was {blob.shape}')


class FunctionLayer(Layer):
    """A layer that says what it computes in torch operations; the backward pass is torch's derivative of that.

    `compute` is run again in the backward pass on the blobs as they are then, so that nothing is kept between the
    passes and a user may edit blobs between them, as in Caffe. Layers on the hot path write their backward themselves.
    """

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        """The tops' tensors from the bottoms' and the parameters'. Pure."""
        raise NotImplementedError(f'{type(self).__name__} does not say what it computes')

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        inputs = [b.read() for b in bottom]
        in_place = any(t is b for t in top for b in bottom)
        self._kept = [x.clone() for x in inputs] if in_place and self.needs_backward else None
        with torch.no_grad():
            outputs = self.compute(inputs, [p.read() for p in self.blobs])
        taken = {x.data_ptr() for x in inputs}
        for blob, out in zip(top, outputs, strict=True):
            blob.write(out.clone() if out.data_ptr() in taken else out)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        kept = getattr(self, '_kept', None)
        inputs = kept if kept is not None else [b.read() for b in bottom]
        inputs = [x.detach().requires_grad_(down) for x, down in zip(inputs, propagate_down, strict=True)]
        params = [
            p.read().detach().requires_grad_(down)
            for p, down in zip(self.blobs, self.param_propagate_down, strict=True)
        ]
        wanted = [t for t in inputs + params if t.requires_grad]
        if not wanted:
            return
        with torch.enable_grad():
            outputs = self.compute(inputs, params)
        pairs = [(out, t.read_diff().view(out.shape)) for out, t in zip(outputs, top, strict=True) if out.requires_grad]
        found: Sequence[torch.Tensor | None] = [None] * len(wanted)
        if pairs:
            found = torch.autograd.grad([p[0] for p in pairs], wanted, [p[1] for p in pairs], allow_unused=True)
        grads = dict(zip(map(id, wanted), found, strict=True))
        for blob, x in zip(bottom, inputs, strict=True):
            if x.requires_grad:
                grad = grads[id(x)]
                blob.write_diff(torch.zeros_like(x) if grad is None else grad.contiguous())
        for blob, p in zip(self.blobs, params, strict=True):
            if p.requires_grad and (grad := grads[id(p)]) is not None:
                blob.add_diff(grad)


def register(name: str) -> Callable[[LayerType], LayerType]:
    """Class decorator: makes a native layer known to prototxts as `type: "name"`."""

    def add(cls: LayerType) -> LayerType:
        if name in _TYPES:
            raise ValueError(f'layer type {name!r} is registered twice')
        _TYPES[name] = cls
        return cls

    return add


def layer_type_list() -> list[str]:
    """The names of all layer types, sorted: the native ones, and Python."""
    return sorted([*_TYPES, 'Python'])


def native_type(name: str) -> type[Layer]:
    """The class of a native layer type. Raises LayerError: whose fork of Caffe has it, or the nearest that exists."""
    if name not in _TYPES:
        raise LayerError(f'unknown layer type {name!r}{forks.type_hint(name, layer_type_list())}')
    return _TYPES[name]


def check_types(layers: Iterable[tuple[str, Message]]) -> None:
    """Raises LayerError with all types that are unknown. layers: ('net.prototxt:45', its LayerParameter) each."""
    unknown: dict[str, list[tuple[str, Message]]] = {}
    for where, layer in layers:
        if layer.type != 'Python' and layer.type not in _TYPES:
            unknown.setdefault(layer.type, []).append((where, layer))
    if not unknown:
        return
    (where, first), *more = next(iter(unknown.values()))
    message = f"{where}: layer '{first.name}' ({first.type}): unknown layer type {first.type!r}"
    message += forks.type_hint(first.type, layer_type_list())
    if more or len(unknown) > 1:
        lines = {
            f'layer type {name!r}{forks.type_hint(name, layer_type_list())}': [_line(where) for where, _ in found]
            for name, found in unknown.items()
        }
        message += f'{"" if message.endswith("?") else "."} All that is unknown in this net:{forks.listed(lines)}'
    if '\n' in message:
        raise LayerError(f'{message}\n{forks.STAND_IN}')
    raise LayerError(f'{message}{" " if message.endswith("?") else ". "}{forks.STAND_IN}')


def _line(where: str) -> int:
    line = where.rpartition(':')[2]
    return int(line) if line.isdigit() else 0
