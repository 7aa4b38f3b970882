#!/usr/bin/env python3
"""Looks for what is wrong with a data set: images, annotations, proposals. Changes nothing.

tools/check_dataset.py --imdb folder:data/demo:train+folder:data/demo:test
tools/check_dataset.py --imdb coco:labels.json:images --method gt      before there are proposals

Its exit status is 1 if training would refuse the set, 0 if not.
"""

import _init_paths  # noqa: F401

import os

from tqdm import tqdm

from _command_line import parser_of, run
from detection_data.factory import joined_names
from detection_data.findings import format_report, look_at
from detection_data.image_file import write_turned
from fast_rcnn.config import cfg, cfg_from_file


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument('--imdb', required=True, metavar='NAME', help='data set, or several joined by +')
    parser.add_argument(
        '--method',
        default='selective_search',
        help="proposals to look at (default: selective_search); 'gt': none",
    )
    parser.add_argument('--cfg', metavar='FILE', help='settings of the training: to what size images are scaled')
    parser.add_argument(
        '--fix',
        metavar='FOLDER',
        help='write copies, turned as shown, of images whose annotations are for that; the originals stay as they are',
    )
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='threads that read images')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f'--jobs is {args.jobs}; expected 1 or more')
    if args.cfg is not None:
        cfg_from_file(args.cfg)
    refused = False
    for name in joined_names(args.imdb):
        with tqdm(unit='image', desc=name, disable=None, leave=False) as bar:
            report = look_at(name, args.method, args.jobs, bar.update, cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE)
        print(format_report(report))
        if args.fix is not None and report.turned:
            write_copies(report.turned, args.fix)
        refused = refused or report.refused
    return int(refused)


def write_copies(paths: list[str], folder: str) -> None:
    """Write turned copies of images, as they lie below the folder that they have in common."""
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    if os.path.realpath(root) == os.path.realpath(folder):
        raise ValueError(f'--fix {folder}: the copies would be written over the originals; give another folder')
    for path in paths:
        write_turned(path, os.path.join(folder, os.path.relpath(path, root)))
    print(f'{len(paths)} turned copies are in {folder}: put them in place of the images in {root}')


if __name__ == '__main__':
    run(main)
