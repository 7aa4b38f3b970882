"""In which precision products are computed: float32 as Caffe does, or less, where the user asks for it."""

from __future__ import annotations

import torch

from caffe.glog import warn_once
from caffe.kernels.processor import has_fast_bf16

_CHOICES = ('fp32', 'tf32', 'bf16', 'bf16-ranking')


class _Process:
    choice = 'fp32'


def set_precision(choice: str) -> None:
    """The precision of Convolution, Deconvolution and InnerProduct from now on, in the whole process.

    'fp32' (the default): float32. 'tf32': on a GPU, factors of forward and backward products are rounded to
    10 bits of fraction; on a CPU the same as 'fp32'. 'bf16': factors and results of products are rounded to bfloat16
    (7 bits), on a CPU where they are large enough to gain; sums are float32, and so are blobs, parameters and diffs.
    The backward pass does so on CPUs with fast products of bfloat16; on others it stays float32, and a GPU's is as with
    'tf32'. 'bf16-ranking': so the forward products of layers that serve for nothing but a choice (`caffe.ranking`),
    such as the read-only RoI network of OHEM; all that is learned from stays float32. Raises ValueError for anything
    else.
    """
    if choice not in _CHOICES:
        raise ValueError(f'the precision is one of {", ".join(_CHOICES)}; set_precision was given {choice!r}')
    _Process.choice = choice
    apply_to_gpu()


def get_precision() -> str:
    """What `set_precision` was given last; 'fp32' before."""
    return _Process.choice


def apply_to_gpu() -> None:
    """Tells the GPU's libraries; they take TF32 for convolutions unless told otherwise."""
    allowed = _Process.choice in ('tf32', 'bf16')
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def uses_bf16(tensor: torch.Tensor, only_ranks: bool = False) -> bool:
    """Whether forward products of this tensor may be rounded to bfloat16 now; warns, once, where that is slow.

    only_ranks: whether they serve for nothing but a choice.
    """
    if _Process.choice != 'bf16' and not (_Process.choice == 'bf16-ranking' and only_ranks):
        return False
    if tensor.device.type == 'cpu' and not has_fast_bf16():
        warn_once(
            'bf16 is slower than fp32 on this processor, which has no fast products of it: '
            "caffe.set_precision('fp32') is faster, and exact",
            'caffe.cpp:1',
        )
    return True


def uses_bf16_backward(tensor: torch.Tensor) -> bool:
    """Whether backward products of this tensor may be rounded to bfloat16 now."""
    return _Process.choice == 'bf16' and tensor.device.type == 'cpu' and has_fast_bf16()
