#!/usr/bin/env python3
"""Convolutions of VGG16's shapes in both ways of the engine, the direct one and Winograd's: times and errors.

experiments/convolution_ways.py                 the shapes of a 600x1000 image, on the CPU
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / 'lib'))

import torch

import caffe  # noqa: F401 - keeps freed memory, as training does
from caffe.kernels import winograd

# (channels, filters, height, width) of conv5_2, conv4_2, conv4_1, conv3_2, conv3_1 and conv2_2
SHAPES = [
    (512, 512, 38, 63), (512, 512, 75, 125), (256, 512, 75, 125), (256, 256, 150, 250), (128, 256, 150, 250),
    (128, 128, 300, 500),
]  # fmt: skip
PAD = (1, 1)


def milliseconds(ways: dict, rounds: int) -> dict:
    """The best of `rounds` of each way, taken in turns so that a machine that is busy for a while is so for all."""
    best = dict.fromkeys(ways, float('inf'))
    for _ in range(rounds + 1):  # one more, for the first is to warm up
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - began))
    return best


def error(got: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest difference, in units of the exact result's standard deviation."""
    return float((got - exact).abs().max() / exact.std())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=5, help='times to measure each; the best counts (default: 5)')
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    print(f'{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}; ms, direct -> Winograd\n')
    print('| channels, image | forward | gradient of the image | of the weights | largest error, forward |')
    print('| --- | --- | --- | --- | --- |')
    for channels, filters, height, width in SHAPES:
        x = torch.randn(1, channels, height, width).relu()
        weight, bias = torch.randn(filters, channels, 3, 3) / (9 * channels) ** 0.5, torch.randn(filters)
        diff = torch.randn(1, filters, height, width)
        options = ((1, 1), PAD, (1, 1), False, (0, 0), 1)

        def back(*which, x=x, weight=weight, diff=diff, options=options):
            return torch.ops.aten.convolution_backward(diff, x, weight, [len(weight)], *options, list(which))

        ms = milliseconds(
            {
                'forward': lambda x=x, w=weight, b=bias, o=options: torch.convolution(x, w, b, *o),
                'forward w': lambda x=x, w=weight, b=bias: winograd.convolve(x, w, b, PAD),
                'image': lambda back=back: back(True, False, False),
                'image w': lambda d=diff, w=weight: winograd.image_gradient(d, w, PAD),
                'weights': lambda back=back: back(False, True, False),
                'weights w': lambda x=x, d=diff: winograd.weight_gradient(x, d, PAD),
            },
            rounds,
        )
        exact = torch.convolution(x.double(), weight.double(), bias.double(), *options)
        errors = (
            error(torch.convolution(x, weight, bias, *options), exact),
            error(winograd.convolve(x, weight, bias, PAD), exact),
        )
        cells = [f'{ms[k]:.0f} → {ms[k + " w"]:.0f}' for k in ('forward', 'image', 'weights')]
        shape = f'{channels} → {filters}, {height}×{width}'
        print(f'| {shape} | ' + ' | '.join(cells) + f' | {errors[0]:.1e} → {errors[1]:.1e} |', flush=True)


if __name__ == '__main__':
    main()
