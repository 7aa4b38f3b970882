"""Products of large matrices, by the library that is fastest on this processor.

torch multiplies with MKL, whose kernels are made for its maker's processors: on AMD's, OpenBLAS, which NumPy brings
along, is faster, and most of all where one matrix has few rows (docs/performance.md). Its own threads go on spinning
for a while after a product and take the processor from torch's, so each of ours multiplies a part by itself. Which
library serves is a rule and not a measurement at start: the same seed gives the same bytes on every run.
"""

from __future__ import annotations

import itertools
import math
import os
import platform
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import threadpoolctl
import torch

_LARGE = 2**31  # multiplications from which a product is worth its threads
_ONEDNN = getattr(torch.ops.mkldnn, '_linear_pointwise', None) if torch.backends.mkldnn.is_available() else None


def _made_by_amd() -> bool:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as stream:
            text = stream.read(4096)
    except OSError:
        text = platform.processor()
    return 'AuthenticAMD' in text or 'HygonGenuine' in text


def _library() -> str:
    """'openblas', 'onednn' or 'torch'."""
    if not _made_by_amd():
        return 'torch'
    blas = np.show_config(mode='dicts').get('Build Dependencies', {}).get('blas', {}).get('name', '')
    if 'openblas' in blas:
        return 'openblas'
    # MKL takes its slow path on AMD's AVX-512: fc6 of VGG16 for 2000 RoIs in 2.1 s instead of 1.0 s on two Zen 5 cores
    return 'onednn' if _ONEDNN is not None and 'AVX512' in torch.backends.cpu.get_cpu_capability() else 'torch'


LIBRARY = _library()


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """a (M, K) @ b (K, N): (M, N) float32, in `out` if it is given."""
    large = a.shape[0] * b.numel() >= _LARGE and a.device.type == 'cpu'
    if large and LIBRARY == 'openblas':
        out = a.new_empty(a.shape[0], b.shape[1]) if out is None else out
        _OpenBLAS.multiply(a.numpy(), b.numpy(), out.numpy())
        return out
    if large and LIBRARY == 'onednn' and out is None and b.t().is_contiguous():
        return _ONEDNN(a, b.t(), None, 'none', [], '')
    return torch.mm(a, b, out=out)


class _OpenBLAS:
    """NumPy's product on as many threads as torch has, each a part of the result."""

    _threads: ThreadPoolExecutor | None = None
    _count = 0
    _controller: threadpoolctl.ThreadpoolController | None = None

    @classmethod
    def multiply(cls, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        if cls._count != torch.get_num_threads():
            cls._count = torch.get_num_threads()
            cls._threads = ThreadPoolExecutor(cls._count, thread_name_prefix='caffe matrix')
            cls._controller = threadpoolctl.ThreadpoolController().select(internal_api='openblas')
        with cls._controller.limit(limits=1):
            parts = [
                cls._threads.submit(np.matmul, a[rows], b[:, columns], out=out[rows, columns])
                for rows, columns in _parts(out.shape, cls._count)
            ]
            for part in parts:
                part.result()

    @classmethod
    def forget(cls) -> None:
        """In a forked process, where the threads are gone."""
        cls._threads, cls._count = None, 0


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_OpenBLAS.forget)


def _parts(shape: tuple[int, int], count: int) -> list[tuple[slice, slice]]:
    """A matrix of this shape in `count` parts: columns apart, and rows too where parts would get narrow."""
    across = max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or shape[1] >= 256 * n))
    down = count // across
    return list(itertools.product(*(_slices(*axis) for axis in ((shape[0], down), (shape[1], across)))))


def _slices(size: int, count: int) -> list[slice]:
    step = math.ceil(size / count)
    return [slice(first, min(first + step, size)) for first in range(0, size, step)]
