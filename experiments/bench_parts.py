#!/usr/bin/env python3
"""What a step's small parts take: RoI pooling, mining, NMS, and the engine's own work between kernels.

experiments/bench_parts.py                on the CPU, the best of 20 rounds of each
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'lib'))

import numpy as np
import torch
from bench import painted, searched

import caffe
from fast_rcnn.nms import nms
from roi_data_layer.mining import mine_hard_rois, roi_losses

HEIGHT, WIDTH, CLASSES = 600, 800, 21
TRIVIAL_LAYERS = 60


def random_boxes(n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` boxes (n, 4) of 20 to 200 pixels a side, anywhere in the image."""
    corner = rng.uniform(0, 1, (n, 2)) * (WIDTH - 200, HEIGHT - 200)
    return np.column_stack((corner, corner + rng.uniform(20, 200, (n, 2)))).astype(np.float32)


def net_of(prototxt: str) -> caffe.Net:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'net.prototxt')
        Path(path).write_text(prototxt, encoding='utf-8')
        return caffe.Net(path, caffe.TRAIN)


def pooling(boxes: np.ndarray, back: bool) -> Callable[[], None]:
    """RoI pooling of conv5_3 of VGG16, 512 x 38 x 50, into 7 x 7: the work of one pass, forward or backward."""
    net = net_of(f"""
        force_backward: {str(back).lower()}
        layer {{ name: "in" type: "Input" top: "features" top: "rois" input_param {{
            shape {{ dim: 1 dim: 512 dim: 38 dim: 50 }} shape {{ dim: {len(boxes)} dim: 5 }} }} }}
        layer {{ name: "pool" type: "ROIPooling" bottom: "features" bottom: "rois" top: "pooled"
            roi_pooling_param {{ pooled_h: 7 pooled_w: 7 spatial_scale: 0.0625 }} }}""")
    rng = np.random.default_rng(0)
    net.blobs['features'].data[...] = rng.standard_normal(net.blobs['features'].data.shape)
    net.blobs['rois'].data[:, 1:] = boxes
    net.forward()
    if not back:
        return lambda: net.forward(start='pool')
    net.blobs['pooled'].diff[...] = rng.standard_normal(net.blobs['pooled'].data.shape)
    return lambda: net.backward(start='pool', end='pool')


def mining(boxes: np.ndarray) -> Callable[[], None]:
    """The losses of RoIs of 21 classes, and the 128 hardest after NMS at 0.7."""
    rng, n = np.random.default_rng(0), len(boxes)
    prob = rng.dirichlet(np.full(CLASSES, 0.3), n).astype(np.float32)
    labels = np.where(rng.uniform(size=n) < 0.1, rng.integers(1, CLASSES, n), 0).astype(np.float32)
    pred, targets = rng.standard_normal((2, n, 4 * CLASSES)).astype(np.float32)
    weights = (np.arange(4 * CLASSES) // 4 == labels[:, None]).astype(np.float32) * (labels[:, None] > 0)
    rois = np.column_stack((np.zeros(n), boxes)).astype(np.float32)

    def work() -> None:
        loss = sum(roi_losses(prob, labels, pred, targets, weights, weights))
        mine_hard_rois(loss, rois, labels, 128, 0.7)

    return work


def class_nms(boxes_a_class: int) -> Callable[[], None]:
    """NMS at 0.3 of each of twenty classes, as after the detection in one image."""
    rng = np.random.default_rng(0)
    per_class = [
        np.column_stack((random_boxes(boxes_a_class, rng), rng.uniform(size=boxes_a_class))).astype(np.float32)
        for _ in range(CLASSES - 1)
    ]
    return lambda: [nms(dets, 0.3) for dets in per_class]


def product(value: float) -> tuple[Callable[[], None], Callable[[], None]]:
    """A product of 512 x 512 numbers of the size of `value` with ordinary ones: by a layer, and straight in torch."""
    net = net_of("""
        layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 512 dim: 512 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {
            num_output: 512 weight_filler { type: "uniform" min: 0.5 max: 1 } } }""")
    net.blobs['x'].data[...] = np.random.default_rng(0).uniform(0.5 * value, value, (512, 512))
    x, weight = (torch.from_numpy(array.copy()) for array in (net.blobs['x'].data, net.params['ip'][0].data))
    return lambda: net.forward(start='ip'), lambda: torch.mm(x, weight)


def engine() -> Callable[[], None]:
    """Forward and backward through 60 layers with next to nothing to compute."""
    kinds = ('ReLU', 'TanH')
    layers = ''.join(
        f'layer {{ name: "l{k}" type: "{kinds[k % 2]}" bottom: "b{k}" top: "b{k + 1}" }}\n'
        for k in range(TRIVIAL_LAYERS)
    )
    net = net_of(f'force_backward: true input: "b0" input_shape {{ dim: 1 dim: 8 }}\n{layers}')

    def work() -> None:
        net.forward()
        net.backward()

    return work


def milliseconds(work: Callable[[], None], rounds: int) -> float:
    """The best of `rounds`, after one to warm up."""
    best = float('inf')
    for k in range(rounds + 1):
        began = time.perf_counter()
        work()
        if k:
            best = min(best, 1e3 * (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=20, help='of each; the best counts (default: 20)')
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f'--rounds is {rounds}; expected 1 or more')
    caffe.set_mode_cpu()
    caffe.init_log(2)  # no word of the nets that are made
    rng = np.random.default_rng(0)
    proposals = searched(painted(HEIGHT, WIDTH), 4000)
    parts = [
        ('RoI pooling forward, 2000 RoIs, random', pooling(random_boxes(2000, rng), back=False)),
        ("RoI pooling forward, 2000 RoIs, selective search's", pooling(proposals[:2000], back=False)),
        ('RoI pooling backward, 64 RoIs', pooling(random_boxes(64, rng), back=True)),
        ('mining, 2000 RoIs, 21 classes', mining(proposals[:2000])),
        ('mining, 4000 RoIs, 21 classes', mining(proposals)),
        *((f'NMS, 20 classes of {n} boxes', class_nms(n)) for n in (20, 60, 400)),
        ('InnerProduct 512 x 512 x 512', product(1.0)[0]),
        ('InnerProduct 512 x 512 x 512, denormal numbers', product(1e-39)[0]),
        ('the same straight in torch', product(1e-39)[1]),
        (f'the engine: {TRIVIAL_LAYERS} trivial layers, forward and backward', engine()),
    ]
    print(f'{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}; best of {rounds}\n')
    print('| | ms |\n| --- | --- |')
    for name, work in parts:
        print(f'| {name} | {milliseconds(work, rounds):.1f} |', flush=True)


if __name__ == '__main__':
    main()
