"""Several solvers, a process each, that exchange gradients (Gloo between CPUs): what they compute together."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe

HERE = Path(__file__).parent
LIB = HERE.parent.parent / 'lib'

NET = """
name: "several"
layer { name: "data" type: "Python" top: "data" top: "label"
  python_param { module: "one_of_several" layer: "Passes" param_str: "%(inputs)d" } }
layer { name: "frozen" type: "InnerProduct" bottom: "data" top: "frozen" param { lr_mult: 0 } param { lr_mult: 0 }
  inner_product_param { num_output: %(hidden)d weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "hidden" type: "InnerProduct" bottom: "frozen" top: "hidden"
  inner_product_param { num_output: %(hidden)d weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "hidden" top: "hidden" }
layer { name: "drop" type: "Dropout" bottom: "hidden" top: "hidden" }
layer { name: "score" type: "InnerProduct" bottom: "hidden" top: "score" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "score2" type: "InnerProduct" bottom: "frozen" top: "score2" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 1 }
layer { name: "loss2" type: "SoftmaxWithLoss" bottom: "score2" bottom: "label" top: "loss2" loss_weight: 1 }
"""


@pytest.fixture
def train(tmp_path):
    """train(ranks, iter_size): what each rank had after the iterations, by name; exchange=False for one without."""

    def call(ranks, iter_size, *flags, exchange=True, iterations=4, options='', hidden=16, inputs=16, quiet='3'):
        (tmp_path / 'net.prototxt').write_text(NET % {'hidden': hidden, 'inputs': inputs})
        solver = tmp_path / f'solver_{ranks}_{iter_size}.prototxt'
        solver.write_text(
            f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 2 momentum: 0.9 '
            f'weight_decay: 0.001 iter_size: {iter_size} random_seed: 3 snapshot_prefix: "{tmp_path}/s" {options}'
        )
        uid = caffe.NCCL.new_uid() if exchange else '-'
        environment = {
            **os.environ, 'PYTHONPATH': str(LIB), 'OMP_NUM_THREADS': '1', 'GLOG_minloglevel': quiet
        }  # fmt: skip
        running = [
            subprocess.Popen(
                [sys.executable, HERE / 'one_of_several.py', solver, str(iterations), str(rank), str(ranks), uid,
                 tmp_path / f'{rank}.npz', *flags],
                env=environment, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(ranks)
        ]  # fmt: skip
        errors = [process.communicate(timeout=120)[1] for process in running]
        assert [process.returncode for process in running] == [0] * ranks, errors
        call.errors = errors
        return [dict(np.load(tmp_path / f'{rank}.npz')) for rank in range(ranks)]

    return call


def same(a, b):
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a if name not in ('bytes', 'seconds'))


def test_two_ranks_of_a_pass_are_one_of_two_passes_byte_for_byte(train):
    (one,) = train(1, 2, exchange=False)
    two = train(2, 1)
    assert same(one, two[0])
    assert same(one, two[1])
    (start,) = train(1, 2, exchange=False, iterations=0)
    assert not any(np.array_equal(one[name], start[name]) for name in ('hidden/0', 'score/0', 'score/1'))
    assert np.array_equal(one['frozen/0'], start['frozen/0'])


@pytest.mark.parametrize(('ranks', 'passes'), [(3, 2), (4, 1)])
def test_any_division_gives_the_bytes_of_one_process(train, ranks, passes):
    (one,) = train(1, ranks * passes, exchange=False)
    for several in train(ranks, passes):
        assert same(one, several)


def test_a_clipped_mean_is_clipped_by_the_norm_of_the_mean(train):
    """Caffe clips the sum over iter_size; over several solvers it is their mean that it clips."""
    (one,) = train(1, 2, exchange=False, options='clip_gradients: 0.2')
    two = train(2, 1, options='clip_gradients: 0.1')
    assert same(one, two[0])


def test_without_layer_wise_reduce_too(train):
    (one,) = train(1, 2, exchange=False)
    assert same(one, train(2, 1, options='layer_wise_reduce: false')[1])


def test_large_gradients_travel_as_factors(train):
    """hidden: a matrix of 1024 x 1024 and 4 rows of a pass, so 4 (1024 + 1024) numbers go to the other rank, where
    half the matrix to be summed there and half the sum would have gone. The rest goes as it is: its bias of 1024, and
    score's 3 x 1024 + 3."""
    (one,) = train(1, 2, exchange=False, hidden=1024, iterations=3)
    two = train(2, 1, hidden=1024, iterations=3)
    assert same(one, two[0]) and same(one, two[1])
    rest = 1024 + 3 * 1024 + 3
    dense = rest + rest % 2  # two slices of the same size, once for the pass, once for the sum
    assert two[0]['bytes'][0] == 3 * 4 * (4 * 2048 + dense)
    assert two[0]['bytes'][1] == 3 * 4 * (1024 * 1024 + dense)
    matrices = train(2, 1, 'matrices', hidden=1024, iterations=3)
    assert same(*matrices) and matrices[0]['bytes'].tolist() == [two[0]['bytes'][1]] * 2
    for name in ('hidden/0', 'hidden/1', 'score/0'):  # products are summed in another order
        np.testing.assert_allclose(matrices[0][name], one[name], rtol=1e-4, atol=1e-6)
    assert all(0 < rank['seconds'][0] < 60 and 0 <= rank['seconds'][1] < 60 for rank in (*two, *matrices))


def test_bf16_on_the_wire_halves_the_bytes_and_every_rank_still_has_the_same(train):
    exact = train(2, 1)
    rounded = train(2, 1, 'wire=bf16')
    assert same(rounded[0], rounded[1])
    assert 2 * rounded[0]['bytes'][0] == exact[0]['bytes'][0]
    for name in exact[0]:
        if name.startswith(('hidden', 'score')):
            assert not np.array_equal(exact[0][name], rounded[0][name])
            np.testing.assert_allclose(exact[0][name], rounded[0][name], atol=0.01)


def test_the_root_shows_the_mean_loss_of_all(train):
    train(1, 2, exchange=False, iterations=1, options='display: 1', quiet='0')
    (alone,) = [line for line in train.errors[0].splitlines() if 'Iteration 0, loss' in line]
    train(2, 1, iterations=1, options='display: 1', quiet='0')
    (together,) = [line for line in train.errors[0].splitlines() if 'Iteration 0, loss' in line]
    assert alone.split('] ')[1] == together.split('] ')[1]
    assert train.errors[1] == ''


def test_what_does_not_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr('caffe.process.ranks._Process.rank', 2)
    monkeypatch.setattr('caffe.process.ranks._Process.count', 2)
    net = tmp_path / 'net.prototxt'
    net.write_text('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    solver = tmp_path / 'solver.prototxt'
    solver.write_text(f'net: "{net}" base_lr: 1 lr_policy: "fixed"')
    solver = caffe.get_solver(solver)
    with pytest.raises(ValueError, match='solver_rank is 2, of 2 solvers'):
        caffe.NCCL(solver, caffe.NCCL.new_uid())
    monkeypatch.setattr('caffe.process.ranks._Process.rank', 1)
    with pytest.raises(ValueError, match="not 'somewhere'"):
        caffe.NCCL(solver, 'somewhere')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('iter_size', [1, 2])
def test_one_rank_with_nccl_is_no_ranks_on_a_gpu(train, iter_size):
    """All that one GPU can show."""
    (alone,) = train(1, iter_size, 'gpu', exchange=False)
    assert same(alone, train(1, iter_size, 'gpu')[0])
