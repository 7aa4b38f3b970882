#!/usr/bin/env python3
"""Looks for what is wrong with a data set: images, annotations, proposals. Changes nothing.

tools/check_dataset.py --imdb folder:data/demo:train+folder:data/demo:test
tools/check_dataset.py --imdb coco:labels.json:images --method gt      before there are proposals
tools/check_dataset.py --imdb folder:data/demo:train --cfg experiments/cfgs/demo_ohem.yml --show pictures

--show draws the first mini-batches as training sees them: scaled, mirrored, and changed by TRAIN.AUGMENT, with the
objects in them. Its exit status is 1 if training would refuse the set, 0 if not.
"""

import _init_paths  # noqa: F401

import argparse
import math
import os
import sys

from tqdm import tqdm

from _command_line import parser_of, run
from detection_data.factory import get_imdb, joined_names
from detection_data.findings import SHOWN, format_report, look_at
from detection_data.image_file import write_turned
from fast_rcnn.config import cfg, cfg_from_file, cfg_from_list
from inspection.draw import draw_objects
from roi_data_layer.augmentation import entry_of, named
from roi_data_layer.minibatch import image_in
from roi_data_layer.prefetch import BatchMaker
from roi_data_layer.roidb import Roidb
from whole_file.picture import write_picture


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
    parser.add_argument('--all', action='store_true', help='name every place of each kind, not the first three')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='threads that read images')
    parser.add_argument(
        '--show', metavar='FOLDER', help='draw images and objects as training sees them, by the settings, into it'
    )
    parser.add_argument('--batches', type=int, default=6, help='mini-batches to show (default: 6)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    parser.add_argument(
        '--set', dest='set_cfgs', nargs=argparse.REMAINDER, default=[], metavar='KEY VALUE', help='settings, at the end'
    )
    args = parser.parse_args()
    if args.jobs < 1:
        raise ValueError(f'--jobs is {args.jobs}; expected 1 or more')
    if args.batches < 1:
        raise ValueError(f'--batches is {args.batches}; expected 1 or more')
    if args.cfg is not None:
        cfg_from_file(args.cfg)
    cfg_from_list([word for word in args.set_cfgs if word != '--debug'])  # --set takes all that follows it
    shown = math.inf if args.all else SHOWN
    refused = False
    for name in joined_names(args.imdb):
        with tqdm(unit='image', desc=name, disable=None, leave=False) as bar:
            report = look_at(name, args.method, args.jobs, bar.update, cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE, shown)
        print(format_report(report))
        if args.fix is not None and report.turned:
            write_copies(report.turned, args.fix)
        refused = refused or report.refused
    if args.show is not None:
        if refused:
            print('--show: nothing is drawn of a set that training would refuse', file=sys.stderr)
        else:
            show(args.imdb, args.method, args.show, args.batches)
    return int(refused)


def show(name: str, method: str, folder: str, batches: int) -> None:
    """Draw the images of the first mini-batches, and the objects in them, as training sees them."""
    imdb = get_imdb(name)
    imdb.set_proposal_method(method)
    roidb = Roidb(imdb)
    make = BatchMaker(roidb, imdb.num_classes)
    os.makedirs(folder, exist_ok=True)
    for n in range(batches):
        blobs, indices = make(n)
        for k, i in enumerate(indices):
            entry = entry_of(roidb, int(i), n)
            objects = entry['gt_classes'] > 0
            pixels, scale = image_in(blobs, k, entry)
            picture = draw_objects(pixels, entry['boxes'][objects] * scale, entry['gt_classes'][objects], imdb.classes)
            path = os.path.join(folder, f'batch_{n:03d}_{k}.png')
            write_picture(path, picture)
            print(f'{path}: {named(entry)}, {pixels.shape[1]} x {pixels.shape[0]} pixels for the net')


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
