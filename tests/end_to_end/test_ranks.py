"""Several ranks do what one process does: training, byte for byte, and what happens when one of them is gone."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import ROOT, SMALL, run

SOLVER = """train_net: "models/demo/small/fast_rcnn_ohem/train.prototxt"
base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 12 momentum: 0.9 weight_decay: 0.0005
display: 1 average_loss: 5 iter_size: %d snapshot: 0 snapshot_prefix: "small"
"""


@pytest.fixture
def solver(tmp_path):
    """solver(iter_size): the demo's OHEM solver with so many passes an iteration."""

    def write(iter_size):
        path = tmp_path / f'solver_{iter_size}.prototxt'
        path.write_text(SOLVER % iter_size)
        return path

    return write


@pytest.fixture
def command(tiny, tmp_path):
    """command(gpu, iters, solver): tools/train_net.py on the tiny set, as a list of words; files go to `into`."""

    def words(gpu, iters, solver, *flags, into, settings=()):
        gpu = ('--gpu', gpu) if gpu else ()
        return [
            'tools/train_net.py', *gpu, '--solver', solver, '--imdb', f'folder:{tiny}:train', '--iters', iters,
            '--cfg', 'experiments/cfgs/demo_ohem.yml', *flags,
            '--set', 'ROOT_DIR', tmp_path / into, 'EXP_DIR', 'e', 'TRAIN.SCALES', '(120,)', 'TRAIN.IMS_PER_BATCH', '1',
            'TRAIN.BATCH_SIZE', '16', 'TRAIN.USE_PREFETCH', 'False', *settings,
        ]  # fmt: skip

    words.folder = lambda into: tmp_path / into / 'output' / 'e' / 'tiny_train'
    return words


def files(folder):
    """What a training left, by name; its record without times and memory, which no two runs share."""
    found = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in ('.caffemodel', '.solverstate')
    }
    found['record'] = [
        {k: v for k, v in json.loads(line).items() if k not in ('seconds', 'memory', 'sent_mb', 'as_matrices_mb')}
        for line in (folder / 'small_record.jsonl').read_text().splitlines()
    ]
    return found


def in_state(folder, name):
    """The bytes of a .solverstate, without the folder that it names."""
    return files(folder)[name].replace(str(folder).encode(), b'')


def assert_same(a, b):
    one, two = files(a), files(b)
    assert set(one) == set(two)
    for name in one:
        if name.endswith('.solverstate'):
            assert in_state(a, name)[8:] == in_state(b, name)[8:], name
        else:
            assert one[name] == two[name], name


def test_two_ranks_leave_the_files_of_one_process_byte_for_byte(command, solver):
    one = run(*command('cpu', 4, solver(2), into='run1'))
    two = run(*command('cpu:2', 4, solver(2), into='run2'))
    assert_same(command.folder('run1'), command.folder('run2'))
    lines = [re.findall(r'Iteration \d+, (?:loss|lr) = .*', done.stderr) for done in (one, two)]
    assert lines[0] == lines[1] and len(lines[0]) == 8
    assert two.stdout.count('Wrote snapshot to') == 1 and '[rank 1' not in two.stderr


@pytest.mark.slow
def test_twenty_iterations_of_the_demo_with_torchrun_and_two_passes_a_rank(command, solver):
    run(*command('cpu', 20, solver(4), into='run1'))
    run(
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc-per-node',
        2,
        *command('cpu', 20, solver(4), into='run2'),
    )
    assert_same(command.folder('run1'), command.folder('run2'))


def test_passes_that_do_not_divide_are_refused_once(command, solver):
    done = run(*command('cpu:2', 2, solver(3), into='run'), status=1)
    (line,) = [line for line in done.stderr.splitlines() if 'error' in line]
    assert 'an iteration has 3 passes (iter_size), which cannot be dealt to 2 ranks: start 1 or 3' in line
    assert 'iter_size 2, 4' in line and '--scale_batch' in line


def test_scale_batch(command, solver):
    """Each rank makes a mini-batch of its own: half the iterations, twice the rate, the step at 6 instead of 12."""
    run(*command('cpu:2', 14, solver(1), '--scale_batch', into='run'))
    folder = command.folder('run')
    record = files(folder)['record']
    assert [line['iteration'] for line in record] == list(range(7))
    assert all(line['images'] == 2 and line['scale_batch'] == 2 for line in record)
    assert [line['lr'] for line in record] == pytest.approx([0.02] * 6 + [0.002])
    assert (folder / 'small_iter_7.caffemodel').exists()
    assert 'base_lr: 0.02' in (folder / 'small_solver.prototxt').read_text()
