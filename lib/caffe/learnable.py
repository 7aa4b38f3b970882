"""The parameters of a net as a solver sees them, and how layers share them by name (Net::AppendParam, net.cpp)."""

from __future__ import annotations

import math

from caffe.blob import Blob
from caffe.layer import Layer, LayerError
from caffe.proto import caffe_pb2


class LearnableParams:
    """The parameters of a net as a solver sees them: one entry for each, however many layers share it.

    Parallel lists: blobs, lr_mults, decay_mults (None until some layer states it, then its value; 1.0 if nobody does).
    """

    def __init__(self):
        self.blobs: list[Blob] = []
        self._lr: list[float | None] = []
        self._decay: list[float | None] = []
        self._owners: dict[str, tuple[int, Blob, str, int]] = {}  # name -> (entry, blob, layer, index in layer)
        self._shared: set[int] = set()  # ids of blobs that another layer owns

    @property
    def lr_mults(self) -> list[float]:
        return [1.0 if m is None else m for m in self._lr]

    @property
    def decay_mults(self) -> list[float]:
        return [1.0 if m is None else m for m in self._decay]

    def add(self, blob: Blob, spec: caffe_pb2.ParamSpec, layer_index: int, layer: str, k: int) -> None:
        """Takes in a layer's k-th parameter, sharing it with the first of the same param name (Net::AppendParam)."""
        if spec.name and spec.name in self._owners:
            entry, owner, owner_layer, owner_k = self._owners[spec.name]
            self._check_shapes(blob, owner, spec, f"'{spec.name}' owned by layer '{owner_layer}' param {owner_k}")
            blob.share_data(owner)
            blob.share_diff(owner)
            self._shared.add(id(blob))
        else:
            entry = len(self.blobs)
            self.blobs.append(blob)
            self._lr.append(None)
            self._decay.append(None)
            if spec.name:
                self._owners[spec.name] = (entry, blob, layer, k)
        for field, mults in (('lr_mult', self._lr), ('decay_mult', self._decay)):
            if spec.HasField(field):
                value = getattr(spec, field)
                if mults[entry] is not None and mults[entry] != value:
                    raise LayerError(
                        f"Shared param '{spec.name}' has mismatched {field}: {mults[entry]:g} and {value:g}"
                    )
                mults[entry] = value

    @staticmethod
    def _check_shapes(blob: Blob, owner: Blob, spec, whose: str) -> None:
        if spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE:
            if blob.count != owner.count:
                raise LayerError(
                    f'Cannot share param {whose}; count mismatch. '
                    f'Owner param shape is {shape_string(owner.shape)}; sharing {shape_string(blob.shape)}'
                )
        elif blob.shape != owner.shape:
            raise LayerError(
                f'Cannot share param {whose}; shape mismatch. '
                f'Owner param shape is {shape_string(owner.shape)}; sharing expects {shape_string(blob.shape)}'
            )

    def owned(self, layer: Layer) -> list[bool]:
        """For each of a layer's parameters: whether it is the layer's own, not shared from another."""
        return [id(blob) not in self._shared for blob in layer.blobs]


def shape_string(shape: tuple[int, ...]) -> str:
    """A shape as Caffe prints it, with the count: '5 4 (20)'."""
    return ' '.join(map(str, shape)) + f' ({math.prod(shape)})'
