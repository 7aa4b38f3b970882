#!/usr/bin/env python3
"""What the machine can do and what training makes of it: make bench.

experiments/bench.py                      both networks, FRCN and OHEM, beside the same nets straight in torch
experiments/bench.py --net VGG16 --method ohem --precision bf16
experiments/bench.py --curves             cost against RoIs, image size and images a pass; table and picture
experiments/bench.py --quick              a small image and few RoIs: whether it works, not how fast

Prints the machine's ceilings (matrix product, memory copy), then seconds a step, images/s, peak memory, and
each layer's GFLOP/s as a share of the fp32 ceiling. The picture is painted, the proposals are selective
search's on it. Each measurement has a process of its own, and the rounds alternate between ours and the
direct net, so that a machine that is busy for a while is busy for both.
"""

from __future__ import annotations

import argparse
import json
import os
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

from _command_line import parser_of, run  # noqa: E402

NETS = ('VGG16', 'VGG_CNN_M_1024')
METHODS = {'frcn': 'fast_rcnn', 'ohem': 'fast_rcnn_ohem'}
_QUICK = {'image': '96x128', 'rois': 60, 'rounds': 1, 'steps': 1}
_CURVES = {
    'RoIs': ('rois', (250, 500, 1000, 2000, 4000, 8000)),
    'image': ('image', ('300x400', '450x600', '600x800', '900x1200')),
    'images a pass': ('images', (1, 2, 4)),
}


# ---- Ceilings


def ceilings(quick: bool = False) -> dict[str, float]:
    """GFLOP/s of the fastest library's matrix product, 'fp32' and 'bf16', and GB/s of a memory copy, 'copy'.

    The copy counts bytes read and bytes written.
    """
    n = 256 if quick else 2048
    onednn = getattr(torch.ops.mkldnn, '_linear_pointwise', None)
    out = {}
    for name, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
        ways = [lambda a=a, b=b: torch.mm(a, b)]
        if onednn is not None:
            ways.append(lambda a=a, b=b: onednn(a, b, None, 'none', [], ''))
        out[name] = 2 * n**3 / 1e9 / min(filter(None, map(_best_if_it_runs, ways)))
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
    from datasets.proposal_methods import selective_search

    boxes = selective_search(picture, 'fast', max_boxes=rois)
    rng = np.random.default_rng(0)
    moved = boxes[rng.integers(0, len(boxes), max(0, rois - len(boxes)))] + rng.integers(-3, 4, 4)
    height, width = picture.shape[:2]
    moved = np.clip(moved, 0, np.array([width, height] * 2) - 1)
    return np.concatenate([boxes, moved]).astype(np.float32)


# ---- One measurement, in a process of its own


def measure_one(args: argparse.Namespace) -> dict:
    """{'step': seconds, 'peak_gib', 'images': of a step, 'parts': seconds a step, 'layers': [...]}."""
    import caffe
    from fast_rcnn.config import cfg, cfg_from_file
    from roi_data_layer.roidb import Roidb
    from time_step import NoiseImage, peak_gib, randomise, time_steps

    cfg_from_file(str(ROOT / 'experiments' / 'cfgs' / f'{METHODS[args.method]}.yml'))
    with np.load(args.data, allow_pickle=False) as stored:
        picture, proposals = stored['picture'], stored['proposals']
    height, width = picture.shape[:2]
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (min(height, width),), max(height, width)
    cfg.TRAIN.IMS_PER_BATCH = args.images or cfg.TRAIN.IMS_PER_BATCH
    cfg.TRAIN.USE_PREFETCH = False
    on_gpu = args.gpu != 'cpu'
    if on_gpu:
        caffe.set_device(int(args.gpu))
        caffe.set_mode_gpu()
    caffe.set_precision(args.precision)
    iter_size = 2 if args.method == 'ohem' else 1
    with tempfile.TemporaryDirectory() as folder:
        data = NoiseImage(os.path.join(folder, 'picture.png'), height, width, len(proposals), 21, picture, proposals)
        data.num_images = cfg.TRAIN.IMS_PER_BATCH
        roidb = Roidb(data, use_flipped=False)
        if args.one == 'direct':
            step = _time_direct(args, roidb, iter_size, on_gpu)
            measured = {'step': step}
        else:
            solver = caffe.get_solver(
                str(ROOT / 'models' / 'pascal_voc' / args.net / METHODS[args.method] / 'solver.prototxt')
            )
            randomise(solver.net)
            times = time_steps(solver, roidb, args.steps, on_gpu)
            measured = {'step': times.step, **_layers(solver, times)}
    return {**measured, 'peak_gib': peak_gib(args.gpu), 'images': iter_size * cfg.TRAIN.IMS_PER_BATCH}


def _time_direct(args: argparse.Namespace, roidb, iter_size: int, on_gpu: bool) -> float:
    from direct_net import DirectNet, optimizer, train_pass

    from roi_data_layer.prefetch import BatchMaker

    net = DirectNet(args.net).to(f'cuda:{args.gpu}' if on_gpu else 'cpu')
    sgd, batches = optimizer(net), BatchMaker(roidb, 21)

    def step(n: int) -> float:
        began = time.perf_counter()
        sgd.zero_grad()
        for k in range(iter_size):
            train_pass(net, batches(n * iter_size + k)[0])
        for param in net.parameters():
            if param.grad is not None:
                param.grad /= iter_size
        sgd.step()
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    step(0)
    return sum(step(1 + n) for n in range(args.steps)) / args.steps


def _layers(solver, times) -> dict:
    """What a step's seconds went to, and each layer's GFLOP and seconds of a pass."""
    from caffe import work
    from caffe.command.layer_work import layer_shapes

    net, passes = solver.net, solver.param.iter_size
    layers = []
    for i, (name, shapes) in enumerate(zip(net._layer_names, layer_shapes(net), strict=True)):
        back = net._layer_need_backward[i]
        need = net._bottom_need_backward[i] if back else []
        learn = net.layers[i].param_propagate_down if back else []
        macs = work.forward(shapes), work.backward(shapes, learn, need)
        layers.append([name, net.layers[i].type, *(2 * m / 1e9 for m in macs), times.forward[i], times.backward[i]])
    parts = {'data': times.forward[0] * passes, 'solver': times.solver}
    mining = [row[4] for row in layers if row[0] == 'hard_roi_mining']
    if mining:
        parts['mining'] = mining[0] * passes
    return {'parts': parts, 'layers': layers}


# ---- All of them


def measure(args: argparse.Namespace, data: str, kind: str, **settings) -> dict:
    """`measure_one` in a new process. `kind`: 'ours' or 'direct'."""
    flags = {**{k: getattr(args, k) for k in ('gpu', 'precision', 'steps', 'images')}, **settings}
    command = [sys.executable, __file__, '--one', kind, '--data', data]
    command += [f'--{key}={value}' for key, value in flags.items() if value is not None]
    # Straight in torch means with the allocator as it is (caffe.host_memory); 8 is glibc's own value.
    env = {**os.environ, 'MALLOC_ARENA_TEST': '8'} if kind == 'direct' else None
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
        f'ceilings on {torch.get_num_threads()} threads: fp32 {ceiling["fp32"]:.0f} GFLOP/s, '
        f'bf16 {ceiling["bf16"]:.0f} GFLOP/s, copy {ceiling["copy"]:.1f} GB/s',
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        data = store_data(folder, args.image, args.rois)
        for net in args.net or NETS:
            for method in args.method or METHODS:
                rounds = [
                    [measure(args, data, kind, net=net, method=method) for kind in ('ours', 'direct')]
                    for _ in range(args.rounds)
                ]
                ours, direct = ([pair[k] for pair in rounds] for k in (0, 1))
                print('\n' + report(f'{net} {method}', ours, direct, ceiling, args.gpu == 'cpu'), flush=True)


def report(title: str, ours: list[dict], direct: list[dict], ceiling: dict, shares: bool) -> str:
    """One net's table, from the fastest round of each; the spread is that of the rounds."""
    lines = [f'{title:24} {"s/step":>8} {"slowest":>8} {"images/s":>9} {"peak GiB":>9}']
    best = []
    for name, runs in (('ours', ours), ('straight in torch', direct)):
        runs = sorted(runs, key=lambda run: run['step'])
        best.append(runs[0])
        rate = runs[0]['images'] / runs[0]['step']
        peak = max(run['peak_gib'] for run in runs)
        lines.append(f'  {name:22} {runs[0]["step"]:8.2f} {runs[-1]["step"]:8.2f} {rate:9.2f} {peak:9.2f}')
    parts = ', '.join(f'{name} {seconds:.3f} s' for name, seconds in best[0]['parts'].items())
    lines.append(f'  {best[1]["step"] / best[0]["step"]:.2f} times as fast; of a step: {parts}')
    lines.append(
        f'  {"layer":22} {"forward ms":>11} {"GFLOP/s":>8} {"share":>6} {"backward ms":>12} {"GFLOP/s":>8} {"share":>6}'
    )
    for name, _, f_work, b_work, f_time, b_time in best[0]['layers']:
        if max(f_time, b_time) < 0.001 * best[0]['step']:
            continue
        cells = ''
        for work, seconds, wide in ((f_work, f_time, 11), (b_work, b_time, 12)):
            rate = work / seconds if work > 0.05 and seconds > 0 else None
            cells += f' {1000 * seconds:{wide}.1f} ' + (f'{rate:8.0f}' if rate else ' ' * 8)
            cells += f' {rate / ceiling["fp32"]:6.0%}' if rate and shares else ' ' * 7
        lines.append(f'  {name:22}{cells}'.rstrip())
    return '\n'.join(lines)


def curves(args: argparse.Namespace) -> None:
    """Prints cost against size, and draws it: output/bench/curves.png."""
    net, method = (args.net or NETS)[0], (args.method or ['ohem'])[0]
    rows = {}
    print(f'{net} {method}, {torch.get_num_threads()} threads\n\n| | | s/step | peak GiB |\n| --- | --- | --- | --- |')
    with tempfile.TemporaryDirectory() as folder:
        for title, (setting, values) in _CURVES.items():
            rows[title] = []
            for value in values[: 2 if args.quick else None]:
                chosen = {'image': args.image, 'rois': args.rois, 'images': args.images, setting: value}
                data = store_data(folder, chosen['image'], chosen['rois'])
                got = measure(args, data, 'ours', net=net, method=method, images=chosen['images'])
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
    part = path.with_suffix('.part.png')
    figure.savefig(part, dpi=110)
    plt.close(figure)
    os.replace(part, path)
    return str(path)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--net', nargs='+', choices=NETS, help='default: both')
    parser.add_argument('--method', nargs='+', choices=METHODS, help='default: both')
    parser.add_argument('--gpu', default='cpu', metavar='ID', help="GPU by number, or 'cpu' (default: cpu)")
    parser.add_argument('--precision', default='fp32', choices=('fp32', 'tf32', 'bf16'), help='of ours (default: fp32)')
    parser.add_argument('--image', default='600x800', metavar='HxW', help='default: 600x800')
    parser.add_argument('--rois', type=int, default=2000, help='RoIs an image (default: 2000)')
    parser.add_argument('--images', type=int, help='images a pass (default: those of the method)')
    parser.add_argument('--rounds', type=int, default=2, help='of each measurement (default: 2)')
    parser.add_argument('--steps', type=int, default=1, help='steps timed in a round (default: 1)')
    parser.add_argument('--curves', action='store_true', help='cost against sizes')
    parser.add_argument('--quick', action='store_true', help='small, to see whether it works')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    parser.add_argument('--one', choices=('ours', 'direct'), help=argparse.SUPPRESS)
    parser.add_argument('--data', help=argparse.SUPPRESS)
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
    if args.one:
        args.net, args.method = args.net[0], args.method[0]
        measured = measure_one(args)
        sys.stdout.flush()
        print(json.dumps(measured))
    elif args.curves:
        curves(args)
    else:
        bench(args)


if __name__ == '__main__':
    run(main)
