#!/usr/bin/env python3
"""The large products of our nets by each library, in each layout that they come in: GFLOP/s, as a table.

experiments/matrix_products.py            what caffe.kernels.matrix chooses among, on this processor
experiments/matrix_products.py --reference           oneDNN's reference code for weights with gaps, too: minutes

A way that takes longer than --limit seconds a product is measured once. Times are those of the clock, so nothing
else should run; with --cpu and OMP_NUM_THREADS=1 they are the processor time of one thread, which other programs
hardly change.
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'lib'))

import torch

import caffe  # noqa: F401 - keeps freed memory, as training does
from caffe.kernels import matrix, processor

# rows (RoIs), inputs, outputs of fc6 and fc7 of VGG16: all RoIs of an image, or those that were mined
PRODUCTS = {
    'fc6, all RoIs': (1400, 25088, 4096, 'weights'),
    'fc6, all RoIs, a block of the inputs': (1400, 6272, 4096, 'weights with gaps'),
    'fc6, mined RoIs': (64, 25088, 4096, 'weights'),
    'fc6, mined RoIs, a block of the inputs': (64, 6272, 4096, 'weights with gaps'),
    'fc6, gradient of the RoIs': (64, 4096, 25088, 'weights, transposed'),
    'fc6, gradient of the weights': (4096, 64, 25088, 'left transposed'),
    'fc7, all RoIs': (2000, 4096, 4096, 'weights'),
}
# matrices, rows, inputs, columns of a strip of Winograd's products: conv5 or conv4, conv4_1, conv3, conv3_1
STRIPS = [(16, 512, 512, 250), (16, 512, 256, 250), (16, 256, 256, 500), (16, 256, 128, 500)]


def factors(rows: int, inputs: int, outputs: int, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
    """a (rows, inputs) and b (inputs, outputs), as a layer has them in memory."""
    a = torch.rand(rows, inputs)
    if layout == 'weights':
        return a, torch.rand(outputs, inputs).t()
    if layout == 'weights with gaps':
        return a, torch.rand(outputs, 4 * inputs)[:, :inputs].t()
    if layout == 'weights, transposed':
        return a, torch.rand(inputs, outputs)
    return torch.rand(inputs, rows).t(), torch.rand(inputs, outputs)


def ways(a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each library on its own, whatever the rule says, and then what the rule chooses."""
    out = torch.empty(a.shape[0], b.shape[1])
    yield 'torch', lambda: torch.mm(a, b, out=out)
    if matrix._ONEDNN is not None:
        yield 'onednn, as it is', lambda: matrix._ONEDNN(a, b.t(), None, 'none', [], '')
        yield 'onednn, packed', lambda: matrix._ONEDNN(a.contiguous(), b.t().contiguous(), None, 'none', [], '')
    yield 'as chosen', lambda: matrix.multiply(a, b, out)


def strip_ways(a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    """Sixteen products of Winograd's at once, or one by one."""
    out = torch.empty(*a.shape[:2], b.shape[2])
    for route in matrix.routes.names:

        def forced(route: str = route) -> None:
            with matrix.routes.force(route):
                matrix.multiply_each(a, b, out)

        yield route, forced
    yield 'as chosen', lambda: matrix.multiply_each(a, b, out)


def gflops(multiplications: int, work: Callable[[], object], args: argparse.Namespace) -> float:
    """The best of the rounds; of one that takes longer than the limit, that one."""
    clock = time.process_time if args.cpu else time.perf_counter
    best = float('inf')
    for _ in range(args.rounds):
        began = clock()
        work()
        took = clock() - began
        best = min(best, took)
        if took > args.limit:
            break
    return 2 * multiplications / best / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=5, help='of each; the best counts (default: 5)')
    parser.add_argument('--limit', type=float, default=5, help='seconds from which one round is enough (default: 5)')
    parser.add_argument('--cpu', action='store_true', help='processor time instead of the clock')
    parser.add_argument('--reference', action='store_true', help="oneDNN's reference code, too: it takes minutes")
    parser.add_argument('--quick', action='store_true', help='an eighth of each size, to see whether it works')
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f'--rounds is {args.rounds}; expected 1 or more')
    part = 8 if args.quick else 1
    print(f'{processor.model()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}\n')
    names = ['torch', 'onednn, as it is', 'onednn, packed', 'as chosen']
    print(f'| product | shapes | layout | {" | ".join(names)} |\n| --- | --- | --- |{" --- |" * len(names)}')
    for name, (rows, inputs, outputs, layout) in PRODUCTS.items():
        rows, inputs, outputs = (n // part for n in (rows, inputs, outputs))
        a, b = factors(rows, inputs, outputs, layout)
        cells = {
            way: f'{gflops(rows * inputs * outputs, work, args):.3g}'
            for way, work in ways(a, b)
            if args.reference or (layout, way) != ('weights with gaps', 'onednn, as it is')
        }
        cells = ' | '.join(cells.get(way, '–') for way in names)
        print(f'| {name} | {rows} × {inputs} × {outputs} | {layout} | {cells} |', flush=True)
    names = [*matrix.routes.names, 'as chosen']
    print(f'\n| a strip of Winograd | {" | ".join(names)} |\n| --- |{" --- |" * len(names)}')
    for count, rows, inputs, columns in STRIPS:
        rows, inputs = rows // part, inputs // part
        a, b = torch.rand(count, rows, inputs), torch.rand(count, inputs, columns)
        speeds = [f'{gflops(count * rows * inputs * columns, work, args):.3g}' for _, work in strip_ways(a, b)]
        print(f'| {count} × {rows} × {inputs} × {columns} | {" | ".join(speeds)} |', flush=True)


if __name__ == '__main__':
    main()
