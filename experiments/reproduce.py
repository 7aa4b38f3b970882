#!/usr/bin/env python3
"""Runs the rows of the paper's tables, and writes paper / released code / ours side by side.

experiments/reproduce.py --table 1 --list                 what there is, and the published figures
experiments/reproduce.py --table 1 --on demo              all rows on the demo's data, minutes each
experiments/reproduce.py --table 6 --on demo --row frcn ohem --seeds 1 2 3
experiments/reproduce.py --table 3 --row 07-ohem --gpu 0  a row on PASCAL VOC

A run that is done is not repeated, one that was interrupted goes on: give the same command again. Tables are
written to output/reproduce/<on>/table_<n>.md and .json, whole, after every run.
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import json
import os
import statistics
import sys
import time

import cost
from runs import ROOT, Run, RunFailed, make_demo_data, write
from tables import PLACES, TABLES, VGG_M, Row, Table

sys.path.insert(0, str(ROOT / 'tools'))
from _command_line import parser_of
from _command_line import run as run_main


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--table', type=int, choices=TABLES, required=True, help='table of the paper')
    parser.add_argument('--row', nargs='+', default=[], metavar='NAME', help='these rows only (see --list)')
    parser.add_argument('--on', choices=PLACES, help="data sets and nets (default: the table's own)")
    parser.add_argument('--paper-only', action='store_true', help='leave out the rows that the paper does not have')
    parser.add_argument('--seeds', type=int, nargs='+', default=[1], help='RNG_SEED of the runs (default: 1)')
    parser.add_argument('--iters', type=int, help='iterations of training, steps in proportion (default: as published)')
    parser.add_argument('--classes', action='store_true', help='print AP by class too, run by run')
    parser.add_argument('--gpu', default='cpu', metavar='ID', help="GPU to use, by number, or 'cpu' (default: cpu)")
    parser.add_argument('--list', action='store_true', help='list the rows and what is done of them; run nothing')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def chosen_rows(table: Table, on: str, names: list[str], paper_only: bool) -> list[Row]:
    """The rows to show. Where one net stands in for both of the paper's, each row stands once."""
    one_net = len(set(PLACES[on].networks.values())) == 1
    rows = [row for row in table.rows if not (one_net and row.network == VGG_M)]
    unknown = set(names) - {row.name for row in rows}
    if unknown:
        raise ValueError(
            f'--row: there is no {", ".join(sorted(unknown))} on {on}; there are {", ".join(row.name for row in rows)}'
        )
    return [row for row in rows if (row.name in names if names else not (paper_only and row.beyond))]


def score(results: dict) -> float | None:
    """The figure of a results.json in per cent: COCO's AP, else mAP; None if only a server can tell."""
    value = results.get('AP', results.get('mAP'))
    return None if value is None else 100 * value


def record(run: Run, failed: str | None) -> dict:
    """What is known of a run, for the JSON."""
    try:
        known = {'seed': run.seed, 'iters': run.iterations, 'folder': os.path.relpath(run.folder(), ROOT)}
        results = run.results()
    except FileNotFoundError as error:  # a place without the nets that the row needs
        return {'seed': run.seed, 'failed': str(error)}
    if results is not None:
        known |= {'score': score(results), 'results': results}
    elif failed:
        known['failed'] = failed
    return known


def cell(records: list[dict]) -> str:
    """'78.9', '78.9 ± 0.4 (3 seeds)', 'failed' or ''."""
    scores = [each['score'] for each in records if each.get('score') is not None]
    if len(scores) > 1:
        return f'{statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f} ({len(scores)} seeds)'
    if scores:
        return f'{scores[0]:.1f}'
    if any('score' in each for each in records):
        return 'to be scored by the server'
    failures = [each['failed'] for each in records if 'failed' in each]
    return f'failed: {failures[0].split(" [")[0]}'.replace('|', '/') if failures else ''


def markdown(number: int, on: str, rows: list[Row], records: dict[str, list[dict]], iters: int | None) -> str:
    """The table as Markdown."""
    table, place = TABLES[number], PLACES[on]
    whose = f"The paper's table {number}" if number <= 6 else f'Table {number}'
    lines = [f'{whose}: {table.title}; {table.figure}.', '']
    if place.note:
        lines += [place.note, '']
    if iters:
        lines += [f'Trained for {iters} iterations, instead of {max(place.iters.values())}.', '']
    # columns in which rows do not differ are left out
    columns = {
        '': [f'*{row.title}*' if row.beyond else row.title for row in rows],
        'net': [place.networks[row.network] for row in rows],
        'trained on': [row.data for row in rows],
        'paper': [row.paper for row in rows],
        'released code': [row.released for row in rows],
        f'ours ({on})': [cell(records[row.name]) for row in rows],
        'row': [f'`{row.name}`' for row in rows],
    }
    columns = {k: v for k, v in columns.items() if k not in ('net', 'trained on') or len(set(v)) > 1}
    lines += ['| ' + ' | '.join(columns) + ' |', '| --- ' * len(columns) + '|']
    lines += ['| ' + ' | '.join(cells) + ' |' for cells in zip(*columns.values(), strict=True)]
    if any(row.beyond for row in rows):
        lines += ['', 'Rows in italics are not in the paper.']
    return '\n'.join(lines) + '\n'


def by_class(rows: list[Row], records: dict[str, list[dict]]) -> str:
    """AP of each class and mAP of every run, then means and deviations over seeds, as Markdown."""
    lines: list[str] = []
    for row in rows:
        tested = [(each['seed'], each['results']) for each in records[row.name] if 'results' in each]
        if not tested:
            continue
        names = list(tested[0][1]['classes'])
        if not lines:
            lines = ['| ' + ' | '.join(['row', 'seed', *names, 'mAP']) + ' |', '| --- ' * (len(names) + 3) + '|']
        scores = [[100 * results['classes'][k]['ap'] for k in names] + [score(results)] for _, results in tested]
        for (seed, _), ap in zip(tested, scores, strict=True):
            lines.append('| ' + ' | '.join([row.title, str(seed), *(f'{x:.1f}' for x in ap)]) + ' |')
        if len(scores) > 1:
            spread = [f'{statistics.mean(x):.1f} ± {statistics.stdev(x):.1f}' for x in zip(*scores, strict=True)]
            lines.append('| ' + ' | '.join([f'**{row.title}**', 'mean ± std', *spread]) + ' |')
    return '\n'.join(lines) + '\n'


def write_table(number: int, on: str, rows: list[Row], records: dict[str, list[dict]], iters: int | None) -> None:
    """Writes both forms."""
    path = ROOT / 'output' / 'reproduce' / on / f'table_{number}'
    write(path.with_suffix('.md'), markdown(number, on, rows, records, iters))
    listed = []
    for row in rows:
        fields = {name: value.name if isinstance(value, Row) else value for name, value in vars(row).items()}
        listed.append({**fields, 'runs': records[row.name]})
    write(path.with_suffix('.json'), json.dumps({'table': number, 'on': on, 'rows': listed}, indent=1) + '\n')


def main() -> None:
    args = parse_args()
    table = TABLES[args.table]
    on = args.on or table.on
    if args.table == 2:
        cost.run_table(on, args.row, args.gpu, args.list)
        return
    every = chosen_rows(table, on, [], False)
    rows = chosen_rows(table, on, args.row, args.paper_only)
    if on == 'demo' and not args.list:
        make_demo_data()
    runs = {row.name: [Run(row, on, seed, args.iters, args.gpu) for seed in args.seeds] for row in every}
    failed: dict[tuple[str, int], str] = {}

    def known() -> dict[str, list[dict]]:
        return {name: [record(run, failed.get((name, run.seed))) for run in of_row] for name, of_row in runs.items()}

    # seed by seed, so that a table that is cut short has all its rows
    for k in range(0 if args.list else len(args.seeds)):
        for row in rows:
            run = runs[row.name][k]
            began = time.perf_counter()
            try:
                if run.results() is not None:
                    continue
                doing, where = 'testing' if run.weights() else 'training', os.path.relpath(run.folder(), ROOT)
                print(f'{row.name}, seed {run.seed}: {doing} in {where}', flush=True)
                results = run.test()
                value, seconds = score(results), time.perf_counter() - began
                print(f'  {"done" if value is None else format(value, ".1f")} after {seconds:.0f} s', flush=True)
            except (RunFailed, FileNotFoundError) as error:
                failed[row.name, run.seed] = str(error)
                print(f'  failed: {error}', flush=True)
            write_table(args.table, on, every, known(), args.iters)
    print('\n' + markdown(args.table, on, every if args.list else rows, known(), args.iters))
    if args.classes:
        print(by_class(rows, known()))
    if failed:
        raise RunFailed(f'{len(failed)} of {len(rows) * len(args.seeds)} runs failed; see above')


if __name__ == '__main__':
    run_main(main)
