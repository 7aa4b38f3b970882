"""A program of the pattern of BVLC's python/train.py trains as one solver does on the mini-batches of all."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import caffe

HERE = Path(__file__).parent

NET = """
layer {{ name: "rows" type: "HDF5Data" top: "x" top: "label"
  hdf5_data_param {{ source: "{source}" batch_size: {batch} }} }}
layer {{ name: "hidden" type: "InnerProduct" bottom: "x" top: "hidden"
  inner_product_param {{ num_output: 8 weight_filler {{ type: "gaussian" std: 0.3 }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "hidden" top: "hidden" }}
layer {{ name: "score" type: "InnerProduct" bottom: "hidden" top: "score"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" std: 0.3 }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }}
"""


@pytest.fixture
def solver(tmp_path):
    """solver(batch, options): a solver on 24 rows of 5 numbers, so many a mini-batch."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / 'rows.h5', 'w') as file:
        file['x'] = rng.standard_normal((24, 5)).astype('f')
        file['label'] = rng.integers(0, 3, 24).astype('f')
    (tmp_path / 'list').write_text(f'{tmp_path}/rows.h5\n')

    def write(batch, options=''):
        net = tmp_path / f'net_{batch}.prototxt'
        net.write_text(NET.format(source=tmp_path / 'list', batch=batch))
        path = tmp_path / f'solver_{batch}.prototxt'
        path.write_text(
            f'net: "{net}" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001 max_iter: 9 display: 3 '
            f'random_seed: 3 snapshot_prefix: "{tmp_path}/s" {options}'
        )
        return path

    return write


@pytest.mark.parametrize(
    ('method', 'flags', 'options'),
    [
        ('fork', (), ''),
        ('spawn', ('timing',), ''),
        ('fork', ('timing',), 'layer_wise_reduce: false'),
    ],
)
def test_two_processes_are_one_of_both_mini_batches(solver, tmp_path, method, flags, options):
    """Rank 0 takes the even rows, rank 1 the odd ones: four of each are the eight of one process."""
    done = subprocess.run(
        [sys.executable, HERE / 'bvlc_train.py', solver(4, options), tmp_path / 'out', method, '2', *flags],
        env={**os.environ, 'PYTHONPATH': str(HERE.parent.parent / 'lib'), 'GLOG_minloglevel': '0'},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'Using devices [0, 1]' in done.stderr
    assert done.stderr.count('Iteration 3, loss') == 1
    assert ('allreduce: ' in done.stderr) == ('timing' in flags)
    alone = caffe.SGDSolver(str(solver(8)))
    alone.step(9)
    first, second = (dict(np.load(tmp_path / f'out_{rank}.npz')) for rank in range(2))
    for name in ('hidden/0', 'hidden/1', 'score/0', 'score/1'):
        np.testing.assert_array_equal(first[name], second[name])
        layer, k = name.split('/')
        np.testing.assert_allclose(first[name], alone.net.params[layer][int(k)].data, rtol=1e-5, atol=1e-6)
