#!/usr/bin/env python3
"""How long a detector takes for an image, whole and with its large layers in two (Fast R-CNN, section 4.4).

experiments/svd_time.py --def models/pascal_voc/VGG16/fast_rcnn/test.prototxt --rank fc6=1024,fc7=256 --rank fc6=512

Weights are seeded random numbers, on which the time does not depend; so are image and proposals. The nets take turns,
one image each a round. What a rank costs in AP tools/compress_net.py and tools/test_net.py tell, on a trained net.
"""

import _environment  # noqa: F401

import argparse
import os
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, 'lib'), os.path.join(ROOT, 'tools')]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--def', dest='prototxt', metavar='FILE', required=True, help='test prototxt')
    parser.add_argument('--rank', action='append', default=[], metavar='LAYER=K,...', help='ranks of one more row')
    parser.add_argument('--size', nargs=2, type=int, default=(600, 800), metavar=('H', 'W'), help='of the image')
    parser.add_argument('--proposals', type=int, default=2000, help='how many (default: 2000)')
    parser.add_argument('--rounds', type=int, default=5, help='images for each net, after one to warm up (default: 5)')
    parser.add_argument(
        '--busy', action='store_true', help='processor time, of a machine that others use: with OMP_NUM_THREADS=1'
    )
    parser.add_argument('--dedup', type=float, default=1 / 16, help='DEDUP_BOXES (default: 1/16)')
    args = parser.parse_args()

    import caffe
    import whole_file
    from compress_net import parsed_ranks
    from fast_rcnn.compression import compressed_prototxt
    from fast_rcnn.config import cfg
    from fast_rcnn.test import im_detect

    caffe.set_mode_cpu()
    cfg.DEDUP_BOXES = args.dedup
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE = (min(args.size),), max(args.size)
    with open(args.prototxt, encoding='utf-8') as stream:
        text = stream.read()
    rows = [{}, *(parsed_ranks(row.split(',')) for row in args.rank)]
    rng = np.random.default_rng(0)
    nets = []
    with tempfile.TemporaryDirectory() as folder:
        for i, ranks in enumerate(rows):
            path = os.path.join(folder, f'{i}.prototxt')
            whole_file.write_text(path, compressed_prototxt(text, ranks, args.prototxt))
            nets.append(caffe.Net(path, caffe.TEST))
            for blobs in nets[-1].params.values():
                shape = blobs[0].data.shape
                blobs[0].data[...] = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
    height, width = args.size
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    corners = np.sort(rng.uniform(0, 1, (args.proposals, 2, 2)), axis=1).reshape(-1, 4)
    boxes = (corners * [width - 1, height - 1, width - 1, height - 1]).astype(np.float32)
    seconds: list[list[float]] = [[] for _ in nets]
    clock = time.process_time if args.busy else time.perf_counter
    for turn in range(args.rounds + 1):
        for net, times in zip(nets, seconds, strict=True):
            started = clock()
            im_detect(net, image, boxes)
            if turn:
                times.append(clock() - started)
    print(
        '| ranks | weights, millions | seconds an image, fastest (slowest) | of the whole |\n| --- | --- | --- | --- |'
    )
    for ranks, net, times in zip(rows, nets, seconds, strict=True):
        count = sum(blob.data.size for blobs in net.params.values() for blob in blobs) / 1e6
        name = ', '.join(f'{layer} {rank}' for layer, rank in ranks.items()) or 'whole'
        share = 100 * min(times) / min(seconds[0])
        print(f'| {name} | {count:.1f} | {min(times):.3f} ({max(times):.3f}) | {share:.0f}% |')


if __name__ == '__main__':
    main()
