#!/usr/bin/env python3
"""Draws what OHEM mines: all RoIs of a mini-batch coloured by loss beside the ones kept, a PNG each.

tools/draw_mined_rois.py --gpu cpu --solver models/demo/small/fast_rcnn_ohem/solver.prototxt \\
    --weights output/demo_ohem/demo_train/small_fast_rcnn_ohem_resume_iter_1000.caffemodel \\
    --imdb folder:data/demo:train --cfg experiments/cfgs/demo_ohem.yml --out output/mined
"""

import _init_paths  # noqa: F401
import argparse
import os

from _command_line import add_flags, configure, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=__doc__,
    )
    parser.add_argument('--solver', required=True, metavar='FILE', help='solver prototxt of an OHEM net')
    parser.add_argument(
        '--weights',
        required=True,
        metavar='FILE',
        help='weights as trained: the ..._resume_iter_N.caffemodel of a snapshot',
    )
    parser.add_argument('--imdb', dest='imdb_name', default='voc_2007_trainval', help='data set')
    parser.add_argument('--batches', type=int, default=4, help='mini-batches to draw (default: 4)')
    parser.add_argument(
        '--out', default='output/mined', metavar='FOLDER', help='where the PNGs go (default: output/mined)'
    )
    add_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    configure(args)

    import cv2
    import numpy as np

    import caffe
    from datasets.factory import get_imdb
    from fast_rcnn.config import cfg
    from fast_rcnn.draw import draw_mined_rois
    from fast_rcnn.train import get_training_roidb
    from roi_data_layer.layer import HardRoiMiningLayer, RoIDataLayer

    imdb = get_imdb(args.imdb_name)
    imdb.set_proposal_method(cfg.TRAIN.PROPOSAL_METHOD)
    roidb = get_training_roidb(imdb)
    solver = caffe.get_solver(args.solver)
    net = solver.net
    net.copy_from(args.weights)
    data = next(layer for layer in net.layers if isinstance(layer, RoIDataLayer))
    mining = next((layer for layer in net.layers if isinstance(layer, HardRoiMiningLayer)), None)
    if mining is None:
        raise ValueError(f'the net of {args.solver} has no HardRoiMiningLayer, so nothing is mined')
    data.set_roidb(roidb)
    os.makedirs(args.out, exist_ok=True)
    for batch in range(args.batches):
        net.forward()
        rois, labels = net.blobs['rois'].data, net.blobs['labels'].data.astype(int)
        blob, loss, kept = net.blobs['data'].data, mining.last['loss'], mining.last['kept']
        for i in range(len(blob)):
            image = np.clip(blob[i].transpose(1, 2, 0) + cfg.PIXEL_MEANS, 0, 255).astype(np.uint8)
            mine = np.flatnonzero(rois[:, 0] == i)
            row = {int(r): k for k, r in enumerate(mine)}
            picture = draw_mined_rois(
                image,
                rois[mine, 1:],
                loss[mine],
                labels[mine],
                np.array([row[int(k)] for k in kept if int(k) in row], dtype=int),
                imdb.classes,
            )
            path = os.path.join(args.out, f'mined_{batch:03d}_{i}.png')
            if not cv2.imwrite(path, picture):
                raise OSError(f'cannot write {path}')
            objects = int((labels[kept] > 0).sum())
            print(f'{path}: {len(mine)} RoIs; mined {len(kept)}, {objects} of them objects ({data.shown[i]})')


if __name__ == '__main__':
    run(main)
