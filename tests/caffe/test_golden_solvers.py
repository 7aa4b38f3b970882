"""Training runs recorded on the original Caffe: every step's parameters, losses and mined RoIs (tests/golden)."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import caffe

GOLDEN = Path(__file__).parent.parent / 'golden'
CASES = sorted(p.name[: -len('.solver.prototxt')] for p in (GOLDEN / 'solvers').glob('*.solver.prototxt'))


@pytest.fixture
def golden_folder(tmp_path, monkeypatch):
    for path in (GOLDEN / 'solvers').iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(GOLDEN))
    sys.modules.pop('golden_layers', None)
    return tmp_path


def start(name):
    """A solver of the recorded run, its parameters as they were at the start."""
    gold = dict(np.load(f'{name}.npz'))
    solver = caffe.get_solver(f'{name}.solver.prototxt')
    for key, value in gold.items():
        if key.startswith('init/'):
            _, layer, i = key.split('/')
            solver.net.params[layer][int(i)].data[...] = value
    return solver, gold


def assert_params(net, gold, prefix, rtol=2e-3, atol=2e-5):
    for key, want in gold.items():
        if key.startswith(prefix + '/'):
            _, layer, i = key.split('/')
            have = net.params[layer][int(i)].data
            assert have.shape == want.shape
            np.testing.assert_allclose(have, want, rtol=rtol, atol=atol, err_msg=key)


@pytest.mark.parametrize('name', CASES)
def test_training_as_recorded(name, golden_folder):
    solver, gold = start(name)
    import golden_layers

    golden_layers.HardRois.chosen = []
    steps = 1 + max(int(key.split('/')[1]) for key in gold if key.startswith('loss/'))
    for k in range(steps):
        solver.step(1)
        assert_params(solver.net, gold, f'step{k}')
        for blob in solver.net.outputs:
            np.testing.assert_allclose(solver.net.blobs[blob].data, gold[f'loss/{k}/{blob}'], rtol=2e-3, atol=2e-5)
    for n, mined in enumerate(golden_layers.HardRois.chosen):
        np.testing.assert_array_equal(mined, gold[f'hard/{n}'])


@pytest.mark.parametrize('name', CASES)
def test_training_resumes_from_the_original_snapshot(name, golden_folder):
    """From Caffe's own files at iteration 12, ours trains on to what ours, never stopped, has at iteration 14."""
    ext = '.h5' if Path(f'{name}_iter_12.solverstate.h5').exists() else ''
    solver, gold = start(name)
    resumed = caffe.get_solver(f'{name}.solver.prototxt')
    resumed.restore(f'{name}_iter_12.solverstate{ext}')
    assert resumed.iter == 12
    assert_params(resumed.net, gold, 'step11', rtol=0, atol=0)
    solver.step(12)
    # both read the inputs in a cycle from their own position; set the resumed one to where the other is
    mine, theirs = resumed.net.layers[0], solver.net.layers[0]
    mine._next = theirs._next
    solver.step(2)
    resumed.step(2)
    for layer, blobs in solver.net.params.items():
        for want, have in zip(blobs, resumed.net.params[layer], strict=True):
            np.testing.assert_allclose(have.data, want.data, rtol=2e-3, atol=2e-5)


def test_our_snapshot_of_a_recorded_run_restores_exactly(golden_folder):
    solver, _ = start('adam_exp')
    solver.step(3)
    solver.snapshot()
    resumed = caffe.get_solver('adam_exp.solver.prototxt')
    resumed.restore('adam_exp_iter_3.solverstate')
    resumed.net.layers[0]._next = solver.net.layers[0]._next
    solver.step(4)
    resumed.step(4)
    for layer, blobs in solver.net.params.items():
        for want, have in zip(blobs, resumed.net.params[layer], strict=True):
            np.testing.assert_array_equal(have.data, want.data)
