"""experiments/bench.py and bench_parts.py: that they measure and report; no test asserts a time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / 'experiments' / 'bench.py'


def test_the_direct_nets_pooling_has_the_bins_of_fast_rcnn():
    """Columns 0 ... 4 in two bins: floor(0 * 2.5) to ceil(2.5) and floor(2.5) to 5, 0 ... 2 and 2 ... 4."""
    from direct_net import roi_pool

    x = torch.arange(25, dtype=torch.float32).view(1, 1, 5, 5)
    (y,) = roi_pool(x, torch.tensor([[0.0, 0, 0, 64, 64]]), 2)
    np.testing.assert_array_equal(y[0], [[12, 14], [22, 24]])


def test_a_report_gives_speed_and_shares():
    from bench import report

    layers = [['conv', 'Convolution', 10.0, 20.0, 0.2, 0.5]]
    ours = {
        'step': 2.0,
        'images': 2,
        'peak_gib': 1.5,
        'parts': {'data': 0.1, 'solver': 0.2},
        'layers': layers,
        'later': ['fc6'],
    }
    runs = {
        'ours': [ours, {**ours, 'step': 3.0}],
        'direct': [{'step': 5.0, 'images': 2, 'peak_gib': 2.0}],
        'original': [{'step': 4.0, 'images': 2, 'peak_gib': 6.0}],
    }
    lines = report('VGG16 ohem', runs, {'fp32': 100.0}, True).splitlines()
    assert lines[1].split() == ['ours', '2.00', '3.00', '1.00', '1.50']
    assert lines[2].split() == ['straight', 'in', 'torch', '5.00', '5.00', '0.40', '2.00', '2.50']
    assert lines[3].split() == ['original', 'Caffe', '4.00', '4.00', '0.50', '6.00', '2.00']
    assert 'data 0.100 s, solver 0.200 s (with the products that are the gradients of fc6)' in lines[4]
    # 10 GFLOP in 0.2 s are 50 GFLOP/s, half of 100; 20 in 0.5 s are 40
    assert lines[6].split() == ['conv', '200.0', '50', '50%', '500.0', '40', '40%']


def test_a_size_that_is_none_is_refused():
    done = subprocess.run([sys.executable, str(SCRIPT), '--rois', '0'], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert '--rois is 0; expected 1 or more' in done.stderr


def test_an_original_caffe_that_is_ours_is_refused():
    flags = ['--kind=original', '--data=none.npz', '--net=VGG16', '--method=ohem']
    command = [sys.executable, str(SCRIPT.with_name('measure_step.py')), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith('--kind original: `import caffe` found ')
    assert done.stderr.rstrip().endswith('another Caffe than ours has to come first on PYTHONPATH')


def test_every_part_is_measured():
    command = [sys.executable, str(SCRIPT.with_name('bench_parts.py')), '--rounds', '1']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.strip('| ').split(' | ') for line in done.stdout.splitlines() if line.startswith('|')][2:]
    assert [name.split(',')[0] for name, _ in rows] == [
        *['RoI pooling forward'] * 2, 'RoI pooling backward', 'mining', 'mining', *['NMS'] * 3,
        *['InnerProduct 512 x 512 x 512'] * 2, 'the same straight in torch',
        'the engine: 60 trivial layers',
    ]  # fmt: skip
    assert all(float(ms) > 0 for _, ms in rows)


@pytest.mark.slow
def test_the_command_measures_ours_and_the_direct_net():
    command = [sys.executable, str(SCRIPT), '--quick', '--net', 'VGG_CNN_M_1024', '--method', 'ohem']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for expected in (
        'ceilings on',
        'VGG_CNN_M_1024 ohem',
        'straight in torch',
        'times as fast',
        'fc6_readonly',
    ):
        assert expected in done.stdout
