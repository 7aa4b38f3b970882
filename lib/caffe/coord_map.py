"""Where a pixel of one blob lies in another, for nets in the making (pycaffe's coord_map.py).

A map from blob A to blob B is (axis, scale, shift): coordinate x of A is scale * x + shift in B, on all
spatial axes from `axis` + 1 on; scale and shift are numbers, or arrays of one number an axis. The map of a
pointwise layer, which holds on any axis, is (None, 1, 0). `crop` writes the Crop layer that makes one blob
fit onto another, as fully convolutional nets need it after upsampling (Long, Shelhamer, Darrell, CVPR 2015).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from caffe.net_spec import Function, Top, layers

PASS_THROUGH_LAYERS = frozenset(
    {'AbsVal', 'BatchNorm', 'Bias', 'BNLL', 'Dropout', 'Eltwise', 'ELU', 'Log', 'LRN', 'Exp', 'MVN', 'Power'}
    | {'ReLU', 'PReLU', 'Scale', 'Sigmoid', 'Split', 'TanH', 'Threshold'}
)

Map = tuple[int | None, np.ndarray | float, np.ndarray | float]


class CoordMapError(ValueError, AssertionError):
    """Blobs that cannot be laid on one another. Also an AssertionError, which pycaffe raises for it."""


class UndefinedMapException(CoordMapError):
    """A layer whose output's pixels do not lie somewhere in its input (an InnerProduct, say)."""


class AxisMismatchException(CoordMapError):
    """Maps on different axes, which cannot follow one another."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(axis, stride, extent of kernel, pad) of a Convolution, Deconvolution, Im2col or Pooling function."""
    message = 'pooling_param' if fn.type_name == 'Pooling' else 'convolution_param'
    given = {**fn.params, **fn.params.get(message, {})}
    legacy = {'pad_h', 'pad_w', 'kernel_h', 'kernel_w', 'stride_h', 'stride_w'} & set(given)
    if legacy:
        raise CoordMapError(
            f'cropping does not support legacy _h/_w params: {", ".join(sorted(legacy))} of a {fn.type_name}'
        )
    if 'kernel_size' not in given:
        raise UndefinedMapException(f'a {fn.type_name} without kernel_size has no coordinate map')
    kernel, dilation, stride, pad = (
        np.array(given.get(name, default), ndmin=1)
        for name, default in (('kernel_size', None), ('dilation', 1), ('stride', 1), ('pad', 0))
    )
    return given.get('axis', 1), stride, (kernel - 1) * dilation + 1, pad


def coord_map(fn: Function) -> Map:
    """The map from a layer's input to its output. Raises UndefinedMapException where there is none."""
    if fn.type_name in ('Convolution', 'Pooling', 'Im2col'):
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == 'Deconvolution':
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return None, 1, 0
    if fn.type_name == 'Crop':
        given = fn.params.get('crop_param', fn.params)
        # A Crop's axis is the first that is cropped, a convolution's the one before the first spatial one.
        return given.get('axis', 2) - 1, 1, -np.array(given.get('offset', 0), ndmin=1)
    raise UndefinedMapException(f'{fn.type_name} layers have no coordinate map')


def compose(base: Map, then: Map) -> Map:
    """The map that applies `then` first and `base` to what comes out."""
    axes = {axis for axis in (base[0], then[0]) if axis is not None}
    if len(axes) > 1:
        raise AxisMismatchException(f'maps on axis {base[0]} and on axis {then[0]} cannot follow one another')
    return axes.pop() if axes else None, base[1] * then[1], base[1] * then[2] + base[2]


def inverse(map_: Map) -> Map:
    """The map the other way."""
    axis, scale, shift = map_
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from one blob to another, through the nearest blob that both come from.

    Raises RuntimeError where spatial layers do not connect the two.
    """
    from_maps = dict(_walk_back(top_from))
    for top, to_map in _walk_back(top_to):
        if top in from_maps:
            return compose(to_map, inverse(from_maps[top]))
    raise RuntimeError('Could not compute map between tops; are they connected by spatial layers?')


def _walk_back(top: Top) -> Iterator[tuple[Top, Map]]:
    """(ancestor, map from it to `top`) of a blob and all that spatial layers make it from, nearest first."""
    seen = {top}
    waiting: list[tuple[Top, Map]] = [(top, (None, 1, 0))]
    for top, map_ in waiting:  # grows under way
        yield top, map_
        try:
            step = coord_map(top.fn)
        except UndefinedMapException:
            continue
        # A Crop's second bottom gives only the size.
        for bottom in top.fn.inputs[:1] if top.fn.type_name == 'Crop' else top.fn.inputs:
            if bottom not in seen:
                seen.add(bottom)
                waiting.append((bottom, compose(map_, step)))


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop of `top_from` to the size of `top_to`, with the offset that lays pixel on pixel.

    Raises CoordMapError (a ValueError) where the two differ in scale, or the offset is negative or no whole number.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    offset = -np.atleast_1d(shift)
    if np.any(np.asarray(scale) != 1):
        raise CoordMapError(f'scale mismatch on crop: a pixel of the one is {scale} of the other')
    if np.any(offset < 0):
        raise CoordMapError(f'cannot crop negative width: the offset is {offset}; pad the blob that is cropped')
    if np.any(offset != np.round(offset)):
        raise CoordMapError(f'cannot crop noninteger width: the offset is {offset}')
    first = 2 if axis is None else axis + 1
    return layers.Crop(top_from, top_to, crop_param={'axis': first, 'offset': offset.astype(int).tolist()})
