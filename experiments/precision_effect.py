#!/usr/bin/env python3
"""What a lower precision changes in the mining, and in the gradient.

experiments/precision_effect.py --gpu cpu --solver models/demo/small/fast_rcnn_ohem/solver.prototxt \\
    --weights output/demo_ohem/demo_train/small_fast_rcnn_ohem_resume_iter_1400.caffemodel \\
    --imdb folder:data/demo:train --cfg experiments/cfgs/demo_ohem.yml

The same mini-batches are mined by the same net, with the same dropout, in fp32 and in the other precision: how many
of the mined RoIs stay, how far the losses of all RoIs move (the sum of the changes, of the sum of the losses), and how
far the gradient does (the length of the change, of the length of the gradient, over all parameters). 'bf16, backward
alone': forward in fp32. The last line is fp32 with another seed of the dropout: what chance alone changes.
"""

import _environment  # noqa: F401

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tools'), str(ROOT / 'lib')]

import numpy as np  # noqa: E402

from _command_line import add_flags, configure, parser_of, run  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--solver', required=True, metavar='FILE', help='solver prototxt')
    parser.add_argument('--weights', required=True, metavar='FILE', help='trained weights (.caffemodel)')
    parser.add_argument('--imdb', default='voc_2007_trainval', help='data set (default: voc_2007_trainval)')
    parser.add_argument('--batches', type=int, default=20, help='mini-batches to compare (default: 20)')
    parser.add_argument(
        '--precision',
        nargs='+',
        default=['bf16', 'bf16-ranking'],
        choices=('bf16', 'bf16-ranking', 'tf32'),
        help='default: bf16 bf16-ranking',
    )
    parser.add_argument('--no_gradient', action='store_true', help='the mining alone')
    add_flags(parser)
    args = parser.parse_args()
    if args.batches < 1:
        parser.error(f'--batches is {args.batches}; expected 1 or more')
    return args


def main() -> None:
    args = parse_args()
    configure(args)

    import caffe
    from detection_data.factory import get_imdb
    from fast_rcnn.config import cfg
    from inspection.hard_rois import load_training_net, normalise_regression, python_layer
    from roi_data_layer.layer import HardRoiMiningLayer, RoIDataLayer
    from roi_data_layer.roidb import Roidb, add_bbox_regression_targets

    imdb = get_imdb(args.imdb)
    imdb.set_proposal_method(cfg.TRAIN.PROPOSAL_METHOD)
    cfg.TRAIN.USE_PREFETCH = False
    net = load_training_net(args.solver, args.weights)
    data, mining = (python_layer(net, kind) for kind in (RoIDataLayer, HardRoiMiningLayer))
    if data is None or mining is None:
        raise ValueError(f'{args.solver}: its net has no RoIDataLayer or no HardRoiMiningLayer: nothing is mined')
    roidb = Roidb(imdb, use_flipped=False)
    data.set_roidb(roidb)
    print(normalise_regression(net, *add_bbox_regression_targets(roidb)))

    def passed(batch: int, forward: str, backward: str, seed: int) -> tuple[set[int], np.ndarray, list[np.ndarray]]:
        """The mined RoIs, the losses of all, and the gradient, a parameter at a time."""
        caffe.set_precision(forward)
        caffe.set_random_seed(seed)
        data.set_position(batch)
        net.clear_param_diffs()
        net.forward()
        kept, loss = set(mining.last['kept'].tolist()), mining.last['loss'].copy()
        if args.no_gradient:
            return kept, loss, []
        caffe.set_precision(backward)
        net.backward()
        learned = net.learnable_params.blobs
        return kept, loss, [blob.diff.copy() for blob in learned]

    print(
        f'\n{"precision":24} {"mined RoIs that stay":>22} {"mean change of a loss":>24}'
        + ('' if args.no_gradient else f' {"change of the gradient":>24}')
    )
    ways = [(precision, precision, precision, 1) for precision in args.precision]
    if 'bf16' in args.precision and not args.no_gradient:
        ways.append(('bf16, backward alone', 'fp32', 'bf16', 1))
    ways.append(('fp32, other dropout', 'fp32', 'fp32', 2))
    found = {title: np.zeros(6) for title, *_ in ways}
    for batch in range(args.batches):
        full, loss, gradient = passed(batch, 'fp32', 'fp32', 1)
        for title, *way in ways:
            other, other_loss, other_gradient = passed(batch, *way)
            moved = sum(float(np.square(a - b).sum()) for a, b in zip(gradient, other_gradient, strict=True))
            length = sum(float(np.square(a).sum()) for a in gradient)
            change = np.abs(other_loss - loss).sum(), loss.sum()
            found[title] += len(full & other), len(full), *change, np.sqrt(moved), np.sqrt(length)
    for title, (stay, kept, change, total, moved, length) in found.items():
        row = f'{title:24} {f"{stay:.0f} of {kept:.0f}":>13} {stay / kept:8.2%} {change / total:24.3%}'
        print(row if args.no_gradient else f'{row} {moved / length:24.3%}', flush=True)


if __name__ == '__main__':
    run(main)
