#!/usr/bin/env python3
"""Settles on a GPU what a CPU cannot tell, within eight minutes, what is worth most first.

experiments/on_gpu.py --out FOLDER                 writes FOLDER/on_gpu.json and prints a line a part
experiments/on_gpu.py --out FOLDER --data X.npz    with the picture and proposals of experiments/bench.py (`store_data`)

Each part is a process of its own with a time limit of its own, so a failure loses that part alone: full-size steps of
VGG16 and VGG_CNN_M_1024, FRCN and OHEM, in fp32, TF32 and bf16, with six loader processes (seconds, launches,
synchronisations, the share of the time in which the GPU works), beside the same nets straight in torch; the recordings
of the original Caffe in fp32 and TF32; the demo, if its data are there (make demo), trained on the GPU; RoI pooling in
Triton against the CPU, and its time; each layer type's gradient; one rank with NCCL against none.
"""

from __future__ import annotations

import _environment  # noqa: F401

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tools'), str(ROOT / 'lib'), str(ROOT / 'experiments')]

import numpy as np  # noqa: E402

import whole_file  # noqa: E402
from _command_line import parser_of, run  # noqa: E402

TESTS = (
    'import sys, caffe; caffe.set_device(0); caffe.set_mode_gpu(); caffe.set_precision(sys.argv[1]); '
    "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[2:]]))"
)
POOLING = """
import json, time, torch, caffe
from caffe.kernels.roi_bins import bins_of_rois
from caffe.kernels.roi_pooling import roi_max_pool, roi_max_pool_backward
torch.manual_seed(0)
x = torch.randn(1, 512, 38, 50)
a, b = torch.rand(2000, 2) * torch.tensor([700.0, 500.0]), torch.rand(2000, 2) * 200
rois = torch.cat([torch.zeros(2000, 1), a, a + b], dim=1)
out = {}
def timed(work):
    work(); torch.cuda.synchronize(); began = time.perf_counter()
    for _ in range(20): work()
    torch.cuda.synchronize(); return (time.perf_counter() - began) / 20 * 1e3
bins = bins_of_rois(rois, 0.0625, (7, 7), x.shape)
y, place = roi_max_pool(x, *bins, True)
g, r = x.cuda(), rois.cuda()
gpu_bins = bins_of_rois(r, 0.0625, (7, 7), g.shape)
gy, gplace = roi_max_pool(g, *gpu_bins, True)
diff = torch.randn(y.shape)
d = roi_max_pool_backward(diff, place, *bins, x.shape)
gd = roi_max_pool_backward(diff.cuda(), gplace, *gpu_bins, g.shape)
out['maxima equal'] = bool((gy.cpu() == y).all())
out['places equal'] = bool((gplace.cpu().view_as(place) == place).all())
out['largest difference of gradients'] = float((gd.cpu() - d).abs().max())
out['forward ms'] = timed(lambda: roi_max_pool(g, *gpu_bins, False))
out['forward with places ms'] = timed(lambda: roi_max_pool(g, *gpu_bins, True))
dg = diff.cuda()
out['backward ms'] = timed(lambda: roi_max_pool_backward(dg, gplace, *gpu_bins, g.shape))
out['written GB/s'] = y.numel() * 4 / 1e6 / out['forward ms']
print(json.dumps(out))
"""


DEMO = """
import json, subprocess, sys, tempfile, time
from pathlib import Path
net, cfg = 'models/demo/small/fast_rcnn_ohem', 'experiments/cfgs/demo_ohem.yml'
with tempfile.TemporaryDirectory() as folder:
    def tool(name, *flags):
        began = time.perf_counter()
        subprocess.run([sys.executable, f'tools/{name}.py', '--gpu', '0', '--cfg', cfg, *flags, '--set', 'EXP_DIR',
            'on_gpu', 'ROOT_DIR', folder], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began
    data = str(Path('data/demo').resolve())
    train = tool('train_net', '--solver', f'{net}/solver.prototxt', '--imdb', f'folder:{data}:train', '--iters', '1400')
    weights = str(next(p for p in Path(folder).rglob('*_iter_1400.caffemodel') if '_resume_' not in p.name))
    test = tool('test_net', '--def', f'{net}/test.prototxt', '--net', weights, '--imdb', f'folder:{data}:test')
    results = json.loads(next(Path(folder).rglob('results.json')).read_text())
print(json.dumps({'mAP': results['mAP'], 'training s': train, 'testing s': test}))
"""


def parts(data: str) -> list[tuple[str, list[str], int]]:
    """(name, command, seconds) of each part, what is worth most first."""

    def tests(precision: str, *paths: str) -> list[str]:
        return [sys.executable, '-c', TESTS, precision, *paths]

    def step(net: str, method: str, precision: str = 'fp32', kind: str = 'ours') -> tuple[str, list[str], int]:
        command = [
            sys.executable, 'experiments/measure_step.py', '--kind', kind, '--data', data, '--net', net,
            '--method', method, '--gpu', '0', '--precision', precision,
        ]  # fmt: skip
        command += ['--steps', '10'] if kind == 'direct' else ['--steps', '20', '--loader-processes', '6', '--profile']
        return f'step {net} {method} {precision} {kind}', command, 60

    return [
        step('VGG16', 'ohem', 'tf32'),
        step('VGG16', 'ohem'),
        step('VGG16', 'ohem', 'bf16'),
        ('recordings fp32', tests('fp32', 'tests/caffe/test_golden_layers.py'), 90),
        step('VGG_CNN_M_1024', 'ohem', 'tf32'),
        step('VGG16', 'frcn', 'tf32'),
        ('demo training', [sys.executable, '-c', DEMO], 120),
        step('VGG16', 'ohem', kind='direct'),
        ('Triton tests', tests('fp32', 'tests/caffe/test_roi_triton.py'), 60),
        ('RoI pooling', [sys.executable, '-c', POOLING], 60),
        ('one rank with NCCL', tests('fp32', 'tests/caffe/test_exchange.py', '-k', 'nccl'), 60),
        step('VGG_CNN_M_1024', 'ohem'),
        step('VGG_CNN_M_1024', 'frcn', 'tf32'),
        step('VGG16', 'frcn'),
        ('layer types', tests('fp32', 'tests/caffe/test_every_type.py'), 90),
        ('recordings tf32', tests('tf32', 'tests/caffe/test_golden_layers.py'), 60),
    ]


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument('--out', required=True, metavar='FOLDER', help='where results go')
    parser.add_argument('--data', metavar='FILE', help='picture and proposals (default: made, by selective search)')
    parser.add_argument('--limit', type=int, default=480, metavar='S', help='seconds for all parts (default: 480)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError('torch finds no GPU here')
    os.makedirs(args.out, exist_ok=True)
    until, results = time.monotonic() + args.limit, {'card': torch.cuda.get_device_name(0), 'torch': torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        if args.data is None:
            from bench import store_data

            args.data = store_data(folder, '600x800', 2000)
        np.load(args.data, allow_pickle=False).close()
        print(f'{results["card"]}, torch {results["torch"]}', flush=True)
        for name, command, seconds in parts(os.path.abspath(args.data)):
            left = min(seconds, until - time.monotonic())
            if left < 5:
                results[name] = 'no time left'
                continue
            results[name] = of_part(command, left)
            print(f'{name}: {json.dumps(results[name])[:600]}', flush=True)
            whole_file.write_text(os.path.join(args.out, 'on_gpu.json'), json.dumps(results, indent=1) + '\n')
    return 0


def of_part(command: list[str], seconds: float) -> dict | str:
    """What a part measured, or the last lines of what it said."""
    path = os.pathsep.join([str(ROOT / 'lib'), str(ROOT / 'tools'), str(ROOT / 'experiments')])
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, 'PYTHONPATH': path, 'GLOG_minloglevel': '2'},
            capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f'not done in {seconds:.0f} s'
    lines = done.stdout.strip().splitlines() or ['']
    try:
        measured = json.loads(lines[-1])
        measured.pop('layers', None)
        return measured
    except (ValueError, AttributeError):
        failures = [line for line in lines if line.startswith(('FAILED', 'E  '))][:12]
        return {'status': done.returncode, 'said': [*failures, lines[-1], *done.stderr.strip().splitlines()[-3:]]}


if __name__ == '__main__':
    run(main)
