"""In which precision products are computed: float32 as Caffe does, or less, where the user asks for it."""

from __future__ import annotations

from typing import Any

import torch

from caffe.glog import warn_once
from caffe.processor import has_fast_bf16

_CHOICES = ('fp32', 'tf32', 'bf16')


class _Process:
    choice = 'fp32'


def set_precision(choice: str) -> None:
    """The precision of Convolution, Deconvolution and InnerProduct from now on, in the whole process.

    'fp32' (the default): float32. 'tf32': on a GPU, factors of forward and backward products are rounded to
    10 bits of fraction; on a CPU the same as 'fp32'. 'bf16': factors and results of forward products are
    rounded to bfloat16 (7 bits); sums are float32, and so are blobs, parameters, diffs and the
    backward pass, CPU or GPU. Raises ValueError for anything else.
    """
    if choice not in _CHOICES:
        raise ValueError(f'the precision is one of {", ".join(_CHOICES)}; set_precision was given {choice!r}')
    _Process.choice = choice
    apply_to_gpu()


def get_precision() -> str:
    """'fp32', 'tf32' or 'bf16'."""
    return _Process.choice


def apply_to_gpu() -> None:
    """Tells the GPU's libraries; they take TF32 for convolutions unless told otherwise."""
    allowed = _Process.choice == 'tf32'
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def rounded(function, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *args: Any):
    """function(x, weight, bias, *args) in bfloat16, as float32; the bias is added in float32 to axis 1."""
    if x.device.type == 'cpu' and not has_fast_bf16():
        warn_once(
            'bf16 is slower than fp32 on this processor, which has no fast products of it: '
            "caffe.set_precision('fp32') is faster, and exact",
            'caffe.cpp:1',
        )
    y = function(x.bfloat16(), weight.bfloat16(), None, *args).float()
    return y if bias is None else y.add_(bias.view(-1, *(1,) * (y.dim() - 2)))
