"""The Python layers, driven by hand with blobs that are plain arrays."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from stand_in_data import GOLDEN, Blob, ListImdb

import caffe
from fast_rcnn.config import ConfigError, cfg
from roi_data_layer.layer import HardRoiMiningLayer, OHEMDataLayer, RoIDataLayer
from roi_data_layer.roidb import Roidb

FAMILY_PARAM = "'num_classes': 4"


def layer_of(cls, param_str=FAMILY_PARAM, attribute='param_str'):
    """A layer as Caffe hands it over, without a net: with its parameter, before setup."""

    class Bare(cls):
        pass

    for name in ('param_str', 'param_str_'):
        setattr(Bare, name, param_str if name == attribute else '')
    return Bare.__new__(Bare)


def set_up(cls, n_bottom, n_top, **kwargs):
    layer, bottom, top = (
        layer_of(cls, **kwargs),
        [Blob() for _ in range(n_bottom)],
        [Blob() for _ in range(n_top)],
    )
    layer.setup(bottom, top)
    return layer, bottom, top


def mining_settings():
    cfg.TRAIN.USE_OHEM, cfg.TRAIN.BG_THRESH_LO = True, 0.0
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (120,), 200
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BATCH_SIZE = 1, 64


def tops_of(layer, top, count):
    batches = []
    for _ in range(count):
        layer.forward([], top)
        batches.append([blob.data.copy() for blob in top])
    return batches


def assert_same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_array_equal(x, y)


def test_shapes_before_the_first_forward():
    _, _, top = set_up(RoIDataLayer, 0, 6)
    assert [blob.data.shape for blob in top] == [(2, 3, 600, 1000), (1, 5), (1,), (1, 16), (1, 16), (1, 16)]
    _, _, top = set_up(HardRoiMiningLayer, 7, 5)
    assert [blob.data.shape for blob in top] == [(1, 5), (1,), (1, 16), (1, 16), (1, 16)]


def test_the_five_tops_of_fast_rcnn_s_first_release(blood_cells):
    """rbgirshick/fast-rcnn, minibatch.py: bbox_loss_weights are 1 for the four columns of the class."""
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (120,), 200
    layer, _, top = set_up(RoIDataLayer, 0, 5)
    assert [blob.data.shape for blob in top[1:]] == [(1, 5), (1,), (1, 16), (1, 16)]
    layer.set_roidb(Roidb(blood_cells))
    layer.forward([], top)
    labels, targets, weights = (blob.data for blob in top[2:])
    expected = (np.arange(16) // 4 == labels[:, None]) & (labels[:, None] > 0)
    np.testing.assert_array_equal(weights, expected)
    assert expected.any() and not targets[~expected].any()


def test_without_box_regression_there_are_fewer_blobs():
    cfg.TRAIN.BBOX_REG = False
    set_up(RoIDataLayer, 0, 3)
    layer, bottom, top = set_up(HardRoiMiningLayer, 4, 2)
    values = [[[0.1, 0.9], [0.9, 0.1]], [[0] * 8] * 2, [[0, 0, 0, 9, 9], [0, 30, 0, 39, 9]], [0, 0]]
    for blob, value in zip(bottom, values, strict=True):
        blob.data = np.array(value, np.float32)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, [[0, 0, 0, 9, 9], [0, 30, 0, 39, 9]])
    assert layer.last['kept'].tolist() == [0, 1] and not layer.last['bbox_loss'].any()


@pytest.mark.parametrize('attribute', ['param_str', 'param_str_'])
def test_both_names_of_the_parameter(attribute):
    set_up(RoIDataLayer, 0, 6, attribute=attribute)


@pytest.mark.parametrize('param_str', ['', 'num_classes', "'num_classes': 1", "'num_classes': many", '[', "'n': 3"])
def test_a_wrong_parameter_is_explained(param_str):
    with pytest.raises(ValueError, match=r'param_str'):
        layer_of(RoIDataLayer, param_str).setup([], [Blob() for _ in range(6)])


def test_the_number_of_blobs_is_checked():
    with pytest.raises(ValueError, match=r'RoIDataLayer has 3 tops, expected 6: data, rois.*BBOX_REG is True'):
        set_up(RoIDataLayer, 0, 3)
    with pytest.raises(ValueError, match='HardRoiMiningLayer has 6 bottoms, expected 7'):
        set_up(HardRoiMiningLayer, 6, 5)
    with pytest.raises(ValueError, match='HardRoiMiningLayer has 4 tops, expected 5: rois_hard'):
        set_up(HardRoiMiningLayer, 7, 4)


def test_settings_that_do_not_go_together_are_refused_at_setup():
    cfg.TRAIN.USE_OHEM = True
    with pytest.raises(ConfigError, match=r'BG_THRESH_LO'):
        set_up(RoIDataLayer, 0, 6)


def test_forward_needs_a_training_set():
    layer, bottom, top = set_up(RoIDataLayer, 0, 6)
    with pytest.raises(RuntimeError, match='call set_roidb'):
        layer.forward(bottom, top)


def test_the_training_set_must_have_the_net_s_classes():
    layer, _, _ = set_up(RoIDataLayer, 0, 6)
    image = {'path': 'a.jpg', 'size': (9, 9), 'boxes': [[0, 0, 4, 4]], 'classes': [1], 'proposals': []}
    with pytest.raises(ValueError, match=r'has 2 classes with the background: cat, the prototxt says num_classes: 4'):
        layer.set_roidb(Roidb(ListImdb([image], ['__background__', 'cat'])))


def test_a_misspelt_label_is_named_with_its_image():
    layer, _, _ = set_up(RoIDataLayer, 0, 6)
    box = [0, 0, 4, 4]
    images = [
        {'path': f'{name}.jpg', 'size': (9, 9), 'boxes': [box] * len(classes), 'classes': classes, 'proposals': []}
        for name, classes in (('a', [1, 2, 4]), ('b', [1, 3]), ('c', [2, 4]))
    ]
    classes = ['__background__', 'cat', 'dog', 'dgo', 'owl']
    with pytest.raises(ValueError, match=r'background: cat, dog, dgo, owl; the rarest, dgo, has 1 .* first in b\.jpg,'):
        layer.set_roidb(Roidb(ListImdb(images, classes)))


def test_a_mini_batch_depends_on_its_number_alone(blood_cells):
    mining_settings()
    roidb = Roidb(blood_cells)
    layer, _, top = set_up(RoIDataLayer, 0, 6)
    layer.set_roidb(roidb)
    first = tops_of(layer, top, 9)  # an epoch and a half
    assert layer.position == 9 and 'BloodImage' in layer.shown[0]
    again, _, top = set_up(RoIDataLayer, 0, 6)
    again.set_roidb(roidb)
    again.set_position(5)
    assert_same(tops_of(again, top, 4), first[5:])
    shapes = {tuple(batch[0].shape) for batch in first}
    assert shapes == {(1, 3, 120, 160)}


def test_worker_processes_make_the_same_mini_batches(blood_cells):
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE, cfg.TRAIN.BG_THRESH_LO = (90, 120), 200, 0.0
    roidb = Roidb(blood_cells)
    alone, _, top = set_up(RoIDataLayer, 0, 6)
    alone.set_roidb(roidb)
    expected = tops_of(alone, top, 7)
    cfg.TRAIN.USE_PREFETCH = True
    layer, _, top = set_up(RoIDataLayer, 0, 6)
    layer.set_roidb(roidb)
    try:
        assert_same(tops_of(layer, top, 5), expected[:5])
        layer.set_position(1)
        assert_same(tops_of(layer, top, 3), expected[1:4])
    finally:
        layer.close()


def test_an_error_in_a_worker_arrives_with_its_message(blood_cells, tmp_path):
    mining_settings()
    cfg.TRAIN.USE_PREFETCH = True
    roidb = Roidb(blood_cells)
    for image in blood_cells._images:
        image['path'] = tmp_path / 'gone.jpg'
    layer, bottom, top = set_up(RoIDataLayer, 0, 6)
    layer.set_roidb(roidb)
    try:
        with pytest.raises(ValueError, match=r'gone.jpg: cannot be read as an image'):
            layer.forward(bottom, top)
    finally:
        layer.close()


def test_ctrl_c_is_not_lost_while_a_mini_batch_is_asked_for(blood_cells, monkeypatch):
    """It comes in the very moment when a worker process is started: the process does without, this one gets it."""
    mining_settings()
    cfg.TRAIN.USE_PREFETCH = True
    layer, bottom, top = set_up(RoIDataLayer, 0, 6)
    layer.set_roidb(Roidb(blood_cells))
    submit = ProcessPoolExecutor.submit

    def interrupted(*args):
        future = submit(*args)
        os.kill(os.getpid(), signal.SIGINT)
        return future

    monkeypatch.setattr(ProcessPoolExecutor, 'submit', interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            layer.forward(bottom, top)
        monkeypatch.undo()
        layer.forward(bottom, top)
    finally:
        layer.close()


@pytest.mark.parametrize('case', ['plain', 'two_images', 'no_nms'])
def test_the_mining_layer_passes_on_what_the_original_did(case):
    recorded = np.load(GOLDEN / 'mining.npz')
    cfg.TRAIN.BATCH_SIZE = int(recorded[f'{case}/batch'])
    cfg.TRAIN.OHEM_USE_NMS = bool(recorded[f'{case}/nms'])
    classes = recorded[f'{case}/in/prob'].shape[1]
    layer, bottom, top = set_up(OHEMDataLayer, 7, 5, param_str=f"'num_classes': {classes}")
    for blob, name in zip(bottom, ('prob', 'pred', 'rois', 'labels', 'tgt', 'ins', 'outw'), strict=True):
        blob.data = recorded[f'{case}/in/{name}']
    assert layer.last is None
    layer.forward(bottom, top)
    for blob, name in zip(top, ('rois', 'labels', 'tgt', 'ins', 'outw'), strict=True):
        np.testing.assert_array_equal(blob.data, recorded[f'{case}/out/{name}'])
    np.testing.assert_array_equal(bottom[2].data[layer.last['kept']], top[0].data)
    assert (np.diff(layer.last['loss'][layer.last['kept']]) <= 0).all()


def test_layers_work_inside_a_net(tmp_path, blood_cells):
    mining_settings()
    prototxt = tmp_path / 'net.prototxt'
    tops = ''.join(f'top: "{name}" ' for name in ('data', 'rois', 'labels', 'targets', 'inside', 'outside'))
    prototxt.write_text(
        f'layer {{ name: "data" type: "Python" {tops} python_param {{ module: "roi_data_layer.layer" '
        f'layer: "RoIDataLayer" param_str: "{FAMILY_PARAM}" }} }}'
    )
    net = caffe.Net(str(prototxt), caffe.TRAIN)
    net.layers[0].set_roidb(Roidb(blood_cells))
    net.forward()
    assert net.blobs['data'].data.shape == (1, 3, 120, 160)
    assert net.blobs['rois'].data.shape[0] == net.blobs['labels'].data.shape[0] > 150
