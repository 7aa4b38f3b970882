#!/usr/bin/env python3
"""Sorts the mistakes of a tested net: confusion, localisation, duplicate, background, missed; with pictures.

tools/visualize_errors.py output/demo_ohem/demo_test/small_fast_rcnn_ohem_iter_1400 \\
    --imdb folder:data/demo:test --out errors

Reads the detections.npz that tools/test_net.py has saved. Writes a sheet of the worst mistakes of each kind
(confusion.png, ...), their number by class (errors.png) and all of them (errors.json). Of a missed object it says why:
no proposal, low score, wrong class, box off, or that its detection counts for a neighbour.
"""

import _init_paths  # noqa: F401

import argparse
import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import whole_file
from _command_line import parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('results', metavar='FOLDER', help='the folder with detections.npz')
    parser.add_argument('--imdb', dest='imdb_name', help='data set (default: the one that results.json there names)')
    parser.add_argument(
        '--det_thresh', type=float, default=0.5, help='least score of a detection looked at (default: 0.5)'
    )
    parser.add_argument(
        '--iou', type=float, default=0.5, help='IoU that a right detection has to exceed (default: 0.5)'
    )
    parser.add_argument(
        '--proposals',
        default='selective_search',
        metavar='METHOD',
        help="whose proposals the net had (default: selective_search); 'none' for a net with an RPN",
    )
    parser.add_argument('--most', type=int, default=12, help='mistakes drawn of each kind (default: 12)')
    parser.add_argument(
        '--out', default='output/errors', metavar='FOLDER', help='where to write (default: output/errors)'
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from fast_rcnn.detections_file import results_in
    from inspection.detection_errors import KINDS, REASONS, sort_detections, why_missed
    from inspection.error_pictures import draw_counts, draw_sheet

    if not 0 <= args.iou <= 1:
        raise ValueError(f'--iou is {args.iou}; expected a number from 0 to 1')
    if args.most < 1:
        raise ValueError(f'--most is {args.most}; expected 1 or more')
    imdb, all_boxes = results_in(args.results, args.imdb_name)
    classes = list(imdb.classes)
    if not math.isfinite(args.det_thresh) or not (0 <= args.det_thresh <= 1 or of_svms(all_boxes)):
        raise ValueError(f'--det_thresh is {args.det_thresh}; expected a number from 0 to 1, of SVMs any')
    proposals_of = proposals_by(imdb, args.proposals)
    os.makedirs(args.out, exist_ok=True)
    whole_file.check_place(os.path.join(args.out, 'errors.json'))
    sorted_out, objects = [], 0
    for i in range(imdb.num_images):
        annotation = imdb.annotation(i)
        objects += int((~annotation['difficult']).sum())
        dets = [of_class[i][of_class[i][:, 4] >= args.det_thresh] for of_class in all_boxes]
        truth = (annotation['boxes'], annotation['gt_classes'], annotation['difficult'])
        for entry in sort_detections(dets, *truth, iou_threshold=args.iou):
            k = entry['object']
            entry['object_box'] = None if k is None else [float(v) for v in annotation['boxes'][k]]
            entry['object_class'] = None if k is None else classes[int(annotation['gt_classes'][k])]
            if entry['kind'] == 'missed':
                entry['why'], entry['why_in_words'] = why_missed(
                    np.array(entry['box']), entry['cls'], [of_class[i] for of_class in all_boxes], classes,
                    args.det_thresh, proposals_of(i), args.iou,
                )  # fmt: skip
            sorted_out.append({**entry, 'class': classes[entry.pop('cls')], 'image': imdb.image_path_at(i)})

    kinds = ('right', *KINDS)
    counts = {name: dict.fromkeys(kinds, 0) for name in classes[1:]}
    for entry in sorted_out:
        if entry['kind'] in kinds:
            counts[entry['class']][entry['kind']] += 1
    total = {k: sum(of_class[k] for of_class in counts.values()) for k in kinds}
    mistakes = {
        k: sorted((e for e in sorted_out if e['kind'] == k), key=lambda e: (-(e['score'] or 0), e['iou']))
        for k in KINDS
    }
    why = {reason: sum(e['why'] == reason for e in mistakes['missed']) for reason in REASONS}
    summary = {
        'imdb': imdb.name,
        'images': imdb.num_images,
        'objects': objects,
        'det_thresh': args.det_thresh,
        'iou_threshold': args.iou,
        'total': total,
        'classes': counts,
        'missed': why,
        'mistakes': mistakes,
    }
    target = os.path.join(args.out, 'errors.json')
    whole_file.write_text(target, json.dumps(summary, indent=1))
    for kind in KINDS:
        sheet = os.path.join(args.out, f'{kind}.png')
        if mistakes[kind]:
            draw_sheet(sheet, mistakes[kind][: args.most], kind, len(mistakes[kind]), classes)
        elif os.path.exists(sheet):
            os.remove(sheet)  # of another run: there is no such mistake now
    draw_counts(os.path.join(args.out, 'errors.png'), counts, KINDS)

    width = max(map(len, [*counts, 'class']))
    print(f'{"class":<{width}}' + ''.join(f'{k:>14}' for k in kinds))
    for name, row in [*counts.items(), ('all', total)]:
        print(f'{name:<{width}}' + ''.join(f'{row[k]:>14}' for k in kinds))
    if mistakes['missed']:
        print('missed: ' + ', '.join(f'{reason} {n}' for reason, n in why.items() if n))
    print(f'Detections of score {args.det_thresh} or more, {objects} objects; pictures and JSON in {args.out}')


def of_svms(all_boxes: list) -> bool:
    """Whether scores lie beyond 0 and 1, which probabilities never do."""
    scores = [of_image[:, 4] for of_class in all_boxes for of_image in of_class if len(of_image)]
    return any(part.min() < 0 or part.max() > 1 for part in scores)


def proposals_by(imdb: Any, method: str) -> Callable:
    """A function of the number of an image: its proposals, or None if they are not known, which is said."""
    if method == 'none':
        return lambda i: None
    imdb.set_proposal_method(method)
    try:
        imdb.proposals_of(0)
    except (ValueError, OSError) as error:
        print(f'Without proposals, so some reasons are not known ({error})')
        return lambda i: None
    return imdb.proposals_of


if __name__ == '__main__':
    run(main)
