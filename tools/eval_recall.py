#!/usr/bin/env python3
"""Recall of a data set's proposals: at IoU 0.5 and 0.7, averaged over IoU (AR), and by the size of objects.

tools/eval_recall.py --imdb voc_2007_test --method selective_search
tools/eval_recall.py --imdb folder:data/demo:test --max_boxes 300
"""

import _init_paths  # noqa: F401

import argparse
import json

import numpy as np

import ranks
import whole_file
from _command_line import parser_of, run
from detection_data.factory import get_imdb
from detection_data.recall import SIZES, best_overlaps, recall_table


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--imdb', required=True, metavar='NAME', help='data set, or several joined by +')
    parser.add_argument('--method', default='selective_search', help='proposals (default: selective_search)')
    parser.add_argument('--max_boxes', type=int, metavar='N', help='the first N boxes of each image only')
    parser.add_argument('--json', metavar='FILE', help='write the numbers there too')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args()
    if args.max_boxes is not None and args.max_boxes < 1:
        raise ValueError(f'--max_boxes is {args.max_boxes}; expected 1 or more')
    return args


def main() -> None:
    args = parse_args()
    if args.json and ranks.is_root():
        whole_file.check_place(args.json)
    data_set = get_imdb(args.imdb)
    data_set.set_proposal_method(args.method)
    overlaps = best_overlaps(data_set, args.max_boxes, ranks.mine(range(data_set.num_images)))
    of_ranks = ranks.gather(list(overlaps))  # in the order of the images
    if of_ranks is None:
        return
    table = recall_table(*map(np.concatenate, zip(*of_ranks, strict=True)))
    boxes = 'all boxes' if args.max_boxes is None else f'the first {args.max_boxes} boxes of each image'
    print(f'{data_set.name}: {data_set.num_images} images, {args.method}, {boxes}')
    print('objects                    number  recall at 0.5  recall at 0.7      AR')
    for name, r in table.items():
        low, high = SIZES[name]
        upper = f'< {high**0.5:.0f}²' if high < float('inf') else f'>= {low**0.5:.0f}²'
        label = 'all' if name == 'all' else f'{name} ({upper} pixels)'
        low_iou, high_iou, mean = (
            f'{r[key]:.4f}' if r['objects'] else 'n/a' for key in ('recall_50', 'recall_70', 'AR')
        )
        print(f'{label:24} {r["objects"]:8d} {low_iou:>14} {high_iou:>14} {mean:>7}')
    if args.json:
        numbers = {k: {n: v if v == v else None for n, v in r.items()} for k, r in table.items()}
        whole_file.write_text(args.json, json.dumps(numbers, indent=1) + '\n')


if __name__ == '__main__':
    run(main, parse_args)
