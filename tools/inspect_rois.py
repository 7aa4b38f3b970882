#!/usr/bin/env python3
"""Shows what OHEM mines, a page to explore (index.html) and pictures of all RoIs beside those mined; and which cells
an adversary drops (A-Fast-RCNN): a picture of the objects that lost most by it, in each pass in which it drops some.

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
from collections.abc import Sequence
from typing import Any

import whole_file
from _command_line import add_flags, configure, parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument(
        '--solver', required=True, metavar='FILE', help='solver prototxt of a net with OHEM, or an adversary'
    )
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
    from inspection.dropped_cells import adversary_of
    from inspection.hard_rois import load_training_net, normalise_regression, python_layer
    from inspection.report import write_report
    from roi_data_layer.layer import HardRoiMiningLayer, RoIDataLayer
    from roi_data_layer.roidb import add_bbox_regression_targets

    imdb = get_imdb(args.imdb_name)
    imdb.set_proposal_method(cfg.TRAIN.PROPOSAL_METHOD)
    card = read_card(args.weights)
    match_classes(imdb, card, args.weights)
    if card is not None and card.svm is True:
        raise ValueError(f'{args.weights} scores by SVMs, and mining goes by the loss of a softmax: give those before')
    roidb = get_training_roidb(imdb)
    net = load_training_net(args.solver, args.weights)
    data, mining = python_layer(net, RoIDataLayer), python_layer(net, HardRoiMiningLayer)
    adversary = adversary_of(net)
    if data is None or (mining is None and adversary is None):
        raise ValueError(
            f'the net of {args.solver} has no RoIDataLayer with a HardRoiMiningLayer, and no adversary: nothing is '
            'mined, and nothing dropped'
        )
    data.set_roidb(roidb)
    caffe.set_random_seed(cfg.RNG_SEED)
    statistics = add_bbox_regression_targets(roidb)
    reading = 'boxes are not looked at' if mining is None else normalise_regression(net, *statistics, args.bbox_pred)
    print(f'{args.weights}: {reading}')
    if mining is not None:
        print(f'mined by {mining.rule}')
    os.makedirs(args.out, exist_ok=True)
    whole_file.check_place(os.path.join(args.out, 'index.html'))
    numbered: list[Any] = [net.layers[i] for i in range(len(net.layers)) if hasattr(net.layers[i], 'set_position')]
    batches = []
    for number in range(args.first, args.first + args.batches):
        for layer in numbered:
            layer.set_position(number)
        caffe.set_random_seed(cfg.RNG_SEED)  # of dropout: the same run shows the same losses
        net.forward()
        if mining is not None:
            batches.append(show_mined(net, number, imdb.classes, args.out))
        if adversary is not None:
            show_dropped(net, number, imdb.classes, args.out)
    if mining is None:
        return
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


def show_mined(net: Any, number: int, classes: Sequence[str], folder: str) -> Any:
    """Writes pictures of what a mini-batch mined, and returns it."""
    from inspection.draw import draw_mined_rois
    from inspection.hard_rois import mined
    from whole_file.picture import write_picture

    batch = mined(net)
    for i in range(len(batch.images)):
        write_picture(os.path.join(folder, f'mined_{number:03d}_{i}.png'), draw_mined_rois(batch, i, classes))
    objects = int((batch.labels[batch.kept] > 0).sum())
    print(f'mini-batch {number}: {len(batch.labels)} RoIs, {len(batch.kept)} mined, {objects} of them objects')
    return batch


def show_dropped(net: Any, number: int, classes: Sequence[str], folder: str) -> None:
    """Writes pictures of the cells that the adversary dropped in a mini-batch, and says what that did."""
    from inspection.draw_dropped import draw_dropped_cells
    from inspection.dropped_cells import dropped_cells, pixels_of
    from whole_file.picture import write_picture

    found = dropped_cells(net)
    if not found.any:
        print(f'mini-batch {number}: the adversary drops nothing in this pass')
        return
    objects = found.labels > 0
    print(
        f'mini-batch {number}: {objects.sum()} objects without {found.dropped[objects].sum(axis=(1, 2)).max()} of '
        f'{found.dropped[0].size} cells, probability {found.before[objects].mean():.3f} with them, '
        f'{found.after[objects].mean():.3f} without; the adversary learns from {found.taught.sum()}'
    )
    for i in range(net.blobs['data'].data.shape[0]):
        picture = draw_dropped_cells(found, pixels_of(net, i), i, classes)
        write_picture(os.path.join(folder, f'dropped_{number:03d}_{i}.png'), picture)


if __name__ == '__main__':
    run(main)
