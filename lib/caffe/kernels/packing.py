"""Numbers of which many are zero, such as a ReLU leaves them, in less memory and without loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Packed:
    """float32 numbers: how many, a bit for each, which says whether it is 0, and the bits of those that are not.

    -0.0 and NaN are no zeros: what `unpack` gives back is the same bit by bit.
    """

    count: int
    bits: np.ndarray
    """(count / 8, rounded up) uint8, as np.packbits makes them."""
    words: np.ndarray
    """uint32."""

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Packed:
        """The numbers of a tensor on the CPU."""
        words = tensor.contiguous().view(-1).numpy().view(np.uint32)
        there = words != 0
        return cls(words.size, np.packbits(there), words.take(np.flatnonzero(there)))

    @property
    def nbytes(self) -> int:
        """The memory that they take."""
        return self.bits.nbytes + self.words.nbytes

    def unpack(self, out: torch.Tensor) -> None:
        """Fills `out`, contiguous float32 on the CPU, of `count` numbers."""
        words = out.view(-1).numpy().view(np.uint32)
        words.fill(0)
        # By places: a mask of bits at random costs five times as much, for the processor guesses each bit
        words[np.flatnonzero(np.unpackbits(self.bits, count=self.count))] = self.words
