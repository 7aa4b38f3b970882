"""The gradients of the passes of an iteration, and their sum, whose bytes do not depend on who computed which pass.

A pass's gradient is computed alone and added to the sum of the passes before it, one after another. So passes that
several processes compute (`process/exchange.py`) sum up to what one process gets, bit by bit.
"""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.kernels.deferred import Product
from caffe.process.denormals import denormals_as_zero

Gradient = torch.Tensor | Product | None
"""A gradient as `Blob.take_diff` returns it: None where it is zero."""


class GradientSum:
    """The sum of gradients of one parameter, in the order in which they are added; it owns them then.

    While all are factors, and few, it is the factors of all; otherwise each is laid out and added by itself.
    """

    def __init__(self):
        self._factors: list[Product] = []
        self._total: torch.Tensor | None = None

    def add(self, gradient: Gradient) -> None:
        if gradient is None:
            return
        if isinstance(gradient, Product) and self._total is None:
            rows = sum(len(product.a) for product in self._factors) + len(gradient.a)
            if gradient.is_small(rows):
                self._factors.append(gradient)
                return
        factors, self._factors = self._factors, []
        for product in factors:
            self._add_tensor(product.laid_out())
        self._add_tensor(gradient.laid_out() if isinstance(gradient, Product) else gradient)

    def _add_tensor(self, tensor: torch.Tensor) -> None:
        self._total = tensor if self._total is None else self._total.add_(tensor)

    def result(self) -> Gradient:
        if len(self._factors) == 1:
            return self._factors[0]
        if self._factors:
            return Product(torch.cat([p.a for p in self._factors]), torch.cat([p.b for p in self._factors]))
        return self._total


class PassSums:
    """The sums over the passes of an iteration, a GradientSum for each of `blobs`."""

    def __init__(self, blobs: list[Blob]):
        self._blobs = blobs
        self._sums = [GradientSum() for _ in blobs]

    @torch.no_grad()
    @denormals_as_zero
    def end_pass(self) -> None:
        """Takes the diffs of the pass that has ended, which are zero then."""
        for blob, total in zip(self._blobs, self._sums, strict=True):
            total.add(blob.take_diff())

    @torch.no_grad()
    def give_back(self) -> None:
        """Makes the sums the diffs."""
        for blob, total in zip(self._blobs, self._sums, strict=True):
            blob.give_diff(total.result())
