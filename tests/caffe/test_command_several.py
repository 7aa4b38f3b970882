"""`python -m caffe train --gpu ...` by several processes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIB = Path(__file__).parent.parent.parent / 'lib'

NET = """
name: "n"
layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""


def command(tmp_path, *flags, iterations=3):
    (tmp_path / 'net.prototxt').write_text(NET)
    (tmp_path / 'solver.prototxt').write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: {iterations} '
        f'display: 1 random_seed: 5 snapshot_prefix: "{tmp_path}/s"'
    )
    return {
        'args': [sys.executable, '-m', 'caffe', 'train', '-solver', tmp_path / 'solver.prototxt', *flags],
        'env': {**os.environ, 'PYTHONPATH': str(LIB), 'GLOG_minloglevel': '0', 'OMP_NUM_THREADS': '1'},
        'text': True,
    }


def train(tmp_path, *flags):
    return subprocess.run(**command(tmp_path, *flags), capture_output=True, timeout=120)


def test_two_processes_train_and_the_root_alone_speaks_and_writes(tmp_path):
    done = train(tmp_path, '-gpu', 'cpu:2')
    assert done.returncode == 0, done.stderr
    for line in ('Iteration 0, loss', 'Optimization Done.', 'Snapshotting to binary proto file'):
        assert line in done.stderr
    assert done.stderr.count('Iteration 2, loss') == 1
    assert sorted(path.name for path in tmp_path.glob('s_*')) == ['s_iter_3.caffemodel', 's_iter_3.solverstate']


@pytest.mark.parametrize('gpu', ['0,0', 'cpu:0', 'two'])
def test_devices_that_make_no_sense_are_refused_in_a_line(tmp_path, gpu):
    done = train(tmp_path, '-gpu', gpu)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1 and '--gpu' in done.stderr


def test_what_is_wrong_at_all_is_said_once(tmp_path):
    done = train(tmp_path, '-gpu', 'cpu:2', '-weights', tmp_path / 'none.caffemodel')
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if 'error' in line]
    assert line.startswith('caffe train: error: ') and 'none.caffemodel' in line


@pytest.mark.skipif(not os.path.isdir('/proc'), reason='finds ranks by /proc')
@pytest.mark.parametrize(
    ('number', 'says'),
    [
        (signal.SIGKILL, r'rank 1 on \S+ was killed by signal 9'),
        (signal.SIGSTOP, r'rank 1 on \S+ has not answered for'),
    ],
)
def test_a_rank_that_is_gone_or_stopped_ends_the_job_within_thirty_seconds(tmp_path, number, says):
    with subprocess.Popen(
        **command(tmp_path, '-gpu', 'cpu:2', iterations=10**9), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as job:
        try:
            next(line for line in job.stderr if 'Iteration 5, loss' in line)
            children = Path(f'/proc/{job.pid}/task/{job.pid}/children').read_text().split()
            (victim,) = [int(pid) for pid in children if b'\0RANK=1\0' in Path(f'/proc/{pid}/environ').read_bytes()]
            os.kill(victim, number)
            began = time.monotonic()
            errors = [line for line in job.stderr if 'error' in line]
            assert job.wait(30) == 1 and time.monotonic() - began < 30
        finally:
            job.kill()
    assert len(errors) == 1 and re.search(says, errors[0])
    assert not any(os.path.exists(f'/proc/{pid}') for pid in children)
