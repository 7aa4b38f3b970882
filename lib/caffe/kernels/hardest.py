"""The hardest rows of each image."""

from __future__ import annotations

import torch


def hardest_of_each_image(loss: torch.Tensor, image: torch.Tensor, count: int) -> torch.Tensor:
    """(R,) bool: the `count` rows of highest loss of each image; of equal losses the earlier row comes first.

    loss: (R,); image: (R,) int64.
    """
    order = torch.argsort(loss, descending=True, stable=True)
    order = order[torch.argsort(image[order], stable=True)]  # by image, hardest first in each
    grouped = image[order].contiguous()
    rank = torch.arange(len(order), device=loss.device) - torch.searchsorted(grouped, grouped)
    kept = torch.zeros_like(image, dtype=torch.bool)
    kept[order] = rank < count
    return kept
