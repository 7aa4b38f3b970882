"""What the Python layers here have in common: reading param_str, and filling a blob."""

from typing import Any

import numpy as np
import yaml


def text_and_values(layer) -> tuple[str, Any]:
    """The layer's param_str, and the values in it: YAML such as "'num_classes': 21". Raises ValueError.

    Fast R-CNN's Caffe calls it param_str_.
    """
    text: str = getattr(layer, 'param_str', '') or getattr(layer, 'param_str_', '')
    try:
        return text, yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = getattr(error, 'problem', error)
        raise ValueError(f'{type(layer).__name__}: param_str {text!r} is not valid YAML: {problem}') from None


def fill(blob, values: np.ndarray) -> None:
    """Give `blob` the shape of `values`, and these."""
    blob.reshape(*values.shape)
    blob.data[...] = values
