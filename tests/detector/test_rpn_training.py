"""Nets with an RPN from images to detections: mini-batches, training, resuming, testing."""

import json
from pathlib import Path

import numpy as np
import pytest
from stand_in_data import GOLDEN, ListImdb

import caffe
from fast_rcnn.config import ConfigError, cfg
from fast_rcnn.test import im_detect, im_detect_batch, load_net
from fast_rcnn.test import test_net as run_test_net  # not collected as a test
from fast_rcnn.train import get_training_roidb, train_net
from fast_rcnn.who_proposes import check_testing, check_training
from inspection.hard_rois import load_training_net, mined, python_layer
from roi_data_layer.image_blob import read_image
from roi_data_layer.layer import RoIDataLayer
from roi_data_layer.minibatch import get_minibatch
from rpn.generate import imdb_proposals

ROOT = Path(__file__).parents[2]
TRAINING = GOLDEN.parent / 'rpn' / 'training'
PHOTO = GOLDEN / 'images' / 'BloodImage_00007.jpg'
DATA = """
layer { name: "input-data" type: "Python" top: "data" top: "im_info" top: "gt_boxes"
  python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 4" } }
"""
MINING = """
layer { name: "cls_prob_readonly" type: "Softmax" bottom: "cls_score" top: "cls_prob_readonly" }
layer { name: "mining" type: "Python" bottom: "cls_prob_readonly" bottom: "bbox_pred" bottom: "rois"
  bottom: "labels" bottom: "bbox_targets" bottom: "bbox_inside_weights" bottom: "bbox_outside_weights"
  top: "rois_hard" top: "labels_hard"
  top: "bbox_targets_hard" top: "bbox_inside_weights_hard" top: "bbox_outside_weights_hard"
  python_param { module: "roi_data_layer.layer" layer: "HardRoiMiningLayer" param_str: "'num_classes': 4" } }
"""


@pytest.fixture
def solver(tmp_path):
    """The solver of the recorded small net, with our data layer at its head."""

    def write(more='', iter_size=2):
        head, _, net = (TRAINING / 'train.prototxt').read_text().partition('layer { name: "conv1"')
        assert 'gt_boxes' in head
        (tmp_path / 'train.prototxt').write_text(DATA + 'layer { name: "conv1"' + net + more)
        (tmp_path / 'solver.prototxt').write_text(
            f'train_net: "{tmp_path}/train.prototxt" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 '
            f'iter_size: {iter_size} snapshot_prefix: "small" display: 0'
        )
        return str(tmp_path / 'solver.prototxt')

    return write


@pytest.fixture(autouse=True)
def settings():
    caffe.set_mode_cpu()
    cfg.TRAIN.HAS_RPN, cfg.TRAIN.PROPOSAL_METHOD, cfg.TRAIN.IMS_PER_BATCH = True, 'gt', 1
    cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED, cfg.TRAIN.BG_THRESH_LO = True, 0.0
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (120,), 200
    cfg.TRAIN.RPN_BATCHSIZE, cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.RPN_POST_NMS_TOP_N = 32, 16, 60
    cfg.TEST.HAS_RPN, cfg.TEST.SCALES, cfg.TEST.MAX_SIZE, cfg.TEST.RPN_POST_NMS_TOP_N = True, (120,), 200, 40


@pytest.fixture
def cells(blood_cells):
    """The three photographs, the last without objects. Proposals do not exist."""
    blood_cells._images[2].update(boxes=[], classes=[])
    blood_cells.proposals_of = None
    return blood_cells


def test_mini_batches_hold_images_their_sizes_and_objects(cells):
    entries = list(get_training_roidb(cells))
    assert len(entries) == 6  # mirrored ones too, and the one without objects
    boxes, classes = cells.annotation(0)['boxes'], cells.annotation(0)['gt_classes']
    blobs = get_minibatch(entries[:1], 4, np.random.default_rng(0))
    assert sorted(blobs) == ['data', 'gt_boxes', 'im_info'] and blobs['data'].shape == (1, 3, 120, 160)
    np.testing.assert_array_equal(blobs['im_info'], [[120, 160, 0.25]])  # of 480 x 640
    np.testing.assert_allclose(blobs['gt_boxes'], np.column_stack((boxes / 4, classes)))
    blobs = get_minibatch(entries[2:3], 4, np.random.default_rng(0))
    assert blobs['gt_boxes'].shape == (0, 5)


def test_objects_of_several_images_say_of_which(cells):
    entries = list(get_training_roidb(cells))
    cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.SCALES = 30, (120,)
    blobs = get_minibatch([entries[2], entries[0], entries[1]], 4, np.random.default_rng(0))
    counts = [len(entries[i]['boxes']) for i in (2, 0, 1)]
    assert counts[0] == 0 and blobs['gt_boxes'][:, 0].tolist() == [1] * counts[1] + [2] * counts[2]
    assert blobs['im_info'].shape == (3, 3)


def test_targets_that_cannot_be_measured_are_refused(solver, cells, tmp_path):
    cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = False
    with pytest.raises(Exception, match='BBOX_NORMALIZE_TARGETS_PRECOMPUTED True'):
        train_net(solver(), get_training_roidb(cells), str(tmp_path / 'out'), max_iters=1)


@pytest.mark.parametrize(
    ('more', 'augmented'),
    [('', {}), (MINING, {}), (MINING, {'SCALE_JITTER': (0.7, 1.3), 'CROP': 0.6, 'TURN': True, 'COLOUR': 0.3})],
    ids=['sampled', 'mined', 'augmented'],
)
def test_a_resumed_run_ends_byte_for_byte_like_an_unbroken_one(solver, cells, tmp_path, more, augmented):
    """Images, anchors and RoIs are drawn as if the run had never stopped, by any number of loader processes."""
    cfg.TRAIN.AUGMENT.update(augmented)
    cfg.TRAIN.SNAPSHOT_ITERS, cfg.TRAIN.USE_OHEM = 3, bool(more)
    roidb = get_training_roidb(cells)
    train_net(solver(more), roidb, str(tmp_path / 'whole'), max_iters=6)
    cfg.TRAIN.USE_PREFETCH = True
    state = tmp_path / 'whole' / 'small_resume_iter_3.solverstate'
    train_net(solver(more), roidb, str(tmp_path / 'rest'), max_iters=6, snapshot=str(state))
    for kind in ('', '_resume'):
        name = f'small{kind}_iter_6.caffemodel'
        assert (tmp_path / 'whole' / name).read_bytes() == (tmp_path / 'rest' / name).read_bytes()


def test_several_images_a_pass(solver, cells, tmp_path):
    cfg.TRAIN.IMS_PER_BATCH = 2
    train_net(solver(iter_size=1), get_training_roidb(cells), str(tmp_path / 'out'), max_iters=3)
    lines = [json.loads(line) for line in (tmp_path / 'out' / 'small_record.jsonl').read_text().splitlines()]
    assert [line['images'] for line in lines] == [2, 2, 2]
    assert all(line['mined']['rois'] == 16 for line in lines)  # eight of each image


def test_the_record_tells_losses_and_how_many_objects_the_proposals_cover(solver, cells, tmp_path):
    train_net(solver(), get_training_roidb(cells), str(tmp_path / 'out'), max_iters=2)
    line = json.loads((tmp_path / 'out' / 'small_record.jsonl').read_text().splitlines()[0])
    assert set(line['loss']) == {'rpn_cls_loss', 'rpn_loss_bbox', 'loss_cls', 'loss_bbox'}
    assert line['proposals']['rois'] <= 2 * 60 and 0 <= line['proposals']['recall'] <= 1
    assert line['mined']['rois'] == 32


@pytest.fixture
def net():
    return load_net(str(TRAINING / 'test.prototxt'), str(TRAINING / 'end.caffemodel'))


def test_images_of_a_batch_are_detected_as_each_by_itself(net):
    images = [read_image(GOLDEN / 'images' / f'BloodImage_000{n}.jpg') for n in ('00', '07', '12')]
    for image, (scores, boxes) in zip(images, im_detect_batch(net, images), strict=True):
        alone = im_detect(net, image)
        np.testing.assert_allclose(scores, alone[0], atol=1e-5)
        np.testing.assert_allclose(boxes, alone[1], atol=1e-2)


def test_every_scale_has_proposals_of_its_own(net):
    image = read_image(PHOTO)
    each = []
    for scale in (100, 120):
        cfg.TEST.SCALES = (scale,)
        each.append(im_detect(net, image)[0])
    cfg.TEST.SCALES, cfg.TEST.SCALE_CHOICE = (100, 120), 'all'
    np.testing.assert_allclose(im_detect(net, image)[0], np.concatenate(each), atol=1e-5)
    cfg.TEST.SCALE_CHOICE = 'nearest'
    with pytest.raises(ConfigError, match="SCALE_CHOICE 'all', or give one scale"):
        im_detect(net, image)


def test_moved_boxes_may_be_scored_again(net):
    cfg.TEST.BBOX_ITERATIONS, cfg.TEST.BBOX_RESCORE_THRESH = 2, 0.2
    once_more, _ = im_detect(net, read_image(PHOTO))
    cfg.TEST.BBOX_ITERATIONS = 1
    once, _ = im_detect(net, read_image(PHOTO))
    np.testing.assert_allclose(once_more[: len(once)], once, atol=1e-6)
    assert len(once_more) - len(once) == (once[:, 1:] > 0.2).sum() > 0


def test_an_image_without_proposals_has_no_detections(net):
    cfg.TEST.RPN_MIN_SIZE = 5000
    scores, boxes = im_detect(net, read_image(PHOTO))
    assert scores.shape == (0, 4) and boxes.shape == (0, 16)


def test_settings_and_net_have_to_agree_on_who_proposes(net):
    cfg.TEST.HAS_RPN = False
    with pytest.raises(ConfigError, match=r'set TEST\.HAS_RPN True'):
        im_detect(net, read_image(PHOTO), np.float32([[0, 0, 50, 50]]))
    cfg.TEST.HAS_RPN = True
    other = load_net(str(GOLDEN / 'detect.prototxt'), str(GOLDEN / 'detect.caffemodel'))
    with pytest.raises(ConfigError, match=r'set TEST\.HAS_RPN False'):
        im_detect(other, read_image(PHOTO))


def test_a_data_set_without_proposals_is_not_asked_for_them_when_the_net_proposes(net, cells, tmp_path):
    cfg.TEST.HAS_RPN = False
    with pytest.raises(ConfigError, match=r'set TEST\.HAS_RPN True'):
        run_test_net(net, cells, output_dir=str(tmp_path))


def test_a_data_layer_of_another_kind_of_net_is_told_from_a_mistake(solver, cells, tmp_path):
    roidb = get_training_roidb(cells)
    cfg.TRAIN.HAS_RPN = False
    with pytest.raises(Exception, match=r'this looks like a net with an RPN: set TRAIN\.HAS_RPN True'):
        train_net(solver(), roidb, str(tmp_path / 'out'), max_iters=1)


def test_a_net_with_an_rpn_is_told_before_proposals_are_missed(solver):
    cfg.TRAIN.HAS_RPN = False
    with pytest.raises(ConfigError, match=r'proposes boxes itself: set TRAIN\.HAS_RPN True'):
        check_training(solver())
    cfg.TEST.HAS_RPN = False
    for net in ('models/demo/small/faster_rcnn_end2end/test.prototxt', TRAINING / 'test.prototxt'):
        with pytest.raises(ConfigError, match=r'set TEST\.HAS_RPN True'):
            check_testing(str(ROOT / net))
    check_training(str(ROOT / 'models/pascal_voc/VGG16/fast_rcnn_ohem/solver.prototxt'))


def test_a_pass_without_any_roi_is_trained_on(solver, cells, tmp_path):
    """The third photograph shows no object, and nothing is proposed: the RPN learns alone."""
    cfg.TRAIN.RPN_MIN_SIZE, cfg.TRAIN.USE_FLIPPED, cfg.TRAIN.USE_OHEM = 5000, False, True
    train_net(solver(MINING, iter_size=1), get_training_roidb(cells), str(tmp_path / 'out'), max_iters=3)
    lines = [json.loads(line) for line in (tmp_path / 'out' / 'small_record.jsonl').read_text().splitlines()]
    empty = [line for line in lines if line['proposals']['objects'] == 0]
    assert len(empty) == 1 and empty[0]['all']['rois'] == 0
    assert empty[0]['loss']['loss_cls'] == empty[0]['loss']['loss_bbox'] == 0 < empty[0]['loss']['rpn_cls_loss']


def test_a_pass_without_any_roi_is_shown(solver, cells):
    cfg.TRAIN.RPN_MIN_SIZE, cfg.TRAIN.USE_FLIPPED, cfg.TRAIN.USE_OHEM = 5000, False, True
    net = load_training_net(solver(MINING, iter_size=1), str(TRAINING / 'end.caffemodel'))
    python_layer(net, RoIDataLayer).set_roidb(get_training_roidb(cells))
    counts = []
    for _ in range(3):
        net.forward()
        counts.append((len(mined(net).rois), len(mined(net).objects[0])))
    assert all(rois == objects for rois, objects in counts) and (0, 0) in counts


def test_an_rpn_proposes_boxes_inside_every_image_of_a_set(cells):
    """By the family's name, `rpn.generate.imdb_proposals`."""
    cfg.TEST.RPN_MIN_SIZE = 4
    rpn = caffe.Net(str(ROOT / 'models/demo/small/faster_rcnn_alt_opt/rpn_test.pt'), caffe.TEST)
    found = imdb_proposals(rpn, cells)
    assert len(found) == 3 and all(0 < len(boxes) <= 40 for boxes in found)
    for boxes in found:
        assert boxes.min() >= 0 and (boxes[:, 2:] <= (639, 479)).all() and (boxes[:, 2:] >= boxes[:, :2]).all()
    rpn.params['rpn_cls_score'][0].data[...] = np.nan
    with pytest.raises(ValueError, match='are not finite numbers: did its training diverge'):
        imdb_proposals(rpn, cells)


def test_a_data_set_is_tested_without_proposals(net, cells, tmp_path):
    all_boxes = run_test_net(net, cells, output_dir=str(tmp_path), thresh=0.0)
    assert isinstance(cells, ListImdb) and cells.evaluated is all_boxes
    assert [len(all_boxes[1][i]) > 0 for i in range(3)] == [True] * 3
