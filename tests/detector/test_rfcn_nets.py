"""R-FCN by our tools: its settings, which RoIs its OHEM keeps, what its snapshots predict, how it is tested."""

import json

import numpy as np
import pytest
from seeded_net import save_seeded, write_net
from stand_in_data import GOLDEN

import caffe
from fast_rcnn.config import ConfigError, cfg, cfg_from_file, cfg_from_list
from fast_rcnn.test import im_detect, load_net
from fast_rcnn.train import SolverWrapper, get_training_roidb
from roi_data_layer.image_blob import read_image
from roi_data_layer.minibatch import get_minibatch
from rpn.anchor_targets import anchor_targets
from rpn.proposal_targets import choose_rois, roi_targets

LEARNED = 24  # RoIs of an image
CLASSES = 4


@pytest.fixture(autouse=True)
def settings():
    caffe.set_mode_cpu()
    cfg_from_file('experiments/cfgs/rfcn_end2end_ohem.yml')
    cfg.TRAIN.SCALES = cfg.TEST.SCALES = (120,)
    cfg.TRAIN.RPN_POST_NMS_TOP_N = cfg.TEST.RPN_POST_NMS_TOP_N = 60


@pytest.fixture
def net(tmp_path):
    solver = write_net(tmp_path / 'net', 'ResNet-50', 'rfcn_end2end_ohem', CLASSES, learned=LEARNED)
    return solver, save_seeded(tmp_path / 'net' / 'test.prototxt', tmp_path / 'start.caffemodel')


@pytest.fixture
def trained(net, blood_cells, tmp_path):
    """The solver after two iterations, and the model for testing."""
    wrapper = SolverWrapper(net[0], get_training_roidb(blood_cells), str(tmp_path / 'out'), net[1])
    (model,) = wrapper.train_model(2)
    yield wrapper, model
    wrapper.close()


def losses_of(blobs):
    """Each RoI's loss as R-FCN's OHEM ranks it: -log of the label's probability, and smooth L1 of its box."""
    scores, predicted, targets, weights = (
        blobs[name].data.reshape(len(blobs['rois'].data), -1).astype(np.float64)
        for name in ('cls_score', 'bbox_pred', 'bbox_targets', 'bbox_inside_weights')
    )
    shifted = scores - scores.max(axis=1, keepdims=True)
    labels = blobs['labels'].data.astype(int).ravel()
    classification = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    away = np.abs(weights * (predicted - targets))
    return classification + np.where(away < 1, away**2 / 2, away - 0.5).sum(axis=1)


def test_the_rois_that_count_are_those_of_highest_loss(trained):
    """box_annotator_ohem_layer: all RoIs by loss, of each image the first roi_per_img; labels of the others are -1."""
    blobs = trained[0].solver.net.blobs
    loss, rois = losses_of(blobs), blobs['rois'].data
    np.testing.assert_allclose(blobs['per_roi_loss'].data.ravel(), loss, rtol=1e-4, atol=1e-5)
    assert len(loss) > LEARNED and len(np.unique(loss)) == len(loss)
    kept, left = [], dict.fromkeys(np.unique(rois[:, 0]), LEARNED)
    for row in sorted(range(len(loss)), key=lambda row: -loss[row]):
        if left[rois[row, 0]] > 0:
            left[rois[row, 0]] -= 1
            kept.append(row)
    labels = blobs['labels_ohem'].data.ravel()
    np.testing.assert_array_equal(np.flatnonzero(labels != -1), sorted(kept))
    np.testing.assert_array_equal(labels[kept], blobs['labels'].data.ravel()[kept])
    weights = blobs['bbox_loss_weights_ohem'].data.reshape(len(loss), 8)
    expected = np.zeros_like(weights)
    expected[kept] = blobs['bbox_inside_weights'].data.reshape(len(loss), 8)[kept]
    np.testing.assert_array_equal(weights, expected)


def test_all_proposals_are_scored_and_the_record_says_what_was_mined(trained, tmp_path):
    blobs = trained[0].solver.net.blobs
    objects = trained[0].solver.net.blobs['gt_boxes'].data
    assert len(blobs['rois'].data) == len(blobs['rpn_rois'].data) + len(objects)  # BATCH_SIZE -1, BG_THRESH_LO 0
    (record,) = (tmp_path / 'out').glob('*_record.jsonl')
    line = json.loads(record.read_text().splitlines()[-1])
    assert set(line['loss']) == {'rpn_cls_loss', 'rpn_loss_bbox', 'loss_cls', 'loss_bbox'}
    assert line['mined']['rois'] == 2 * LEARNED < line['all']['rois']  # two passes
    assert line['mined']['loss'] > line['all']['loss'] > 0


def test_targets_have_one_box_for_all_classes():
    boxes = np.float32([[0, 0, 9, 9], [0, 0, 19, 9], [0, 0, 9, 9]])
    gt = np.float32([[0, 0, 9, 9]])
    targets, inside = roi_targets(boxes, np.float32([3, 2, 0]), gt, np.zeros(3, int), 2)
    assert targets.shape == inside.shape == (3, 8)
    np.testing.assert_array_equal(inside, [[0] * 4 + [1] * 4, [0] * 4 + [1] * 4, [0] * 8])
    # dx = (5 - 10) / 20 and dw = log(10 / 20), divided by the deviations 0.1 and 0.2
    np.testing.assert_allclose(targets[1, 4:], [-2.5, 0, np.log(0.5) / 0.2, 0], rtol=1e-6)


def test_targets_of_given_proposals_too(blood_cells):
    cfg.TRAIN.HAS_RPN, cfg.TRAIN.USE_OHEM, cfg.TRAIN.IMS_PER_BATCH = False, True, 1
    cfg.TRAIN.PROPOSAL_METHOD = 'selective_search'
    roidb = get_training_roidb(blood_cells)
    assert roidb.bbox_means.shape == (2, 4)
    blobs = get_minibatch([roidb[0]], CLASSES, np.random.default_rng(0))
    assert blobs['bbox_targets'].shape == (len(blobs['rois']), 8)
    assert set(blobs['labels']) > {0, 1}
    np.testing.assert_array_equal(blobs['bbox_inside_weights'][:, 4] > 0, blobs['labels'] > 0)


def test_a_batch_size_of_minus_one_is_all(blood_cells):
    boxes = np.float32([[i, 0, i + 9, 9] for i in range(30)])
    rng = np.random.default_rng(0)
    rows, _, _ = choose_rois(boxes, boxes[:1], np.float32([2]), 10**9, rng)
    assert len(rows) == 30
    with pytest.raises(ConfigError, match=r'BATCH_SIZE is 0, so there is nothing to learn from'):
        cfg_from_list(['TRAIN.BATCH_SIZE', '0'])
    with pytest.raises(ConfigError, match=r'BATCH_SIZE expects finite numbers in \[-1, inf\]'):
        cfg_from_list(['TRAIN.BATCH_SIZE', '-2'])


def test_targets_of_anchors_are_normalised():
    anchors, gt = np.float64([[0, 0, 19, 9], [50, 50, 69, 59]]), np.float32([[0, 0, 9, 9]])
    rng, found = np.random.default_rng, {}
    for cfg.TRAIN.RPN_NORMALIZE_TARGETS in (False, True):
        found[cfg.TRAIN.RPN_NORMALIZE_TARGETS] = anchor_targets(anchors, gt, np.float32([100, 100, 1]), 0, rng(0))
    np.testing.assert_allclose(found[False].bbox_targets[0], [-0.25, 0, np.log(0.5), 0], rtol=1e-6)
    np.testing.assert_allclose(
        found[True].bbox_targets, found[False].bbox_targets / np.float32([0.1, 0.1, 0.2, 0.2]), rtol=1e-6
    )


def test_snapshots_for_testing_predict_plain_regressions(trained, net):
    wrapper, model = trained
    tested = caffe.Net(net[0].replace('solver', 'test'), model, caffe.TEST)
    for name, each in (('rfcn_bbox', 49), ('rpn_bbox_pred', 1)):
        # four numbers a box, each in 49 maps of R-FCN, and 36 anchors' of the RPN
        stds = np.repeat(np.float32([0.1, 0.1, 0.2, 0.2]), each)
        stds = np.tile(stds, len(tested.params[name][1].data) // len(stds))
        as_trained = wrapper.solver.net.params[name]
        np.testing.assert_allclose(
            tested.params[name][0].data, as_trained[0].data * stds[:, None, None, None], rtol=1e-6
        )
        np.testing.assert_allclose(tested.params[name][1].data, as_trained[1].data * stds, rtol=1e-6, atol=1e-12)


def test_a_box_serves_all_classes(trained, net):
    tested = load_net(net[0].replace('solver', 'test'), trained[1])
    photo = read_image(GOLDEN / 'images' / 'BloodImage_00007.jpg')
    scores, boxes = im_detect(tested, photo)
    assert scores.shape == (len(boxes), CLASSES)
    for c in range(CLASSES):
        np.testing.assert_array_equal(boxes[:, 4 * c : 4 * c + 4], boxes[:, 4:8])
    cfg.TEST.AGNOSTIC = False
    with pytest.raises(
        ConfigError, match=r'bbox_pred has 8 columns, .* there should be 16: .* set TEST\.AGNOSTIC True'
    ):
        im_detect(tested, photo)


def test_a_net_for_a_box_a_class_is_not_tested_as_agnostic():
    cfg.TEST.HAS_RPN = False
    other = load_net(str(GOLDEN / 'detect.prototxt'), str(GOLDEN / 'detect.caffemodel'))
    image = read_image(GOLDEN / 'images' / 'BloodImage_00007.jpg')
    with pytest.raises(ConfigError, match=r'bbox_pred has 16 columns, for 4 classes and TEST\.AGNOSTIC True'):
        im_detect(other, image, np.float32([[0, 0, 50, 50]]))


def test_settings_that_do_not_fit_the_net_are_refused(net, blood_cells, tmp_path):
    cfg.TRAIN.AGNOSTIC = False
    roidb = get_training_roidb(blood_cells)
    with pytest.raises(ValueError, match=r'rfcn_bbox has 392 outputs, .* 4 classes .* needs 16 for each bin'):
        SolverWrapper(net[0], roidb, str(tmp_path / 'out'), net[1])


def test_classes_without_a_box_of_their_own_are_named(net, blood_cells, tmp_path):
    cfg.TRAIN.AGNOSTIC, cfg.TRAIN.BBOX_NORMALIZE_TARGETS = False, False
    with pytest.raises(
        Exception, match=r'an object is of class [23], num_classes in param_str is 2.*TEST\.AGNOSTIC True'
    ):
        wrapper = SolverWrapper(net[0], get_training_roidb(blood_cells), str(tmp_path / 'out'), net[1])
        wrapper.train_model(1)
