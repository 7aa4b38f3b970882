"""Values that are known as something smaller than themselves, and laid out in memory when somebody reads them.

Rows that repeat need computing once; the gradient of a large matrix from a few dozen RoIs is a product of two small
ones. A `SyncedArray` (blob.py) holds such a value until it is asked for numbers; a reader that knows the small form
never pays for the large one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from caffe.matrix import multiply

if TYPE_CHECKING:
    from caffe.blob import Blob


class Rows:
    """rows[index]: `rows` (M, ...) float32, `index` (N,) int64."""

    def __init__(self, rows: torch.Tensor, index: torch.Tensor):
        self.rows, self.index = rows, index

    def laid_out(self) -> torch.Tensor:
        return self.rows.index_select(0, self.index)


class Product:
    """The sum of aᵀ @ b over pairs of a (M, N) and b (M, K) float32: a gradient (N, K) of rank M."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor):
        self.a, self.b = a, b

    def plus(self, a: torch.Tensor, b: torch.Tensor) -> Product:
        return Product(torch.cat([self.a, a]), torch.cat([self.b, b]))

    def is_small(self) -> bool:
        """Whether holding the factors saves enough over holding the product to be worth it."""
        size = self.a.shape[1] * self.b.shape[1]
        return size >= 2**20 and 8 * (self.a.numel() + self.b.numel()) <= size

    def row_portion(self, first: int, last: int) -> torch.Tensor:
        """The rows first..last (last excluded)."""
        return torch.mm(self.a[:, first:last].t(), self.b)

    def laid_out(self) -> torch.Tensor:
        return multiply(self.a.t(), self.b)


class CopyOf:
    """What the data of another blob are at the moment of reading."""

    def __init__(self, blob: Blob):
        self._blob = blob

    def laid_out(self) -> torch.Tensor:
        return self._blob.read().clone()
