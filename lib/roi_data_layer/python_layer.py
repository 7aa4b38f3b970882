"""What all Python layers have in common, those of `rpn` too: reading param_str, and filling a blob."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import yaml

import caffe
from fast_rcnn.config import plain_values, problem_of


class Blob(Protocol):
    """What Python layers use of a blob: pycaffe has no public name for its class."""

    @property
    def data(self) -> np.ndarray: ...

    @property
    def diff(self) -> np.ndarray: ...

    def reshape(self, *shape: int) -> None: ...


Blobs = Sequence[Blob]
"""A layer's bottoms, or its tops."""


def values_of(text: str, layer: str) -> Any:
    """The values in a param_str. layer: the type of the layer, for the message. Raises ValueError."""
    try:
        return plain_values(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(
            f'{layer}: param_str {text[:200]!r} is not valid YAML: {problem_of(error)}; several parameters stand in '
            "braces, as in \"{'feat_stride': 16, 'scales': [8, 16, 32]}\", or each in a line of its own"
        ) from None


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
