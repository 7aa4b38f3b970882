"""kernels.packing: numbers come back bit by bit."""

import numpy as np
import pytest
import torch

from caffe.kernels.packing import Packed

# Zero, and what is nearly or hardly one: -0.0, the smallest number, NaNs of two kinds, infinity
WORDS = np.array([0, 0x80000000, 1, 0x7FC00000, 0xFFC00001, 0x7F800000, 0x3F800000, 0, 0], np.uint32)


def through(words: np.ndarray) -> np.ndarray:
    out = torch.full((words.size,), torch.nan)
    Packed.of(torch.from_numpy(words.view(np.float32))).unpack(out)
    return out.numpy().view(np.uint32)


def test_every_bit_pattern_comes_back():
    np.testing.assert_array_equal(through(WORDS), WORDS)


@pytest.mark.parametrize('share', [0, 0.1, 0.5, 1])
@pytest.mark.parametrize('size', [0, 1, 8, 1001])
def test_any_share_of_zeros(share, size):
    rng = np.random.default_rng(size)
    words = rng.integers(1, 2**32, size, dtype=np.uint32) * (rng.random(size) < share)
    np.testing.assert_array_equal(through(words.astype(np.uint32)), words)


def test_a_tensor_that_is_not_contiguous():
    tensor = torch.arange(6.0).view(2, 3).t()
    out = torch.empty(3, 2)
    Packed.of(tensor).unpack(out)
    assert torch.equal(out, tensor)


def test_memory_is_a_bit_for_each_number_and_those_that_are_not_zero():
    assert Packed.of(torch.tensor([0.0] * 60 + [1.0] * 20)).nbytes == 80 // 8 + 20 * 4
