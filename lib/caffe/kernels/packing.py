"""Numbers of which many are zero, such as a ReLU leaves them, in less memory and without loss."""

from __future__ import annotations

import numpy as np
import torch


class Packed:
    """float32 numbers of a tensor on the CPU: a bit for each, which says whether it is 0, and those that are not.

    What `unpack` gives back is the same bit by bit: -0.0 and NaN are no zeros. nbytes: the memory that they take.
    """

    def __init__(self, tensor: torch.Tensor):
        words = tensor.contiguous().view(-1).numpy().view(np.uint32)
        there = words != 0
        self._bits, self._words = np.packbits(there), words.take(np.flatnonzero(there))
        self.nbytes = self._bits.nbytes + self._words.nbytes

    def unpack(self, out: torch.Tensor) -> None:
        """Fills `out`, contiguous float32 on the CPU, of as many numbers as there were."""
        words = out.view(-1).numpy().view(np.uint32)
        words.fill(0)
        # By places: a mask of bits at random costs five times as much, for the processor guesses each bit
        words[np.flatnonzero(np.unpackbits(self._bits, count=words.size))] = self._words
