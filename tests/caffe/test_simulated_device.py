"""GPU mode on machines without a GPU: the simulated device keeps host and device copies apart in CPU memory.

A copy that is missing gives stale numbers, so the recorded cases have to come out the same; one that nobody
needs is counted.
"""

import contextlib

import numpy as np
import pytest
import test_golden_layers
import test_golden_solvers
from test_golden_solvers import golden_folder  # noqa: F401 (a fixture)

import caffe
from caffe.process import device


@pytest.fixture(autouse=True)
def simulated_gpu():
    device.simulate_gpu()
    caffe.set_mode_gpu()
    yield
    device.simulate_gpu(False)
    caffe.set_mode_cpu()


@contextlib.contextmanager
def transfers(to_host=0, to_device=0):
    """Asserts how many arrays are copied inside the block."""
    before = device.transfers()
    yield
    made = tuple(after - b for after, b in zip(device.transfers(), before, strict=True))
    assert made == (to_host, to_device), 'copies to the host, to the device'


# -- nothing is read stale


@pytest.mark.parametrize('path', test_golden_layers.CASES, ids=lambda p: p.stem)
def test_layer_as_recorded(path):
    test_golden_layers.test_layer_as_recorded(path)


@pytest.mark.parametrize('name', test_golden_solvers.CASES)
def test_training_as_recorded(name, golden_folder):  # noqa: F811
    test_golden_solvers.test_training_as_recorded(name, golden_folder)


@pytest.mark.parametrize('name', test_golden_solvers.CASES)
def test_training_resumes_from_the_original_snapshot(name, golden_folder):  # noqa: F811
    test_golden_solvers.test_training_resumes_from_the_original_snapshot(name, golden_folder)


# -- nothing is moved that nobody asked for

TRAINING_NET = """
    layer { name: "data" type: "Input" top: "data" top: "label"
            input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } shape { dim: 4 } } }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 3
                                weight_filler { type: "xavier" } } }
    layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
    layer { name: "scale" type: "Scale" bottom: "bn" top: "bn" scale_param { bias_term: true } }
    layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" }
    layer { name: "norm" type: "LRN" bottom: "bn" top: "norm" lrn_param { local_size: 3 } }
    layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool"
            pooling_param { kernel_size: 2 stride: 2 } }
    layer { name: "ave" type: "Pooling" bottom: "pool" top: "ave"
            pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }
    layer { name: "both" type: "Eltwise" bottom: "pool" bottom: "ave" top: "both" }
    layer { name: "drop" type: "Dropout" bottom: "both" top: "both" }
    layer { name: "flat" type: "Flatten" bottom: "both" top: "flat" }
    layer { name: "cut" type: "Slice" bottom: "flat" top: "left" top: "right" slice_param { axis: 1 } }
    layer { name: "join" type: "Concat" bottom: "right" bottom: "left" top: "joined" }
    layer { name: "ip" type: "InnerProduct" bottom: "joined" top: "ip"
            inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
    net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" weight_decay: 0.001 iter_size: 2
    random_seed: 1 snapshot_prefix: "x"
"""


def solver_of(folder, monkeypatch, extra='momentum: 0.9'):
    monkeypatch.chdir(folder)
    (folder / 'net.prototxt').write_text(TRAINING_NET)
    (folder / 'solver.prototxt').write_text(SOLVER + extra)
    return caffe.get_solver('solver.prototxt')


@pytest.mark.parametrize('kind', ['SGD', 'Nesterov', 'AdaGrad', 'RMSProp', 'AdaDelta', 'Adam'])
def test_a_training_step_copies_nothing(kind, tmp_path, monkeypatch):
    """Not to the device, where all is after the first step, and not to the host, where nobody looks."""
    momentum = '' if kind in ('AdaGrad', 'RMSProp') else 'momentum: 0.9'
    solver = solver_of(tmp_path, monkeypatch, f'type: "{kind}" {momentum}')
    solver.step(1)
    with transfers():
        solver.step(3)


def test_the_first_step_brings_what_the_host_made(tmp_path, monkeypatch):
    """Parameters that fillers filled, once each; zeros and constants are born on the device."""
    solver = solver_of(tmp_path, monkeypatch)
    filled = ['conv weights', 'conv bias', 'scale weights', 'ip weights', 'ip bias']
    with transfers(to_device=len(filled)):
        solver.step(1)


def test_the_user_pays_one_copy_for_each_array_looked_at(tmp_path, monkeypatch):
    solver = solver_of(tmp_path, monkeypatch)
    solver.step(1)
    weights = solver.net.params['ip'][0]
    with transfers(to_host=1):
        first = weights.data.copy()
        np.testing.assert_array_equal(weights.data, first)  # the host has it now
    with transfers(to_device=1):  # and might have changed it
        solver.step(1)
    with transfers(to_host=1):
        assert not np.array_equal(weights.data, first)


def test_inputs_cost_one_copy_each(tmp_path, monkeypatch):
    net = solver_of(tmp_path, monkeypatch).net
    for k in range(3):
        filled = 5 if k == 0 else 0
        with transfers(to_device=2 + filled):
            net.blobs['data'].data[...] = k
            net.blobs['label'].data[...] = [0, 1, 2, 3]
            net.forward_backward()


def test_the_outputs_of_forward_cost_one_copy_each(tmp_path, monkeypatch):
    net = solver_of(tmp_path, monkeypatch).net
    net.forward()
    with transfers(to_host=1):
        net.forward()  # returns {'loss': array}


def test_writing_to_the_host_reaches_the_device(tmp_path, monkeypatch):
    solver = solver_of(tmp_path, monkeypatch)
    solver.step(1)
    solver.net.params['ip'][0].data[...] = 0
    solver.net.params['ip'][1].data[...] = [0, 0, 7, 0, 0]
    solver.net.forward_backward()
    np.testing.assert_array_equal(solver.net.blobs['ip'].data, [[0, 0, 7, 0, 0]] * 4)


def test_the_mode_may_change_at_any_time(tmp_path):
    """Every blob is taken along: what one mode computed or the user wrote, the other goes on from."""
    (tmp_path / 'net.prototxt').write_text("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param {
                num_output: 1 weight_filler { type: "constant" value: 1 } } }
        layer { name: "twice" type: "Power" bottom: "ip" top: "twice" power_param { scale: 2 } }""")
    net = caffe.Net(str(tmp_path / 'net.prototxt'), caffe.TEST)
    net.forward(end='ip', x=np.ones((2, 3)))  # on the device: ip = 3
    caffe.set_mode_cpu()
    assert net.forward(start='twice')['twice'].ravel().tolist() == [6, 6]
    net.params['ip'][1].data[...] = 10
    caffe.set_mode_gpu()
    assert net.forward()['twice'].ravel().tolist() == [26, 26]


def test_snapshot_copies_each_array_once(tmp_path, monkeypatch):
    solver = solver_of(tmp_path, monkeypatch)
    solver.step(1)
    n_params = sum(len(blobs) for blobs in solver.net.params.values())
    written = sum(not h.data_is_zero for h in solver.history)
    with transfers(to_host=n_params + written):
        solver.snapshot()
    with transfers(to_device=n_params + written):
        solver.step(1)


# -- the tests above can fail: each mistake is seen


def test_a_missing_synchronisation_is_seen(tmp_path, monkeypatch):
    """A blob that forgets to send the user's writes to the device computes with old numbers."""
    solver = solver_of(tmp_path, monkeypatch)
    solver.step(1)
    bias = solver.net.params['ip'][1]
    array = bias.data
    solver.net.forward_backward()  # the device is the newest again: `array` is a view that went stale
    before = bias.read().clone()
    array[...] = 99  # as Caffe documents: get .data anew before writing
    assert (bias.read() == before).all()
    bias.data[...] = 99
    assert (bias.read() == 99).all()


def test_a_needless_copy_is_seen(tmp_path, monkeypatch):
    solver = solver_of(tmp_path, monkeypatch)
    solver.step(1)
    solver.net.after_forward(lambda i: solver.net.blobs['ip'].data)
    with pytest.raises(AssertionError, match='copies to the host'), transfers():
        solver.step(1)
