"""Values in a compact form, which are laid out in memory only when somebody reads them.

Rows that repeat need to be computed only once. The gradient of a large matrix from a few dozen RoIs is a product of
two small ones. A blob holds such a form until its numbers are read. A reader that knows the form uses it directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from caffe.kernels.host_memory import workspace, zeros_with_own_pages
from caffe.kernels.matrix import multiply, wants_rows

_PORTION = 2**21  # numbers of a product that are looked at together: the factors are read once a portion


class Rows:
    """rows[index], of rows (M, K) that are computed some columns at a time, whenever they are asked for.

    visit_blocks(visit) calls visit(columns, block), from the first column on: a slice of K and the block (M, columns)
    float32, whose memory serves for the next one. index: (N,) int64.
    """

    def __init__(
        self,
        visit_blocks: Callable[[Callable[[slice, torch.Tensor], None]], None],
        shape: tuple[int, int],
        index: torch.Tensor,
    ):
        self.visit_blocks, (self.count, self.width), self.index = visit_blocks, shape, index

    def laid_out(self) -> torch.Tensor:
        """All of them, (N, K), in new memory."""
        out = zeros_with_own_pages(len(self.index) * self.width).view(len(self.index), self.width)

        def lay_out(columns: slice, block: torch.Tensor) -> None:
            out[:, columns] = block.index_select(0, self.index)

        self.visit_blocks(lay_out)
        return out

    def times(self, weight: torch.Tensor, out: torch.Tensor, in_bf16: bool = False) -> None:
        """These rows times weight (K, L), each of them once, in `out` (N, L). `in_bf16`: as `matrix.multiply`."""
        with workspace() as allocate:
            products = allocate(self.count, weight.shape[1])

            def add_block(columns: slice, block: torch.Tensor) -> None:
                multiply(block, weight[columns], products, add=columns.start > 0, in_bf16=in_bf16)

            self.visit_blocks(add_block)
            torch.index_select(products, 0, self.index, out=out)


def factors_save(rows: int, n: int, k: int) -> bool:
    """Whether two factors, (rows, n) and (rows, k), are so much smaller than their product that they are kept."""
    return n * k >= 2**20 and 4 * rows * (n + k) <= n * k


class Product:
    """The sum of aᵀ @ b over pairs of a (M, N) and b (M, K) float32: a gradient (N, K) of rank M."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor):
        self.a, self.b = a, b

    def plus(self, a: torch.Tensor, b: torch.Tensor) -> Product:
        """The sum with one more pair."""
        return Product(torch.cat([self.a, a]), torch.cat([self.b, b]))

    def is_small(self, rows: int | None = None) -> bool:
        """Whether holding the factors, of `rows` rows (default: those there are), saves enough over the product."""
        return factors_save(len(self.a) if rows is None else rows, self.a.shape[1], self.b.shape[1])

    def row_portions(self, tensors: list[torch.Tensor], in_bf16: bool = False) -> Iterator[tuple[torch.Tensor, ...]]:
        """Some rows of the product, in memory that serves for the next ones, with those of `tensors` (N, K).

        `in_bf16`: as `matrix.multiply`.
        """
        b = self.b.bfloat16() if in_bf16 else self.b
        columns = self.b.shape[1]
        memory = torch.empty(max(1, _PORTION // columns), columns)
        for first in range(0, self.a.shape[1], len(memory)):
            rows = slice(first, first + len(memory))
            out = memory[: self.a[:, rows].shape[1]]
            left = self.a[:, rows].t()
            multiply(left.contiguous() if wants_rows(left.device) else left, b, out, in_bf16=in_bf16)
            yield out, *(t[rows] for t in tensors)

    def laid_out(self) -> torch.Tensor:
        """The product, (N, K), in new memory."""
        out = zeros_with_own_pages(self.a.shape[1] * self.b.shape[1]).view(self.a.shape[1], self.b.shape[1])
        multiply(self.a.t(), self.b, out)
        return out


class CopyOf:
    """The values of another array, copied when somebody reads them: what `read()` returns then."""

    def __init__(self, read: Callable[[], torch.Tensor]):
        self._read = read

    def laid_out(self) -> torch.Tensor:
        """The copy."""
        return self._read().clone()
