"""One measurement of experiments/bench.py, in a process of its own: prints it as a line of JSON.

With --kind original `import caffe` has to find another Caffe than this project's, in whatever Python runs this file.
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tools'), str(ROOT / 'experiments')]

import _init_paths  # noqa: E402, F401  an original Caffe comes first

METHODS = {'frcn': 'fast_rcnn', 'ohem': 'fast_rcnn_ohem', 'detect': 'fast_rcnn'}  # to train, to train, to test


def measure(args: argparse.Namespace) -> dict:
    """{'step': seconds, 'peak_gib', 'images': of a step}; of ours 'parts': seconds a step, and 'layers', too."""
    import caffe  # before torch, which looks only once for what caffe.kernels.host_memory asks

    if (args.kind == 'original') == (ROOT in Path(caffe.__file__).resolve().parents):
        wanted = 'another Caffe than ours' if args.kind == 'original' else 'ours'
        sys.exit(f'--kind {args.kind}: `import caffe` found {caffe.__file__}; {wanted} has to come first on PYTHONPATH')
    import numpy as np

    from fast_rcnn.config import cfg, cfg_from_file
    from roi_data_layer.roidb import Roidb
    from time_step import NoiseImage, peak_gib

    cfg_from_file(str(ROOT / 'experiments' / 'cfgs' / f'{METHODS[args.method]}.yml'))
    with np.load(args.data, allow_pickle=False) as stored:
        picture, proposals = stored['picture'], stored['proposals']
    height, width = picture.shape[:2]
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (min(height, width),), max(height, width)
    cfg.TRAIN.IMS_PER_BATCH = args.images or cfg.TRAIN.IMS_PER_BATCH
    cfg.TRAIN.USE_PREFETCH = args.loader_processes > 0
    cfg.TRAIN.PREFETCH_WORKERS = max(args.loader_processes, 1)
    if args.gpu == 'cpu':
        caffe.set_mode_cpu()
    else:
        caffe.set_device(int(args.gpu))
        caffe.set_mode_gpu()
    if args.precision != 'fp32':
        caffe.set_precision(args.precision)
    if args.method == 'detect':
        seconds = _time_detection(args, picture, proposals)
        return {'step': seconds, 'peak_gib': peak_gib(args.gpu), 'images': 1}
    iter_size = 2 if args.method == 'ohem' else 1
    with tempfile.TemporaryDirectory() as folder:
        data = NoiseImage(os.path.join(folder, 'picture.png'), height, width, len(proposals), 21, picture, proposals)
        data.num_images = cfg.TRAIN.IMS_PER_BATCH
        roidb = Roidb(data, use_flipped=False)
        if args.kind == 'direct':
            measured = {'step': _time_direct(args, roidb, iter_size)}
        else:
            measured = _time_caffe(args, roidb, folder)
    return {**measured, 'peak_gib': peak_gib(args.gpu), 'images': iter_size * cfg.TRAIN.IMS_PER_BATCH}


def _time_detection(args: argparse.Namespace, picture, proposals) -> float:
    """The seconds of im_detect for the picture, of random weights: the mean after one that does not count."""
    import caffe
    from caffe_stand_ins.prototxt import prototxt_with_stand_ins
    from fast_rcnn.config import cfg
    from fast_rcnn.test import im_detect
    from time_step import randomise

    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE = cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE
    with tempfile.TemporaryDirectory() as folder:
        net_file = str(ROOT / 'models' / 'pascal_voc' / args.net / METHODS[args.method] / 'test.prototxt')
        net = caffe.Net(prototxt_with_stand_ins(net_file, folder), caffe.TEST)
    randomise(net)
    im_detect(net, picture, proposals)
    now = _clock(args)
    began = now()
    for _ in range(args.steps):
        im_detect(net, picture, proposals)
    return (now() - began) / args.steps


def _clock(args: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if args.processor else time.perf_counter


def _time_caffe(args: argparse.Namespace, roidb, folder: str) -> dict:
    from fast_rcnn.train import SolverWrapper
    from time_step import randomise, time_steps

    solver_file = str(ROOT / 'models' / 'pascal_voc' / args.net / METHODS[args.method] / 'solver.prototxt')
    wrapper = SolverWrapper(solver_file, roidb, folder, pretrained_model='none')
    solver, iter_size = wrapper.solver, wrapper.solver_param.iter_size
    randomise(solver.net)
    if args.profile:
        measured = profile_of_steps(solver, args.steps)
        wrapper.close()
        return measured
    times = time_steps(solver, iter_size, args.steps, args.gpu != 'cpu', _clock(args))
    measured = {'step': times.step, **(_layers(solver, times) if args.kind == 'ours' else {})}
    wrapper.close()
    return measured


def profile_of_steps(solver, steps: int) -> dict:
    """What a GPU does in a step, by torch's profiler: numbers of a step, seconds, and the kernels that take longest.

    'busy': the share of the time in which a kernel or a copy runs.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    solver.step(3)
    torch.cuda.synchronize()
    began = time.perf_counter()
    solver.step(steps)
    torch.cuda.synchronize()
    plain = (time.perf_counter() - began) / steps
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
        began = time.perf_counter()
        solver.step(steps)
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - began) / steps
    calls: dict[str, int] = {}
    kernels: dict[str, list[float]] = {}
    spans = []
    for event in watched.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            begin, end = event.time_range.start, event.time_range.end
            spans.append((begin, end))
            row = kernels.setdefault(event.name[:100], [0.0, 0])
            row[0] += (end - begin) / 1e6 / steps
            row[1] += 1
        elif event.name.startswith('cuda') or event.name.startswith('cu'):
            calls[event.name] = calls.get(event.name, 0) + 1
    spans.sort()
    busy, until = 0.0, float('-inf')
    for begin, end in spans:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    longest = sorted(kernels.items(), key=lambda item: -item[1][0])[:30]
    return {
        'step': plain,
        'profiled step': seconds,
        'busy seconds': busy / 1e6 / steps,
        'busy': busy / 1e6 / steps / plain,
        'calls': {name: count / steps for name, count in sorted(calls.items())},
        'kernels': {name: [round(1e3 * took, 3), count / steps] for name, (took, count) in longest},
    }


def _time_direct(args: argparse.Namespace, roidb, iter_size: int) -> float:
    import torch
    from direct_net import DirectNet, optimizer, train_pass

    from roi_data_layer.prefetch import BatchMaker

    net = DirectNet(args.net).to('cpu' if args.gpu == 'cpu' else f'cuda:{args.gpu}')
    sgd, batches, now = optimizer(net), BatchMaker(roidb, 21), _clock(args)

    def step(n: int) -> float:
        began = now()
        sgd.zero_grad()
        for k in range(iter_size):
            train_pass(net, batches(n * iter_size + k)[0])
        for param in net.parameters():
            if param.grad is not None:
                param.grad /= iter_size
        sgd.step()
        if args.gpu != 'cpu':
            torch.cuda.synchronize()
        return now() - began

    step(0)
    return sum(step(1 + n) for n in range(args.steps)) / args.steps


def _layers(solver, times) -> dict:
    """What a step's seconds went to, and each layer's GFLOP and seconds of a pass."""
    from caffe import work
    from caffe.command.layer_work import layer_shapes

    net, passes = solver.net, solver.param.iter_size
    net.clear_param_diffs()
    net.forward_backward()
    layers, later = [], []
    for i, (name, shapes) in enumerate(zip(net._layer_names, layer_shapes(net), strict=True)):
        node = net.nodes[i]
        need = node.bottom_need_backward if node.need_backward else []
        learn = node.layer.param_propagate_down if node.need_backward else []
        if any(learn) and net.layers[i].blobs[0].diff_product is not None:
            learn = []  # the solver does that product
            later.append(name)
        macs = work.forward(shapes), work.backward(shapes, learn, need)
        layers.append([name, net.layers[i].type, *(2 * m / 1e9 for m in macs), times.forward[i], times.backward[i]])
    parts = {'data': times.forward[0] * passes, 'solver': times.solver}
    mining = [row[4] for row in layers if row[0] == 'hard_roi_mining']
    if mining:
        parts['mining'] = mining[0] * passes
    return {'parts': parts, 'layers': layers, 'later': later}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kind', required=True, choices=('ours', 'direct', 'original'))
    parser.add_argument('--data', required=True)
    parser.add_argument('--net', required=True)
    parser.add_argument('--method', required=True, choices=METHODS)
    parser.add_argument('--gpu', default='cpu')
    parser.add_argument('--precision', default='fp32')
    parser.add_argument('--images', type=int)
    parser.add_argument('--steps', type=int, default=1)
    parser.add_argument('--loader-processes', type=int, default=0, help='that prepare mini-batches (default: none)')
    parser.add_argument('--processor', action='store_true', help="the processor's seconds, not the clock's")
    parser.add_argument('--profile', action='store_true', help='of ours, what a GPU does in a step')
    return parser.parse_args()


if __name__ == '__main__':
    measured = measure(parse_args())
    sys.stdout.flush()
    print(json.dumps(measured))
