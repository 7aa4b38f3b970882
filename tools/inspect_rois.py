#!/usr/bin/env python3
"""Shows what OHEM mines: a page to explore (index.html), and pictures, all RoIs beside those mined.

tools/inspect_rois.py --gpu cpu --solver models/demo/small/fast_rcnn_ohem/solver.prototxt \\
    --weights output/demo_ohem/demo_train/small_fast_rcnn_ohem_iter_1400.caffemodel \\
    --imdb folder:data/demo:train --cfg experiments/cfgs/demo_ohem.yml --out report

Either kind of snapshot will do. Those for testing (_iter_N) predict plain box regressions, those for resuming
(_resume_iter_N) normalised ones, as mining needs them: which it is is found out by running the net once,
and said.
"""

import _init_paths  # noqa: F401

import argparse
import os

from _command_line import add_flags, configure, parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--solver', required=True, metavar='FILE', help='solver prototxt of an OHEM net')
    parser.add_argument('--weights', required=True, metavar='FILE', help='a snapshot of it (.caffemodel)')
    parser.add_argument(
        '--imdb', dest='imdb_name', default='voc_2007_trainval', help='data set (default: voc_2007_trainval)'
    )
    parser.add_argument('--batches', type=int, default=4, help='mini-batches to show (default: 4)')
    parser.add_argument('--first', type=int, default=0, help='number of the first mini-batch (default: 0)')
    parser.add_argument(
        '--bbox_pred',
        choices=('auto', 'plain', 'normalised'),
        default='auto',
        help='what the weights predict (default: auto, found out by their loss)',
    )
    parser.add_argument(
        '--out', default='output/report', metavar='FOLDER', help='where to write (default: output/report)'
    )
    add_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    for path, what in ((args.solver, 'solver prototxt'), (args.weights, 'snapshot')):
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no {what} {path}')
    if args.batches < 1 or args.first < 0:
        raise ValueError(f'--batches must be 1 or more and --first 0 or more; given {args.batches}, {args.first}')
    configure(args)

    import caffe
    from detection_data.factory import get_imdb
    from fast_rcnn.config import cfg
    from fast_rcnn.model_card import match_classes, read_card
    from fast_rcnn.train import get_training_roidb
    from inspection.draw import draw_mined_rois
    from inspection.hard_rois import load_training_net, mined, normalise_regression, python_layer
    from inspection.report import write_report
    from roi_data_layer.layer import HardRoiMiningLayer, RoIDataLayer
    from roi_data_layer.roidb import add_bbox_regression_targets
    from whole_file.picture import write_picture

    imdb = get_imdb(args.imdb_name)
    imdb.set_proposal_method(cfg.TRAIN.PROPOSAL_METHOD)
    match_classes(imdb, read_card(args.weights), args.weights)
    roidb = get_training_roidb(imdb)
    net = load_training_net(args.solver, args.weights)
    data, mining = python_layer(net, RoIDataLayer), python_layer(net, HardRoiMiningLayer)
    if data is None or mining is None:
        raise ValueError(f'the net of {args.solver} has no RoIDataLayer with a HardRoiMiningLayer: nothing is mined')
    data.set_roidb(roidb)
    caffe.set_random_seed(cfg.RNG_SEED)
    reading = normalise_regression(net, *add_bbox_regression_targets(roidb), args.bbox_pred)
    print(f'{args.weights}: {reading}')
    print(f'mined by {mining.rule}')
    os.makedirs(args.out, exist_ok=True)
    batches = []
    for number in range(args.first, args.first + args.batches):
        data.set_position(number)
        mining.set_position(number)
        caffe.set_random_seed(cfg.RNG_SEED)  # of dropout: the same run shows the same losses
        net.forward()
        batches.append(mined(net))
        for i in range(len(batches[-1].images)):
            path = os.path.join(args.out, f'mined_{number:03d}_{i}.png')
            write_picture(path, draw_mined_rois(batches[-1], i, imdb.classes))
        labels, kept = batches[-1].labels, batches[-1].kept
        objects = int((labels[kept] > 0).sum())
        print(f'mini-batch {number}: {len(labels)} RoIs, {len(kept)} mined, {objects} of them objects')
    page = os.path.join(args.out, 'index.html')
    settings = {
        'weights': args.weights,
        'data set': imdb.name,
        'mining rule': mining.rule,
        'RoIs mined of a mini-batch': cfg.TRAIN.BATCH_SIZE,
        'NMS': f'IoU {cfg.TRAIN.OHEM_NMS_THRESH}' if cfg.TRAIN.OHEM_USE_NMS else 'off',
        'regression': reading,
    }
    write_report(page, batches, imdb.classes, settings)
    print(f'{page}: open it in a browser')


if __name__ == '__main__':
    run(main)
