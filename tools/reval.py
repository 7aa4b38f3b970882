#!/usr/bin/env python3
"""Evaluates detections again that tools/test_net.py has saved.

tools/reval.py output/demo_ohem/demo_test/small_fast_rcnn_ohem_iter_1000 --imdb folder:data/demo:test --nms
"""

import _init_paths  # noqa: F401

import argparse

from _command_line import parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('output_dir', help='the folder with detections.npz')
    parser.add_argument('--imdb', dest='imdb_name', help='data set (default: the one that results.json there names)')
    parser.add_argument(
        '--nms', type=float, nargs='?', const=0.3, metavar='IOU', help='apply NMS first (at 0.3 unless given)'
    )
    parser.add_argument('--iou', type=float, default=0.5, help='IoU that a detection has to exceed (default: 0.5)')
    parser.add_argument('--metric', choices=('07', 'area'), help="11-point AP or the area; default: the data set's own")
    parser.add_argument(
        '--comp', dest='comp_mode', action='store_true', help='accepted for old scripts: changes nothing'
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from fast_rcnn.detections_file import results_in
    from fast_rcnn.nms import nms

    for flag, value in (('--iou', args.iou), ('--nms', args.nms)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f'{flag} is {value}; expected an IoU, from 0 to 1')
    imdb, all_boxes = results_in(args.output_dir, args.imdb_name)
    if args.nms is not None:
        all_boxes = [[dets[nms(dets, args.nms)] for dets in of_class] for of_class in all_boxes]
    metric = None if args.metric is None else args.metric == '07'
    imdb.evaluate_detections(all_boxes, args.output_dir, iou_threshold=args.iou, use_07_metric=metric)


if __name__ == '__main__':
    run(main)
