#!/usr/bin/env python3
"""Times training steps of a solver at full size: seconds a step, peak memory, and a table of the layers.

tools/time_step.py --gpu cpu --solver models/pascal_voc/VGG16/fast_rcnn_ohem/solver.prototxt \\
    --cfg experiments/cfgs/fast_rcnn_ohem.yml --image 600x1000 --rois 2000

The image is noise, the RoIs are random boxes around random objects, the weights random: nothing has to be
downloaded, and the work is that of a real step. A net with an RPN proposes RoIs itself: how many is said.
"""

import _init_paths  # noqa: F401

import argparse
import json
import os
import re
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format

import whole_file
from _command_line import add_flags, configure, parser_of, run
from whole_file.picture import write_picture


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--solver', required=True, metavar='FILE', help='solver prototxt')
    parser.add_argument('--image', default='600x1000', metavar='HxW', help='size of the image (default: 600x1000)')
    parser.add_argument('--rois', type=int, default=2000, help='RoIs an image (default: 2000)')
    parser.add_argument(
        '--steps',
        type=int,
        default=1,
        help='steps to time, twice: as they are, and watched layer by layer (default: 1)',
    )
    parser.add_argument(
        '--processor',
        action='store_true',
        help="count the processor's seconds, of all threads, in place of the clock's: for a machine that is busy",
    )
    parser.add_argument('--json', metavar='FILE', help='write the seconds and the memory there too')
    add_flags(parser)
    return parser.parse_args()


class NoiseImage:
    """A data set of one noise image, random objects and proposals around them (as detection_data.imdb).

    `picture` (H, W, 3) uint8 and `proposals` (R, 4) take the place of the noise and of the random boxes.
    """

    name, num_images = 'noise', 1

    def __init__(self, path: str, height: int, width: int, rois: int, num_classes: int, picture=None, proposals=None):
        rng = np.random.default_rng(0)
        if picture is None:
            picture = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        write_picture(path, picture)
        self.path, self.num_classes, self.size = path, num_classes, (height, width)
        self.classes = ['__background__', *(f'class {k}' for k in range(1, num_classes))]
        self.boxes = self._boxes(rng, 5)
        if proposals is None:
            near = self.boxes[rng.integers(0, 5, rois // 4)] + rng.normal(0, 15, (rois // 4, 4))
            proposals = np.concatenate([self._clipped(near), self._boxes(rng, rois - len(near) - 5)])
        self.proposals = proposals
        self.gt_classes = rng.integers(1, num_classes, 5).astype(np.int32)

    def _boxes(self, rng, n: int) -> np.ndarray:
        height, width = self.size
        corner = rng.uniform(0, 0.7, (n, 2)) * (width, height)
        extent = np.exp(rng.uniform(np.log(0.05), np.log(0.6), (n, 2))) * (width, height)
        return self._clipped(np.concatenate([corner, corner + extent], axis=1))

    def _clipped(self, boxes: np.ndarray) -> np.ndarray:
        height, width = self.size
        boxes = np.clip(np.round(boxes), 0, [width - 17, height - 17, width - 1, height - 1])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 16)
        return boxes.astype(np.float32)

    def image_path_at(self, i: int) -> str:
        return self.path

    def annotation(self, i: int) -> dict:
        height, width = self.size
        difficult = np.zeros(len(self.boxes), bool)
        return {
            'boxes': self.boxes,
            'gt_classes': self.gt_classes,
            'difficult': difficult,
            'width': width,
            'height': height,
        }

    def proposals_of(self, i: int) -> np.ndarray:
        return self.proposals


def randomise(net: Any) -> None:
    """Fills parameters that a fine-tuning prototxt leaves at zero, as He et al. would; an RPN proposes its anchors.

    BatchNorm and Scale layers change nothing.
    """
    rng = np.random.default_rng(1)
    kinds = {name: net.layers[i].type for i, name in enumerate(net._layer_names)}
    for name, blobs in net.params.items():
        weights = blobs[0].data
        if kinds[name] == 'BatchNorm':
            for blob, value in zip(blobs, (0, 1, 1), strict=True):  # mean, variance, what both are divided by
                blob.data[...] = value
        elif kinds[name] == 'Scale':
            weights[...] = 1
        elif not weights.any():
            std = np.sqrt(2 / np.prod(weights.shape[1:]))
            rng.standard_normal(dtype=np.float32, out=weights)
            weights *= np.float32(std)
    if 'rpn_bbox_pred' in net.params:  # moved at random they would be few: all of the image's size
        net.params['rpn_bbox_pred'][0].data[...] = 0


class Times(NamedTuple):
    """Seconds.

    step: of one whole step. forward, backward: of one pass of each layer, by its number. solver: of a step outside of
    the layers. The last three are 0 with a Caffe that has no hooks before and after a layer.
    """

    step: float
    forward: list[float]
    backward: list[float]
    solver: float


def time_steps(
    solver: Any, iter_size: int, steps: int, on_gpu: bool, now: Callable[[], float] = time.perf_counter
) -> Times:
    """Trains for 1 + 2 * `steps` steps: to warm up, as they are, and watched layer by layer. `now` tells seconds."""
    net = solver.net
    seconds = {d: [0.0] * len(net.layers) for d in ('forward', 'backward')}
    clock = {}

    def synchronise():
        if on_gpu:
            import torch

            torch.cuda.synchronize()

    def start(i):
        synchronise()
        clock['t'] = now()

    def stop(direction):
        def add(i):
            synchronise()
            seconds[direction][i] += now() - clock['t']

        return add

    def step() -> float:
        synchronise()
        began = now()
        solver.step(steps)
        synchronise()
        return (now() - began) / steps

    solver.step(1)  # allocates, chooses kernels
    as_it_is = step()
    if not hasattr(net, 'before_backward'):  # BVLC Caffe before 1.0
        return Times(as_it_is, seconds['forward'], seconds['backward'], 0.0)
    net.before_forward(start)
    net.after_forward(stop('forward'))
    net.before_backward(start)
    net.after_backward(stop('backward'))
    watched = step()
    passes = steps * iter_size
    forward, backward = ([t / passes for t in seconds[d]] for d in ('forward', 'backward'))
    rest = watched - iter_size * (sum(forward) + sum(backward))
    return Times(as_it_is, forward, backward, max(rest, 0.0))


def main() -> None:
    args = parse_args()
    try:
        height, width = (int(side) for side in args.image.lower().split('x'))
    except ValueError:
        raise ValueError(
            f'--image takes HEIGHTxWIDTH in pixels, such as 600x1000; it was given {args.image!r}'
        ) from None
    configure(args)

    from fast_rcnn.config import cfg
    from fast_rcnn.solver_file import read_solver
    from fast_rcnn.train import SolverWrapper
    from roi_data_layer.roidb import Roidb

    if args.json:
        whole_file.check_place(args.json)
    cfg.TRAIN.SCALES = (min(height, width),)
    cfg.TRAIN.MAX_SIZE = max(height, width)
    param = read_solver(args.solver)
    with open(param.train_net or param.net, encoding='utf-8') as stream:
        num_classes = re.search(r'num_classes\W+(\d+)', stream.read())  # the parameter of RoIDataLayer
    if num_classes is None:
        raise ValueError(f'{args.solver}: its net has no RoIDataLayer with num_classes, so there are no RoIs to time')
    with tempfile.TemporaryDirectory() as folder:
        noise = NoiseImage(os.path.join(folder, 'noise.png'), height, width, args.rois, int(num_classes[1]))
        # random weights at the solver's rate may end in NaN, of which an RPN proposes nothing
        param.base_lr = 1e-9
        solver = os.path.join(folder, 'solver.prototxt')
        whole_file.write_text(solver, text_format.MessageToString(param))
        wrapper = SolverWrapper(solver, Roidb(noise, use_flipped=False), folder, pretrained_model='none')
        net, iter_size = wrapper.solver.net, wrapper.solver_param.iter_size
        randomise(net)
        now = time.process_time if args.processor else time.perf_counter
        times = time_steps(wrapper.solver, iter_size, args.steps, args.gpu.lower() != 'cpu', now)
        wrapper.close()
    peak = peak_gib(args.gpu)

    passes, unit = args.steps * iter_size, 's of the processor' if args.processor else 's'
    proposed = len(net.blobs['rpn_rois'].data) if 'rpn_rois' in net.blobs else None
    rois = f'{args.rois} RoIs' if proposed is None else f'{proposed} proposals in the last'
    print(f'\n{"layer":28} {"type":16} {"forward ms":>11} {"backward ms":>12}   (a pass; {passes} timed)')
    for i, name in enumerate(net._layer_names):
        row = 1000 * times.forward[i], 1000 * times.backward[i]
        if max(row) >= 0.05:
            print(f'{name:28} {net.layers[i].type:16} {row[0]:11.1f} {row[1]:12.1f}')
    total = sum(times.forward), sum(times.backward)
    print(f'{"sum":28} {"":16} {1000 * total[0]:11.1f} {1000 * total[1]:12.1f}')
    print(
        f'\none step ({iter_size} passes of {height}x{width}, {rois}): '
        f'{times.step:.2f} {unit}, of which the solver about {times.solver:.2f} s; peak memory {peak:.2f} GiB'
    )
    if args.json:
        measured = {'seconds': times.step, 'peak_gib': peak, 'forward': total[0], 'backward': total[1]}
        whole_file.write_text(args.json, json.dumps(measured))


def peak_gib(gpu: str) -> float:
    """The most memory that was in use: the process's, or on a GPU what was allocated there."""
    if gpu.lower() == 'cpu':
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    import torch

    return torch.cuda.max_memory_allocated() / 2**30


if __name__ == '__main__':
    run(main)
