"""A-Fast-RCNN's nets in training: the demo's, on three photographs."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import caffe
from fast_rcnn.config import cfg
from fast_rcnn.train import SolverWrapper, get_training_roidb, train_net
from inspection.dropped_cells import dropped_cells

ROOT = Path(__file__).parents[2]
SMALL = 'models/demo/small'
MASK = ['conv5_mask', 'conv6_mask', 'conv7_mask']


@pytest.fixture
def roidb(blood_cells, monkeypatch):
    """The photographs as a set of four classes, as many as the demo's nets have; one of them does not occur."""
    monkeypatch.chdir(ROOT)
    caffe.set_mode_cpu()
    blood_cells.classes, blood_cells.num_classes = [*blood_cells.classes, 'dust'], 5
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE, cfg.TRAIN.BG_THRESH_LO = (96,), 200, 0.0
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BATCH_SIZE = 1, 32
    return get_training_roidb(blood_cells)


@pytest.fixture
def stage_1(roidb, tmp_path):
    """A detector that has been trained a little."""
    return train_net(solver_of('fast_rcnn_std'), roidb, str(tmp_path / 'stage_1'), max_iters=2)[0]


def solver_of(net):
    return f'{SMALL}/{net}/solver.prototxt'


def weights(net):
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


def changed(before, after):
    return {name for name in before if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))}


def one_step(net, roidb, folder, **settings):
    wrapper = SolverWrapper(solver_of(net), roidb, str(folder), **settings)
    before = weights(wrapper.solver.net)
    wrapper.train_model(1)
    wrapper.close()
    return wrapper.solver.net, changed(before, weights(wrapper.solver.net))


def test_in_stage_2_the_adversary_alone_learns(roidb, stage_1, tmp_path):
    cfg.TRAIN.FG_FRACTION = 0.75
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # it has no bbox_pred, and nothing to regress
        net, learned = one_step('fast_rcnn_adv_pretrain', roidb, tmp_path, pretrained_model=stage_1)
    assert learned == set(MASK)
    objects = int((net.blobs['labels'].data > 0).sum())
    assert 0 < objects <= 24  # 0.75 of 32
    assert net.blobs['conv_feat_pos'].data.shape == (objects, 64, 6, 6)
    assert net.blobs['conv_feat_rep'].data.shape == (9 * objects, 64, 6, 6)  # 3 x 3 blocks of 2 x 2 cells
    masks = net.layer_dict['loss_mask'].last['masks']
    assert (masks.sum(axis=(1, 2, 3)) == 4).all()


def test_in_stage_3_both_learn(roidb, tmp_path):
    net, learned = one_step('fast_rcnn_adv', roidb, tmp_path)
    assert {'conv1', 'conv4', 'fc5', 'cls_score', 'bbox_pred'} <= learned
    np.testing.assert_array_equal(net.params['fc5_readonly'][0].data, net.params['fc5'][0].data)
    assert set(net.blob_loss_weights) >= {'loss_cls', 'loss_bbox', 'loss_asdn'}
    # the second pass is the last: RoIs are whole
    assert not dropped_cells(net).any and not net.layer_dict['loss_asdn'].last.any()
    np.testing.assert_array_equal(net.blobs['conv_feat'].data, net.blobs['pool4'].data)


@pytest.mark.parametrize('net', ['fast_rcnn_adv', 'fast_rcnn_ohem_adv'])
def test_cells_are_dropped_of_objects_in_the_first_pass(roidb, tmp_path, net):
    cfg.TRAIN.USE_OHEM = net == 'fast_rcnn_ohem_adv'
    wrapper = SolverWrapper(solver_of(net), roidb, str(tmp_path))
    made = wrapper.solver.net
    made.forward()
    found = dropped_cells(made)
    objects = found.labels > 0
    assert found.any and objects.any()
    assert (found.dropped[objects].sum(axis=(1, 2)) == 11).all() and not found.dropped[~objects].any()
    features, pooled = made.blobs['conv_feat'].data, made.blobs['pool4'].data
    gone = np.repeat(found.dropped[:, None], 64, axis=1)
    assert not features[gone].any()
    np.testing.assert_array_equal(features[~gone], pooled[~gone])
    if cfg.TRAIN.USE_OHEM:  # the RoIs are the mined ones, and so are the scores before
        kept = made.layer_dict['hard_roi_mining'].last['kept']
        np.testing.assert_array_equal(found.rois, made.blobs['rois'].data[kept])
        scores = made.blobs['cls_prob_readonly'].data[kept]
        np.testing.assert_allclose(found.before, scores[np.arange(len(kept)), found.labels])
    wrapper.close()


def test_the_adversary_s_loss_teaches_nobody_else(roidb, tmp_path):
    """With the other losses' diffs cleared nothing but the adversary gets a gradient."""
    wrapper = SolverWrapper(solver_of('fast_rcnn_adv'), roidb, str(tmp_path))
    net = wrapper.solver.net
    net.forward()
    net.blobs['loss_cls'].diff[...] = net.blobs['loss_bbox'].diff[...] = 0
    net.blobs['loss_asdn'].diff[...] = 1
    layer = net.layer_dict['loss_asdn']
    layer._gradient = np.ones_like(layer._gradient)
    net.clear_param_diffs()
    net.backward()
    learning = {name for name, blobs in net.params.items() if any(blob.diff.any() for blob in blobs)}
    assert learning == set(MASK)
    wrapper.close()


@pytest.mark.parametrize('net', ['fast_rcnn_adv_pretrain', 'fast_rcnn_adv', 'fast_rcnn_ohem_adv'])
def test_a_resumed_run_ends_byte_for_byte_like_an_unbroken_one(roidb, stage_1, tmp_path, net):
    cfg.TRAIN.SNAPSHOT_ITERS, cfg.TRAIN.USE_OHEM = 1, net == 'fast_rcnn_ohem_adv'
    train_net(solver_of(net), roidb, str(tmp_path / 'whole'), stage_1, max_iters=3)
    state = tmp_path / 'whole' / f'small_{net}_resume_iter_1.solverstate'
    train_net(solver_of(net), roidb, str(tmp_path / 'resumed'), max_iters=3, snapshot=str(state))
    name = f'small_{net}_resume_iter_3.caffemodel'
    assert (tmp_path / 'whole' / name).read_bytes() == (tmp_path / 'resumed' / name).read_bytes()


def test_an_image_without_objects_is_passed_over_in_stage_2(blood_cells, roidb, stage_1, tmp_path):
    blood_cells._images[0].update(boxes=[], classes=[])
    roidb = get_training_roidb(blood_cells)
    wrapper = SolverWrapper(solver_of('fast_rcnn_adv_pretrain'), roidb, str(tmp_path), stage_1)
    wrapper.train_model(3)  # six passes, each photograph twice
    losses = []
    for n in range(6):
        wrapper.data_layer.set_position(n)
        wrapper.solver.net.forward()
        losses.append(wrapper.solver.net.blobs['loss_mask'].data.item())
    assert losses.count(0) == 2 and np.isfinite(losses).all()  # the one without objects, as it is and mirrored
    wrapper.close()
