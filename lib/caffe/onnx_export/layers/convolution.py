"""Convolution, Deconvolution and Im2col (caffe.layers.convolution)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from caffe.kernels.convolution import Geometry
from caffe.layers.convolution import read_geometry
from caffe.onnx_export.recipes import Place, exports


def _geometry(at: Place) -> Geometry:
    return read_geometry(at.param, at.rank - at.axis(at.param.axis) - 1)


def _options(geometry: Geometry) -> dict:
    return {
        'kernel_shape': list(geometry.kernel),
        'strides': list(geometry.stride),
        'pads': [*geometry.pad, *geometry.pad],
        'dilations': list(geometry.dilation),
    }


def _on_images(at: Place, bottom: int, channels: int, function: Callable[[str], str]) -> str:
    """function on a bottom (..., C, spatial) as images (N, C, spatial), and its result in the bottom's form again."""
    g, axis, x = at.graph, at.axis(at.param.axis), at.bottoms[bottom]
    if axis == 1:
        return function(x)
    dims = at.dims(bottom)
    y = function(g.reshape(x, [g.product(dims[:axis]), *dims[axis:]]))
    sizes = [g.dim(y, 2 + k) for k in range(at.rank - axis - 1)]
    return g.reshape(y, [*dims[:axis], channels, *sizes])


def _convolve(at: Place, kind: str) -> list[str]:
    g, geometry = at.graph, _geometry(at)
    weights = [at.weights(0), *([at.weights(1)] if at.param.bias_term else [])]
    options = {**_options(geometry), 'group': at.layer.groups()}
    if geometry.kernel:
        return [
            _on_images(at, i, at.param.num_output, lambda x: g.op(kind, x, *weights, **options))
            for i in range(len(at.bottoms))
        ]
    # over no axis it is one over an axis of length 1
    weights[0] = g.op('Unsqueeze', weights[0], g.ints(2))

    def product(x: str) -> str:
        image = g.op(kind, g.op('Unsqueeze', x, g.ints(2)), *weights, group=at.layer.groups())
        return g.op('Squeeze', image, g.ints(2))

    return [_on_images(at, i, at.param.num_output, product) for i in range(len(at.bottoms))]


@exports('Convolution')
def convolution(at: Place) -> list[str]:
    """Conv, for each bottom."""
    return _convolve(at, 'Conv')


@exports('DepthwiseConvolution')
@exports('ConvolutionDepthwise')
def depthwise(at: Place) -> list[str]:
    """Conv of as many groups as channels."""
    return _convolve(at, 'Conv')


@exports('Deconvolution')
def deconvolution(at: Place) -> list[str]:
    """ConvTranspose, for each bottom."""
    return _convolve(at, 'ConvTranspose')


@exports('Im2col')
def im2col(at: Place) -> str:
    """Conv of each channel, as an image of its own, with filters that pick one pixel."""
    g, geometry, axis, dims = at.graph, _geometry(at), at.axis(at.param.axis), at.dims()
    taps = math.prod(geometry.kernel)
    picks = np.eye(taps, dtype=np.float32).reshape(taps, 1, *geometry.kernel)
    channels = g.reshape(at.x, [g.product(dims[: axis + 1]), 1, *dims[axis + 1 :]])
    y = g.op('Conv', channels, g.constant(picks), **_options(geometry))
    sizes = [g.dim(y, 2 + k) for k in range(len(geometry.kernel))]
    return g.reshape(y, [*dims[:axis], g.calculate('Mul', dims[axis], taps), *sizes])
