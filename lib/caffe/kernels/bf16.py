"""Products with factors and results rounded to bfloat16 (7 bits of fraction), sums in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# Of the right factor so many numbers are rounded at once: 64 MB, so that a second copy of 100 million weights is never
# there. With smaller portions the left factor is read too often.
_PORTION = 2**25
# From here on rounding costs less than it gains (docs/performance.md).
_LARGE = 2**23
_USES_OF_A_NUMBER = 32


def gains(device: torch.device, multiplications: int, numbers: int) -> bool:
    """Whether rounding `numbers` factors and results in all pays off in so many multiplications; on a GPU always."""
    return device.type != 'cpu' or multiplications >= max(_LARGE, _USES_OF_A_NUMBER * numbers)


def rounded(
    function: Callable[..., torch.Tensor], x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *args: Any
) -> torch.Tensor:
    """function(x, weight, bias, *args) in bfloat16, as float32; the bias is added in float32 to axis 1."""
    y = function(x.bfloat16(), weight.bfloat16(), None, *args).float()
    return y if bias is None else y.add_(bias.view(-1, *(1,) * (y.dim() - 2)))


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, add: bool = False) -> None:
    """a (M, K) @ b (K, N) in `out` (M, N) float32, or added to what is there.

    A large b is taken in portions, along the axis that lies in memory as a whole: where that is K, the sums of the
    portions are added in float32.
    """
    a = a.bfloat16()
    by_rows = b.is_contiguous()
    length = b.shape[0] if by_rows else b.shape[1]
    portion = length
    if b.device.type == 'cpu' and b.numel() > _PORTION:
        portion = max(1, _PORTION * length // b.numel())
    for first in range(0, max(length, 1), max(portion, 1)):
        part = slice(first, first + portion)
        if by_rows:
            product, target = torch.mm(a[:, part], b[part].bfloat16()), out
        else:
            product, target = torch.mm(a, b[:, part].bfloat16()), out[:, part]
        if add or (by_rows and first):
            target.add_(product)
        else:
            target.copy_(product)


def convolution_gradients(
    diff: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    options: tuple,
    wanted: Sequence[bool],
    memory: Callable[[], torch.Tensor] | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """The gradients of torch.convolution(x, weight, bias, *options) that are `wanted`, float32.

    Those of x, in `memory()` if it is given, and of weight are rounded; that of the bias is a sum in float32.
    """
    to_x, to_weight, to_bias = wanted
    found: list[torch.Tensor | None] = [None, None]
    if to_x or to_weight:
        factors = diff.bfloat16(), x.bfloat16(), weight.bfloat16()
        found = torch.ops.aten.convolution_backward(*factors, None, *options, [to_x, to_weight, False])[:2]
    x_diff, weight_diff = found
    if x_diff is not None:
        x_diff = x_diff.float() if memory is None else memory().copy_(x_diff)
    axes = [0, *range(2, diff.dim())]
    return x_diff, None if weight_diff is None else weight_diff.float(), diff.sum(dim=axes) if to_bias else None
