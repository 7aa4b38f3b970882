"""Shows what computes here, and checks in five seconds how fast each way to a result is.

For the user of an unknown machine who wonders why a net is slow. A way that was not chosen may be slow; the one that
was chosen should be near the fastest. Results mean little while other programs are at work.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from caffe.command.table import table
from caffe.kernels import convolution, matrix, processor, roi_pooling
from caffe.kernels.convolution import Filter, Geometry
from caffe.kernels.roi_bins import bins_of_rois
from caffe.kernels.routes import Routes

_SECONDS = 5.0  # for all measurements together
_NOT_FOR = {1: ('winograd', 'nnpack'), 3: ('pointwise',)}  # ways of convolutions that cannot do filters of this size
_CHOSEN = 'chosen'
_IDLE = 0.8  # load average; above, something else computes
_FAR_SLOWER = 10  # times slower than the fastest: reported even of a way that is not the chosen one
_SLOWER = 1.5  # times slower than the fastest that the chosen way may be


class Check(NamedTuple):
    """Something to compute, by each of several `ways`: one `work()` in a second is a speed of `amount` `unit`."""

    name: str
    amount: float
    unit: str
    work: Callable[[], object]
    routes: Routes | None
    ways: tuple[str, ...] = ()  # those of `routes` that can do it


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument('--quick', action='store_true', help='small sizes: whether it works, not how fast')


@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    print('\n'.join(description()), end='\n\n', flush=True)
    made = checks(16 if args.quick else 1)
    speeds = {check.name: measure(check, _SECONDS / len(made) if not args.quick else 0) for check in made}
    print(report(made, speeds))


def description() -> list[str]:
    """Lines on processor, libraries and GPU."""
    words = processor.words()
    able = [word for word in ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16') if word in words]
    lines = [
        f'processor: {processor.model()}; threads: {torch.get_num_threads()}; {" ".join(able) or "no AVX2"}',
        f'torch {torch.__version__}, with its code for {torch.backends.cpu.get_cpu_capability()}; '
        f'MKL {_yes(torch.backends.mkl.is_available())}, oneDNN {_yes(torch.backends.mkldnn.is_available())}, '
        f'fast bf16 {_yes(processor.has_fast_bf16())}',
    ]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines += [f'GPU {i}: {name}' for i, name in enumerate(gpus)] or ['GPU: none']
    load = os.getloadavg()[0]  # of the last minute, when this one had not begun to measure
    if load > _IDLE:
        lines.append(f'Other programs are at work (load average {load:.1f}): the speeds below mean little.')
    return lines


def _yes(value: bool) -> str:
    return 'yes' if value else 'no'


def checks(part: int) -> list[Check]:
    """Work of VGG16 and of GoogLeNet, one `part`-th of its channels and RoIs: product, convolutions, RoI pooling."""
    channels, rois, bins = 512 // part, 1024 // part, 7
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    made = []
    a, weight = numbers(rois, 8 * channels), numbers(8 * channels, 8 * channels)
    out = torch.empty(rois, 8 * channels)
    made.append(
        Check(
            f'product {rois} x {8 * channels} x {8 * channels}',
            2 * rois * weight.numel() / 1e9,
            'GFLOP/s',
            functools.partial(matrix.multiply, a, weight.t(), out),
            matrix.routes,
            matrix.routes.names,
        )
    )
    for images, number, size, height, width in (
        (1, channels, 3, 38, 50), (1, channels // 8, 3, 150, 200), (10, channels // 2, 1, 28, 28)
    ):  # fmt: skip
        x, filters = numbers(images, number, height, width), numbers(number, number, size, size)
        filter = Filter(Geometry((size, size), (1, 1), (size // 2, size // 2), (1, 1)))
        y = torch.empty(images, number, height, width)
        made.append(
            Check(
                f'convolution {size}x{size}, {number} to {number}, {height}x{width}',
                2 * images * filters.numel() * height * width / 1e9,
                'GFLOP/s',
                functools.partial(convolution.convolve, x, filters, None, filter, memory=y.detach),
                convolution.routes,
                tuple(way for way in convolution.routes.names if way not in _NOT_FOR[size]),
            )
        )
    maps = numbers(1, channels, 38, 50)
    corner = numbers(2 * rois, 2) * 400
    corners = torch.cat([torch.zeros(2 * rois, 1), corner, corner + 16 + numbers(2 * rois, 2) * 180], dim=1)
    where = bins_of_rois(corners, 1 / 16, (bins, bins), maps.shape)
    pooled = torch.empty(2 * rois, channels, bins, bins)
    made.append(
        Check(
            f'RoI pooling, {2 * rois} RoIs, {channels} channels, 7x7',
            pooled.numel() / 1e9,
            '10^9 maxima/s',
            functools.partial(roi_pooling.roi_max_pool, maps, *where, False, pooled),
            None,
        )
    )
    return made


def measure(check: Check, seconds: float) -> dict[str, float]:
    """What each way makes a second, in the check's unit, and 'chosen': what happens where none is forced.

    The best of as many rounds as the seconds allow, the ways in turns.
    """
    names = [_CHOSEN, *check.ways]
    best = dict.fromkeys(names, float('inf'))
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 2 or time.perf_counter() < end:
        for name in names:
            best[name] = min(best[name], _once(check, name))
        rounds += 1
    return {name: check.amount / took for name, took in best.items()}


def _once(check: Check, way: str) -> float:
    """The seconds that the work takes by this way."""
    if way != _CHOSEN and check.routes is not None:
        with check.routes.force(way):
            return _once(check._replace(routes=None), _CHOSEN)
    began = time.perf_counter()
    check.work()
    return max(time.perf_counter() - began, 1e-9)


def report(made: list[Check], speeds: dict[str, dict[str, float]]) -> str:
    """The table of what was measured, and a warning for each way that is far too slow."""
    rows = []
    for check in made:
        first, *others = speeds[check.name].items()
        rows.append((check.name, 'as chosen', f'{first[1]:.3g}', check.unit))
        rows += [('', name, f'{speed:.3g}', check.unit) for name, speed in others]
    text = table(('work on the CPU', 'way', 'speed', ''), rows, None, left=2)
    warnings = [word for check in made for word in warnings_of(check.name, speeds[check.name])]
    return '\n'.join([text, '', *(warnings or ['No way is far slower than the fastest.'])])


def warnings_of(name: str, speeds: dict[str, float]) -> list[str]:
    """A sentence for each way that is far slower than the fastest, in plain words."""
    ways = {way: speed for way, speed in speeds.items() if way != _CHOSEN}
    if not ways:
        return []
    fastest = max(ways, key=lambda way: ways[way])
    words = [
        f'warning: {name}: {way!r} is {ways[fastest] / speed:.0f} times slower than {fastest!r}. Its library may have '
        'no code of its own for this processor.'
        for way, speed in ways.items()
        if ways[fastest] > _FAR_SLOWER * speed
    ]
    if ways[fastest] > _SLOWER * speeds[_CHOSEN]:
        words.append(
            f'warning: {name}: {fastest!r} is {ways[fastest] / speeds[_CHOSEN]:.1f} times faster than what was chosen. '
            'If nothing else was running, the rule does not suit this processor: please report this output.'
        )
    return words
