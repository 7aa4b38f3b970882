"""SSD's layers that prepare predictions: axes, norms, prior boxes (Liu et al., 'SSD', 2016; branch ssd of
weiliu89/caffe)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from caffe.blob import Blob
from caffe.layer import FunctionLayer, LayerError, register
from caffe.layers.without_gradient import LayerWithoutGradient
from caffe.proto import caffe_pb2


@register('Permute')
class Permute(FunctionLayer):
    """The bottom with its axes in another order: axis order[0] first, and axes that are not named last."""

    param_field = 'permute_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        order, axes = list(self.param.order), len(bottom[0].shape)
        if any(axis >= axes for axis in order):
            raise LayerError(
                f'order should be less than the input dimension: order {order}, bottom of shape {bottom[0].shape}'
            )
        if len(set(order)) < len(order):
            raise LayerError(f'there are duplicate orders: {order}')
        self._order = order + [axis for axis in range(axes) if axis not in order]

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if top[0] is bottom[0]:
            raise LayerError('Permute Layer does not allow in-place computation.')
        if len(shape) != len(self._order):
            raise LayerError(f'Permute: made for {len(self._order)} axes, got a bottom of shape {shape}')
        top[0].reshape(*(shape[axis] for axis in self._order))

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return [bottoms[0].permute(self._order).contiguous()]


@register('Normalize')
class Normalize(FunctionLayer):
    """scale * x / |x|, the norm over the channels of each place, or over the whole image with across_spatial.

    Bottom (N, C, ...). |x| = sqrt(sum of squares + eps). Parameter: the scale, one number with channel_shared, else
    (C,) (Liu et al., 'ParseNet', 2015, section 3.3).
    """

    param_field = 'norm_param'
    num_bottom = 1
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise LayerError(f'Number of axes of bottom blob must be >=2; got shape {shape}')
        if not self.param.eps >= 0:
            raise LayerError(f'eps must not be negative; got {self.param.eps:g}')
        self._channels = shape[1]
        if not self.blobs:
            has_filler = self.param.HasField('scale_filler')
            filler = self.param.scale_filler if has_filler else caffe_pb2.FillerParameter(value=1)
            self.new_param(() if self.param.channel_shared else (shape[1],), filler)
        if self.blobs[0].count != (1 if self.param.channel_shared else shape[1]):
            raise LayerError(f'Scale size is inconsistent with prototxt config: {self.blobs[0].shape}, bottom {shape}')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2 or shape[1] != self._channels:
            raise LayerError(f'Normalize: made for {self._channels} channels, got a bottom of shape {shape}')
        if top[0] is not bottom[0]:
            top[0].reshape(*shape)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        x = bottoms[0]
        axes = tuple(range(1, x.dim())) if self.param.across_spatial else (1,)
        norm = (x.square().sum(axes, keepdim=True) + self.param.eps).sqrt()
        return [x / norm * params[0].view(-1, *[1] * (x.dim() - 2))]


@register('PriorBox')
class PriorBox(LayerWithoutGradient):
    """The prior boxes of each cell of a map, and their variances (SSD, section 2.2).

    Bottoms: the map (N, C, H, W), of which only the size counts, and the image (N, C, H, W). Top (1, 2, H * W * boxes *
    4): corners as fractions of the image, then variances. For each min_size: its square, the square of sqrt(min_size *
    max_size), then one of the first's area for each aspect ratio but 1. There is no gradient.
    """

    param_field = 'prior_box_param'
    num_bottom = (1, 2)
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.param
        if not param.min_size:
            raise LayerError('must provide min_size.')
        if not _positive(param.min_size):
            raise LayerError(f'min_size must be positive; got {list(param.min_size)}')
        if param.max_size and len(param.max_size) != len(param.min_size):
            raise LayerError(
                f'{len(param.min_size)} min_size need as many max_size, or none; got {len(param.max_size)}'
            )
        if not _positive(param.max_size) or any(
            large <= small for small, large in zip(param.min_size, param.max_size, strict=False)
        ):
            raise LayerError(
                f'max_size must be greater than min_size: {list(param.max_size)} and {list(param.min_size)}'
            )
        if not _positive(param.aspect_ratio):
            raise LayerError(f'aspect_ratio must be positive; got {list(param.aspect_ratio)}')
        if len(param.variance) not in (0, 1, 4) or not _positive(param.variance):
            raise LayerError(f'variance must be one or four positive numbers; got {list(param.variance)}')
        if not math.isfinite(param.offset):
            raise LayerError(f'offset must be a number; got {param.offset:g}')
        self._image = self._pair('img_size', 'img_h', 'img_w')
        self._step = self._pair('step', 'step_h', 'step_w')
        if self._image is None and len(bottom) < 2:
            raise LayerError('PriorBox needs the image as bottom 1, or img_size')
        self._sides = self._box_sides()

    def _pair(self, both: str, high: str, wide: str) -> tuple[float, float] | None:
        """Height and width that the options give, None if they give none."""
        given = [name for name in (both, high, wide) if self.param.HasField(name)]
        if not given:
            return None
        if both in given and len(given) > 1:
            raise LayerError(f'Either {both} or {high}/{wide} should be specified; not both.')
        pair = tuple(getattr(self.param, name) for name in ((both, both) if both in given else (high, wide)))
        if not _positive(pair):
            raise LayerError(f'{" and ".join(given)} should be larger than 0; got {high}, {wide} = {pair}')
        return pair

    def _box_sides(self) -> np.ndarray:
        """(boxes, 2) float32 widths and heights of a cell's boxes, in image pixels."""
        ratios = [1.0]
        for ratio in self.param.aspect_ratio:
            if all(abs(ratio - other) >= 1e-6 for other in ratios):
                ratios += [ratio, 1 / ratio] if self.param.flip else [ratio]
        sides: list[tuple[float, float]] = []
        for i, size in enumerate(self.param.min_size):
            small = int(size)  # the original keeps sizes in ints
            sides.append((small, small))
            if self.param.max_size:
                between = np.sqrt(small * int(self.param.max_size[i]))
                sides.append((between, between))
            sides += [(small * np.sqrt(r), small / np.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
        return np.array(sides, np.float32)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, blob in enumerate(bottom):
            if len(blob.shape) != 4:
                raise LayerError(f'PriorBox: bottom {i} must have shape (N, C, H, W), got {blob.shape}')
        size = bottom[0].shape[2], bottom[0].shape[3]
        image = self._image or (bottom[1].shape[2], bottom[1].shape[3])
        if min(*size, *image) < 1:
            raise LayerError(f'PriorBox: a map of {size} and an image of {image} (height, width) have no boxes')
        top[0].reshape(1, 2, size[0] * size[1] * len(self._sides) * 4)
        if getattr(self, '_made_for', None) != (size, image):
            self._made_for, self._boxes = (size, image), self._make(size, image)

    def _make(self, size: tuple[int, int], image: tuple[float, float]) -> np.ndarray:
        """The top's numbers."""
        step = np.divide(image, size, dtype=np.float32) if self._step is None else np.array(self._step, np.float32)
        offset = np.float32(self.param.offset)
        y, x = ((np.arange(n, dtype=np.float32) + offset) * s for n, s in zip(size, step, strict=True))
        centre = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)[:, :, None].astype(float)
        half = self._sides.astype(float) / 2
        boxes = np.concatenate([centre - half, centre + half], axis=-1) / np.array([*image[::-1]] * 2)
        if self.param.clip:
            boxes = boxes.clip(0, 1)
        variance = list(self.param.variance) or [0.1]
        variances = np.broadcast_to(np.array(variance, np.float32), boxes.shape)
        return np.stack([boxes.reshape(-1), variances.reshape(-1)]).astype(np.float32)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data[...] = self._boxes


def _positive(numbers: Sequence[float]) -> bool:
    """Whether all of them are above 0, and none is infinite or NaN."""
    return all(0 < number < math.inf for number in numbers)
