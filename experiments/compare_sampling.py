#!/usr/bin/env python3
"""OHEM against Fast R-CNN's classic sampling on the demo set: same net, same iterations, several seeds.

experiments/compare_sampling.py --seeds 1 2 3

Needs the demo's images and proposals (make demo). Prints a Markdown table; a run that is there already is not repeated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
METHODS = {'classic sampling': 'fast_rcnn', 'OHEM': 'fast_rcnn_ohem'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[1, 2, 3], help='RNG_SEED of the runs (default: 1 2 3)')
    parser.add_argument('--iters', type=int, default=1400, help='iterations of each run (default: 1400, as in make demo)')
    return parser.parse_args()


def tool(name: str, *arguments) -> None:
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f'{" ".join(command)}\nfailed:\n{done.stderr[-2000:]}')


def mean_ap(method: str, seed: int, iters: int) -> dict[str, float]:
    """Trains and tests one run, unless its results are there. Returns AP by class and the mean as 'mAP'."""
    models = ROOT / 'models' / 'demo' / 'small' / method
    cfg = ROOT / 'experiments' / 'cfgs' / ('demo_ohem.yml' if method.endswith('ohem') else 'demo_fast_rcnn.yml')
    exp_dir = f'compare_sampling/{method}_seed{seed}'
    name = f'small_{method}_iter_{iters}'
    results = ROOT / 'output' / exp_dir / 'demo_test' / name / 'results.json'
    if not results.exists():
        settings = ['--cfg', cfg, '--set', 'EXP_DIR', exp_dir, 'RNG_SEED', seed]
        tool('train_net.py', '--gpu', 'cpu', '--solver', models / 'solver.prototxt', '--imdb', 'folder:data/demo:train',
             '--iters', iters, *settings)  # fmt: skip
        weights = ROOT / 'output' / exp_dir / 'demo_train' / f'{name}.caffemodel'
        tool('test_net.py', '--gpu', 'cpu', '--def', models / 'test.prototxt', '--net', weights,
             '--imdb', 'folder:data/demo:test', *settings)  # fmt: skip
    found = json.loads(results.read_text())
    return {name: of_class['ap'] for name, of_class in found['classes'].items()} | {'mAP': found['mAP']}


def main() -> None:
    args = parse_args()
    rows = []
    for seed in args.seeds:
        for title, method in METHODS.items():
            rows.append((title, seed, mean_ap(method, seed, args.iters)))
            print(f'{title}, seed {seed}: mAP {rows[-1][2]["mAP"]:.4f}', file=sys.stderr, flush=True)
    columns = list(rows[0][2])
    print(f'| sampling, {args.iters} iterations | seed | ' + ' | '.join(columns) + ' |')
    print('| --- ' * (len(columns) + 2) + '|')
    for title, seed, ap in rows:
        print(f'| {title} | {seed} | ' + ' | '.join(f'{ap[c]:.3f}' for c in columns) + ' |')
    for title in METHODS:
        values = {c: [ap[c] for t, _, ap in rows if t == title] for c in columns}
        cells = ' | '.join(f'{np.mean(v):.3f} ± {np.std(v, ddof=min(1, len(v) - 1)):.3f}' for v in values.values())
        print(f'| **{title}** | mean ± std | {cells} |')


if __name__ == '__main__':
    main()
