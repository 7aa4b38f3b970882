"""A net's weights: in from files, out to files, and shared with another net (net.cpp)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from caffe.files import model_file
from caffe.glog import log
from caffe.layer import Layer
from caffe.learnable import LearnableParams, shape_string


class Weighted(Protocol):
    """What is asked of a net here."""

    name: str
    layers: list[Layer]

    @property
    def layer_dict(self) -> Mapping[str, Layer]: ...

    @property
    def learnable_params(self) -> LearnableParams: ...


def copy_from(net: Weighted, weights_file: str) -> None:
    """Copies the parameters of a .caffemodel (or .h5) file into layers of the same name.

    Layers that this net lacks are skipped, one log line for all, and layers that the file lacks stay as they are. A
    shape mismatch raises ValueError with both shapes, and a file of which no layer fits with the names of both;
    nothing has been copied then.
    """
    layers = net.layer_dict
    copies, unknown, ignored = [], [], []
    for name, kind, stored in model_file.read_weights(os.fspath(weights_file)):
        if name not in layers:
            ignored += [name] if kind != 'Split' else []  # nobody wrote those
            unknown += [name] if stored else []
            continue
        targets = layers[name].blobs
        # HDF5 files have a shared parameter once, with the layer that owns it.
        stored = stored + [None] * (len(targets) - len(stored))
        owned = net.learnable_params.owned(layers[name])
        if len(stored) > len(targets) or any(s is None and own for s, own in zip(stored, owned, strict=True)):
            raise ValueError(
                f"{weights_file}{_whose(weights_file)}: incompatible number of blobs for layer '{name}': "
                f'{sum(s is not None for s in stored)} in the file, {len(targets)} in the net'
            )
        for k, (source, target) in enumerate(zip(stored, targets, strict=True)):
            if source is None:
                continue
            if not source.fits(target.shape):
                raise ValueError(
                    f"{weights_file}{_whose(weights_file)}: Cannot copy param {k} weights from layer '{name}'; "
                    'shape mismatch.  '
                    f'Source param shape is {shape_string(source.data.shape)}; target param shape is '
                    f"{shape_string(target.shape)}. To learn this layer's parameters from scratch rather than "
                    'copying from a saved net, rename the layer.'
                )
            copies.append((target, source.data))
    if ignored:
        which = f'{len(ignored)} source layers that this net lacks:' if len(ignored) > 1 else 'source layer'
        log(f'Ignoring {which} {", ".join(ignored)}', 'net.cpp:742')
    own = [name for name, layer in layers.items() if layer.blobs]
    if unknown and not copies and own:
        raise ValueError(
            f'{weights_file}{_whose(weights_file)}: none of its layers with weights is in this net, which would keep '
            'its random ones: '
            f'the file has {_some(unknown)}, the net {_some(own)}. Are they of one network?'
        )
    for target, array in copies:
        target.data[...] = array.reshape(target.shape)


def _whose(weights_file: str) -> str:
    name = model_file.read_net_name(weights_file)
    return f" (weights of the net '{name}')" if name else ''


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ', '.join(names[:4]) + (f', ... ({len(names)})' if len(names) > 4 else '')


def save(net: Weighted, path: str, write_diff: bool = False) -> None:
    """Writes all parameters as a .caffemodel (Net::ToProto). The file appears whole or not at all."""
    layers = ((layer.layer_param, _arrays(layer, write_diff)) for layer in net.layers)
    model_file.write_weights(os.fspath(path), net.name, layers)


def save_hdf5(net: Weighted, path: str, write_diff: bool = False) -> None:
    """Writes all parameters in Caffe's HDF5 layout (Net::ToHDF5). The file appears whole or not at all."""
    layers = (
        (layer.layer_param, _arrays(layer, write_diff), net.learnable_params.owned(layer)) for layer in net.layers
    )
    model_file.write_weights_hdf5(os.fspath(path), layers, write_diff)


def share_with(net: Weighted, other: Weighted) -> None:
    """Uses the parameters of another net's layers of the same name from now on (Net::ShareTrainedLayersWith)."""
    theirs = other.layer_dict
    for name, layer in net.layer_dict.items():
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
