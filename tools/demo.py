#!/usr/bin/env python3
"""Draws detections on images: finds proposals, runs the detector, writes PNGs and detections.json.

tools/demo.py --gpu cpu --def models/demo/small/fast_rcnn_ohem/test.prototxt \\
    --net output/demo_ohem/demo_train/small_fast_rcnn_ohem_iter_1400.caffemodel \\
    --classes data/demo/classes.txt \\
    --cfg experiments/cfgs/demo_ohem.yml --images data/demo/JPEGImages/test_000*.jpg --proposals auto \\
    --out output/demo_pictures

--proposals auto is selective search, of photographs wider than 500 pixels at that width, as Fast R-CNN's
boxes were made; random boxes where OpenCV lacks it. A net with an RPN proposes by itself (TEST.HAS_RPN in --cfg).
"""

import _init_paths  # noqa: F401

import argparse
import json
import os
import sys
from collections import Counter

from _command_line import add_flags, configure, parser_of, run
from _project import add_project_flags, model_to_test, need, pictures_of, project_of


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_project_flags(parser)
    parser.add_argument('--def', dest='prototxt', metavar='FILE', help='test prototxt')
    parser.add_argument('--net', dest='caffemodel', metavar='FILE', help='trained weights (.caffemodel)')
    parser.add_argument(
        'photographs',
        nargs='*',
        metavar='FILE',
        help='photographs: files, folders, patterns, or a .txt that lists them',
    )
    parser.add_argument('--images', nargs='+', default=[], metavar='FILE', help='photographs, too')
    parser.add_argument(
        '--classes',
        metavar='FILE',
        help='names of the classes, one a line (default: those that the weights name, else of PASCAL VOC)',
    )
    parser.add_argument(
        '--out', metavar='FOLDER', help="where pictures go (default: output/demo, or beside the project's models)"
    )
    parser.add_argument(
        '--proposals',
        choices=('auto', 'selective_search', 'selective_search_quality', 'random'),
        default='auto',
        help='where objects are looked for (default: auto, see below)',
    )
    parser.add_argument(
        '--truth',
        metavar='NAME',
        help="data set whose objects are drawn too, where it has the photograph (a project's)",
    )
    parser.add_argument(
        '--det_thresh', type=float, help='least score of a detection drawn (default: 0.6; of SVMs 0, where they decide)'
    )
    add_flags(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    args.images = [*args.photographs, *args.images]
    if not args.images:
        raise ValueError('no photographs: name them, as in tools/demo.py --project fruit photo.jpg')
    project = project_of(args)
    if project is not None:
        args.prototxt = args.prototxt or project.path(args.method, 'test.prototxt')
    need(args, prototxt='--def', **({} if project else {'caffemodel': '--net'}))
    for path in filter(None, (args.prototxt, args.caffemodel)):
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no file {path}')
    if args.classes is not None and not os.path.isfile(args.classes):
        raise FileNotFoundError(f'there is no file of class names {args.classes} (--classes)')
    configure(args)
    if project is not None:
        args.caffemodel = args.caffemodel or model_to_test(project, args.method)
    from detection_data.image_list import listed_images

    args.images = listed_images(args.images)
    args.out = args.out or ('output/demo' if project is None else pictures_of(project))
    targets = [os.path.join(args.out, name + '.png') for name in picture_names(args.images)]
    for path, target in zip(args.images, targets, strict=True):
        if os.path.realpath(path) == os.path.realpath(target):
            raise ValueError(f'the picture of {path} would be written over it: give another folder as --out')

    import cv2
    from tqdm import tqdm

    import whole_file
    from detection_data.factory import get_imdb
    from detection_data.image_file import ImageError, image_scale, read_image
    from detection_data.pascal_voc import VOC_CLASSES, listed_classes
    from detection_data.proposal_methods import propose
    from fast_rcnn.config import cfg
    from fast_rcnn.model_card import class_names, follow_classifier, note_other_settings, read_card
    from fast_rcnn.test import detections, im_detect, load_net
    from inspection.draw import draw_detections
    from whole_file.picture import write_picture

    card = read_card(args.caffemodel)
    note_other_settings(card, args.caffemodel)
    follow_classifier(card, args.caffemodel)
    if args.det_thresh is None:
        args.det_thresh = 0.0 if cfg.TEST.SVM else 0.6
    listed = None if args.classes is None else listed_classes(args.classes)
    names = class_names(card, args.caffemodel, listed, args.classes) or list(VOC_CLASSES)
    net = load_net(args.prototxt, args.caffemodel)
    num_classes = net.blobs['cls_prob'].data.shape[1]
    if num_classes != len(names) + 1:
        raise ValueError(
            f'{args.prototxt} scores {num_classes} classes with the background, but there are {len(names)} '
            f'names ({args.classes or "those of PASCAL VOC"}): give the right --classes'
        )
    if args.proposals == 'auto' and not cfg.TEST.HAS_RPN and not hasattr(cv2, 'ximgproc'):
        print('This OpenCV has no selective search (opencv-contrib-python-headless has): random boxes instead')
    objects = {} if args.truth is None else objects_of(get_imdb(args.truth), args.images)
    if args.truth is None and project is not None:
        for split in project.splits:
            objects |= objects_of(get_imdb(project.imdb(split)), args.images)
    os.makedirs(args.out, exist_ok=True)
    found, unread = {}, []
    for path, target in zip(tqdm(args.images, unit='image', disable=None), targets, strict=True):
        try:
            image = read_image(path)
            image_scale(image.shape[0], image.shape[1], min(cfg.TEST.SCALES), cfg.TEST.MAX_SIZE)
        except ImageError as error:
            unread.append(path)
            print(f'left out: {error if path in str(error) else f"{path}: {error}"}', file=sys.stderr)
            continue
        method, width, boxes = args.proposals, None, None
        if method == 'auto':
            method = 'selective_search' if hasattr(cv2, 'ximgproc') else 'random'
            width = 500 if image.shape[1] > 500 else None
        if not cfg.TEST.HAS_RPN:
            boxes = propose(image, method, os.path.basename(path), cfg.RNG_SEED, resize_to=width)
        scores, predicted = im_detect(net, image, boxes)
        per_class = detections(scores, predicted, 100, args.det_thresh)
        found[path] = [
            {
                'class': names[c],
                'score': round(float(row[4]), 4),
                'box': [round(float(v), 1) for v in row[:4]],
            }
            for c, dets in enumerate(per_class)
            for row in dets
        ]
        picture = draw_detections(image, found[path], names, objects.get(path))
        write_picture(target, picture)
    target = os.path.join(args.out, 'detections.json')
    whole_file.write_text(target, json.dumps(found, indent=1))
    print(
        f'{sum(map(len, found.values()))} detections in {len(found)} images: pictures and detections.json '
        f'are in {args.out}'
    )
    if unread:
        print(f'{len(unread)} of {len(args.images)} photographs were left out', file=sys.stderr)
    return int(bool(unread))


def picture_names(paths: list[str]) -> list[str]:
    """A name for the picture of each image: its own, without extension; of several alike what their paths differ by."""
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    alike = Counter(stems)
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    names: dict[str, None] = {}
    for path, stem in zip(paths, stems, strict=True):
        name = stem if alike[stem] == 1 else os.path.relpath(os.path.abspath(path), root).replace(os.sep, '_')
        while name in names:
            name += '_'
        names[name] = None
    return list(names)


def objects_of(imdb, paths: list[str]) -> dict:
    """{path: boxes (n, 4) of the objects} of those photographs that a data set has."""
    wanted = {os.path.realpath(path): path for path in paths}
    names = {os.path.basename(path) for path in wanted}
    found = {}
    for i in range(imdb.num_images):
        try:
            path = imdb.image_path_at(i)
        except ValueError:  # another photograph, which is gone
            continue
        if os.path.basename(path) in names and os.path.realpath(path) in wanted:
            found[wanted[os.path.realpath(path)]] = imdb.annotation(i)['boxes']
    return found


if __name__ == '__main__':
    run(main)
