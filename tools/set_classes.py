#!/usr/bin/env python3
"""Writes a detection net's prototxt for another number of classes: num_classes, cls_score and bbox_pred.

tools/set_classes.py models/pascal_voc/VGG16/fast_rcnn_ohem/train.prototxt --classes 2 --out train.prototxt
"""

import _init_paths  # noqa: F401

import argparse
import os

import whole_file
from _command_line import parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('prototxt', metavar='FILE', help='of a net to train or to test')
    parser.add_argument('--classes', type=int, required=True, metavar='K', help='without the background')
    parser.add_argument('--out', required=True, metavar='FILE', help='where to write; never over the original')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from projects.set_classes import set_classes

    if args.classes < 1:
        raise ValueError(f'--classes is {args.classes}; expected 1 or more')
    if os.path.realpath(args.prototxt) == os.path.realpath(args.out):
        raise ValueError(f'--out is the file itself, {args.prototxt}: give another')
    with open(args.prototxt, encoding='utf-8') as stream:
        text = set_classes(stream.read(), args.classes + 1, args.prototxt)
    whole_file.write_text(args.out, text)
    print(f'{args.out}: for {args.classes} classes and the background')


if __name__ == '__main__':
    run(main)
