#!/usr/bin/env python3
"""Convolutions of VGG16's shapes by each way: torch's, Winograd's products, NNPACK's tiles; times and errors.

experiments/convolution_ways.py                        the shapes of a 600x1000 image, on the CPU
experiments/convolution_ways.py --image 300x400 --processor     of another one; the processor's milliseconds
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'lib'))

import torch

import caffe  # noqa: F401 - keeps freed memory, as training does
from caffe.kernels import nnpack, winograd

# (channels, filters, the image's size is divided by) of conv5_2, conv4_2, conv4_1, conv3_2, conv3_1, conv2_2, conv2_1
# and conv1_2
SHAPES = [
    (512, 512, 16), (512, 512, 8), (256, 512, 8), (256, 256, 4), (128, 256, 4), (128, 128, 2), (64, 128, 2),
    (64, 64, 1),
]  # fmt: skip
PAD = (1, 1)
OPTIONS = ((1, 1), PAD, (1, 1), False, (0, 0), 1)


def milliseconds(ways: dict[str, Callable], rounds: int, now: Callable[[], float]) -> dict[str, float]:
    """The best of `rounds` of each way, taken in turns so that a machine that is busy for a while is so for all."""
    best = dict.fromkeys(ways, float('inf'))
    for _ in range(rounds + 1):  # one more, for the first is to warm up
        for name, work in ways.items():
            began = now()
            work()
            best[name] = min(best[name], 1e3 * (now() - began))
    return best


def error(got: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest difference, in units of the exact result's standard deviation."""
    return float((got - exact).abs().max() / exact.std())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--image', default='600x1000', metavar='HxW', help='size of the image (default: 600x1000)')
    parser.add_argument('--rounds', type=int, default=5, help='times to measure each; the best counts (default: 5)')
    parser.add_argument('--processor', action='store_true', help="the processor's time, of all threads")
    args = parser.parse_args()
    height, width = (int(side) for side in args.image.split('x'))
    now = time.process_time if args.processor else time.perf_counter
    names = ['direct', 'F(2x2)', *['NNPACK'] * nnpack.is_there()]
    torch.manual_seed(0)
    print(f'{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}; ms, {" -> ".join(names)}\n')
    print('| channels, image | forward | gradient of the image | of the weights | largest error, forward |')
    print('| --- | --- | --- | --- | --- |')
    for channels, filters, part in SHAPES:
        size = -(-height // part), -(-width // part)
        x, diff = torch.randn(1, channels, *size).relu(), torch.randn(1, filters, *size)
        weight, bias = torch.randn(filters, channels, 3, 3) / (9 * channels) ** 0.5, torch.randn(filters)
        ways = ways_of(x, weight, bias, diff)
        ms = {kind: milliseconds(named, args.rounds, now) for kind, named in ways.items()}
        exact = torch.convolution(x.double(), weight.double(), bias.double(), *OPTIONS)
        errors = [f'{error(work(), exact):.1e}' for work in ways['forward'].values()]
        cells = [' → '.join(f'{took:.0f}' for took in ms[kind].values()) for kind in ('forward', 'image', 'weights')]
        row = f'{channels} → {filters}, {size[0]}×{size[1]}', *cells, ' → '.join(errors)
        print(f'| {" | ".join(row)} |', flush=True)


def ways_of(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, diff: torch.Tensor
) -> dict[str, dict[str, Callable[[], torch.Tensor]]]:
    """The ways, as functions, to the result and to the gradients of the image and of the weights."""

    def back(i: int) -> torch.Tensor:
        wanted = [i == k for k in range(3)]
        return torch.ops.aten.convolution_backward(diff, x, weight, [len(weight)], *OPTIONS, wanted)[i]

    ways: dict[str, dict[str, Callable[[], torch.Tensor]]] = {
        'forward': {
            'direct': lambda: torch.convolution(x, weight, bias, *OPTIONS),
            'winograd': lambda: winograd.convolve(x, weight, bias, PAD),
        },
        'image': {'direct': lambda: back(0), 'winograd': lambda: winograd.image_gradient(diff, weight, PAD)},
        'weights': {'direct': lambda: back(1), 'winograd': lambda: winograd.weight_gradient(x, diff, PAD)},
    }
    if nnpack.is_there():
        ways['forward']['nnpack'] = lambda: nnpack.convolve(x, weight, bias, PAD)
        ways['image']['nnpack'] = lambda: nnpack.image_gradient(diff, weight, PAD)
    return ways


if __name__ == '__main__':
    main()
