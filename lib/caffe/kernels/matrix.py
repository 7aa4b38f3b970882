"""Products of large matrices, by the library that is fastest on this processor.

torch multiplies with MKL, which takes a slow path on the AVX-512 of other makers than its own: fc6 of VGG16 for 2000
RoIs in 2.1 s where oneDNN, which torch brings along, takes 1.0 s (two Zen 5 cores). Elsewhere MKL is as fast or faster.
But oneDNN has only reference code, a thousand times slower, for a matrix with gaps between its rows, and is slower
than MKL where the left matrix is transposed (docs/performance.md has the table). Which of them serves is a rule of
layouts and shapes and not a measurement at start: the same seed gives the same bytes on every run.
"""

from __future__ import annotations

import torch

from caffe.processor import made_by_amd

_LARGE = 2**24  # multiplications from which the choice of a library outweighs the cost of choosing
_WORTH_PACKING = 256  # rows from which a copy of a matrix with gaps costs less than it gains
_ONEDNN = getattr(torch.ops.mkldnn, '_linear_pointwise', None) if torch.backends.mkldnn.is_available() else None
_by_onednn = _ONEDNN is not None and 'AVX512' in torch.backends.cpu.get_cpu_capability() and made_by_amd()


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, add: bool = False) -> None:
    """a (M, K) @ b (K, N) in `out` (M, N), or added to what is there; all float32."""
    if _by_onednn and a.device.type == 'cpu' and a.shape[0] * b.numel() >= _LARGE and a.is_contiguous():
        weight = b.t()
        if not (b.is_contiguous() or weight.is_contiguous()) and a.shape[0] >= _WORTH_PACKING:
            weight = weight.contiguous()
        if b.is_contiguous() or weight.is_contiguous():
            product = _ONEDNN(a, weight, None, 'none', [], '')
            out.add_(product) if add else out.copy_(product)
            return
    if add:
        out.addmm_(a, b)
    else:
        torch.mm(a, b, out=out)
