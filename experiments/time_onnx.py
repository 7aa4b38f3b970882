#!/usr/bin/env python3
"""Times detection on one core: the engine's `im_detect` and NMS beside onnxruntime with the exported detector.

    OMP_NUM_THREADS=1 experiments/time_onnx.py --def models/pascal_voc/VGG_CNN_M_1024/fast_rcnn_ohem/test.prototxt

Weights, image and proposals are random numbers: time does not depend on them, except that a threshold no score reaches
is set, so that both do the same NMS, none. Prints a line each, the median of --repeats after a first run.
"""

import argparse
import os
import statistics
import sys
import time

os.environ.setdefault('OMP_NUM_THREADS', '1')
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
import _init_paths  # noqa: F401

import numpy as np


def median_seconds(function, repeats: int) -> float:
    """The median time of a call, after a first one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--def', dest='prototxt', required=True, metavar='FILE', help='test prototxt')
    parser.add_argument('--size', type=int, nargs=2, default=(500, 375), metavar=('W', 'H'), help='image (500 375)')
    parser.add_argument('--scale', type=int, default=600, help='TEST.SCALES (default: 600)')
    parser.add_argument('--rois', type=int, default=2000, help='proposals (default: 2000)')
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()

    import onnxruntime
    import torch

    import caffe
    from caffe.onnx_export.model import export
    from fast_rcnn.config import cfg
    from fast_rcnn.onnx_detector import detector_model
    from fast_rcnn.test import detections, im_detect

    torch.set_num_threads(1)
    caffe.set_mode_cpu()
    cfg.TEST.SCALES = (args.scale,)
    net = caffe.Net(args.prototxt, caffe.TEST)
    rng = np.random.default_rng(0)
    for blobs in net.params.values():
        for blob in blobs:
            spread = np.sqrt(2 / np.prod(blob.shape[1:])) if len(blob.shape) > 1 else 0
            blob.data[...] = rng.standard_normal(blob.shape, np.float32) * np.float32(spread)
    classes = ['__background__', *(f'class {k}' for k in range(1, net.blobs['cls_prob'].shape[1]))]
    model = detector_model(export(net), classes, 1.0, 100, {})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])

    width, height = args.size
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    x, y = np.sort(rng.uniform(0, width - 1, (args.rois, 2))), np.sort(rng.uniform(0, height - 1, (args.rois, 2)))
    boxes = np.column_stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]]).astype(np.float32)
    ours = median_seconds(lambda: detections(*im_detect(net, image, boxes), 100, 1.0), args.repeats)
    theirs = median_seconds(lambda: session.run(None, {'image': image, 'proposals': boxes}), args.repeats)
    print(f'{args.prototxt}: {width} x {height} at {args.scale}, {args.rois} proposals, one core')
    print(f'  engine      {ours:.3f} s')
    print(f'  onnxruntime {theirs:.3f} s (version {onnxruntime.__version__})')


if __name__ == '__main__':
    main()
