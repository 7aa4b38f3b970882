#!/usr/bin/env python3
"""What the machine can do and what training makes of it: make bench.

experiments/bench.py                      both networks, FRCN and OHEM, beside the same nets straight in torch
experiments/bench.py --net VGG16 --method ohem --precision bf16
experiments/bench.py --method detect --original ...     im_detect, in place of training
experiments/bench.py --curves             cost against RoIs, image size and images a pass; table and picture
experiments/bench.py --original "env PYTHONPATH=/opt/caffe/python python3"    beside an original Caffe, too
experiments/bench.py --quick              a small image and few RoIs: whether it works, not how fast

Prints the machine's ceilings (matrix product, memory copy), then seconds a step, images/s, peak memory, and
each layer's GFLOP/s as a share of the fp32 ceiling. The picture is painted, the proposals are selective
search's on it. Each measurement has a process of its own (measure_step.py), and the rounds alternate between
ours and the others, so that a machine that is busy for a while is busy for all.
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tools'), str(ROOT / 'lib'), str(ROOT / 'experiments')]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from measure_step import METHODS  # noqa: E402

import whole_file  # noqa: E402
from _command_line import parser_of, run  # noqa: E402

NETS = ('VGG16', 'VGG_CNN_M_1024')
PRECISIONS = ('fp32', 'tf32', 'bf16', 'bf16-ranking')
_TITLES = {'ours': 'ours', 'direct': 'straight in torch', 'original': 'original Caffe'}
_QUICK = {'image': '96x128', 'rois': 60, 'rounds': 1, 'steps': 1}
_CURVES = {
    'RoIs': ('rois', (250, 500, 1000, 2000, 4000, 8000)),
    'image': ('image', ('300x400', '450x600', '600x800', '900x1200')),
    'images a pass': ('images', (1, 2, 4)),
}


# ---- Ceilings


def ceilings(quick: bool = False) -> dict[str, float | str]:
    """GFLOP/s of the fastest library's matrix product, 'fp32' and 'bf16', and GB/s of a memory copy, 'copy'.

    The copy counts bytes read and bytes written. 'fp32 by' and 'bf16 by' name the library: 'torch' (MKL, where
    torch has it), 'numpy' or 'onednn'.
    """
    n = 256 if quick else 2048
    onednn = getattr(torch.ops.mkldnn, '_linear_pointwise', None)
    out = {}
    for name, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
        ways = {'torch': lambda a=a, b=b: torch.mm(a, b)}
        if dtype == torch.float32:
            ways['numpy'] = lambda a=a, b=b: np.matmul(a.numpy(), b.numpy())
        if onednn is not None:  # both factors row by row in memory, as it takes them best
            ways['onednn'] = lambda a=a, b=b: onednn(a, b, None, 'none', [], '')
        seconds = {way: took for way, work in ways.items() if (took := _best_if_it_runs(work)) is not None}
        out[f'{name} by'] = min(seconds, key=lambda way: seconds[way])
        out[name] = 2 * n**3 / 1e9 / min(seconds.values())
    source = torch.randn(2**20 if quick else 2**26)
    target = torch.empty_like(source)
    out['copy'] = 2 * source.numel() * 4 / 1e9 / _best(lambda: target.copy_(source))
    return out


def _best_if_it_runs(work) -> float | None:
    try:
        return _best(work)
    except RuntimeError:  # oneDNN has no bf16 for processors without it
        return None


def _best(work, times: int = 5) -> float:
    """The least seconds that `work()` took, of `times` or as many as two seconds allow."""
    seconds = []
    while len(seconds) < times and sum(seconds) < 2:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


# ---- The image


def painted(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A photograph-like picture (H, W, 3) uint8: shaded, textured shapes of all sizes, a soft ground."""
    rng = np.random.default_rng(seed)

    def soft(grain: int) -> np.ndarray:
        small = rng.uniform(0, 255, (max(2, height // grain), max(2, width // grain), 3)).astype(np.float32)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)

    picture = soft(max(height // 3, 1))
    for size in np.geomspace(0.5, 0.02, 60):
        mask = np.zeros((height, width), np.uint8)
        centre = [int(v) for v in rng.uniform(0, 1, 2) * (width, height)]
        axes = [max(2, int(v * size * height)) for v in rng.uniform(0.3, 1, 2)]
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        picture = np.where(mask[:, :, None] > 0, 0.7 * colour + 0.3 * soft(max(height // 12, 1)), picture)
    picture += 0.15 * (soft(4) - 128) + rng.normal(0, 4, picture.shape)
    return cv2.GaussianBlur(np.clip(picture, 0, 255).astype(np.uint8), (3, 3), 0)


def searched(picture: np.ndarray, rois: int) -> np.ndarray:
    """`rois` boxes of selective search; where it finds fewer, some of them moved by a few pixels."""
    from detection_data.proposal_methods import selective_search

    boxes = selective_search(picture, 'fast', max_boxes=rois)
    rng = np.random.default_rng(0)
    moved = boxes[rng.integers(0, len(boxes), max(0, rois - len(boxes)))] + rng.integers(-3, 4, 4)
    height, width = picture.shape[:2]
    moved = np.clip(moved, 0, np.array([width, height] * 2) - 1)
    return np.concatenate([boxes, moved]).astype(np.float32)


# ---- All of them


def measure(args: argparse.Namespace, data: str, kind: str, **settings) -> dict:
    """What measure_step.py measures in a new process. `kind`: 'ours', 'direct' or 'original'."""
    flags = {**{k: getattr(args, k) for k in ('gpu', 'precision', 'steps', 'images')}, **settings}
    python = shlex.split(args.original) if kind == 'original' else [sys.executable]
    command = [*python, str(ROOT / 'experiments' / 'measure_step.py'), '--kind', kind, '--data', data]
    command += [f'--{key}={value}' for key, value in flags.items() if value is not None]
    command += ['--processor'] * args.processor
    # Straight in torch means with the allocator and the threads as they are (caffe.kernels.host_memory,
    # caffe.process.threads): these are glibc's and GNU's own values.
    env = dict(os.environ)
    if kind == 'direct':
        env |= {'MALLOC_ARENA_TEST': '8', 'GOMP_SPINCOUNT': '300000'}
    if args.processor:
        env |= {'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    if shutil.which(python[0]) is None:
        raise FileNotFoundError(f'--original: there is no command {python[0]!r}')
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RuntimeError(f'{kind}, {settings}: failed with status {done.returncode}: {done.stderr.strip()[-2000:]}')
    return json.loads(done.stdout.splitlines()[-1])


def store_data(folder: str, image: str, rois: int) -> str:
    """Writes the picture and its proposals; the file's path."""
    try:
        height, width = (int(side) for side in image.lower().split('x'))
    except ValueError:
        raise ValueError(f'--image takes HEIGHTxWIDTH in pixels, such as 600x800; it was given {image!r}') from None
    picture = painted(height, width)
    path = os.path.join(folder, f'{image}_{rois}.npz')
    np.savez(path, picture=picture, proposals=searched(picture, rois))
    return path


def bench(args: argparse.Namespace) -> None:
    """Prints the ceilings and every net's table."""
    ceiling = ceilings(args.quick)
    print(
        f'ceilings on {torch.get_num_threads()} threads: fp32 {ceiling["fp32"]:.0f} GFLOP/s by {ceiling["fp32 by"]}, '
        f'bf16 {ceiling["bf16"]:.0f} GFLOP/s by {ceiling["bf16 by"]}, copy {ceiling["copy"]:.1f} GB/s',
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        data = store_data(folder, args.image, args.rois)
        for net in args.net or NETS:
            for method in args.method or ('frcn', 'ohem'):
                kinds = {'ours': True, 'direct': method != 'detect', 'original': args.original}
                runs = {kind: [] for kind in _TITLES if kinds[kind]}
                for _ in range(args.rounds):
                    for kind, measured in runs.items():
                        measured.append(measure(args, data, kind, net=net, method=method))
                print('\n' + report(f'{net} {method}', runs, ceiling, args.gpu == 'cpu'), flush=True)


def report(title: str, runs: dict[str, list[dict]], ceiling: dict, shares: bool) -> str:
    """One net's table, from the fastest round of each; the spread is that of the rounds."""
    lines = [f'{title:24} {"s/step":>8} {"slowest":>8} {"images/s":>9} {"peak GiB":>9} {"ours: times as fast":>20}']
    best = {kind: min(measured, key=lambda run: run['step']) for kind, measured in runs.items()}
    ours = best['ours']
    for kind, measured in runs.items():
        seconds = best[kind]['step']
        slowest, peak = (max(run[key] for run in measured) for key in ('step', 'peak_gib'))
        gain = '' if kind == 'ours' else f' {seconds / ours["step"]:20.2f}'
        rate = best[kind]['images'] / seconds
        lines.append(f'  {_TITLES[kind]:22} {seconds:8.2f} {slowest:8.2f} {rate:9.2f} {peak:9.2f}{gain}')
    if 'parts' not in ours:
        return '\n'.join(lines)
    parts = ', '.join(f'{name} {seconds:.3f} s' for name, seconds in ours['parts'].items())
    later = f' (with the products that are the gradients of {", ".join(ours["later"])})' if ours['later'] else ''
    lines.append(f'  of a step: {parts}{later}')
    lines.append(
        f'  {"layer":22} {"forward ms":>11} {"GFLOP/s":>8} {"share":>6} {"backward ms":>12} {"GFLOP/s":>8} {"share":>6}'
    )
    for name, _, f_work, b_work, f_time, b_time in ours['layers']:
        if max(f_time, b_time) < 0.001 * ours['step']:
            continue
        cells = ''
        for work, seconds, wide in ((f_work, f_time, 11), (b_work, b_time, 12)):
            rate = work / seconds if work > 0.05 and seconds > 0 else None
            cells += f' {1000 * seconds:{wide}.1f} ' + (f'{rate:8.0f}' if rate else ' ' * 8)
            cells += f' {rate / ceiling["fp32"]:6.0%}' if rate and shares else ' ' * 7
        lines.append(f'  {name:22}{cells}'.rstrip())
    return '\n'.join(lines)


def curves(args: argparse.Namespace) -> None:
    """Prints cost against size, the fastest round of each, and draws it: output/bench/curves.png."""
    net, method = (args.net or NETS)[0], (args.method or ['ohem'])[0]
    rows = {}
    print(f'{net} {method}, {torch.get_num_threads()} threads\n\n| | | s/step | peak GiB |\n| --- | --- | --- | --- |')
    with tempfile.TemporaryDirectory() as folder:
        for title, (setting, values) in _CURVES.items():
            rows[title] = []
            for value in values[: 2 if args.quick else None]:
                chosen = {'image': args.image, 'rois': args.rois, 'images': args.images, setting: value}
                data = store_data(folder, chosen['image'], chosen['rois'])
                settings = {'net': net, 'method': method, 'images': chosen['images']}
                rounds = [measure(args, data, 'ours', **settings) for _ in range(args.rounds)]
                got = min(rounds, key=lambda measured: measured['step'])
                rows[title].append((value, got['step'], got['peak_gib']))
                print(f'| {title} | {value} | {got["step"]:.2f} | {got["peak_gib"]:.2f} |', flush=True)
    print(f'\n{draw_curves(rows, f"{net} {method}")}')


def draw_curves(rows: dict[str, list[tuple]], title: str) -> str:
    """Seconds a step against each of the sizes; the picture's path."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(rows), figsize=(4 * len(rows), 3.4), layout='constrained')
    for axis, (name, points) in zip(axes, rows.items(), strict=True):
        x = [np.prod([int(n) for n in str(v).split('x')]) for v, _, _ in points]
        if name == 'image':
            x, name = [n / 1e6 for n in x], 'image, megapixels'
        axis.plot(x, [seconds for _, seconds, _ in points], 'o-', color='#1f6fb4')
        axis.set(xlabel=name, xlim=(0, 1.05 * max(x)), ylim=(0, 1.1 * max(p[1] for p in points)))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('seconds a step')
    figure.suptitle(title)
    path = ROOT / 'output' / 'bench' / 'curves.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file.in_memory(path) as file:
        figure.savefig(file, dpi=110)
    plt.close(figure)
    return str(path)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--net', nargs='+', choices=NETS, help='default: both')
    parser.add_argument('--method', nargs='+', choices=METHODS, help='default: frcn and ohem')
    parser.add_argument('--gpu', default='cpu', metavar='ID', help="GPU by number, or 'cpu' (default: cpu)")
    parser.add_argument('--precision', default='fp32', choices=PRECISIONS, help='of ours (default: fp32)')
    parser.add_argument('--image', default='600x800', metavar='HxW', help='default: 600x800')
    parser.add_argument('--rois', type=int, default=2000, help='RoIs an image (default: 2000)')
    parser.add_argument('--images', type=int, help='images a pass (default: those of the method)')
    parser.add_argument('--rounds', type=int, default=2, help='of each measurement (default: 2)')
    parser.add_argument('--steps', type=int, default=2, help='steps timed in a round (default: 2)')
    parser.add_argument(
        '--processor',
        action='store_true',
        help="one thread, and the processor's seconds in place of the clock's: for a machine that is busy",
    )
    parser.add_argument('--curves', action='store_true', help='cost against sizes')
    parser.add_argument('--quick', action='store_true', help='small, to see whether it works')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    parser.add_argument(
        '--original',
        metavar='COMMAND',
        help='starts a Python whose `import caffe` is an original Caffe, to measure that too',
    )
    args = parser.parse_args()
    for name in ('rois', 'images', 'rounds', 'steps'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} is {getattr(args, name)}; expected 1 or more')
    if args.quick:
        for name, value in _QUICK.items():
            setattr(args, name, value)
    return args


def main() -> None:
    args = parse_args()
    if args.curves:
        curves(args)
    else:
        bench(args)


if __name__ == '__main__':
    run(main)
