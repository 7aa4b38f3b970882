"""`python -m caffe train --gpu ...` by several processes."""

import os
import subprocess
import sys
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


def train(tmp_path, *flags):
    (tmp_path / 'net.prototxt').write_text(NET)
    (tmp_path / 'solver.prototxt').write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 display: 1 random_seed: 5 '
        f'snapshot_prefix: "{tmp_path}/s"'
    )
    return subprocess.run(
        [sys.executable, '-m', 'caffe', 'train', '-solver', tmp_path / 'solver.prototxt', *flags],
        env={**os.environ, 'PYTHONPATH': str(LIB), 'GLOG_minloglevel': '0', 'OMP_NUM_THREADS': '1'},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


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
