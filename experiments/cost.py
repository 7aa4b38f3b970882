#!/usr/bin/env python3
"""What a training iteration costs: seconds and memory of FRCN, with all RoIs, and with OHEM (table 2).

experiments/cost.py                          both networks at full size, on the CPU
experiments/cost.py --gpu 0 --row vgg16-ohem

Each row is measured by tools/time_step.py in a process of its own, on a noise image with random RoIs and from
random weights: the work is that of real training, and nothing has to be downloaded. A row that is measured is
not measured again unless --again is given. Memory is the process's, on a GPU what was allocated there.
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import json
import sys
from dataclasses import replace

from runs import ROOT, Run, RunFailed, tool, write
from tables import OHEM, PLACES, VGG16, VGG_M, Row

sys.path.insert(0, str(ROOT / 'tools'))
from _command_line import parser_of
from _command_line import run as run_main

# What an iteration sees: 2 images, and so many RoIs are learned from
_METHODS = (
    Row('frcn', 'FRCN: N=2, B=128'),
    Row('all-rois-n1', 'FRCN, all RoIs: N=1, B=2048', train=('one_image_all_rois',), iter_size=1),
    Row('all-rois', 'FRCN, all RoIs: N=2, B=2048 each, two passes', train=('one_image_all_rois',), iter_size=2),
    Row('ohem', 'OHEM: N=2, B=128, two passes', method=OHEM, train=('two_passes',), iter_size=2),
    Row('ohem-one-pass', 'OHEM: N=2, B=128, one pass', method=OHEM, train=('one_pass',), iter_size=1),
)
_NETWORKS = {'m': VGG_M, 'vgg16': VGG16}


def rows_of(on: str) -> dict[str, tuple[Row, str]]:
    """name -> (row, network) at a place; where one net stands in for both of the paper's, it stands once."""
    networks = PLACES[on].networks
    prefixes = _NETWORKS if len(set(networks.values())) > 1 else {on: VGG16}
    return {f'{prefix}-{row.name}': (row, network) for prefix, network in prefixes.items() for row in _METHODS}


def measure(name: str, on: str, gpu: str, image: str, rois: int, steps: int, again: bool = False) -> dict:
    """seconds, peak_gib, ... of a row, as tools/time_step.py writes them; kept, unless `again`."""
    row, network = rows_of(on)[name]
    run = Run(replace(row, network=network), on, seed=1, gpu=gpu)
    folder = ROOT / 'output' / 'cost' / on / f'{name}_{gpu}_{image}_{rois}'
    path = folder / 'cost.json'
    if again or not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        cfg, solver = run.write_files(folder)
        tool('tools/time_step.py', '--gpu', gpu, '--solver', solver, '--cfg', cfg, '--json', path,
             '--image', image, '--rois', rois, '--steps', steps, log=folder / 'log.txt')  # fmt: skip
    return json.loads(path.read_text())


def run_table(
    on: str, names: list[str], gpu: str, only_list: bool = False, image=None, rois=None, steps=2, again=False
):
    """Measures the rows (all without names), prints the table, writes output/cost/<on>/table_2.{md,json}."""
    small = on == 'demo'
    image, rois = image or ('192x256' if small else '600x1000'), rois or (500 if small else 2000)
    rows = rows_of(on)
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise ValueError(f'--row: there is no {", ".join(unknown)} on {on}; there are {", ".join(rows)}')
    if only_list:
        print('\n'.join(f'{name:24} {network:16} {row.title}' for name, (row, network) in rows.items()))
        return
    measured = {}
    where = 'CPU' if gpu == 'cpu' else f'GPU {gpu}'
    for name in names or rows:
        print(f'{name}: measuring', flush=True)
        try:
            measured[name] = measure(name, on, gpu, image, rois, steps, again)
        except RunFailed as error:
            measured[name] = {'failed': str(error)}
            print(f'  failed: {error}', flush=True)
    lines = [f'Table 2. Cost of a training iteration: {image} pixels, {rois} RoIs an image, {where}.', '']
    lines += ['| | net | seconds an iteration | peak memory, GiB | row |', '| --- | --- | --- | --- | --- |']
    for name, cost in measured.items():
        row, network = rows[name]
        net = PLACES[on].networks[network] or on
        figures = 'failed | ' if 'failed' in cost else f'{cost["seconds"]:.2f} | {cost["peak_gib"]:.2f}'
        lines.append(f'| {row.title} | {net} | {figures} | `{name}` |')
    text = '\n'.join(lines) + '\n'
    folder = ROOT / 'output' / 'cost' / on
    write(folder / 'table_2.md', text)
    write(
        folder / 'table_2.json',
        json.dumps({'image': image, 'rois': rois, 'gpu': gpu, 'rows': measured}, indent=1),
    )
    print('\n' + text)
    if any('failed' in cost for cost in measured.values()):
        raise RunFailed('some rows failed; see above')


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--on', choices=PLACES, default='pascal_voc', help='which nets (default: pascal_voc)')
    parser.add_argument('--row', nargs='+', default=[], metavar='NAME', help='these rows only (see --list)')
    parser.add_argument('--gpu', default='cpu', metavar='ID', help="GPU to use, by number, or 'cpu' (default: cpu)")
    parser.add_argument('--image', metavar='HxW', help='size of the image (default: 600x1000; demo: 192x256)')
    parser.add_argument('--rois', type=int, help='RoIs an image (default: 2000; demo: 500)')
    parser.add_argument('--steps', type=int, default=2, help='iterations to time (default: 2)')
    parser.add_argument('--again', action='store_true', help='measure again what was measured')
    parser.add_argument('--list', action='store_true', help='list the rows')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    run_table(args.on, args.row, args.gpu, args.list, args.image, args.rois, args.steps, args.again)


if __name__ == '__main__':
    run_main(main)
