"""What the RPN's Python layers have in common: their parameters, their phase, and which forward pass is the next."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import caffe
from roi_data_layer.python_layer import Blobs, text_and_values, values_of
from rpn.generate_anchors import generate_anchors

LISTS = list, tuple  # the types of a list in param_str
_LARGEST = 10**6  # of a stride, of a number of classes


class RPNLayer(caffe.Layer):
    """A layer without gradient whose tops get their shapes in forward.

    `position` is the number of the next forward pass, which random choices depend on: 0 at the start, one more at every
    pass, or what `set_position` says.
    """

    position = 0

    def set_position(self, n: int) -> None:
        """Make the next forward pass number `n`."""
        self.position = int(n)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        pass  # the shapes are known in forward

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        pass  # neither anchors nor proposals have a gradient


def parameters(layer: caffe.Layer, **kinds: type | tuple) -> dict:
    """The layer's param_str, YAML such as "'feat_stride': 16", as a dictionary.

    `kinds` are the parameters that it may have and their types. Raises ValueError for others.
    """
    name = type(layer).__name__
    found = _dictionary(*text_and_values(layer), name)
    for key, value in found.items():
        if key not in kinds:
            raise ValueError(f'{name}: param_str has no parameter {key!r}; there are: {", ".join(kinds)}')
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise ValueError(f'{name}: {key} in param_str is {value!r}, of a type that it cannot have')
    return found


def param_str_of(text: str, name: str) -> dict:
    """A param_str as a dictionary; `name` is the layer's type in messages. Raises ValueError if it is none."""
    return _dictionary(text, values_of(text, name), name)


def _dictionary(text: str, found: Any, name: str) -> dict:
    found = {} if found is None else found
    if not isinstance(found, dict):
        raise ValueError(f'{name}: param_str gives parameters as in "\'feat_stride\': 16"; got {text!r}')
    return found


def needed(layer: caffe.Layer, found: dict, key: str, least: int) -> int:
    """The whole number `key` of the parameters `found`, `least` or more. Raises ValueError."""
    value = found.get(key)
    if value is None or not least <= value <= _LARGEST:
        raise ValueError(
            f'{type(layer).__name__}: param_str must give {key}, {least} or more, as in "\'{key}\': {max(least, 16)}"'
            + (f', and no more than {_LARGEST}' if value is not None and value > _LARGEST else '')
            + f'; got {found!r}'
        )
    return value


def anchors_of(layer: caffe.Layer, found: dict) -> np.ndarray:
    """The anchors (A, 4) that the parameters `found` describe by `scales` and `ratios`. Raises ValueError."""
    given = {key: found[key] for key in ('ratios', 'scales') if key in found}
    for key, values in given.items():
        if not values or not all(map(_is_length, values)):
            raise ValueError(f'{type(layer).__name__}: {key} in param_str are numbers above 0; got {values!r}')
    return generate_anchors(**given)


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST


def check_blobs(
    layer: caffe.Layer,
    bottom: Blobs,
    top: Blobs,
    bottoms: tuple[str, ...],
    tops: tuple[str, ...],
    counts: tuple[int, ...],
) -> None:
    """Raises ValueError unless there are the `bottoms` (more are not looked at), and one of `counts` of the `tops`."""
    if len(bottom) < len(bottoms) or len(top) not in counts:
        numbers = ' or '.join(map(str, counts))
        raise ValueError(
            f'{type(layer).__name__} has {len(bottom)} bottoms and {len(top)} tops, expected the bottoms '
            f'{", ".join(bottoms)} and {numbers} tops: {", ".join(tops)}'
        )


def check_sizes(layer: caffe.Layer, im_info: np.ndarray, num_images: int) -> None:
    """Raises ValueError unless `im_info` has a row (height, width, scale) for each image."""
    if im_info.ndim != 2 or im_info.shape[0] < num_images or im_info.shape[1] < 3:
        raise ValueError(
            f'{type(layer).__name__}: im_info has shape {im_info.shape} for {num_images} images; expected a row of '
            'height, width, scale for each'
        )


def phase_of(layer: caffe.Layer) -> str:
    """'TRAIN' or 'TEST'. pycaffe says 0 or 1, that of Fast R-CNN 'TRAIN' or 'TEST'."""
    return 'TRAIN' if str(layer.phase) in ('TRAIN', '0') else 'TEST'


def objects_by_image(layer: caffe.Layer, gt_boxes: np.ndarray, num_images: int) -> list[np.ndarray]:
    """The objects (G, 5) = (x1, y1, x2, y2, class) of each image, out of the blob gt_boxes.

    That has these five columns for a single image, and the image before them, (image, x1, y1, x2, y2, class), for
    several. Raises ValueError.
    """
    columns = gt_boxes.shape[1] if gt_boxes.ndim == 2 else None
    if columns not in (5, 6) or (columns == 5 and num_images != 1):
        raise ValueError(
            f'{type(layer).__name__}: gt_boxes has shape {gt_boxes.shape} for {num_images} images; expected rows of '
            'x1, y1, x2, y2, class for one image, and of image, x1, y1, x2, y2, class for several'
        )
    if columns == 5:
        return [gt_boxes]
    return [gt_boxes[gt_boxes[:, 0] == image, 1:] for image in range(num_images)]
