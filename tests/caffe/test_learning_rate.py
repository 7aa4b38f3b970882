"""The seven learning-rate policies of SGDSolver::GetLearningRate, each computed by hand."""

import math

import pytest

import caffe
from caffe.learning_rate import rate, step_at
from caffe.proto import caffe_pb2
from caffe.solver import SolverError

NET = """layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 1 } } }
         layer { name: "loss" type: "Reduction" bottom: "w" top: "loss" loss_weight: 1 }"""


def solver_of(folder, text):
    (folder / 'net.prototxt').write_text(NET)
    (folder / 'solver.prototxt').write_text(f'net: "{folder}/net.prototxt" base_lr: 0.5 {text}')
    return caffe.get_solver(str(folder / 'solver.prototxt'))


POLICIES = {
    'fixed': ('lr_policy: "fixed"', lambda i: 0.5),
    'step': ('lr_policy: "step" gamma: 0.1 stepsize: 3', lambda i: 0.5 * 0.1 ** (i // 3)),
    'exp': ('lr_policy: "exp" gamma: 0.9', lambda i: 0.5 * 0.9**i),
    'inv': ('lr_policy: "inv" gamma: 0.2 power: 0.75', lambda i: 0.5 * (1 + 0.2 * i) ** -0.75),
    'multistep': (
        'lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 5 stepvalue: 6',
        lambda i: 0.5 * 0.1 ** ((i >= 2) + (i >= 5) + (i >= 6)),
    ),
    'poly': ('lr_policy: "poly" power: 2 max_iter: 10', lambda i: 0.5 * (1 - i / 10) ** 2),
    'sigmoid': (
        'lr_policy: "sigmoid" gamma: -0.5 stepsize: 4',
        lambda i: 0.5 / (1 + math.exp(0.5 * (i - 4))),
    ),
}


@pytest.mark.parametrize('policy', POLICIES)
def test_the_rate_that_is_applied(policy, tmp_path):
    """The loss is the parameter itself, so that each update is the learning rate."""
    text, rate = POLICIES[policy]
    solver = solver_of(tmp_path, text)
    weight = solver.net.params['w'][0]
    for i in range(8):
        assert solver.lr == pytest.approx(rate(i), rel=1e-6)
        solver.step(1)
        assert weight.diff[0] == pytest.approx(rate(i), rel=1e-5)  # after a step, diff is the update
    assert weight.data[0] == pytest.approx(-sum(rate(i) for i in range(8)), rel=1e-5)


@pytest.mark.parametrize('policy', POLICIES)
def test_a_snapshot_resumes_the_policy(policy, tmp_path):
    text, rate = POLICIES[policy]
    solver = solver_of(tmp_path, text)
    solver.step(5)
    solver.snapshot()
    resumed = solver_of(tmp_path, text)
    resumed.restore(str(tmp_path / 'solver_iter_5.solverstate'))
    for i in range(5, 8):
        assert resumed.lr == pytest.approx(rate(i), rel=1e-6)
        resumed.step(1)


def test_looking_at_the_rate_changes_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv('GLOG_minloglevel', '0')
    solver = solver_of(tmp_path, POLICIES['multistep'][0])
    solver.iter = 7  # beyond all three steps
    assert [solver.lr, solver.lr] == pytest.approx([0.5 * 0.1**3] * 2)
    solver.iter = 3
    assert solver.lr == pytest.approx(0.5 * 0.1)
    assert 'MultiStep' not in capfd.readouterr().err


def test_multistep_counts_on_from_the_steps_that_were_taken():
    """As in Caffe, whose solver state holds their number: later stepvalues after a resume undo none."""
    param = caffe_pb2.SolverParameter(lr_policy='multistep', base_lr=1, gamma=0.5, stepvalue=[10, 20])
    assert [step_at(param, i) for i in (9, 10, 19, 20)] == [0, 1, 1, 2]
    assert [rate(param, i) for i in (9, 10, 19, 20)] == [1, 0.5, 0.5, 0.25]
    assert (step_at(param, 5, step=1), rate(param, 5, step=1)) == (1, 0.5)
    assert (step_at(param, 20, step=1), rate(param, 20, step=1)) == (2, 0.25)


def test_multistep_is_announced(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv('GLOG_minloglevel', '0')
    solver = solver_of(tmp_path, POLICIES['multistep'][0])
    solver.step(3)
    assert 'sgd_solver.cpp:50] MultiStep Status: Iteration 2, step = 1\n' in capfd.readouterr().err


def test_a_rate_far_along_a_sigmoid_is_zero_not_an_error(tmp_path):
    solver = solver_of(tmp_path, 'lr_policy: "sigmoid" gamma: -10 stepsize: 1')
    solver.iter = 10_000
    assert solver.lr == pytest.approx(0)


def test_a_root_of_poly_ends_with_max_iter(tmp_path):
    solver = solver_of(tmp_path, 'lr_policy: "poly" power: 0.5 max_iter: 2')
    solver.step(2)
    assert solver.lr == 0
    solver.iter = 3  # Caffe's rate is NaN from here on
    with pytest.raises(SolverError, match=r"lr_policy 'poly' of power 0\.5 ends at max_iter 2"):
        solver.step(1)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            'lr_policy: "stpe"',
            "unknown learning rate policy: 'stpe'; there are fixed, step, exp, inv",
        ),
        ('', "unknown learning rate policy: ''"),
        ('lr_policy: "step" gamma: 0.1', "lr_policy 'step' needs a positive stepsize, it is 0"),
        ('lr_policy: "sigmoid"', "lr_policy 'sigmoid' needs a positive stepsize"),
        ('lr_policy: "poly" power: 1', "lr_policy 'poly' needs max_iter"),
    ],
)
def test_a_policy_that_is_not_whole_is_refused_at_once(text, message, tmp_path):
    with pytest.raises(SolverError, match=message):
        solver_of(tmp_path, text)
