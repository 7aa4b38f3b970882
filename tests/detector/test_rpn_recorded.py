"""The layers of Faster R-CNN against what py-faster-rcnn's computed on BVLC Caffe (tests/golden/rpn)."""

import json

import numpy as np
import pytest
from stand_in_data import GOLDEN

import caffe
from fast_rcnn.config import cfg
from fast_rcnn.test import im_detect, load_net
from rpn.generate_anchors import generate_anchors

RECORDED = GOLDEN.parent / 'rpn'
CASES = sorted(path.stem for path in RECORDED.glob('*.npz') if path.stem != 'anchors')


def apply(settings):
    for key, value in json.loads(str(settings)).items():
        phase, key = key.split('.')
        cfg[phase][key] = tuple(value) if isinstance(value, list) else value


def lexical(*columns):
    """The order of rows, whatever order they were sampled in."""
    return np.lexsort(np.column_stack(columns).T[::-1])


def test_anchors():
    recorded = np.load(RECORDED / 'anchors.npz')
    for i in range(4):
        anchors = generate_anchors(int(recorded[f'base{i}']), recorded[f'ratios{i}'], recorded[f'scales{i}'])
        np.testing.assert_array_equal(anchors, recorded[f'anchors{i}'])


@pytest.mark.parametrize('case', CASES)
def test_one_layer(case, tmp_path):
    recorded = np.load(RECORDED / f'{case}.npz')
    apply(recorded['cfg'])
    (tmp_path / 'net.prototxt').write_text(str(recorded['prototxt']))
    net = caffe.Net(str(tmp_path / 'net.prototxt'), int(recorded['phase']))
    for key in recorded.files:
        if key.startswith('in/'):
            net.blobs[key[3:]].reshape(*recorded[key].shape)
            net.blobs[key[3:]].data[...] = recorded[key]
    net.forward()
    wanted = {key[4:]: recorded[key] for key in recorded.files if key.startswith('out/')}
    found = {name: net.blobs[name].data for name in wanted}
    if case.startswith('proposal_target'):
        for blobs in (wanted, found):
            order = lexical(blobs['rois'], blobs['labels'])
            blobs.update({name: values[order] for name, values in blobs.items()})
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4 if name == 'rois' else 1e-5, err_msg=name)


@pytest.fixture
def small_net(monkeypatch):
    monkeypatch.chdir(RECORDED / 'training')  # the solver names its net without a folder
    caffe.set_mode_cpu()
    recorded = np.load('record.npz')
    apply(recorded['cfg'])
    return recorded


def test_training_end_to_end(small_net):
    solver = caffe.get_solver('solver.prototxt')
    solver.net.copy_from('start.caffemodel')
    blobs = solver.net.blobs
    for step in range(8):
        for name in ('data', 'im_info', 'gt_boxes'):
            blobs[name].reshape(*small_net[f'{step}/in/{name}'].shape)
            blobs[name].data[...] = small_net[f'{step}/in/{name}']
        solver.step(1)
        for name in ('rpn_cls_loss', 'rpn_loss_bbox', 'loss_cls', 'loss_bbox'):
            np.testing.assert_allclose(blobs[name].data, small_net[f'{step}/{name}'], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(blobs['rpn_rois'].data, small_net[f'{step}/rpn_rois'], atol=1e-2)
        order = lexical(blobs['rois'].data)
        np.testing.assert_allclose(blobs['rois'].data[order], small_net[f'{step}/rois_sorted'], atol=1e-2)
        np.testing.assert_array_equal(blobs['labels'].data[order], small_net[f'{step}/labels_sorted'])
    for key in (key for key in small_net.files if key.startswith('end/')):
        layer, i = key[4:].rsplit('/', 1)
        np.testing.assert_allclose(solver.net.params[layer][int(i)].data, small_net[key], rtol=1e-3, atol=1e-4)


def test_detection(small_net):
    scores, boxes = im_detect(load_net('test.prototxt', 'end.caffemodel'), small_net['detect/im'])
    np.testing.assert_allclose(scores, small_net['detect/scores'], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(boxes, small_net['detect/boxes'], atol=1e-2)
