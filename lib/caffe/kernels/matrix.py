"""Products of large matrices, by the library that is fastest on this processor.

torch multiplies with MKL, which takes a slow path on the AVX-512 of other makers than its own: fc6 of VGG16 for 2000
RoIs in 2.1 s where oneDNN, which torch brings along, takes 1.0 s (two Zen 5 cores). Elsewhere MKL is as fast or faster.
But oneDNN has only reference code, a thousand times slower, for a matrix with gaps between its rows: that is packed or
left to MKL, and so is a left matrix that is transposed (docs/performance.md has the tables). Which of them serves is a
rule of layouts and shapes and not a measurement at start: the same seed gives the same bytes on every run.
"""

from __future__ import annotations

from typing import Any

import torch

from caffe.kernels import bf16
from caffe.kernels.processor import made_by_amd
from caffe.kernels.routes import Routes

_LARGE = 2**22  # multiplications from which oneDNN's speed outweighs what a call of it costs
_FEW_ROWS = 4  # on the left, below which MKL's product with a matrix that is not transposed is the faster one
_IN_CACHE = 2**20  # numbers of a product beside which a copy of a transposed left matrix costs little
_WORTH_PACKING = 256  # rows from which a copy of a matrix with gaps costs less than it gains
_ONEDNN: Any = getattr(torch.ops.mkldnn, '_linear_pointwise', None) if torch.backends.mkldnn.is_available() else None
_ONEDNN_IS_FASTER = 'AVX512' in torch.backends.cpu.get_cpu_capability() and made_by_amd()

routes = Routes('torch', 'onednn') if _ONEDNN is not None else Routes('torch')


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, add: bool = False, in_bf16: bool = False) -> None:
    """a (M, K) @ b (K, N) in `out` (M, N), or added to what is there; all float32.

    `in_bf16`: factors and product are rounded to bfloat16.
    """
    if in_bf16:
        bf16.multiply(a, b, out, add)
    elif _onednn_serves(a, b) and (weight := _without_gaps(b.t(), a.shape[0])) is not None:
        _put(_ONEDNN(a.contiguous(), weight, None, 'none', [], ''), out, add)
    elif add:
        out.addmm_(a, b)
    else:
        torch.mm(a, b, out=out)


def multiply_each(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, add: bool = False) -> None:
    """a[i] @ b[i] in out[i], or added to what is there: a (B, M, K), b (B, K, N), out (B, M, N), all float32."""
    if _onednn_serves(a, b) and (b.is_contiguous() or b.transpose(1, 2).is_contiguous()):
        for left, right, product in zip(a, b, out, strict=True):
            _put(_ONEDNN(left.contiguous(), right.t(), None, 'none', [], ''), product, add)
    elif add:
        out.baddbmm_(a, b)
    else:
        torch.bmm(a, b, out=out)


def wants_rows(device: torch.device) -> bool:
    """Whether the library that serves large products takes matrices on the left well only row by row in memory."""
    return device.type == 'cpu' and _onednn_is_chosen()


def _onednn_is_chosen() -> bool:
    return _ONEDNN is not None and (_ONEDNN_IS_FASTER if routes.forced is None else routes.forced == 'onednn')


def _onednn_serves(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not _onednn_is_chosen() or a.device.type != 'cpu':
        return False
    rows, k = a.shape[-2:]
    laid_out = a.stride()[-2:] == (k, 1) or rows * b.shape[-1] <= _IN_CACHE  # else it has to be copied
    large = rows * b.numel() >= _LARGE and (rows >= _FEW_ROWS or b.stride(-1) != 1)
    return laid_out and (large or routes.forced == 'onednn')


def _without_gaps(weight: torch.Tensor, rows: int) -> torch.Tensor | None:
    """A matrix as oneDNN takes it well, or None where packing it would cost more than `rows` rows gain."""
    if weight.is_contiguous() or weight.t().is_contiguous():
        return weight
    return weight.contiguous() if rows >= _WORTH_PACKING else None


def _put(product: torch.Tensor, out: torch.Tensor, add: bool) -> None:
    out.add_(product) if add else out.copy_(product)
