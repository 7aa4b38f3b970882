"""What people do with pycaffe, from their side: define and train nets, restore, operate, read features."""
# ruff: noqa: C408 (nets are written with dict(), as in pycaffe)

import os
import re
import sys

import numpy as np
import pytest

import caffe
from caffe import layers as L
from caffe import params as P


def write(path, text):
    path.write_text(str(text))
    return str(path)


# ---- LeNet: written with NetSpec, trained, tested, snapshot, restored


def strokes(count, seed):
    """(count, 1, 12, 12) images of a bright bar, flat (label 0), upright (1) or diagonal (2), in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = rng.normal(0, 0.3, (count, 1, 12, 12))
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(2, 10)
        if label == 0:
            image[0, at] += 1
        elif label == 1:
            image[0, :, at] += 1
        else:
            image[0] += np.eye(12, k=at - 6)
    return images.astype('f'), labels.astype('f')


def lenet(batch_size, with_accuracy):
    n = caffe.NetSpec()
    n.data, n.label = L.MemoryData(ntop=2, batch_size=batch_size, channels=1, height=12, width=12)
    filler = dict(weight_filler=dict(type='xavier'))
    n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=8, **filler)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=2, num_output=8, **filler)
    n.fc1 = L.InnerProduct(n.conv2, num_output=16, **filler)
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=3, **filler)
    if with_accuracy:
        n.accuracy = L.Accuracy(n.score, n.label)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


@pytest.fixture
def lenet_solver(tmp_path):
    """Makes the solver; training and test net have their data."""
    train = write(tmp_path / 'train.prototxt', lenet(16, False))
    test = write(tmp_path / 'test.prototxt', lenet(25, True))
    solver_file = write(
        tmp_path / 'solver.prototxt',
        f"""
        train_net: "{train}" test_net: "{test}" test_iter: 4 test_interval: 1000 test_initialization: false
        base_lr: 0.05 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv" gamma: 0.0001 power: 0.75
        max_iter: 100 snapshot_prefix: "{tmp_path}/lenet" random_seed: 5 display: 0""",
    )

    def make():
        solver = caffe.SGDSolver(solver_file)
        solver.net.set_input_arrays(*strokes(160, seed=0))
        solver.test_nets[0].set_input_arrays(*strokes(100, seed=1))
        return solver

    return make


def accuracy(solver):
    net = solver.test_nets[0]
    net.share_with(solver.net)
    return np.mean([net.forward()['accuracy'] for _ in range(4)])


def test_lenet_learns_and_goes_on_from_a_snapshot(lenet_solver, tmp_path):
    solver = lenet_solver()
    before = accuracy(solver)
    losses = []
    for _ in range(50):
        solver.step(1)
        losses.append(float(solver.net.blobs['loss'].data))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    solver.snapshot()
    assert {'lenet_iter_50.caffemodel', 'lenet_iter_50.solverstate'} <= set(os.listdir(tmp_path))
    solver.step(30)
    assert accuracy(solver) > max(0.9, before)

    again = lenet_solver()
    again.restore(str(tmp_path / 'lenet_iter_50.solverstate'))
    assert again.iter == 50
    again.step(30)  # 160 images are 10 batches of 16, and 50 is a multiple of 10: the same data comes
    for name, blobs in solver.net.params.items():
        for a, b in zip(blobs, again.net.params[name], strict=True):
            np.testing.assert_allclose(a.data, b.data, atol=1e-5)


def test_solver_attributes_and_callbacks(lenet_solver):
    solver = lenet_solver()
    calls = []
    solver.add_callback(
        lambda: calls.append(('start', solver.iter)),
        lambda: calls.append(('gradients', float(np.abs(solver.net.params['score'][0].diff).sum()) > 0)),
    )
    solver.step(2)
    assert calls == [('start', 0), ('gradients', True), ('start', 1), ('gradients', True)]
    assert (solver.param.max_iter, solver.type, len(solver.test_nets)) == (100, 'SGD', 1)
    assert solver.lr == pytest.approx(0.05 * (1 + 0.0001 * 2) ** -0.75)


# ---- Features, surgery


@pytest.fixture
def classifier(tmp_path):
    """A net with a convolution and a fully connected layer, of random weights; fc.caffemodel holds them."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[4, 2, 6, 6]))
    n.conv = L.Convolution(n.data, kernel_size=3, num_output=3, weight_filler=dict(type='gaussian', std=0.5))
    n.relu = L.ReLU(n.conv, in_place=True)
    n.fc = L.InnerProduct(n.relu, num_output=5, weight_filler=dict(type='gaussian', std=0.5))
    n.prob = L.Softmax(n.fc)
    caffe.set_random_seed(1)
    net = caffe.Net(write(tmp_path / 'fc.prototxt', n.to_proto()), caffe.TEST)
    net.params['fc'][1].data[...] = np.arange(5)
    net.save(str(tmp_path / 'fc.caffemodel'))
    return net


def test_features_of_any_number_of_images(classifier):
    images = np.random.default_rng(0).standard_normal((10, 2, 6, 6))  # 2 1/2 batches
    out = classifier.forward_all(blobs=['conv', 'fc'], data=images)
    assert {name: array.shape for name, array in out.items()} == {
        'prob': (10, 5),
        'conv': (10, 3, 4, 4),
        'fc': (10, 5),
    }
    classifier.blobs['data'].reshape(10, 2, 6, 6)
    once = classifier.forward(blobs=['conv', 'fc'], data=images)
    for name, array in once.items():
        np.testing.assert_allclose(out[name], array, atol=1e-6)


def test_fully_connected_becomes_convolution(classifier, tmp_path):
    """The surgery of BVLC's notebook: the same numbers, now slid over larger images."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 2, 7, 8]))
    n.conv = L.Convolution(n.data, kernel_size=3, num_output=3)
    n.relu = L.ReLU(n.conv, in_place=True)
    n.fc_conv = L.Convolution(n.relu, kernel_size=4, num_output=5)
    n.prob = L.Softmax(n.fc_conv)
    full = caffe.Net(write(tmp_path / 'conv.prototxt', n.to_proto()), str(tmp_path / 'fc.caffemodel'), caffe.TEST)
    full.params['fc_conv'][0].data.flat = classifier.params['fc'][0].data.flat
    full.params['fc_conv'][1].data[...] = classifier.params['fc'][1].data

    image = np.random.default_rng(1).standard_normal((2, 7, 8))
    dense = full.forward(data=image[np.newaxis])['prob'][0]
    assert dense.shape == (5, 2, 3)
    places = [(y, x) for y in range(2) for x in range(3)]
    crops = np.stack([image[:, y : y + 6, x : x + 6] for y, x in places])
    one_by_one = classifier.forward_all(data=crops)['prob']
    np.testing.assert_allclose(dense.reshape(5, 6).T, one_by_one, atol=1e-6)


# ---- forward_all and forward_backward_all


@pytest.fixture
def doubling(tmp_path):
    """Makes nets of out = 2 data, in batches of 3; with the sum of each batch as a loss, or without."""

    def make(with_loss):
        n = caffe.NetSpec()
        n.data = L.Input(shape=dict(dim=[3, 2]))
        n.out = L.Power(n.data, scale=2)
        if with_loss:
            n.total = L.Reduction(n.out, loss_weight=1)
        return caffe.Net(write(tmp_path / 'net.prototxt', f'force_backward: true {n.to_proto()}'), caffe.TRAIN)

    return make


def test_forward_all_drops_the_filling(doubling):
    data = np.arange(10.0).reshape(5, 2)
    out = doubling(with_loss=True).forward_all(data=data, blobs=['out'])
    np.testing.assert_array_equal(out['out'], 2 * data)
    np.testing.assert_array_equal(out['total'], [2 * data[:3].sum(), 2 * data[3:].sum()])


def test_forward_backward_all(doubling):
    data = np.arange(10.0).reshape(5, 2)
    out, diffs = doubling(with_loss=True).forward_backward_all(data=data, blobs=['out'], diffs=['out'])
    np.testing.assert_array_equal(out['out'], 2 * data)
    np.testing.assert_array_equal(diffs['out'], np.ones((5, 2)))
    np.testing.assert_array_equal(diffs['data'], np.full((5, 2), 2))
    out, diffs = doubling(with_loss=False).forward_backward_all(data=data, out=data)
    np.testing.assert_array_equal(out['out'], 2 * data)
    np.testing.assert_array_equal(diffs['data'], 2 * data)


def test_forward_all_refusals(doubling):
    net = doubling(with_loss=True)
    with pytest.raises(ValueError, match=r"one number of items.* for data; given {'image': 3}"):
        net.forward_all(image=np.zeros((3, 2)))
    with pytest.raises(ValueError, match='given none'):
        net.forward_all()
    with pytest.raises(ValueError, match=r"given {'data': 3, 'total': 4}"):
        net.forward_backward_all(data=np.zeros((3, 2)), total=np.zeros(4))
    with pytest.raises(ValueError, match='Diff is not batch sized: total'):
        net.forward_backward_all(data=np.zeros((3, 2)), total=np.zeros(3))


def test_set_input_arrays(tmp_path, doubling):
    n = caffe.NetSpec()
    n.data, n.label = L.MemoryData(ntop=2, batch_size=2, channels=1, height=1, width=3)
    net = caffe.Net(write(tmp_path / 'memory.prototxt', n.to_proto()), caffe.TEST)
    net.set_input_arrays(np.arange(12, dtype='f').reshape(4, 1, 1, 3), np.arange(4, dtype='f'))
    assert [net.forward()['label'].tolist() for _ in range(3)] == [[0, 1], [2, 3], [0, 1]]
    with pytest.raises(ValueError, match='first layer is a MemoryData; it is Input'):
        doubling(with_loss=True).set_input_arrays(np.zeros((3, 1, 1, 2), 'f'), np.zeros(3, 'f'))


# ---- A data layer in Python, with several labels an image

LABELS_MODULE = '''
import json
import numpy as np
import caffe

class MultiLabelData(caffe.Layer):
    """data (N, 1, 4, 4), bright in each quarter whose label (N, 4) is 1."""

    def setup(self, bottom, top):
        params = json.loads(self.param_str)
        if len(top) != 2:
            raise Exception('data and label are needed')
        self.rng = np.random.RandomState(params['seed'])
        self.batch_size = params['batch_size']
        top[0].reshape(self.batch_size, 1, 4, 4)
        top[1].reshape(self.batch_size, 4)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        for i in range(self.batch_size):
            label = self.rng.randint(0, 2, 4)
            top[1].data[i, ...] = label
            image = np.kron(label.reshape(2, 2), np.ones((2, 2)))
            top[0].data[i, 0] = image + self.rng.normal(0, 0.1, (4, 4))

    def backward(self, top, propagate_down, bottom):
        pass
'''


def test_a_multi_label_python_data_layer(tmp_path, monkeypatch):
    (tmp_path / 'multi_label_layers.py').write_text(LABELS_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    n = caffe.NetSpec()
    n.data, n.label = L.Python(
        module='multi_label_layers', layer='MultiLabelData', ntop=2, param_str='{"seed": 0, "batch_size": 8}'
    )
    n.score = L.InnerProduct(n.data, num_output=4, weight_filler=dict(type='xavier'))
    n.loss = L.SigmoidCrossEntropyLoss(n.score, n.label)
    net = write(tmp_path / 'net.prototxt', n.to_proto())
    solver = caffe.get_solver(
        write(
            tmp_path / 'solver.prototxt',
            f'train_net: "{net}" type: "Adam" base_lr: 0.1 lr_policy: "fixed" max_iter: 60 random_seed: 1',
        )
    )
    assert isinstance(solver, caffe.AdamSolver)
    solver.solve()
    hamming = []
    for _ in range(5):
        solver.net.forward()
        hamming.append(((solver.net.blobs['score'].data > 0) == solver.net.blobs['label'].data).mean())
    assert np.mean(hamming) > 0.95
    sys.modules.pop('multi_label_layers')


# ---- The process: timer, log, ranks


def test_timer():
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    assert timer.ms >= 0  # reading stops it
    first = timer.ms
    timer.stop()
    assert timer.ms == first
    timer.start()
    np.sort(np.random.default_rng(0).random(100_000))
    timer.stop()
    assert 0.1 < timer.ms < 60_000


def test_init_log_sets_what_is_printed(monkeypatch, capsys):
    monkeypatch.setattr('caffe.glog._quiet_below', None)
    monkeypatch.setenv('GLOG_minloglevel', '2')
    caffe.log('not to be seen')
    caffe.init_log()
    caffe.log('to be seen')
    caffe.init_log(1)
    caffe.log('not to be seen')
    assert re.fullmatch(r'I\d{4} [\d:.]+ +\d+ .*\] to be seen\n', capsys.readouterr().err)


def test_only_the_root_solver_logs_tests_and_takes_snapshots(lenet_solver, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('GLOG_minloglevel', '0')
    monkeypatch.setattr('caffe.process.ranks._Process.rank', 0)
    monkeypatch.setattr('caffe.process.ranks._Process.count', 1)
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    root = lenet_solver()
    caffe.set_solver_count(2)
    caffe.set_solver_rank(1)
    caffe.set_multiprocess(True)
    assert (caffe.solver_count(), caffe.solver_rank()) == (2, 1)
    solver = lenet_solver()
    weights = [s.net.params['conv1'][0].data for s in (root, solver)]
    assert not np.array_equal(*weights)  # random_seed + rank
    solver.param.max_iter, solver.param.snapshot, solver.param.display, solver.param.test_interval = (
        4,
        2,
        1,
        2,
    )
    capsys.readouterr()
    solver.solve()
    assert solver.iter == 4
    assert capsys.readouterr().err == ''
    assert not list(tmp_path.glob('lenet_*'))
    for wrong in (lambda: caffe.set_solver_count(0), lambda: caffe.set_solver_rank(-1)):
        with pytest.raises(ValueError, match='got'):
            wrong()


# ---- What is old is said, once


def test_old_files_are_named_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('GLOG_minloglevel', '1')
    monkeypatch.setattr('caffe.glog._warned', set())
    net = write(
        tmp_path / 'old.prototxt',
        'input: "x" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1 '
        'layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "ip" '
        'inner_product_param { num_output: 1 } }',
    )
    solver = write(
        tmp_path / 'old_solver.prototxt',
        f'train_net: "{net}" solver_type: ADAM base_lr: 1 lr_policy: "fixed"',
    )
    for _ in range(2):
        caffe.Net(net, caffe.TRAIN)
        caffe.get_solver(solver)
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r'W\d{4} .* upgrade_proto\.cpp:\d+\] ', line) for line in lines)
    texts = [line.split('] ', 1)[1] for line in lines]
    assert len(texts) == len(set(texts))
    assert sum(text.startswith(net) for text in texts) == 2  # the format, and the input fields
    assert sum(text.startswith(solver) and 'solver_type' in text for text in texts) == 1
