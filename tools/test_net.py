#!/usr/bin/env python3
"""Tests a trained network on a data set: detections, AP of each class, mAP.

tools/test_net.py --gpu cpu --def models/demo/small/fast_rcnn_ohem/test.prototxt \\
    --net output/demo_ohem/demo_train/small_fast_rcnn_ohem_iter_1000.caffemodel \\
    --imdb folder:data/demo:test --cfg experiments/cfgs/demo_ohem.yml
"""

import _init_paths  # noqa: F401

import argparse
import os
import time

from _command_line import add_flags, configure, parser_of, run
from _project import add_project_flags, make_proposals, model_to_test, need, project_of


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_project_flags(parser)
    parser.add_argument('--def', dest='prototxt', metavar='FILE', help='test prototxt')
    parser.add_argument('--net', dest='caffemodel', metavar='FILE', help='trained weights (.caffemodel)')
    parser.add_argument('--imdb', dest='imdb_name', help="data set (default: voc_2007_test, or the project's)")
    parser.add_argument(
        '--comp',
        dest='comp_mode',
        action='store_true',
        help='accepted for old scripts: result files always have their plain names',
    )
    parser.add_argument('--num_dets', dest='max_per_image', type=int, default=100, help='detections kept an image')
    parser.add_argument(
        '--det_thresh', type=float, help='least score of a detection (default: 0.05; of SVMs -1.5, as in R-CNN)'
    )
    parser.add_argument('--wait', action='store_true', help='wait until the weights exist')
    add_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.max_per_image < 0:
        raise ValueError(f'--num_dets is {args.max_per_image}; expected 0, for all, or more')
    project = project_of(args)
    if project is not None:
        args.prototxt = args.prototxt or project.path(args.method, 'test.prototxt')
        args.imdb_name = args.imdb_name or project.imdb(project.splits[-1])
    need(args, prototxt='--def', **({} if project else {'caffemodel': '--net'}))
    args.imdb_name = args.imdb_name or 'voc_2007_test'
    if not os.path.isfile(args.prototxt):
        raise FileNotFoundError(f'there is no test prototxt {args.prototxt}')
    while args.wait and args.caffemodel and not os.path.exists(args.caffemodel):
        print(f'Waiting for {args.caffemodel} to exist...')
        time.sleep(10)
    if args.caffemodel and not os.path.isfile(args.caffemodel):
        raise FileNotFoundError(f'there are no trained weights {args.caffemodel}; tools/train_net.py makes them')
    configure(args)

    from detection_data.factory import get_imdb
    from fast_rcnn.config import cfg
    from fast_rcnn.model_card import follow_classifier, match_classes, note_other_settings, read_card
    from fast_rcnn.test import load_net, test_net

    if project is not None:
        args.caffemodel = args.caffemodel or model_to_test(project, args.method, args.run)
        make_proposals(args.imdb_name)
    imdb = get_imdb(args.imdb_name)
    imdb.set_proposal_method(cfg.TEST.PROPOSAL_METHOD)
    if args.comp_mode:
        print('--comp: nothing to change, result files always have their plain names and are kept')
    card = read_card(args.caffemodel)
    match_classes(imdb, card, args.caffemodel)
    note_other_settings(card, args.caffemodel)
    follow_classifier(card, args.caffemodel)
    if args.det_thresh is None:
        args.det_thresh = -1.5 if cfg.TEST.SVM else 0.05
    net = load_net(args.prototxt, args.caffemodel)
    test_net(net, imdb, max_per_image=args.max_per_image, thresh=args.det_thresh)


if __name__ == '__main__':
    run(main, parse_args)
