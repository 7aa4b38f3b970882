"""Pixels as networks trained in Torch and PyTorch expect them: RGB, 0 to 1, less a mean, divided by a deviation.

The data layers give BGR, 0 to 255, less cfg.PIXEL_MEANS. In a prototxt, between them and the first layer of the net:

    layer {
      name: "data_xform" type: "Python" bottom: "data" top: "data_xform"
      python_param { module: "transform.torch_image_transform_layer" layer: "TorchImageTransformLayer" }
    }

The input keeps its name, data, which testing goes by; the first layer reads data_xform.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml

import caffe
from fast_rcnn.config import cfg

# In RGB order; those of fb.resnet.torch, as in py-faster-rcnn's lib/transform/torch_image_transform_layer.py
MEANS = (0.48462227599918, 0.45624044862054, 0.40588363755159)
STDS = (0.22889466674951, 0.22446679341259, 0.22495548344775)
MOST = 1e30  # what neither may reach; NaN does not


def torch_pixels(images: np.ndarray, pixel_means: np.ndarray, means: np.ndarray, stds: np.ndarray) -> np.ndarray:
    """`images` (N, 3, H, W), BGR less `pixel_means` (3,), as RGB, 0 to 1, less `means`, over `stds`; float32.

    `means` and `stds` (3,) are in RGB order. Padding, which is 0 in `images`, becomes the colour `pixel_means`.
    """
    scale = 1 / (255 * np.asarray(stds, np.float64))
    offset = (np.asarray(pixel_means, np.float64)[::-1] / 255 - means) / stds
    result = images[:, ::-1] * scale.astype(np.float32)[:, None, None]
    result += offset.astype(np.float32)[:, None, None]
    return result


class TorchImageTransformLayer(caffe.Layer):
    """Images as networks of Torch want them. Bottom and top: (N, 3, H, W); the bottom is BGR, less cfg.PIXEL_MEANS.

    param_str may give other numbers than fb.resnet.torch's, in RGB order:
    "{'means': [0.485, 0.456, 0.406], 'stds': [0.229, 0.224, 0.225]}" are torchvision's. There is no gradient. Raises
    ValueError for images that are not of three channels, other parameters, and other numbers of bottoms or tops.
    """

    def setup(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        if len(bottom) != 1 or len(top) != 1:
            raise ValueError(
                f'TorchImageTransformLayer has {len(bottom)} bottoms and {len(top)} tops; expected 1 of each, images'
            )
        text = getattr(self, 'param_str', '') or getattr(self, 'param_str_', '')  # the latter: Fast R-CNN's Caffe
        self._means, self._stds = _parameters(text)

    def reshape(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        shape = bottom[0].data.shape
        if len(shape) != 4 or shape[1] != 3:
            raise ValueError(
                f'TorchImageTransformLayer: bottom 0 is of shape {tuple(shape)}; expected images (N, 3, H, W)'
            )
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        top[0].data[...] = torch_pixels(bottom[0].data, cfg.PIXEL_MEANS.ravel(), self._means, self._stds)

    def backward(self, top: Sequence[Any], propagate_down: Sequence[bool], bottom: Sequence[Any]) -> None:
        pass  # nothing below learns


def _parameters(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations, (3,) each, of a param_str. Raises ValueError."""
    try:
        found = yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, 'problem', None) or str(error).split('\n')[0]
        raise ValueError(f'TorchImageTransformLayer: param_str {text[:200]!r} is not valid YAML: {problem}') from None
    wrong = [key for key in found if key not in ('means', 'stds')] if isinstance(found, dict) else [found]
    values = {'means': MEANS, 'stds': STDS, **(found if not wrong else {})}
    for numbers in values.values():
        plain = isinstance(numbers, list | tuple) and all(type(number) in (int, float) for number in numbers)
        wrong += [] if plain and len(numbers) == 3 and all(abs(n) < MOST for n in numbers) else [numbers]
    if wrong or min(values['stds']) <= 0:
        raise ValueError(
            f'TorchImageTransformLayer: param_str is {text!r}; it may give means and stds, three numbers each in RGB '
            "order, those of stds above 0, as in \"{'means': [0.485, 0.456, 0.406], 'stds': [0.229, 0.224, 0.225]}\""
        )
    return np.array(values['means'], np.float64), np.array(values['stds'], np.float64)
