#!/usr/bin/env python3
"""How training grows with the number of ranks: what can be measured here, and what follows by arithmetic.

experiments/scaling.py --measure            two processes on this machine: seconds of a step, bytes, of an exchange
experiments/scaling.py --measure --mbit 1000   the same over a link of 1 Gbit/s between two network namespaces (root)
experiments/scaling.py --vgg16 --mbit 1000     of VGG16 with OHEM, two ranks of a pass each (8 GB): as matrices, factors
                                               and bf16, and how much of the sending hides behind the backward pass
experiments/scaling.py                      the table of docs/scaling.md: 2 to 1024 GPUs on three links

The prediction: a rank sends 2 (R - 1) / R of the gradient by slices (ring, slices), twice the gradient log2 R times one
after another by a tree, and (R - 1) times its factors where those are sent; each message waits LATENCY once, R - 1
times in a ring. Seconds are bytes / bandwidth + waiting, beside the backward pass where they can hide.
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LIB = Path(__file__).resolve().parent.parent / 'lib'

# VGG16's parameters in millions: the trunk above conv2, which is frozen; fc6 and fc7; what is left (biases, scores)
TRUNK, FC6, FC7, REST = 14.45e6, 4096 * 25088, 4096 * 4096, 4096 * 105 + 8192
ROIS = 64  # mined in a pass
LINKS = {'NVLink, 900 GB/s': (450e9, 3e-6), '100 Gbit/s': (12.5e9, 10e-6), '10 Gbit/s': (1.25e9, 30e-6)}
BUCKETS = 5


def factors() -> float:
    """Numbers of the factors of fc6 and fc7, of a pass."""
    return ROIS * (25088 + 4096) + ROIS * (4096 + 4096)


def ring(numbers: float, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds of a ring's all-reduce of float32 numbers."""
    return 2 * (ranks - 1) / ranks * 4 * numbers / bandwidth + 2 * (ranks - 1) * latency


def slices(numbers: float, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds of our exchange: each rank's slice to its owner, the sums to all; a ring's bytes, two waits a bucket."""
    return 2 * (ranks - 1) / ranks * 4 * numbers / bandwidth + 2 * BUCKETS * latency


def tree(numbers: float, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds of a binary tree's reduction and broadcast."""
    return 2 * math.ceil(math.log2(ranks)) * (4 * numbers / bandwidth + latency)


def factor_exchange(ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds with fc6 and fc7 as factors, which every rank sends to every other, and the rest by slices."""
    return (ranks - 1) * 4 * factors() / bandwidth + latency + slices(TRUNK + REST, ranks, bandwidth, latency)


def table() -> list[str]:
    """Lines of a table in Markdown: milliseconds of an exchange of VGG16's gradients, a pass a rank."""
    everything = TRUNK + FC6 + FC7 + REST
    lines = ['| link | ranks | ring | tree | slices | factors |', '| --- | ---: | ---: | ---: | ---: | ---: |']
    for name, link in LINKS.items():
        for power in range(1, 11):
            ranks = 2**power
            times = [way(everything, ranks, *link) for way in (ring, tree, slices)] + [factor_exchange(ranks, *link)]
            lines.append(f'| {name} | {ranks} | ' + ' | '.join(f'{1000 * seconds:.3g}' for seconds in times) + ' |')
    return lines


NET = """
name: "fc"
layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: %(rows)d dim: %(inputs)d } shape { dim: %(rows)d dim: %(outputs)d }
  data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
layer { name: "fc6" type: "InnerProduct" bottom: "x" top: "fc6" inner_product_param { num_output: %(outputs)d
  weight_filler { type: "gaussian" std: 0.001 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc6" bottom: "y" top: "loss" }
"""


def one_rank(rank: int, count: int, uid: str, folder: str, steps: int) -> None:
    """A rank of the measurement: prints what rank 0 measured."""
    sys.path.insert(0, str(LIB))
    import caffe

    caffe.set_mode_cpu()
    caffe.set_solver_count(count)
    caffe.set_solver_rank(rank)
    solver = caffe.get_solver(f'{folder}/solver.prototxt')
    nccl = caffe.NCCL(solver, uid) if count > 1 else None
    if nccl is not None:
        nccl.bcast()
        solver.add_callback(nccl)
        solver.net.after_backward(nccl)
    solver.step(1)
    before = _counts(nccl)
    sent, began = _socket_bytes(), time.perf_counter()
    solver.step(steps)
    seconds = (time.perf_counter() - began) / steps
    on_wire = (_socket_bytes() - sent) / steps / 2**20
    if rank == 0:
        counted = [(after - b) / steps / 2**20 for after, b in zip(_counts(nccl), before, strict=True)]
        print(
            f'{count} ranks: {seconds:.3f} s a step; MiB a step that rank 0 sends: {counted[0]:.2f} counted, as '
            f'matrices {counted[1]:.2f}; by all ranks on the interface: {on_wire:.2f}',
            flush=True,
        )


def one_rank_of_vgg16(folder: str, steps: int, size: int, wire: str, factors: bool) -> None:
    """A rank that trains VGG16 with OHEM on images of `size` pixels. Rank 0 prints a line of a table."""
    sys.path.insert(0, str(LIB))
    os.chdir(LIB.parent)
    import caffe
    import ranks
    from detection_data.factory import get_imdb
    from fast_rcnn.config import cfg_from_file, cfg_from_list
    from fast_rcnn.train import SolverWrapper, get_training_roidb

    place = ranks.join('scaling.py')
    caffe.set_mode_cpu()
    caffe.NCCL.factors = factors
    cfg_from_file('experiments/cfgs/fast_rcnn_ohem.yml')
    cfg_from_list(['TRAIN.SCALES', f'({size},)', 'TRAIN.MAX_SIZE', str(2 * size), 'TRAIN.USE_PREFETCH', 'False'])
    data_set = get_imdb(f'folder:{folder}/data:train')
    data_set.set_proposal_method('random')
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
        roidb = get_training_roidb(data_set)
        wrapper = SolverWrapper(f'{folder}/vgg16.prototxt', roidb, f'{folder}/out', 'none', wire=wire)
    net, nccl = wrapper.solver.net, wrapper.exchange
    _fill(net)
    backward = {'began': 0.0, 'seconds': 0.0}

    def note_end(layer: int) -> None:
        backward['seconds'] += time.perf_counter() - backward['began']
        backward['began'] = time.perf_counter()

    def step() -> None:
        wrapper.data_layer.set_position(wrapper.division.position(wrapper.solver.iter))
        wrapper.solver.step(1)

    net.after_forward(lambda layer: backward.update(began=time.perf_counter()))
    net.after_backward(note_end)
    step()
    backward['seconds'] = 0.0
    before = *_counts(nccl), nccl.seconds_exchanging, nccl.seconds_waited
    sent, began = _socket_bytes(), time.perf_counter()
    for _ in range(steps):
        step()
    seconds = (time.perf_counter() - began) / steps
    on_wire = (_socket_bytes() - sent) / steps / 2**20
    after = *_counts(nccl), nccl.seconds_exchanging, nccl.seconds_waited
    counted, _, exchanging, waited = ((b - a) / steps for a, b in zip(before, after, strict=True))
    if place.rank == 0:
        how = 'factors' if factors else 'matrices'
        print(
            f'| {how}, {wire} | {counted / 2**20:.2f} | {on_wire:.2f} | {seconds:.2f} | '
            f'{backward["seconds"] / steps:.2f} | {exchanging:.2f} | {waited:.2f} | '
            f'{100 * (1 - waited / exchanging):.0f} % |',
            flush=True,
        )
    wrapper.close()
    ranks.leave()


def _fill(net) -> None:
    """The same random weights at all ranks, none of them zero: the losses, and so the RoIs, are as good as any."""
    import numpy as np

    rng = np.random.default_rng(0)
    for blobs in net.params.values():
        weights = blobs[0].data
        weights[...] = rng.standard_normal(weights.shape, np.float32) * np.sqrt(1 / weights[0].size)


def _counts(nccl) -> tuple[int, int]:
    return (nccl.bytes_sent, nccl.bytes_as_matrices) if nccl else (0, 0)


def _socket_bytes() -> int:
    """Bytes that the interface has sent: the loopback, or the link between two namespaces."""
    interface = os.environ.get('GLOO_SOCKET_IFNAME', 'lo')
    for line in Path('/proc/self/net/dev').read_text().splitlines():
        name, _, numbers = line.partition(':')
        if name.strip() == interface:
            return int(numbers.split()[8])
    return 0


@contextlib.contextmanager
def two_machines(mbit: int | None) -> Iterator[list[list[str]]]:
    """Two network namespaces with a link of so many Mbit/s, or no limit. Yields commands that run a program in each."""
    names = [f'scaling-{os.getpid()}-{i}' for i in range(2)]
    links = [f's{os.getpid() % 10000}-{i}' for i in range(2)]

    def ip(*words: str) -> None:
        subprocess.run(['ip', *words], check=True)

    try:
        for name in names:
            ip('netns', 'add', name)
        ip('link', 'add', links[0], 'type', 'veth', 'peer', 'name', links[1])
        for i, (name, link) in enumerate(zip(names, links, strict=True)):
            ip('link', 'set', link, 'netns', name)
            inside = ['ip', 'netns', 'exec', name]
            limit = ['tc', 'qdisc', 'add', 'dev', 'wire', 'root', 'tbf', 'rate', f'{mbit}mbit', 'burst', '4mb']
            for words in (
                ['ip', 'link', 'set', link, 'name', 'wire'],
                ['ip', 'address', 'add', f'10.77.0.{i + 1}/24', 'dev', 'wire'],
                ['ip', 'link', 'set', 'wire', 'up'],
                ['ip', 'link', 'set', 'lo', 'up'],
                *([] if mbit is None else [[*limit, 'latency', '50ms']]),
            ):
                subprocess.run([*inside, *words], check=True)
        yield [['ip', 'netns', 'exec', name] for name in names]
    finally:
        for name in names:
            subprocess.run(['ip', 'netns', 'delete', name], check=False)


def measure(mbit: int | None, rows: int, steps: int) -> None:
    """Prints a line for one rank and one for two."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for name, text in (
            ('net', NET % {'rows': rows, 'inputs': 25088 // 4, 'outputs': 1024}),
            ('solver', f'net: "{folder}/net.prototxt" base_lr: 0.0001 lr_policy: "fixed" momentum: 0.9 random_seed: 1'),
        ):
            Path(folder, f'{name}.prototxt').write_text(text)
        prefixes: list[list[str]] = [[], []]
        environment = {**os.environ, 'PYTHONPATH': str(LIB), 'OMP_NUM_THREADS': '1', 'GLOG_minloglevel': '2'}
        uid = '127.0.0.1|29717|scaling'
        if mbit:
            prefixes = stack.enter_context(two_machines(mbit))
            uid, environment['GLOO_SOCKET_IFNAME'] = '10.77.0.1|29717|scaling', 'wire'
        for count in (1, 2):
            commands = [
                [*prefixes[r], sys.executable, __file__, '--rank', f'{r},{count},{uid},{folder},{steps}']
                for r in range(count)
            ]
            _run_together(commands, [environment] * count)


def measure_vgg16(mbit: int | None, steps: int, size: int) -> None:
    """Prints a table: what VGG16 with OHEM sends a step, how long that takes, and how much of it nobody waits for."""
    with tempfile.TemporaryDirectory() as folder, two_machines(mbit) as machines:
        for words in (
            ['data/scripts/make_demo_data.py', '--out', f'{folder}/data', '--train', '6', '--test', '1'],
            ['tools/make_proposals.py', '--imdb', f'folder:{folder}/data:train', '--method', 'random', '--jobs', '1'],
        ):
            subprocess.run([sys.executable, *words], cwd=LIB.parent, check=True, stdout=subprocess.DEVNULL)
        net = LIB.parent / 'models' / 'pascal_voc' / 'VGG16' / 'fast_rcnn_ohem' / 'train.prototxt'
        text = net.read_text().replace("'num_classes': 21", "'num_classes': 5")
        for classes, few in ((21, 5), (84, 20)):
            text = text.replace(f'num_output: {classes} ', f'num_output: {few} ')
            text = text.replace(f'num_output: {classes}\n', f'num_output: {few}\n')
        Path(folder, 'train.prototxt').write_text(text)
        Path(folder, 'vgg16.prototxt').write_text(
            f'train_net: "{folder}/train.prototxt" base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 iter_size: 2 '
            'weight_decay: 0.0005 snapshot_prefix: "vgg16"'
        )
        link = 'no limit' if mbit is None else f'{mbit / 1000:g} Gbit/s'
        print(f'| {link} | MiB counted | MiB on the wire | s a step | s backward | s sending | s waited | hidden |')
        print('| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |', flush=True)
        for port, (wire, factors) in enumerate((('float32', False), ('float32', True), ('bf16', True))):
            command = [sys.executable, __file__, '--vgg16_rank', f'{folder},{steps},{size},{wire},{int(factors)}']
            environment = {
                **os.environ, 'PYTHONPATH': str(LIB), 'GLOG_minloglevel': '2', 'OMP_NUM_THREADS': '1',
                'WORLD_SIZE': '2', 'LOCAL_RANK': '0', 'LOCAL_WORLD_SIZE': '1', 'MASTER_ADDR': '10.77.0.1',
                'MASTER_PORT': str(29600 + 20 * port), 'GLOO_SOCKET_IFNAME': 'wire',
            }  # fmt: skip
            _run_together(
                [[*machine, *command] for machine in machines], [{**environment, 'RANK': str(r)} for r in range(2)]
            )


def _run_together(commands: list[list[str]], environments: list[dict[str, str]]) -> None:
    running = [
        subprocess.Popen(command, env=environment) for command, environment in zip(commands, environments, strict=True)
    ]
    if max(process.wait() for process in running):
        sys.exit('scaling.py: error: a rank failed')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--measure', action='store_true', help='measure here instead of printing the table')
    parser.add_argument('--mbit', type=int, help='over a link of so many Mbit/s between two network namespaces')
    parser.add_argument('--rows', type=int, default=ROIS, help='rows of a pass (default: 64)')
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--vgg16', action='store_true', help='measure VGG16 with OHEM between two network namespaces')
    parser.add_argument('--size', type=int, default=224, help='of its images, in pixels (default: 224)')
    parser.add_argument('--rank', help=argparse.SUPPRESS)
    parser.add_argument('--vgg16_rank', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank:
        rank, count, uid, folder, steps = args.rank.split(',')
        one_rank(int(rank), int(count), uid, folder, int(steps))
    elif args.vgg16_rank:
        folder, steps, size, wire, factors = args.vgg16_rank.split(',')
        one_rank_of_vgg16(folder, int(steps), int(size), wire, factors == '1')
    elif args.vgg16:
        measure_vgg16(args.mbit, args.steps, args.size)
    elif args.measure:
        measure(args.mbit, args.rows, args.steps)
    else:
        print('\n'.join(table()))


if __name__ == '__main__':
    main()
