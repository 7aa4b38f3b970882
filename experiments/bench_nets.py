#!/usr/bin/env python3
"""LeNet, CIFAR-quick, AlexNet and GoogLeNet, forward, backward and a whole step, beside an original Caffe; overhead.

experiments/bench_nets.py                                                          ours alone
experiments/bench_nets.py --original "env PYTHONPATH=/opt/caffe/python python3"    beside an original Caffe
experiments/bench_nets.py --net LeNet CIFAR-quick --busy 2                         two other programs at work
experiments/bench_nets.py --net activations products          100 layers of next to no work: ms here are 10 us a layer
experiments/bench_nets.py --net residual --loading            a net of 1000 layers: made from its prototxt, weights read
experiments/bench_nets.py --start-up                          import torch, import caffe, train_net.py --help

Milliseconds: the median of many runs and, in brackets, the slowest tenth. The nets are BVLC's, of their published
batch sizes, with a loss, on noise. Ours and the original take turns, each time in a process of its own.
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tools'))

import _init_paths  # noqa: E402, F401  an original Caffe comes first

_PARTS, LOADING = ('forward', 'backward', 'step'), ('the net', 'weights')


# ---- The nets: written by pycaffe's NetSpec, which both have


def _inputs(n, batch: int, *image: int):
    from caffe import layers as L

    n.data = L.Input(shape={'dim': [batch, *image]})
    n.label = L.Input(shape={'dim': [batch]})
    return n.data


def _learned(n, kind: str, name: str, bottom, num: int, relu: bool = True, **options):
    from caffe import layers as L

    n[name] = getattr(L, kind)(bottom, num_output=num, weight_filler={'type': 'xavier'}, **options)
    return L.ReLU(n[name], in_place=True) if relu else n[name]


def _conv(n, name: str, bottom, num: int, size: int, relu: bool = True, **options):
    top = _learned(n, 'Convolution', name, bottom, num, relu, kernel_size=size, **options)
    if relu:
        n[f'relu_{name}'] = top
    return top


def _pool(n, name: str, bottom, size: int, stride: int, mean: bool = False, **options):
    from caffe import layers as L
    from caffe import params as P

    kind = P.Pooling.AVE if mean else P.Pooling.MAX
    n[name] = L.Pooling(bottom, pool=kind, kernel_size=size, stride=stride, **options)
    return n[name]


def _norm(n, name: str, bottom):
    from caffe import layers as L

    n[name] = L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)
    return n[name]


def _fc(n, name: str, bottom, num: int, relu: bool = False, drop: float = 0):
    from caffe import layers as L

    top = _learned(n, 'InnerProduct', name, bottom, num, relu)
    if relu:
        n[f'relu_{name}'] = top
    if drop:
        top = n[f'drop_{name}'] = L.Dropout(top, in_place=True, dropout_ratio=drop)
    return top


def lenet(n) -> object:
    """examples/mnist/lenet.prototxt, 64 images."""
    top = _inputs(n, 64, 1, 28, 28)
    top = _pool(n, 'pool1', _conv(n, 'conv1', top, 20, 5, relu=False), 2, 2)
    top = _pool(n, 'pool2', _conv(n, 'conv2', top, 50, 5, relu=False), 2, 2)
    return _fc(n, 'ip2', _fc(n, 'ip1', top, 500, relu=True), 10)


def cifar_quick(n) -> object:
    """examples/cifar10/cifar10_quick.prototxt, 1 image."""
    from caffe import layers as L

    top = _pool(n, 'pool1', _conv(n, 'conv1', _inputs(n, 1, 3, 32, 32), 32, 5, relu=False, pad=2), 3, 2)
    n.relu1 = L.ReLU(top, in_place=True)
    for k, num in ((2, 32), (3, 64)):
        top = _pool(n, f'pool{k}', _conv(n, f'conv{k}', n.relu1 if k == 2 else top, num, 5, pad=2), 3, 2, mean=True)
    return _fc(n, 'ip2', _fc(n, 'ip1', top, 64), 10)


def alexnet(n) -> object:
    """models/bvlc_alexnet, 10 images."""
    top = _inputs(n, 10, 3, 227, 227)
    top = _pool(n, 'pool1', _norm(n, 'norm1', _conv(n, 'conv1', top, 96, 11, stride=4)), 3, 2)
    top = _pool(n, 'pool2', _norm(n, 'norm2', _conv(n, 'conv2', top, 256, 5, pad=2, group=2)), 3, 2)
    top = _conv(n, 'conv3', top, 384, 3, pad=1)
    top = _conv(n, 'conv4', top, 384, 3, pad=1, group=2)
    top = _pool(n, 'pool5', _conv(n, 'conv5', top, 256, 3, pad=1, group=2), 3, 2)
    for k in (6, 7):
        top = _fc(n, f'fc{k}', top, 4096, relu=True, drop=0.5)
    return _fc(n, 'fc8', top, 1000)


# Of each inception: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, projection of the pooled
_INCEPTIONS = {
    '3a': (64, 96, 128, 16, 32, 32), '3b': (128, 128, 192, 32, 96, 64),
    '4a': (192, 96, 208, 16, 48, 64), '4b': (160, 112, 224, 24, 64, 64), '4c': (128, 128, 256, 24, 64, 64),
    '4d': (112, 144, 288, 32, 64, 64), '4e': (256, 160, 320, 32, 128, 128),
    '5a': (256, 160, 320, 32, 128, 128), '5b': (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def googlenet(n) -> object:
    """models/bvlc_googlenet without its auxiliary classifiers, 10 images."""
    from caffe import layers as L

    top = _pool(n, 'pool1', _conv(n, 'conv1', _inputs(n, 10, 3, 224, 224), 64, 7, stride=2, pad=3), 3, 2)
    top = _conv(n, 'conv2', _conv(n, 'conv2_reduce', _norm(n, 'norm1', top), 64, 1), 192, 3, pad=1)
    top = _pool(n, 'pool2', _norm(n, 'norm2', top), 3, 2)
    for name, (one, reduce3, three, reduce5, five, projection) in _INCEPTIONS.items():
        p = f'inception_{name}_'
        parts = [
            _conv(n, f'{p}1x1', top, one, 1),
            _conv(n, f'{p}3x3', _conv(n, f'{p}3x3_reduce', top, reduce3, 1), three, 3, pad=1),
            _conv(n, f'{p}5x5', _conv(n, f'{p}5x5_reduce', top, reduce5, 1), five, 5, pad=2),
            _conv(n, f'{p}projection', _pool(n, f'{p}pool', top, 3, 1, pad=1), projection, 1),
        ]
        top = n[f'{p}output'] = L.Concat(*parts)
        if name in ('3b', '4e'):
            top = _pool(n, f'pool{name}', top, 3, 2)
    n.drop = L.Dropout(_pool(n, 'pool5', top, 7, 1, mean=True), in_place=True, dropout_ratio=0.4)
    return _fc(n, 'classifier', n.drop, 1000)


def activations(n) -> object:
    """100 layers ReLU, not in place, of one number: what a layer costs that computes nothing."""
    from caffe import layers as L

    top = _fc(n, 'ip', _inputs(n, 1, 1), 1)
    for k in range(100):
        top = n[f'relu{k}'] = L.ReLU(top)
    return _fc(n, 'scores', top, 10)


def products(n) -> object:
    """100 layers InnerProduct of one number: what a layer with two parameters costs, and its update."""
    top = _inputs(n, 1, 1)
    for k in range(100):
        top = _fc(n, f'ip{k}', top, 1)
    return _fc(n, 'scores', top, 10)


def residual(n) -> object:
    """1000 layers as ResNets have them, with few channels, on a small image."""
    from caffe import layers as L

    top = _conv(n, 'conv0', _inputs(n, 1, 16, 8, 8), 16, 3, pad=1)
    for block in range(111):
        start = top
        for k in (1, 2):
            name = f'{block}_{k}'
            top = _conv(n, f'conv{name}', top, 16, 3, relu=False, pad=1, bias_term=False)
            n[f'bn{name}'] = L.BatchNorm(top, in_place=True)
            n[f'scale{name}'] = top = L.Scale(n[f'bn{name}'], in_place=True, bias_term=True)
            if k == 2:
                top = n[f'sum{name}'] = L.Eltwise(start, top)
            n[f'relu{name}'] = top = L.ReLU(top, in_place=True)
    return _fc(n, 'ip', top, 10)


BVLC = {'LeNet': lenet, 'CIFAR-quick': cifar_quick, 'AlexNet': alexnet, 'GoogLeNet': googlenet}
NETS = {**BVLC, 'activations': activations, 'products': products, 'residual': residual}


# ---- One measurement, in a process of its own


def measure(
    name: str, original: bool, loading: bool, seconds: float, now: Callable[[], float]
) -> dict[str, list[float]]:
    """part -> milliseconds of each run of it, for about so many seconds a part."""
    import caffe
    from caffe import layers as L

    if original == (ROOT in Path(caffe.__file__).resolve().parents):
        sys.exit(f'{"an original Caffe" if original else "ours"} was wanted; `import caffe` found {caffe.__file__}')
    import numpy as np

    spec = caffe.NetSpec()
    scores = NETS[name](spec)
    spec.loss = L.SoftmaxWithLoss(scores, spec.label)
    with tempfile.TemporaryDirectory() as folder:
        net_file, solver_file = Path(folder, 'net.prototxt'), Path(folder, 'solver.prototxt')
        net_file.write_text(str(spec.to_proto()), encoding='utf-8')
        solver_file.write_text(
            f'net: "{net_file}" base_lr: 1e-5 momentum: 0.9 weight_decay: 0.0005 lr_policy: "fixed" solver_mode: CPU '
            'display: 0 snapshot_after_train: false random_seed: 1',
            encoding='utf-8',
        )
        caffe.set_mode_cpu()
        solver = caffe.SGDSolver(str(solver_file))
        if loading:
            weights = str(Path(folder, 'net.caffemodel'))
            solver.net.save(weights)
            work = {
                'the net': lambda: caffe.Net(str(net_file), caffe.TEST),
                'weights': lambda: solver.net.copy_from(weights),
            }
            return {part: _timed(work[part], seconds, now) for part in LOADING}
    net = solver.net
    rng = np.random.default_rng(0)
    net.blobs['data'].data[...] = rng.normal(0, 1, net.blobs['data'].data.shape)
    net.blobs['label'].data[...] = rng.integers(0, 10, net.blobs['label'].data.shape)
    work = {'forward': net.forward, 'backward': net.backward, 'step': lambda: solver.step(1)}
    return {part: _timed(work[part], seconds, now) for part in _PARTS}


def _timed(work: Callable[[], object], seconds: float, now: Callable[[], float]) -> list[float]:
    for _ in range(3):
        work()
    took = []
    end = now() + seconds
    while len(took) < 5 or now() < end:
        began = now()
        work()
        took.append(1e3 * (now() - began))
    return took


# ---- All of them


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many other processes are at work within the `with`."""
    others = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def median_and_slow(took: list[float]) -> tuple[float, float]:
    """The median, and the time that nine tenths stay below."""
    took = sorted(took)
    return took[len(took) // 2], took[min(len(took) * 9 // 10, len(took) - 1)]


def bench(args: argparse.Namespace) -> None:
    """Prints a line for each net and part."""
    print(f'{"":12} {"":9} {"ours, ms":>20}' + (f' {"original, ms":>20} {"of its time":>12}' if args.original else ''))
    pythons = {'ours': [sys.executable], **({'original': shlex.split(args.original)} if args.original else {})}
    for python in pythons.values():
        if shutil.which(python[0]) is None:
            raise FileNotFoundError(f'--original: there is no command {python[0]!r}')
    parts = LOADING if args.loading else _PARTS
    for net in args.net or BVLC:
        took = {kind: {part: [] for part in parts} for kind in pythons}
        for _ in range(args.rounds):
            for kind, python in pythons.items():
                command = [*python, __file__, '--kind', kind, '--net', net, '--seconds', str(args.seconds)]
                command += ['--processor'] * args.processor + ['--loading'] * args.loading
                env = dict(os.environ)
                if args.processor:
                    env |= {'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
                with busy(args.busy):
                    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
                if done.returncode or not done.stdout.strip():
                    why = done.stderr.strip()[-2000:] or 'it printed nothing'
                    raise RuntimeError(f'{kind}, {net}: {shlex.join(python)} failed: {why}')
                for part, values in json.loads(done.stdout.splitlines()[-1]).items():
                    took[kind][part] += values
        for part in parts:
            found = [median_and_slow(took[kind][part]) for kind in pythons]
            cells = ''.join(f' {middle:11.2f} ({slow:6.1f})' for middle, slow in found)
            ratio = f' {found[0][0] / found[1][0]:12.2f}' if len(found) == 2 else ''
            print(f'{net:12} {part:9}{cells}{ratio}', flush=True)


def start_up(rounds: int) -> None:
    """Prints the least seconds, of the clock and of the processor, from a command to its end, the commands in turns."""
    commands = {
        'import torch': ['-c', 'import torch'],
        'import caffe': ['-c', 'import caffe'],
        'train_net.py --help': [str(ROOT / 'tools' / 'train_net.py'), '--help'],
    }
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT / 'lib'), os.environ.get('PYTHONPATH', '')])}
    least = dict.fromkeys(commands, (float('inf'), float('inf')))
    for _ in range(rounds):
        for name, words in commands.items():
            began, used = time.perf_counter(), _of_children()
            subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, env=env, check=True)
            took = time.perf_counter() - began, _of_children() - used
            least[name] = min(least[name][0], took[0]), min(least[name][1], took[1])
    print(f'{"":20} {"seconds":>8} {"processor":>10} {"of torch":>9}')
    for name, (clock, processor) in least.items():
        print(f'{name:20} {clock:8.2f} {processor:10.2f} {processor / least["import torch"][1]:9.2f}')


def _of_children() -> float:
    """The processor's seconds of the processes that this one has started, and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--net', nargs='+', choices=NETS, help=f'default: {" ".join(BVLC)}')
    parser.add_argument('--loading', action='store_true', help='how long nets and weights take to load')
    parser.add_argument('--start-up', action='store_true', help='how long it takes until a command has started')
    parser.add_argument('--original', metavar='COMMAND', help='a Python whose `import caffe` is an original Caffe')
    parser.add_argument('--busy', type=int, default=0, metavar='N', help='so many other programs at work (default: 0)')
    parser.add_argument('--rounds', type=int, default=2, help='of each measurement (default: 2)')
    parser.add_argument('--seconds', type=float, default=2, help='for each part in a round (default: 2)')
    parser.add_argument(
        '--processor',
        action='store_true',
        help="one thread, and the processor's milliseconds in place of the clock's: for a machine that is busy",
    )
    parser.add_argument('--kind', choices=('ours', 'original'), help=argparse.SUPPRESS)  # of the processes it starts
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f'--rounds is {args.rounds}; expected 1 or more')
    if args.busy < 0 or not args.seconds > 0:
        parser.error(f'--busy is {args.busy}, --seconds {args.seconds:g}; expected 0 or more, and more than 0')
    if args.start_up and (args.net or args.loading or args.original or args.busy or args.processor):
        parser.error('--start-up goes with --rounds alone')
    return args


def main() -> None:
    args = parse_args()
    if args.kind:
        now = time.process_time if args.processor else time.perf_counter
        measured = measure(args.net[0], args.kind == 'original', args.loading, args.seconds, now)
        sys.stdout.flush()
        print(json.dumps(measured))
        return
    try:
        start_up(args.rounds) if args.start_up else bench(args)
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(f'bench_nets.py: error: {error}')


if __name__ == '__main__':
    main()
