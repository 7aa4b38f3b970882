"""3 x 3 convolutions with 64 products where 324 would be needed: F(6 x 6, 3 x 3), by NNPACK.

torch brings NNPACK along (github.com/Maratyszcza/NNPACK): its transformations are AVX2 code that keeps a tile of 8 x 8
pixels in registers, which makes so large a tile worth while. It is called by its C name and not by torch's operation:
that has a set of threads of its own beside torch's, which spin, know nothing of OMP_NUM_THREADS and of denormals, and
takes memory for a whole image at once. Here an image is cut into pieces, bands of rows and parts of the filters, which
torch's threads take one by one. Tiles lie at the same pixels whatever the pieces: the result is the same to the bit
for any number of threads.

The transformation has numbers from 1/90 to 21/4, so the error is some twenty times that of a plain sum: some 5e-6
standard deviations of the result, 3e-4 at most (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable

import torch

from caffe.kernels import parallel
from caffe.kernels.host_memory import workspace

TILE = 6  # rows and columns of a result that come out of one tile
# Floats that they may take, if they can do with so few: 64 MB in all, for filters, and 16 MB a thread
_SHARED, _OWN = 2**24, 2**22
_NEAR, _FAR = 3 * 2**20, 1.3  # more floats than a thread has in caches, and how much longer transformations take then

# nnpack.h
_WT8X8, _IDENTITY = 3, 0
_COMPUTE, _PRECOMPUTE, _REUSE = 1, 2, 3  # convolve; only transform the filters; convolve with these
_DONE = 0


class _Size(ctypes.Structure):
    _fields_ = [('width', ctypes.c_size_t), ('height', ctypes.c_size_t)]


class _Padding(ctypes.Structure):
    _fields_ = [(side, ctypes.c_size_t) for side in ('top', 'right', 'bottom', 'left')]


_ONE_TILE = _Size(TILE + 2, TILE + 2), _Padding(0, 0, 0, 0)


@functools.cache
def _function() -> Callable[..., int] | None:
    """nnp_convolution_inference; None where NNPACK is not there or this processor is none of its."""
    try:
        if parallel.torch_library is None or parallel.torch_library.nnp_initialize() != _DONE:
            return None
        function = parallel.torch_library.nnp_convolution_inference
    except AttributeError:
        return None
    number, pointer, choice = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    function.restype = choice
    function.argtypes = [
        choice, choice, number, number, _Size, _Padding, _Size, _Size, pointer, pointer, pointer, pointer, pointer,
        ctypes.POINTER(number), choice, pointer, pointer, pointer,
    ]  # fmt: skip
    return function


def is_there() -> bool:
    """Whether this torch has NNPACK for this processor, and its threads can be had for it."""
    return parallel.is_there() and _function() is not None


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    pad: tuple[int, int],
    out: torch.Tensor | None = None,
    groups: int = 1,
) -> torch.Tensor:
    """x (N, C, H, W) convolved with weight (K, C / groups, 3, 3), stride 1, plus bias (K,): (N, K, H + 2 pad - 2, ...).

    pad: 0 to 2 rows and columns. In `out` if it is given, which has no gaps.
    """
    n, size = x.shape[0], (x.shape[2] + 2 * pad[0] - 2, x.shape[3] + 2 * pad[1] - 2)
    c, k = weight.shape[1], weight.shape[0] // groups
    out = x.new_empty(n, len(weight), *size) if out is None else out
    bias = x.new_zeros(len(weight)) if bias is None else bias
    images, filters = x.contiguous().view(n * groups, c, *x.shape[2:]), weight.contiguous().view(groups, k, c, 3, 3)
    results, biases = out.view(n * groups, k, *size), bias.contiguous().view(groups, k)
    threads = torch.get_num_threads() if parallel.is_there() else 1
    rows, part = _cut(n, groups, c, k, size, threads)
    firsts, banded, twice = range(0, k, part), rows < size[0], n > 1 or rows < size[0]
    pieces = list(itertools.product(range(n * groups), range(0, size[0], rows), firsts))
    users = range(max(1, min(threads, len(pieces))))
    with workspace() as allocate:
        # Filters that are used more than once are transformed first.
        ready = _transformed(filters, firsts, allocate, threads) if twice else []
        strategy = _REUSE if twice else _COMPUTE
        memory = [allocate(_floats(strategy, c, part, rows, size[1])) for _ in users]
        bands = [_Bands(allocate, c, part, rows, x.shape[3], size[1]) for _ in users] if banded else []

        def work(piece: tuple[int, int, int], thread: int) -> None:
            image, row, first = piece
            group, some = image % groups, slice(first, first + part)
            own = ready[group][first // part] if twice else filters[group, some]
            operands = images[image], own, biases[group, some], results[image, some]
            if banded:
                bands[thread].convolve(*operands, pad, (row, min(row + rows, size[0])), memory[thread])
            else:
                _call(strategy, *operands, (pad[0], pad[0]), pad[1], memory[thread])

        parallel.deal(work, pieces, len(users))
    return out


def _transformed(filters: torch.Tensor, firsts: range, allocate, threads: int) -> list[list[torch.Tensor]]:
    """The filters (groups, K, C, 3, 3), transformed: by group and part of them, in NNPACK's order."""
    groups, k, c = filters.shape[:3]
    parts = [min(firsts.step, k - first) for first in firsts]
    made = [[allocate(_floats(_PRECOMPUTE, c, part, TILE, TILE)) for part in parts] for _ in range(groups)]

    def work(piece: tuple[int, int], _: int) -> None:
        group, i = piece
        own, to = filters[group, firsts[i] : firsts[i] + parts[i]], made[group][i]
        pointers = None, own.data_ptr(), None, None, to.data_ptr()
        _check(_run(_PRECOMPUTE, c, parts[i], *_ONE_TILE, to.numel(), *pointers))

    pieces = list(itertools.product(range(groups), range(len(parts))))
    parallel.deal(work, pieces, min(threads, len(pieces)))
    return made


def image_gradient(
    diff: torch.Tensor, weight: torch.Tensor, pad: tuple[int, int], out: torch.Tensor | None = None, groups: int = 1
) -> torch.Tensor:
    """The gradient of `convolve` for x: diff (N, K, H', W') convolved with the filters turned around."""
    k, c = weight.shape[0] // groups, weight.shape[1]
    turned = weight.reshape(groups, k, c, 9).flip(3).transpose(1, 2).reshape(groups * c, k, 3, 3)
    return convolve(diff, turned, None, (2 - pad[0], 2 - pad[1]), out, groups)


class _Bands:
    """A thread's memory for some rows of an image and of the result, which NNPACK takes without gaps."""

    def __init__(self, allocate, c: int, k: int, rows: int, width: int, width_of_result: int):
        self.image, self.result = allocate(c * (rows + 2) * width), allocate(k * rows * width_of_result)

    def convolve(self, image, weight, bias, out, pad: tuple[int, int], rows: tuple[int, int], memory) -> None:
        """The rows from the first to before the second of `out` (K, H', W')."""
        begin, end = rows[0] - pad[0], rows[1] + 2 - pad[0]  # of the image; those that are not in it are of the padding
        above, below = max(min(end, 0) - begin, 0), max(end - max(begin, image.shape[1]), 0)
        strip, target = image[:, max(begin, 0) : max(end, 0)], out[:, rows[0] : rows[1]]
        strip = self.image[: strip.numel()].view(strip.shape).copy_(strip)
        result = self.result[: target.numel()].view(target.shape)
        _call(_REUSE, strip, weight, bias, result, (above, below), pad[1], memory)
        target.copy_(result)


def _call(strategy: int, image, filters, bias, out, ends: tuple[int, int], across: int, memory: torch.Tensor) -> None:
    """image (C, H, W) into `out` (K, H', W'); ends: rows of padding above and below, across: columns on both sides."""
    size, padding = _Size(image.shape[2], image.shape[1]), _Padding(ends[0], across, ends[1], across)
    pointers = (tensor.data_ptr() for tensor in (image, filters, bias, out, memory))
    _check(_run(strategy, image.shape[0], out.shape[0], size, padding, memory.numel(), *pointers))


def _check(answer: tuple[int, int]) -> None:
    if answer[0] != _DONE:
        raise RuntimeError(f'NNPACK refuses a convolution with status {answer[0]}')


@functools.lru_cache(maxsize=4096)
def _floats(strategy: int, c: int, k: int, rows: int, columns: int) -> int:
    """How many floats NNPACK wants for that many rows and columns of a result, or for the filters."""
    answer = _run(strategy, c, k, _Size(columns + 2, rows + 2), _Padding(0, 0, 0, 0), 0, *[None] * 5)
    _check(answer)
    return -(-answer[1] // 64) * 16  # whole lines of the caches


def _run(
    strategy: int, c: int, k: int, size: _Size, padding: _Padding, floats: int, *pointers: int | None
) -> tuple[int, int]:
    """The status of nnp_convolution_inference, and how many bytes of memory it wants where no pointer is given.

    pointers: to image, filters, bias, result and memory.
    """
    function, space, one = _function(), ctypes.c_size_t(4 * floats), _Size(1, 1)
    assert function is not None
    image, filters, bias, out, memory = pointers
    status = function(
        _WT8X8, strategy, c, k, size, padding, _Size(3, 3), one, image, filters, bias, out, memory, ctypes.byref(space),
        _IDENTITY, None, None, None,
    )  # fmt: skip
    return status, space.value


@functools.lru_cache(maxsize=4096)
def _cut(n: int, groups: int, c: int, k: int, size: tuple[int, int], threads: int) -> tuple[int, int]:
    """(rows, filters) of the pieces: those by which the threads are done soonest, as far as can be foreseen.

    c, k: channels and filters of a group; size: of the result. Costs, in products of 64 numbers that a tile needs with
    a filter, as measured: bands read all filters, and each part of the filters needs the whole image transformed.
    """
    down, across = (-(-side // TILE) for side in size)
    found = []
    for parts, bands in itertools.product(_numbers_up_to(-(-k // 32)), _numbers_up_to(down)):
        rows, part = min(TILE * -(-down // bands), size[0]), -(-k // parts)
        bands, parts, tiles = -(-size[0] // rows), -(-k // part), down * across
        pieces, twice = n * groups * bands * parts, n > 1 or bands > 1
        floats = _floats(_REUSE if twice else _COMPUTE, c, part, rows, size[1])
        cost = c * k * tiles + 8 * bands * c * k + (80 * parts * c + 30 * k) * tiles * (_FAR if floats > _NEAR else 1)
        cost += 8 * (parts * c + k) * tiles if bands > 1 else 0  # copies
        cost *= n * groups * -(-pieces // threads) / max(pieces, 1)
        cost += 11 * c * k * -(-groups * parts // threads) / parts if twice else 0
        floats += (c + part) * (rows + 2) * (size[1] + 2) * (bands > 1)
        floats = threads * floats + (groups * parts * _floats(_PRECOMPUTE, c, part, TILE, TILE) if twice else 0)
        found.append((max(floats, _SHARED + threads * _OWN), cost, rows, part))
    return min(found)[2:]


def _numbers_up_to(count: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... and the number itself."""
    return [n for n in sorted({*(2**i for i in range(12)), *(3 * 2**i for i in range(12))}) if n < count] + [count]
