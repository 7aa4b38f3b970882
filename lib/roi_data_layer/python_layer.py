"""What all Python layers have in common, those of `rpn` too: reading param_str, and filling a blob."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import yaml

import caffe


class Blob(Protocol):
    """What Python layers use of a blob: pycaffe has no public name for its class."""

    @property
    def data(self) -> np.ndarray: ...

    @property
    def diff(self) -> np.ndarray: ...

    def reshape(self, *shape: int) -> None: ...


Blobs = Sequence[Blob]
"""A layer's bottoms, or its tops."""


class _Loader(yaml.SafeLoader):
    """YAML of plain values, plus the `!!python/tuple` in published prototxts for COCO."""


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list:
    return loader.construct_sequence(node)


_Loader.add_constructor('tag:yaml.org,2002:python/tuple', _sequence)


def values_of(text: str, layer: str) -> Any:
    """The values in a param_str. layer: the type of the layer, for the message. Raises ValueError."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: makes plain values only
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, 'problem', error)
        raise ValueError(f'{layer}: param_str {text[:200]!r} is not valid YAML: {problem}') from None


def text_and_values(layer: caffe.Layer) -> tuple[str, Any]:
    """The layer's param_str, and the values in it: YAML such as "'num_classes': 21". Raises ValueError.

    Fast R-CNN's Caffe calls it param_str_.
    """
    text: str = getattr(layer, 'param_str', '') or getattr(layer, 'param_str_', '')
    return text, values_of(text, type(layer).__name__)


def fill(blob: Blob, values: np.ndarray) -> None:
    """Give `blob` the shape of `values`, and these."""
    blob.reshape(*values.shape)
    blob.data[...] = values
