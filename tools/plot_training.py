#!/usr/bin/env python3
"""Draws training records (<prefix>_record.jsonl): losses, what is mined, seconds; one run or several.

tools/plot_training.py output/demo_ohem/demo_train/small_fast_rcnn_ohem_record.jsonl --out curves.png

--per_roi adds the OHEM paper's comparison of samplings, the mean loss per RoI over all RoIs, from the
loss_per_roi.json that experiments/loss_per_roi.py measures on snapshots.
"""

import _init_paths  # noqa: F401

import argparse
import os

from _command_line import parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('records', nargs='*', metavar='RECORD', help='records, or folders that hold one')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='what to call the runs (default: by their paths)')
    parser.add_argument('--smooth', type=int, default=50, help='mean over so many iterations (default: 50; 1: none)')
    parser.add_argument('--per_roi', metavar='FILE', help='loss_per_roi.json, for the comparison of samplings')
    parser.add_argument(
        '--out', default='output/curves.png', metavar='FILE', help='PNG to write (default: output/curves.png)'
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from fast_rcnn.record import find_record, read_record
    from inspection.curves import draw_curves, read_per_roi

    if not args.records and args.per_roi is None:
        raise ValueError('nothing to draw: give records of training, or --per_roi FILE')
    if args.smooth < 1:
        raise ValueError(f'--smooth takes a number of iterations, 1 or more; given {args.smooth}')
    if not args.out.lower().endswith('.png'):
        raise ValueError(f'--out writes a PNG: give a name that ends in .png, not {args.out}')
    paths = [find_record(path) for path in args.records]
    if args.names is not None and len(args.names) != len(paths):
        raise ValueError(f'--names gives {len(args.names)} names for {len(paths)} records: one each, please')
    runs = {}
    for path, name in zip(paths, args.names or _names(paths), strict=True):
        runs[name] = read_record(path, needed=('loss', 'seconds', 'memory'))
        if not runs[name]:
            raise ValueError(f'{path} holds no iteration yet')
        print(f'{name}: iterations {runs[name][0]["iteration"]} to {runs[name][-1]["iteration"]}')
    per_roi = {} if args.per_roi is None else read_per_roi(args.per_roi)
    os.makedirs(os.path.dirname(args.out) or '.', exist_ok=True)
    draw_curves(args.out, runs, args.smooth, per_roi)
    print(f'{args.out}: written')


def _name(path: str) -> str:
    """The file's name; of a project's run, output/fruit/ohem/[RUN/]fruit_train/ohem_record.jsonl, fruit/ohem[/RUN]."""
    name = os.path.basename(path).removesuffix('_record.jsonl')
    folders = path.split(os.sep)[:-2]
    place = max((i for i, folder in enumerate(folders) if folder == name), default=0)
    return '/'.join(folders[place - 1 :]) if place and folders[place - 2] == 'output' else name


def _names(paths: list[str]) -> list[str]:
    """What `_name` says, or, where they are alike, what the paths differ by."""
    names = [_name(os.path.abspath(path)) for path in paths]
    if len(set(names)) == len(names):
        return names
    parts = [os.path.abspath(path).split(os.sep) for path in paths]
    differing = [i for i in range(min(map(len, parts))) if len({p[i] for p in parts}) > 1]
    names = ['/'.join(p[i] for i in differing).removesuffix('_record.jsonl') or p[-2] for p in parts]
    return names if len(set(names)) == len(names) else [f'{name} ({i})' for i, name in enumerate(names, start=1)]


if __name__ == '__main__':
    run(main)
