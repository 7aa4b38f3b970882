#!/usr/bin/env python3
"""Writes the prototxts of ResNet-50 and MobileNet-v2 with Fast R-CNN, Faster R-CNN or R-FCN: all in models/, or one.

tools/make_nets.py
tools/make_nets.py --net ResNet-50 --method rfcn_end2end_ohem --classes 3 --out models/mine/rfcn

Without --method all those in models/pascal_voc and models/coco are written again, as lib/detection_nets has them.
"""

import _init_paths  # noqa: F401

import argparse
import dataclasses
import os

import whole_file
from _command_line import parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--net', choices=('ResNet-50', 'MobileNet-v2'), default='ResNet-50', help='the backbone')
    parser.add_argument('--method', metavar='NAME', help='such as fast_rcnn_ohem: a folder of models/pascal_voc/<net>')
    parser.add_argument('--classes', type=int, default=20, metavar='K', help='without the background (default: 20)')
    parser.add_argument(
        '--form',
        choices=('published', 'torchvision'),
        help="of ResNet-50: its authors', BatchNorm frozen (default of R-FCN), or torchvision's, BatchNorm folded",
    )
    parser.add_argument(
        '--width',
        type=float,
        default=1.0,
        metavar='X',
        help='of the layers, for trials: 0.25 has a quarter as many maps',
    )
    parser.add_argument('--out', metavar='FOLDER', help='where to write the one net; a new or an empty folder')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from detection_nets.files import DATA_SETS, METHODS, backbone_of, net_files, shipped

    if args.method is None:
        if args.out is not None:
            raise ValueError('--out is for one net: give its --method, such as fast_rcnn_ohem')
        _write(shipped(), os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
        return
    if args.method not in METHODS:
        raise ValueError(f'--method {args.method}: there are {", ".join(METHODS)}')
    if args.out is None:
        raise ValueError('--method writes one net: say where, with --out FOLDER')
    if os.path.isdir(args.out) and os.listdir(args.out):
        raise ValueError(f'--out {args.out}: there are files in this folder; give a new one')
    if args.classes < 1:
        raise ValueError(f'--classes is {args.classes}; expected 1 or more')
    if not 0 < args.width <= 4:
        raise ValueError(f'--width is {args.width}; expected a number above 0, up to 4')
    backbone = backbone_of(args.net, args.method, args.width, args.form or '')
    data = dataclasses.replace(DATA_SETS['pascal_voc'], num_classes=args.classes + 1)
    _write(net_files(args.out, backbone, args.method, data), args.out)


def _write(files: dict[str, str], folder: str) -> None:
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
        whole_file.write_text(path, text)
    print(f'{len(files)} files written below {folder}')


if __name__ == '__main__':
    run(main)
