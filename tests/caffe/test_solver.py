"""Solvers: the six rules and every option of a SolverParameter, on numbers that fit on paper."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

import caffe
from caffe.proto import caffe_pb2
from caffe.solver import SolverError

# Two weights of a straight line through two points: loss = sum((x w - y)^2) / (2 N), N = 2
X = np.array([[1, 2], [3, -1]], np.float32)
Y = np.array([[1], [2]], np.float32)
W = np.array([[0.5, -0.25]], np.float32)


def gradient(w):
    return (X @ w.T - Y).T @ X / 2


def loss(w):
    return float(((X @ w.T - Y) ** 2).sum() / 4)


NET = """name: "line"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 2] } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: [2, 1] } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" param { lr_mult: 1 decay_mult: 1 }
        inner_product_param { num_output: 1 bias_term: false } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('GLOG_minloglevel', '0')
    return tmp_path


def solver_of(options='', net=NET):
    """A solver at W, with its points fed."""
    Path('net.prototxt').write_text(net)
    text = f'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" snapshot_prefix: "out" {options}'
    Path('solver.prototxt').write_text(text)
    solver = caffe.get_solver('solver.prototxt')
    for fed in (solver.net, *solver.test_nets):
        rows = fed.blobs['x'].num
        fed.blobs['x'].data[...] = X[:rows]
        fed.blobs['y'].data[...] = Y[:rows]
    solver.net.params['ip'][0].data[...] = W
    return solver


def weights(solver):
    return solver.net.params['ip'][0].data.copy()


def log_of(capfd):
    """Log lines without level, date and process: 'solver.cpp:229] Iteration 0, ...'"""
    lines = capfd.readouterr().err.splitlines()
    return [re.sub(r'^[IWEF]\d{4} [\d:.]+ +\d+ ', '', line) for line in lines]


# -- the six rules, from their papers' formulas as Caffe has them


def by_hand(kind, steps, lr=0.1, momentum=0.9, momentum2=0.999, decay=0.99, delta=1e-8):
    w = W.astype(np.float64)
    h = np.zeros_like(w)
    h2 = np.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w)
        if kind == 'SGD':
            h = momentum * h + lr * g
            update = h
        elif kind == 'Nesterov':
            before, h = h, momentum * h + lr * g
            update = (1 + momentum) * h - momentum * before
        elif kind == 'AdaGrad':
            h = h + g * g
            update = lr * g / (np.sqrt(h) + delta)
        elif kind == 'RMSProp':
            h = decay * h + (1 - decay) * g * g
            update = lr * g / (np.sqrt(h) + delta)
        elif kind == 'AdaDelta':
            h = momentum * h + (1 - momentum) * g * g
            update = g * np.sqrt((h2 + delta) / (h + delta))
            h2 = momentum * h2 + (1 - momentum) * update * update
            update = lr * update
        elif kind == 'Adam':
            h = momentum * h + (1 - momentum) * g
            h2 = momentum2 * h2 + (1 - momentum2) * g * g
            update = lr * np.sqrt(1 - momentum2**t) / (1 - momentum**t) * h / (np.sqrt(h2) + delta)
        w = w - update
    return w


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        ('SGD', {}),
        ('SGD', {'momentum': 0.9}),
        ('Nesterov', {'momentum': 0.9}),
        ('AdaGrad', {}),
        ('AdaGrad', {'delta': 0.5}),
        ('RMSProp', {'rms_decay': 0.5}),
        ('RMSProp', {'rms_decay': 0.9, 'delta': 0.5}),
        ('AdaDelta', {'momentum': 0.95, 'delta': 1e-2}),
        ('Adam', {'momentum': 0.9}),
        ('Adam', {'momentum': 0.8, 'momentum2': 0.9, 'delta': 0.1}),
    ],
)
def test_rules(kind, options):
    text = ' '.join(f'{name}: {value}' for name, value in options.items())
    solver = solver_of(f'type: "{kind}" {text}')
    assert solver.type == kind
    names = {'rms_decay': 'decay'}
    hyper = {'momentum': 0.0} | {names.get(name, name): value for name, value in options.items()}
    for steps in range(1, 6):
        solver.step(1)
        np.testing.assert_allclose(weights(solver), by_hand(kind, steps, **hyper), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('kind', ['AdaGrad', 'RMSProp'])
def test_rules_without_momentum_refuse_it(kind):
    with pytest.raises(SolverError, match=f'Momentum cannot be used with {kind}; it is 0.9'):
        solver_of(f'type: "{kind}" momentum: 0.9')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('type: "Adamm"', "unknown solver type: 'Adamm'; there are SGD, Nesterov"),
        ('type: "RMSProp" rms_decay: 1', 'rms_decay should lie between 0 and 1'),
        ('iter_size: 0', 'iter_size must be at least 1'),
        ('average_loss: 0', 'average_loss should be non-negative'),
        ('regularization_type: "L3"', "unknown regularization type: 'L3'; there are 'L1' and 'L2'"),
        ('train_net: "net.prototxt"', 'exactly one of these fields'),
        ('test_iter: 1', 'test_interval must be positive'),
        ('test_net: "net.prototxt"', 'test_iter must be specified for each test network: 0 of 1'),
        ('test_iter: 1 test_interval: 1 test_state { } test_state { }', 'test_state must be given for each'),
        ('test_iter: 1 test_interval: 1 eval_type: "detection"', 'eval_type: "detection" has SSD.s Caffe compute mean'),
    ],
)
def test_refusals(options, message):
    with pytest.raises(SolverError, match=message):
        solver_of(options)


def test_how_ssd_is_tested_does_not_matter_without_test_nets():
    plain, ssd = (solver_of(text) for text in ('', 'eval_type: "detection" ap_version: "11point"'))
    for solver in (plain, ssd):
        solver.step(1)
    np.testing.assert_array_equal(weights(plain), weights(ssd))
    solver_of('test_iter: 1 test_interval: 1 eval_type: "classification" show_per_class_result: true')


# -- what happens to a gradient before its rule


def test_multipliers_of_rate_and_decay():
    solver = solver_of('weight_decay: 0.1', NET.replace('lr_mult: 1 decay_mult: 1', 'lr_mult: 3 decay_mult: 2'))
    solver.step(1)
    np.testing.assert_allclose(weights(solver), W - 3 * 0.1 * (gradient(W) + 2 * 0.1 * W), rtol=1e-5)


@pytest.mark.parametrize(('kind', 'decay'), [('L1', np.sign), ('L2', lambda w: w)])
def test_weight_decay(kind, decay):
    solver = solver_of(f'weight_decay: 0.2 regularization_type: "{kind}"')
    solver.step(1)
    np.testing.assert_allclose(weights(solver), W - 0.1 * (gradient(W) + 0.2 * decay(W)), rtol=1e-5)


def test_clip_gradients_limits_the_norm_of_all_diffs_together(capfd):
    g = gradient(W)
    norm = float(np.linalg.norm(g))
    solver = solver_of('clip_gradients: 1 weight_decay: 0.2')
    assert norm > 1
    solver.step(1)
    # the decay is added afterwards, and not clipped
    np.testing.assert_allclose(weights(solver), W - 0.1 * (g / norm + 0.2 * W), rtol=1e-5)
    assert any(
        line == f'sgd_solver.cpp:94] Gradient clipping: scaling down gradients (L2 norm {norm:.6g} > 1) '
        f'by scale factor {1 / norm:.6g}'
        for line in log_of(capfd)
    )


def test_clip_gradients_leaves_small_ones_alone():
    solver = solver_of('clip_gradients: 100')
    solver.step(1)
    np.testing.assert_allclose(weights(solver), W - 0.1 * gradient(W), rtol=1e-5)


def test_clip_gradients_does_not_spread_a_nan():
    """Caffe scales where the norm is greater, which NaN is not."""
    net = NET.replace('bias_term: false', 'bias_term: true')
    solver = solver_of('clip_gradients: 1', net)
    solver.add_callback(lambda: None, lambda: solver.net.params['ip'][1].diff.fill(np.nan))
    solver.step(1)
    np.testing.assert_allclose(weights(solver), W - 0.1 * gradient(W), rtol=1e-5)


def test_clip_gradients_sees_the_sum_over_iter_size():
    """Caffe clips before it divides by iter_size: the sum of two equal gradients, limited, halved."""
    g = gradient(W)
    solver = solver_of('clip_gradients: 1 iter_size: 2')
    solver.step(1)
    np.testing.assert_allclose(weights(solver), W - 0.1 * g / np.linalg.norm(g) / 2, rtol=1e-5)


@pytest.mark.parametrize('kind', ['SGD', 'Nesterov', 'Adam'])
def test_iter_size_on_halves_of_a_batch_equals_the_whole_batch(kind):
    """Two passes of one row each, halved, are the mean over both rows: N is the rows of a pass."""
    options = f'type: "{kind}" momentum: 0.9 weight_decay: 0.1'
    whole = solver_of(options)
    half = solver_of(f'{options} iter_size: 2', NET.replace('dim: [2, 2]', 'dim: [1, 2]').replace('[2, 1]', '[1, 1]'))
    rows = [0]

    def feed(layer):
        if layer == 0:
            half.net.blobs['x'].data[...] = X[rows[0] % 2]
            half.net.blobs['y'].data[...] = Y[rows[0] % 2]
            rows[0] += 1

    half.net.before_forward(feed)
    whole.step(4)
    half.step(4)
    assert rows[0] == 8
    np.testing.assert_allclose(weights(half), weights(whole), rtol=1e-5)


def test_after_a_step_the_diff_is_the_update():
    solver = solver_of('momentum: 0.9')
    solver.step(1)
    before = weights(solver)
    solver.step(1)
    np.testing.assert_allclose(solver.net.params['ip'][0].diff, before - weights(solver), rtol=1e-4)


def test_momentum_is_on_scaled_updates_so_that_a_new_rate_leaves_the_history_alone():
    solver = solver_of('momentum: 0.5')
    solver.step(1)
    velocity = 0.1 * gradient(W)
    w = W - velocity
    solver.param.base_lr = 0.01
    solver.step(1)
    np.testing.assert_allclose(weights(solver), w - (0.5 * velocity + 0.01 * gradient(w)), rtol=1e-5)


# -- what is printed


def test_display_lines(capfd):
    solver = solver_of('display: 2')
    solver.step(4)
    w = [W]
    for _ in range(3):
        w.append(w[-1] - 0.1 * gradient(w[-1]))
    at = [f'{loss(x):.6g}' for x in w]
    assert log_of(capfd) == [
        f'solver.cpp:229] Iteration 0, loss = {at[0]}',
        f'solver.cpp:245]     Train net output #0: loss = {at[0]} (* 1 = {at[0]} loss)',
        'sgd_solver.cpp:106] Iteration 0, lr = 0.1',
        f'solver.cpp:229] Iteration 2, loss = {at[2]}',
        f'solver.cpp:245]     Train net output #0: loss = {at[2]} (* 1 = {at[2]} loss)',
        'sgd_solver.cpp:106] Iteration 2, lr = 0.1',
    ]


def test_average_loss_is_the_mean_of_the_last_losses_of_this_step_call(capfd):
    solver = solver_of('display: 1 average_loss: 2')
    losses = [loss(W)]
    w = W
    for _ in range(3):
        w = w - 0.1 * gradient(w)
        losses.append(loss(w))
    solver.step(3)
    shown = [line.split(' = ')[1] for line in log_of(capfd) if line.startswith('solver.cpp:229]')]
    means = [losses[0], (losses[0] + losses[1]) / 2, (losses[1] + losses[2]) / 2]
    np.testing.assert_allclose([float(s) for s in shown], means, rtol=1e-4)
    solver.step(1)  # as in Caffe, a new call forgets
    assert solver.smoothed_loss == pytest.approx(losses[3], rel=1e-4)


def test_with_iter_size_the_loss_is_the_mean_over_the_passes(capfd):
    solver = solver_of('display: 1 iter_size: 2')
    scale = iter((1, 3))
    solver.net.before_forward(lambda i: i or solver.net.blobs['x'].data.__setitem__(..., next(scale) * X))
    solver.step(1)
    first, second = loss(W), loss(3 * W)
    lines = log_of(capfd)
    assert lines[0] == f'solver.cpp:229] Iteration 0, loss = {(first + second) / 2:.6g}'
    assert lines[1].startswith(f'solver.cpp:245]     Train net output #0: loss = {second:.6g} (* 1')


def test_debug_info_logs_only_where_display_does(capfd):
    solver = solver_of('display: 2 debug_info: true')
    solver.step(2)
    lines = [line for line in log_of(capfd) if 'debug' in line or '[Forward]' in line]
    assert sum('[Forward] Layer ip, top blob ip data' in line for line in lines) == 1


def test_debug_info_logs_each_test_pass_too(capfd):
    solver = solver_of('test_iter: 3 test_interval: 2 debug_info: true')
    solver.test()
    assert sum('[Forward] Layer ip, top blob ip data' in line for line in log_of(capfd)) == 3


# -- testing


TESTED = f"""{NET}
layer {{ name: "more" type: "Power" bottom: "ip" top: "twice" power_param {{ scale: 2 }}
         include {{ phase: TEST }} }}
"""


@pytest.mark.parametrize(('action', 'passes', 'saved'), [('stop', 2, False), ('snapshot', 5 + 5, True)])
def test_a_request_is_heard_between_two_test_passes(action, passes, saved, capfd):
    solver = solver_of('test_iter: 5 test_iter: 5 test_interval: 2 max_iter: 1 snapshot_after_train: false')
    seen = []
    for net in solver.test_nets:
        net.before_forward(lambda i: i or seen.append(i) or (len(seen) == 2 and solver.request(action)))
    solver.solve()
    assert len(seen) == passes
    assert Path('out_iter_0.solverstate').exists() == saved
    assert any('Test interrupted.' in line for line in log_of(capfd)) == (action == 'stop')
    assert solver.iter == (0 if action == 'stop' else 1)


def test_test_net_lines(capfd):
    solver = solver_of('test_iter: 3 test_interval: 2 test_compute_loss: true', TESTED)
    solver.step(1)
    value = loss(W)
    twice = (2 * X @ W.T).ravel()
    assert log_of(capfd) == [
        'solver.cpp:341] Iteration 0, Testing net (#0)',
        f'solver.cpp:391] Test loss: {value:.6g}',
        f'solver.cpp:409]     Test net output #0: loss = {value:.6g} (* 1 = {value:.6g} loss)',
        f'solver.cpp:409]     Test net output #1: twice = {twice[0]:.6g}',
        f'solver.cpp:409]     Test net output #2: twice = {twice[1]:.6g}',
    ]


@pytest.mark.parametrize(('options', 'tests'), [('', [0, 2, 4]), ('test_initialization: false', [2, 4])])
def test_when_tests_are_made(options, tests, capfd):
    solver = solver_of(f'test_iter: 1 test_interval: 2 {options}', TESTED)
    solver.step(5)
    made = [int(re.search(r'Iteration (\d+), Testing', line)[1]) for line in log_of(capfd) if 'Testing' in line]
    assert made == tests


def test_solve_tests_once_more_at_the_end(capfd):
    solver = solver_of('test_iter: 1 test_interval: 2 max_iter: 4 snapshot_after_train: false', TESTED)
    solver.solve()
    lines = log_of(capfd)
    assert lines[:2] == ['solver.cpp:280] Solving line', 'solver.cpp:281] Learning Rate Policy: fixed']
    assert sum('Testing net (#0)' in line for line in lines) == 3
    assert lines[-1] == 'solver.cpp:325] Optimization Done.'


def test_test_nets_have_states_and_share_the_weights():
    net = NET + 'layer { name: "a" type: "Silence" bottom: "ip" include { stage: "a" } }'
    states = 'test_state { stage: "a" } test_state { } train_state { stage: "a" }'
    options = f'test_iter: [1, 1] test_interval: 9 {states}'
    solver = solver_of(options, net)
    first, second = solver.test_nets
    assert 'a' in first.layer_dict and 'a' not in second.layer_dict and 'a' in solver.net.layer_dict
    solver.net.params['ip'][0].data[...] = 7
    assert first.params['ip'][0].data[0, 0] == second.params['ip'][0].data[0, 0] == 7


def test_nets_may_stand_in_the_solver():
    Path('s.prototxt').write_text(
        f'net_param {{ {NET} }} base_lr: 0.1 lr_policy: "fixed" test_iter: 1 test_interval: 1'
    )
    solver = caffe.get_solver('s.prototxt')
    assert solver.net.name == 'line' and len(solver.test_nets) == 1
    Path('s.prototxt').write_text(
        f'train_net_param {{ {NET} }} test_net_param {{ {NET} }} test_net: "net.prototxt"'
        'base_lr: 0.1 lr_policy: "fixed" test_iter: 1 test_iter: 1 test_interval: 1'
    )
    Path('net.prototxt').write_text(NET.replace('"line"', '"file"'))
    assert [net.name for net in caffe.get_solver('s.prototxt').test_nets] == ['line', 'file']


# -- callbacks, requests


def test_callbacks_come_before_the_iteration_and_before_the_update():
    solver = solver_of()
    seen = []
    solver.add_callback(lambda: seen.append(('start', solver.iter)), lambda: seen.append(('ready', weights(solver))))
    solver.step(2)
    assert [kind for kind, _ in seen] == ['start', 'ready', 'start', 'ready']
    np.testing.assert_array_equal(seen[1][1], W)  # gradients are there, the update is not
    assert seen[2] == ('start', 1)


def test_a_callback_may_change_gradients():
    solver = solver_of()
    diff = solver.net.params['ip'][0]
    solver.add_callback(lambda: None, lambda: diff.diff.__setitem__(..., [[1, 2]]))
    solver.step(1)
    np.testing.assert_allclose(weights(solver), W - [[0.1, 0.2]], rtol=1e-6)


def test_a_request_to_stop_is_followed_after_the_iteration_and_forgotten():
    solver = solver_of('max_iter: 10')
    solver.add_callback(lambda: solver.iter == 2 and solver.request('stop'), lambda: None)
    solver.solve()
    assert solver.iter == 3
    assert Path('out_iter_3.solverstate').exists()
    solver.step(4)
    assert solver.iter == 7


def test_a_request_for_a_snapshot_does_not_stop():
    solver = solver_of()
    solver.add_callback(lambda: solver.iter == 1 and solver.request('snapshot'), lambda: None)
    solver.step(4)
    assert solver.iter == 4
    assert [p.name for p in Path().glob('*.solverstate')] == ['out_iter_2.solverstate']
    with pytest.raises(ValueError, match="action must be 'snapshot' or 'stop', got 'halt'"):
        solver.request('halt')


# -- snapshots, and weights to begin with


@pytest.mark.parametrize(('form', 'ending'), [('BINARYPROTO', ''), ('HDF5', '.h5')])
@pytest.mark.parametrize('kind', ['SGD', 'Nesterov', 'AdaGrad', 'RMSProp', 'AdaDelta', 'Adam'])
def test_a_restored_solver_goes_on_to_the_bit(form, ending, kind):
    momentum = '' if kind in ('AdaGrad', 'RMSProp') else 'momentum: 0.9'
    options = f'type: "{kind}" {momentum} snapshot_format: {form} snapshot: 3'
    solver = solver_of(options)
    solver.step(5)
    other = solver_of(options)
    other.restore(f'out_iter_3.solverstate{ending}')
    assert other.iter == 3
    other.step(2)
    np.testing.assert_array_equal(weights(other), weights(solver))
    for mine, theirs in zip(other.history, solver.history, strict=True):
        np.testing.assert_array_equal(mine.data, theirs.data)


def test_snapshot_lines(capfd):
    solver = solver_of('snapshot: 2')
    solver.step(2)
    assert log_of(capfd) == [
        'solver.cpp:464] Snapshotting to binary proto file out_iter_2.caffemodel',
        'sgd_solver.cpp:273] Snapshotting solver state to binary proto file out_iter_2.solverstate',
    ]


def test_iter_counts_on_before_the_snapshot():
    solver_of('snapshot: 2').step(2)
    state = caffe_pb2.SolverState.FromString(Path('out_iter_2.solverstate').read_bytes())
    assert (state.iter, state.learned_net) == (2, 'out_iter_2.caffemodel')


@pytest.mark.parametrize(('form', 'ending'), [('BINARYPROTO', ''), ('HDF5', '.h5')])
def test_snapshot_diff_saves_the_updates_too(form, ending):
    solver = solver_of(f'snapshot: 1 snapshot_diff: true snapshot_format: {form}')
    solver.step(1)
    diff = solver.net.params['ip'][0].diff
    if ending:
        with h5py.File('out_iter_1.caffemodel.h5') as file:
            np.testing.assert_array_equal(file['diff/ip/0'], diff)
    else:
        net = caffe_pb2.NetParameter.FromString(Path('out_iter_1.caffemodel').read_bytes())
        (layer,) = [layer for layer in net.layer if layer.name == 'ip']
        np.testing.assert_array_equal(layer.blobs[0].diff, diff.ravel())


def test_a_snapshot_that_could_not_be_written_is_refused_at_once():
    solver_of()
    path = Path('solver.prototxt')
    path.write_text(path.read_text().replace('"out"', '"nowhere/out" snapshot: 1000'))
    with pytest.raises(SolverError, match="Cannot write to snapshot prefix 'nowhere/out'"):
        caffe.get_solver('solver.prototxt')
    path.write_text(path.read_text().replace('snapshot: 1000', 'snapshot: 0'))
    caffe.get_solver('solver.prototxt')


def test_share_weights_has_another_net_follow_the_training():
    solver = solver_of()
    other = caffe.Net('net.prototxt', caffe.TEST)
    solver.share_weights(other)
    solver.step(1)
    np.testing.assert_array_equal(other.params['ip'][0].data, weights(solver))


def test_snapshot_after_train():
    solver_of('max_iter: 3').solve()
    assert Path('out_iter_3.caffemodel').exists()
    solver_of('max_iter: 2 snapshot_after_train: false').solve()
    assert not Path('out_iter_2.caffemodel').exists()


def test_weights_of_the_solver_are_loaded_before_training():
    solver = solver_of()
    solver.net.params['ip'][0].data[...] = [[3, 4]]
    solver.net.save('a.caffemodel')
    solver.net.params['ip'][0].data[...] = [[5, 6]]
    solver.net.save_hdf5('b.h5')
    Path('solver.prototxt').write_text(Path('solver.prototxt').read_text() + 'weights: "a.caffemodel, b.h5"')
    assert caffe.get_solver('solver.prototxt').net.params['ip'][0].data.tolist() == [[5, 6]]
    text = Path('solver.prototxt').read_text().replace('a.caffemodel, b.h5"', 'b.h5" weights: "a.caffemodel"')
    Path('solver.prototxt').write_text(text)
    assert caffe.get_solver('solver.prototxt').net.params['ip'][0].data.tolist() == [[3, 4]]


@pytest.mark.parametrize(('form', 'ending'), [('BINARYPROTO', ''), ('HDF5', '.h5')])
@pytest.mark.parametrize(('wrote', 'reads'), [('SGD', 'AdaGrad'), ('AdaGrad', 'SGD'), ('Adam', 'AdaDelta')])
def test_the_state_of_another_type_of_solver_is_refused(wrote, reads, form, ending):
    solver_of(f'snapshot: 1 type: "{wrote}" snapshot_format: {form}').step(1)
    solver = solver_of(f'type: "{reads}"')
    message = f'out_iter_1.solverstate{ending}: the state of a solver of type {wrote}; solver.prototxt has type {reads}'
    with pytest.raises(SolverError, match=message):
        solver.restore(f'out_iter_1.solverstate{ending}')
    assert solver.iter == 0
    np.testing.assert_array_equal(weights(solver), W)


def test_momentum_goes_on_as_nesterov_s():
    """Both keep the velocity, so either goes on from the other's state."""
    solver = solver_of('snapshot: 1 momentum: 0.5')
    solver.step(1)
    other = solver_of('type: "Nesterov" momentum: 0.5')
    other.restore('out_iter_1.solverstate')
    np.testing.assert_array_equal(other.history[0].data, solver.history[0].data)


def state_of_caffe(history):
    """A .solverstate as BVLC Caffe writes it, which does not say the type of its solver."""
    message = caffe_pb2.SolverState(iter=1)
    for values in history:
        message.history.add(shape=caffe_pb2.BlobShape(dim=[1, 2]), data=values)
    Path('caffe.solverstate').write_bytes(message.SerializeToString())


@pytest.mark.parametrize(('kind', 'history'), [('AdaGrad', [[1, -1]]), ('RMSProp', [[1, -1]]), ('Adam', [[1, -1]] * 2)])
def test_a_state_of_unknown_type_with_negative_squares_is_refused(kind, history):
    """Their roots would be NaN in every weight two steps later."""
    state_of_caffe(history)
    with pytest.raises(SolverError, match=rf'caffe.solverstate: history blob \d has negative .* {kind} keeps squares'):
        solver_of(f'type: "{kind}"').restore('caffe.solverstate')


def test_a_state_of_caffe_is_taken():
    state_of_caffe([[1, -2], [3, 4]])
    solver = solver_of('type: "Adam"')
    solver.restore('caffe.solverstate')
    assert solver.iter == 1
    assert [h.data.tolist() for h in solver.history] == [[[1, -2]], [[3, 4]]]


def test_a_state_of_another_number_of_histories_is_refused():
    state_of_caffe([[1, 2], [3, 4]])
    with pytest.raises(SolverError, match='Incorrect length of history blobs: 2 in the file, 1 here'):
        solver_of().restore('caffe.solverstate')


def test_a_state_that_was_moved_finds_its_weights_beside_it():
    solver_of('snapshot: 1').step(1)
    Path('elsewhere').mkdir()
    for name in ('out_iter_1.solverstate', 'out_iter_1.caffemodel'):
        Path(name).rename(Path('elsewhere') / name)
    solver = solver_of()
    solver.restore('elsewhere/out_iter_1.solverstate')
    np.testing.assert_allclose(weights(solver), W - 0.1 * gradient(W), rtol=1e-5)


# -- random_seed


def test_random_seed_makes_the_same_net():
    net = NET.replace('bias_term: false', 'bias_term: false weight_filler { type: "gaussian" }')
    made = []
    for seed in (7, 7, 8):
        solver_of(f'random_seed: {seed}', net)
        made.append(caffe.get_solver('solver.prototxt').net.params['ip'][0].data.copy())
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


@pytest.mark.parametrize('net, reason', [('.', 'a folder'), ('x' * 5000, 'File name too long')])
def test_a_net_that_cannot_be_read_is_told_with_the_solver_that_names_it(net, reason, tmp_path):
    (tmp_path / 's.prototxt').write_text(f'net: "{net}" lr_policy: "fixed" base_lr: 1 max_iter: 1')
    with pytest.raises(OSError, match=rf"s\.prototxt names the net '{net[:100]}.*: {reason}"):
        caffe.get_solver(str(tmp_path / 's.prototxt'))
