#!/usr/bin/env python3
"""What a lower precision changes in the mining: how many of the mined RoIs stay the same.

experiments/precision_effect.py --gpu cpu --solver models/demo/small/fast_rcnn_ohem/solver.prototxt \\
    --weights output/demo_ohem/demo_train/small_fast_rcnn_ohem_resume_iter_1400.caffemodel \\
    --imdb folder:data/demo:train --cfg experiments/cfgs/demo_ohem.yml

The same mini-batches are mined by the same net, with the same dropout, in fp32 and in the other precision.
The last line repeats it in fp32 with another seed of the dropout: what chance alone changes, for comparison.
"""

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
    parser.add_argument('--precision', nargs='+', default=['bf16'], choices=('bf16', 'tf32'), help='default: bf16')
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

    def mined(batch: int, precision: str, seed: int) -> tuple[set[int], np.ndarray]:
        caffe.set_precision(precision)
        caffe.set_random_seed(seed)
        data.set_position(batch)
        net.forward()
        return set(mining.last['kept'].tolist()), mining.last['loss'].copy()

    print(f'\n{"precision":24} {"mined RoIs that stay":>22} {"mean change of a loss":>24}')
    ways = [(precision, precision, 1) for precision in args.precision]
    for title, precision, seed in [*ways, ('fp32, other dropout', 'fp32', 2)]:
        stay, kept, change, total = 0, 0, 0.0, 0.0
        for batch in range(args.batches):
            full, loss = mined(batch, 'fp32', 1)
            other, other_loss = mined(batch, precision, seed)
            stay, kept = stay + len(full & other), kept + len(full)
            change, total = change + np.abs(other_loss - loss).sum(), total + loss.sum()
        print(f'{title:24} {f"{stay} of {kept}":>13} {stay / kept:8.2%} {change / total:24.3%}', flush=True)


if __name__ == '__main__':
    run(main)
