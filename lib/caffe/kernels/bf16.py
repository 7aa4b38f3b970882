"""Products with factors and results rounded to bfloat16 (7 bits of fraction), sums in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def rounded(
    function: Callable[..., torch.Tensor], x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *args: Any
) -> torch.Tensor:
    """function(x, weight, bias, *args) in bfloat16, as float32; the bias is added in float32 to axis 1."""
    y = function(x.bfloat16(), weight.bfloat16(), None, *args).float()
    return y if bias is None else y.add_(bias.view(-1, *(1,) * (y.dim() - 2)))
