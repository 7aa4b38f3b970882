"""Fillers: the initial values of parameters (Caffe's filler.hpp)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable

import torch
from google.protobuf.message import Message

from caffe.blob import Blob
from caffe.layer_error import LayerError
from caffe.process import device


def fill(blob: Blob, filler_param: Message) -> None:
    """Fills a blob's data as a FillerParameter says, in place.

    Random numbers come from `device.host_generator()`: a seed gives the same values on every device. Raises
    LayerError for an unknown type, an empty blob, options that are not numbers, `sparse` with any other type than
    gaussian, or a shape that the type cannot fill.
    """
    if filler_param.type not in _FILLERS:
        near = difflib.get_close_matches(filler_param.type, _FILLERS, n=1)
        hint = f'the nearest that exists is {near[0]!r}' if near else f'there are {", ".join(_FILLERS)}'
        raise LayerError(f"Unknown filler name: '{filler_param.type}'; {hint}")
    if blob.count == 0:
        raise LayerError(f'a blob without elements cannot be filled: its shape is {blob.shape}')
    for name in ('value', 'min', 'max', 'mean', 'std'):
        if math.isnan(getattr(filler_param, name)):
            raise LayerError(f'filler {filler_param.type}: {name} is nan, a number is expected')
    if filler_param.sparse < -1:
        raise LayerError(f'filler: sparse must be -1 (fill all) or at least 0, got {filler_param.sparse}')
    if filler_param.sparse != -1 and filler_param.type != 'gaussian':
        raise LayerError(
            f"Sparsity not supported by this Filler: sparse belongs to 'gaussian', not '{filler_param.type}'"
        )
    _FILLERS[filler_param.type](torch.from_numpy(blob.data), filler_param, device.host_generator())


def fan(shape: tuple[int, ...], variance_norm: int) -> float:
    """What xavier and msra divide the variance by: inputs of an output, outputs of an input, or their mean.

    As in Caffe, whatever the layer: fan-in is count / shape[0], fan-out count / shape[1].
    """
    count = math.prod(shape)
    fan_in = count // (shape[0] if shape else 1)
    fan_out = count // (shape[1] if len(shape) > 1 else 1)
    return (fan_in, fan_out, (fan_in + fan_out) / 2)[variance_norm]  # FAN_IN, FAN_OUT, AVERAGE


def _constant(values: torch.Tensor, param, generator: torch.Generator) -> None:
    if math.isinf(param.value):
        raise LayerError(f'filler constant: value must be finite, got {param.value:g}')
    values.fill_(param.value)


def _uniform(values: torch.Tensor, param, generator: torch.Generator) -> None:
    if param.min > param.max:
        raise LayerError(f'filler uniform: min {param.min:g} is larger than max {param.max:g}')
    if not param.max - param.min <= torch.finfo(torch.float32).max:
        raise LayerError(f'filler uniform: from min {param.min:g} to max {param.max:g} is more than float32 can hold')
    values.uniform_(param.min, param.max, generator=generator)


def _gaussian(values: torch.Tensor, param, generator: torch.Generator) -> None:
    if param.std < 0:
        raise LayerError(f'filler gaussian: std must not be negative, got {param.std:g}')
    if math.isinf(param.std) or math.isinf(param.mean):
        raise LayerError(f'filler gaussian: mean and std must be finite, got {param.mean:g} and {param.std:g}')
    values.normal_(param.mean, param.std, generator=generator)
    if param.sparse >= 0:
        outputs = values.shape[0] if values.dim() else 1
        if param.sparse > outputs:
            raise LayerError(
                f'filler gaussian: sparse ({param.sparse}) must not exceed the number of outputs ({outputs})'
            )
        values.mul_(torch.empty_like(values).bernoulli_(param.sparse / outputs, generator=generator))


def _positive_unitball(values: torch.Tensor, param, generator: torch.Generator) -> None:
    rows = values.uniform_(0, 1, generator=generator).view(values.shape[0] if values.dim() else 1, -1)
    rows.div_(rows.sum(dim=1, keepdim=True))


def _xavier(values: torch.Tensor, param, generator: torch.Generator) -> None:
    """Glorot and Bengio, 'Understanding the difficulty of training deep feedforward networks', 2010."""
    bound = math.sqrt(3 / fan(tuple(values.shape), param.variance_norm))
    values.uniform_(-bound, bound, generator=generator)


def _msra(values: torch.Tensor, param, generator: torch.Generator) -> None:
    """He, Zhang, Ren and Sun, 'Delving deep into rectifiers', 2015."""
    values.normal_(0, math.sqrt(2 / fan(tuple(values.shape), param.variance_norm)), generator=generator)


def _bilinear(values: torch.Tensor, param, generator: torch.Generator) -> None:
    """Bilinear interpolation, for a Deconvolution that enlarges images."""
    if values.dim() != 4:
        raise LayerError(f'filler bilinear: blob must be 4 dim, got shape {tuple(values.shape)}')
    if values.shape[2] != values.shape[3]:
        raise LayerError(f'filler bilinear: filter must be square, got shape {tuple(values.shape)}')
    size = values.shape[3]
    half = math.ceil(size / 2)
    centre = (size - 1) / (2 * half)
    ramp = 1 - (torch.arange(size, dtype=torch.float64) / half - centre).abs()
    values.copy_(ramp[:, None] * ramp)


_FILLERS: dict[str, Callable] = {
    'constant': _constant,
    'uniform': _uniform,
    'gaussian': _gaussian,
    'positive_unitball': _positive_unitball,
    'xavier': _xavier,
    'msra': _msra,
    'bilinear': _bilinear,
}
