"""Whether Triton's interpreter runs kernels here at all: with Triton 2.2, and with a NumPy that is newer than a Triton
knows, it does not.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.int32)
    for i in range(0, tl.max(at)):
        total += i
    tl.store(x + at, total)


def run() -> list[int]:
    """0 + 1 + 2, four times. Raises what the interpreter raises."""
    x = torch.zeros(4, dtype=torch.int32)
    kernel[(1,)](x, BLOCK=4)
    return x.tolist()
