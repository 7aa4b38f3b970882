#!/usr/bin/env python3
"""OHEM against Fast R-CNN's classic sampling: same net, same iterations, several seeds.

experiments/compare_sampling.py --on demo --seeds 1 2 3
experiments/compare_sampling.py --on bccd --seeds 1 2 3

Needs the images and their proposals: for the demo `make demo`, for BCCD the commands in docs/results.md. Prints a
Markdown table; a run that is there already is not repeated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
METHODS = {'classic sampling': 'fast_rcnn', 'OHEM': 'fast_rcnn_ohem'}


class Experiment(NamedTuple):
    models: str  # a folder, with one of each method in it
    prefix: str  # of the snapshots: <prefix>_<method>_iter_N.caffemodel
    data: str  # a folder in VOC layout
    train: str  # its splits
    test: str
    iters: int
    weights: str | None  # to start from


EXPERIMENTS = {
    'demo': Experiment('models/demo/small', 'small', 'data/demo', 'train', 'test', 1400, None),
    'bccd': Experiment(
        'models/bccd/VGG16',
        'vgg16',
        'data/BCCD',
        'trainval',
        'test',
        360,
        'data/imagenet_models/VGG16_trunk.caffemodel',
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--on', choices=EXPERIMENTS, default='demo', help='data set and net (default: demo)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[1, 2, 3], help='RNG_SEED of the runs (default: 1 2 3)')
    parser.add_argument('--iters', type=int, help='iterations of each run (default: 1400 for demo, 360 for bccd)')
    return parser.parse_args()


def tool(name: str, *arguments) -> None:
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'{" ".join(command)}\nfailed:\n{done.stderr[-2000:]}')


def mean_ap(on: str, method: str, seed: int, iters: int) -> dict[str, float]:
    """Trains and tests one run, unless its results are there. Returns AP by class and the mean as 'mAP'."""
    e = EXPERIMENTS[on]
    models = ROOT / e.models / method
    cfg = ROOT / 'experiments' / 'cfgs' / f'{on}_{"ohem" if method.endswith("ohem") else "fast_rcnn"}.yml'
    exp_dir = f'compare_sampling/{method}_seed{seed}'
    name = f'{e.prefix}_{method}_iter_{iters}'
    out, set_name = ROOT / 'output' / exp_dir, Path(e.data).name
    results = out / f'{set_name}_{e.test}' / name / 'results.json'
    if not results.exists():
        settings = ['--cfg', cfg, '--set', 'EXP_DIR', exp_dir, 'RNG_SEED', seed]
        start = ['--weights', e.weights] if e.weights else []
        tool('train_net.py', '--gpu', 'cpu', '--solver', models / 'solver.prototxt', *start,
             '--imdb', f'folder:{e.data}:{e.train}', '--iters', iters, *settings)  # fmt: skip
        weights = out / f'{set_name}_{e.train}' / f'{name}.caffemodel'
        tool('test_net.py', '--gpu', 'cpu', '--def', models / 'test.prototxt', '--net', weights,
             '--imdb', f'folder:{e.data}:{e.test}', *settings)  # fmt: skip
    found = json.loads(results.read_text())
    return {name: of_class['ap'] for name, of_class in found['classes'].items()} | {'mAP': found['mAP']}


def main() -> None:
    args = parse_args()
    iters = args.iters or EXPERIMENTS[args.on].iters
    rows = []
    for seed in args.seeds:
        for title, method in METHODS.items():
            rows.append((title, seed, mean_ap(args.on, method, seed, iters)))
            print(f'{title}, seed {seed}: mAP {rows[-1][2]["mAP"]:.4f}', file=sys.stderr, flush=True)
    columns = list(rows[0][2])
    print(f'| sampling, {iters} iterations | seed | ' + ' | '.join(columns) + ' |')
    print('| --- ' * (len(columns) + 2) + '|')
    for title, seed, ap in rows:
        print(f'| {title} | {seed} | ' + ' | '.join(f'{ap[c]:.3f}' for c in columns) + ' |')
    for title in METHODS:
        values = {c: [ap[c] for t, _, ap in rows if t == title] for c in columns}
        cells = ' | '.join(f'{np.mean(v):.3f} ± {np.std(v, ddof=min(1, len(v) - 1)):.3f}' for v in values.values())
        print(f'| **{title}** | mean ± std | {cells} |')


if __name__ == '__main__':
    main()
