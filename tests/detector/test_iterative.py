"""Iterative box regression: which boxes are scored again, and what comes of it."""

import numpy as np
import pytest
from stand_in_data import GOLDEN
from stand_in_net import StandInNet

import caffe
from fast_rcnn.config import ConfigError, cfg
from fast_rcnn.test import im_detect, load_net
from roi_data_layer.image_blob import read_image

IMAGE = np.zeros((100, 200, 3), np.uint8)
# [0, 0, 9, 9] moved right by half its width, then by half again; the far corner loses no 1, as in the original
START, ONCE, TWICE = [0, 0, 9, 9], [5, 0, 15, 10], [10.5, 0, 21.5, 11]


@pytest.fixture
def net():
    """Every box moves right by half its width for class 1, and stays for class 2."""
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE, cfg.DEDUP_BOXES = (100,), 200, 0.0  # scale 1

    def answer(rois):
        scores = np.tile([0.0, 0.9, 0.02], (len(rois), 1))
        scores[:, 1] -= rois[:, 1] / 100  # less, the further right
        deltas = np.zeros((len(rois), 12))
        deltas[:, 4] = 0.5
        return scores, deltas

    return StandInNet(answer, 3)


def test_once_unless_asked(net):
    scores, boxes = im_detect(net, IMAGE, np.array([START], np.float32))
    np.testing.assert_allclose(scores, [[0, 0.9, 0.02]], rtol=1e-6)
    np.testing.assert_allclose(boxes[:, 4:8], [ONCE])
    assert [kind for kind, _, _ in net.runs] == ['whole']


def test_the_boxes_of_all_iterations_are_pooled(net):
    cfg.TEST.BBOX_ITERATIONS = 2
    scores, boxes = im_detect(net, IMAGE, np.array([START, [60, 50, 69, 59]], np.float32))
    # two proposals, then each box that class 1 moved; it stands for class 1 alone. Class 2 scores too little.
    inf = -np.inf
    np.testing.assert_allclose(scores, [[0, 0.9, 0.02], [0, 0.3, 0.02], [inf, 0.85, inf], [inf, 0.25, inf]], rtol=1e-5)
    np.testing.assert_allclose(boxes[2, 4:8], TWICE)
    # the second time the features are those of the first
    assert [kind for kind, _, _ in net.runs] == ['whole', 'roi layers']
    np.testing.assert_allclose(net.runs[1][2], [[0, *ONCE], [0, 65, 50, 75, 60]])


def test_only_high_scoring_boxes_go_on(net):
    cfg.TEST.BBOX_ITERATIONS, cfg.TEST.BBOX_RESCORE_THRESH = 3, 0.82
    scores, _ = im_detect(net, IMAGE, np.array([START, [60, 50, 69, 59]], np.float32))
    # 0.9 and 0.3; the first goes on and scores 0.85; again, and scores 0.9 - 0.105
    np.testing.assert_allclose(scores[:, 1], [0.9, 0.3, 0.85, 0.795], rtol=1e-5)
    cfg.TEST.BBOX_RESCORE_THRESH = 0.95
    assert len(im_detect(net, IMAGE, np.array([START], np.float32))[0]) == 1


def test_a_box_goes_on_once_for_each_class_that_wants_it(net):
    cfg.TEST.BBOX_ITERATIONS, cfg.TEST.BBOX_RESCORE_THRESH = 2, 0.01
    scores, _ = im_detect(net, IMAGE, np.array([START], np.float32))
    inf = -np.inf
    np.testing.assert_allclose(scores, [[0, 0.9, 0.02], [inf, 0.85, inf], [inf, inf, 0.02]], rtol=1e-5)


def test_boxes_that_cannot_move_are_not_scored_again(net):
    cfg.TEST.BBOX_ITERATIONS, cfg.TEST.BBOX_REG = 2, False
    with pytest.raises(ConfigError, match=r'TEST\.BBOX_ITERATIONS is 2.*BBOX_REG'):
        im_detect(net, IMAGE, np.array([START], np.float32))


@pytest.mark.parametrize('scales', [(300,), (200, 300)])
def test_shared_features_give_what_the_whole_net_does(scales):
    """On a real net: the second iteration equals a first one that is given the moved boxes as proposals."""
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE, cfg.TEST.BBOX_RESCORE_THRESH = scales, 600, 0.25
    caffe.set_mode_cpu()
    net = load_net(str(GOLDEN / 'detect.prototxt'), str(GOLDEN / 'detect.caffemodel'))
    photo = read_image(GOLDEN / 'images' / 'BloodImage_00007.jpg')
    proposals = np.load(GOLDEN / 'detect.npz')['boxes']
    first_scores, first_boxes = im_detect(net, photo, proposals)
    cfg.TEST.BBOX_ITERATIONS = 2
    scores, boxes = im_detect(net, photo, proposals)
    np.testing.assert_array_equal(scores[: len(proposals)], first_scores)
    rows, classes = np.nonzero(first_scores[:, 1:] > 0.25)
    assert 0 < len(rows) < first_scores.size
    cfg.TEST.BBOX_ITERATIONS = 1
    moved = first_boxes.reshape(len(proposals), -1, 4)[rows, classes + 1]
    second_scores, second_boxes = im_detect(net, photo, moved)
    each = np.arange(len(rows))
    np.testing.assert_allclose(scores[len(proposals) :][each, classes + 1], second_scores[each, classes + 1], atol=1e-6)
    np.testing.assert_allclose(boxes[len(proposals) :], second_boxes, atol=1e-3)
