#!/usr/bin/env python3
"""Draws the mean loss per RoI over *all* RoIs of the training set as training goes on, for several samplings.

experiments/loss_per_roi.py --on demo               output/reproduce/demo/loss_per_roi.png, .json

The figure of the OHEM paper's section 5.5. The loss that a training log shows is of the RoIs that were
sampled, so it cannot be compared between samplings; this one can. It is measured on the snapshots of the
rows' runs (see experiments/reproduce.py), which are trained where they are not there: images as in training
but not mirrored, every RoI once, no dropout, classification plus box regression on normalised targets.
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import copy
import itertools
import json
import os
import sys
from pathlib import Path

os.environ.setdefault(
    'GLOG_minloglevel', '1'
)  # before Caffe is imported: no lines about layers that nets for testing lack

import matplotlib
import numpy as np
from runs import ROOT, Run, make_demo_data, write
from tables import PLACES, TABLES
from tqdm import tqdm

import caffe
import whole_file
from detection_data.factory import get_imdb
from fast_rcnn.config import cfg, cfg_from_dict
from fast_rcnn.test import load_net
from roi_data_layer.minibatch import get_minibatch
from roi_data_layer.mining import roi_losses
from roi_data_layer.roidb import Roidb

sys.path.insert(0, str(ROOT / 'tools'))
from _command_line import parser_of
from _command_line import run as run_main

matplotlib.use('Agg')
import matplotlib.pyplot as plt

ROWS = ('frcn-bg_lo-0', 'frcn', 'all-rois', 'ohem')
# Okabe and Ito's colours, which the colour-blind tell apart, and a mark of its own for each line
_STYLES = (
    ('#56B4E9', 's'),
    ('#0072B2', 'o'),
    ('#009E73', '^'),
    ('#D55E00', 'D'),
    ('#CC79A7', 'v'),
    ('#000000', 'x'),
)


def mean_losses(net, roidb: Roidb, indices) -> dict[str, float]:
    """Means over all RoIs of the images `indices` of `roidb`: loss, cls_loss, bbox_loss; and their number.

    `net` is one for testing, whose bbox_pred predicts (dx, dy, dw, dh) that are not normalised.
    """
    means, stds = roidb.bbox_means.ravel(), roidb.bbox_stds.ravel()
    sums, count = np.zeros(2), 0
    for i in indices:
        blobs = get_minibatch([roidb[i]], roidb.num_classes, np.random.default_rng([cfg.RNG_SEED, i]))
        for name in ('data', 'rois'):
            net.blobs[name].reshape(*blobs[name].shape)
        outputs = net.forward(data=blobs['data'], rois=blobs['rois'])
        # a class that has no object has no deviation either, and no RoI whose loss would ask for it
        predicted = (outputs['bbox_pred'] - means) / np.where(stds > 0, stds, 1)
        boxes = [blobs[f'bbox_{name}'] for name in ('targets', 'inside_weights', 'outside_weights')]
        losses = roi_losses(outputs['cls_prob'], blobs['labels'], predicted.astype(np.float32), *boxes)
        sums += [each.sum() for each in losses]
        count += len(blobs['labels'])
    cls_loss, bbox_loss = (sums / count).tolist()
    return {'loss': cls_loss + bbox_loss, 'cls_loss': cls_loss, 'bbox_loss': bbox_loss, 'rois': count}


def measure(run: Run, images: int | None, known: dict) -> dict[int, dict]:
    """`mean_losses` by iteration, of every snapshot. `known`, by file, spares work, and is extended."""
    cfg_from_dict(run.settings())
    # every RoI, whatever the run was trained on
    cfg_from_dict({'TRAIN': {'USE_OHEM': True, 'BG_THRESH_LO': 0.0, 'IMS_PER_BATCH': 1, 'USE_FLIPPED': False}})
    imdb = get_imdb(run.place.train[run.row.data])
    imdb.set_proposal_method(cfg.TRAIN.PROPOSAL_METHOD)
    roidb = Roidb(imdb)
    indices = np.linspace(0, len(roidb) - 1, min(images or len(roidb), len(roidb))).round().astype(int)
    found = {}
    for iteration, path in run.snapshots().items():
        key = f'{os.path.relpath(path, ROOT)} {len(indices)}'
        if key not in known:
            net = load_net(str(run.models / 'test.prototxt'), str(path))
            bar = tqdm(indices, desc=f'{run.row.name}, {iteration}', unit='image', disable=None, leave=False)
            known[key] = mean_losses(net, roidb, bar)
        found[iteration] = known[key]
        print(f'{run.row.name}, iteration {iteration}: {known[key]["loss"]:.4f}', flush=True)
    return found


def draw(curves: dict[str, dict[int, dict]], path: Path, title: str) -> None:
    """One line for each sampling; the legend in the order of the lines' ends."""
    figure, axes = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    last = {name: curve[max(curve)]['loss'] for name, curve in curves.items()}
    styles = dict(zip(curves, itertools.cycle(_STYLES), strict=False))
    for name in sorted(curves, key=last.get, reverse=True):
        curve, (colour, mark) = curves[name], styles[name]
        axes.plot(list(curve), [each['loss'] for each in curve.values()], color=colour, marker=mark, label=name)
    axes.set(xlabel='iteration', ylabel='mean loss per RoI', title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False)
    with whole_file.in_memory(path) as file:
        figure.savefig(file, dpi=150, format=path.suffix[1:])
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    names = {row.name for row in TABLES[1].rows}
    parser.add_argument('--on', choices=PLACES, default='demo', help='data sets and nets (default: demo)')
    parser.add_argument(
        '--row',
        nargs='+',
        default=ROWS,
        choices=names,
        metavar='NAME',
        help=f'rows of table 1 (default: {" ".join(ROWS)})',
    )
    parser.add_argument('--seed', type=int, default=1, help='RNG_SEED of the runs (default: 1)')
    parser.add_argument('--iters', type=int, help='iterations of training (default: as in reproduce.py)')
    parser.add_argument('--images', type=int, help='measure on so many training images, spread evenly (default: all)')
    parser.add_argument('--gpu', default='cpu', metavar='ID', help="GPU to use, by number, or 'cpu' (default: cpu)")
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.gpu == 'cpu':
        caffe.set_mode_cpu()
    else:
        caffe.set_mode_gpu()
        caffe.set_device(int(args.gpu))
    if args.on == 'demo':
        make_demo_data()
    rows = {row.name: row for row in TABLES[1].rows}
    path = ROOT / 'output' / 'reproduce' / args.on / 'loss_per_roi.png'
    cache = path.with_suffix('.json')
    known = json.loads(cache.read_text())['measured'] if cache.is_file() else {}
    defaults, curves = copy.deepcopy(dict(cfg)), {}
    for name in args.row:
        run = Run(rows[name], args.on, args.seed, args.iters, args.gpu)
        if run.weights() is None:
            print(f'{name}: training in {os.path.relpath(run.folder(), ROOT)}', flush=True)
            run.train()
        cfg.update(copy.deepcopy(defaults))
        curves[rows[name].title] = measure(run, args.images, known)
        write(cache, json.dumps({'curves': curves, 'measured': known}, indent=1) + '\n')
        draw(curves, path, f'All RoIs of the training set, {args.on}')
    print(f'{os.path.relpath(path, ROOT)}, .json')


if __name__ == '__main__':
    run_main(main)
