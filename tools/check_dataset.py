#!/usr/bin/env python3
"""Looks for what is wrong with a data set: images, annotations, proposals. Changes nothing.

tools/check_dataset.py --imdb folder:data/demo:train+folder:data/demo:test
tools/check_dataset.py --imdb coco:labels.json:images --method gt      before there are proposals

Its exit status is 1 if training would refuse the set, 0 if not.
"""

import os

from tqdm import tqdm

import _init_paths  # noqa: F401
from _command_line import parser_of, run
from detection_data.factory import joined_names
from detection_data.findings import format_report, look_at


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument('--imdb', required=True, metavar='NAME', help='data set, or several joined by +')
    parser.add_argument(
        '--method',
        default='selective_search',
        help="proposals to look at (default: selective_search); 'gt': none",
    )
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='threads that read images')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f'--jobs is {args.jobs}; expected 1 or more')
    refused = False
    for name in joined_names(args.imdb):
        with tqdm(unit='image', desc=name, disable=None, leave=False) as bar:
            report = look_at(name, args.method, args.jobs, bar.update)
        print(format_report(report))
        refused = refused or report.refused
    return int(refused)


if __name__ == '__main__':
    run(main)
