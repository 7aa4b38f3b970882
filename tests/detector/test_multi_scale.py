"""Several scales: which one a training image, a proposal at test time, and an iteration take."""

import numpy as np
import pytest
from stand_in_net import StandInNet

from fast_rcnn.config import ConfigError, cfg, cfg_from_list
from fast_rcnn.test import im_detect
from roi_data_layer.minibatch import get_minibatch
from roi_data_layer.roidb import Roidb

IMAGE = np.zeros((200, 300, 3), np.uint8)


@pytest.fixture
def net():
    """Tells by its score which scale a box was seen at: class 1 gets the box's width in the net / 1000."""
    cfg.DEDUP_BOXES = 0.0

    def answer(rois):
        width = (rois[:, 3] - rois[:, 1]) / 1000
        return np.stack([1 - width, width], axis=1), np.zeros((len(rois), 8))

    return StandInNet(answer, 2)


@pytest.mark.parametrize(
    ('side', 'level'),
    # areas at scales 1, 2, 4 are side^2 times 1, 4, 16; 224^2 is 50176.
    # 141: 19881 is 30295 off, 79524 is 29348 off; 142: 20164 is 30012 off, 80656 is 30480 off
    [(224, 0), (300, 0), (142, 0), (141, 1), (112, 1), (56, 2), (20, 2)],
)
def test_the_level_whose_area_is_nearest_224_squared(net, side, level):
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE = (200, 400, 800), 10000
    im_detect(net, IMAGE, np.array([[0, 0, side - 1, side - 1]], np.float32))
    ((kind, shape, rois),) = net.runs
    assert kind == 'whole' and shape == (3, 3, 800, 1200)
    assert rois[0, 0] == level and rois[0, 3] == (side - 1) * 2**level


def test_all_scales_are_pooled(net):
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE, cfg.TEST.SCALE_CHOICE = (200, 400), 10000, 'all'
    scores, boxes = im_detect(net, IMAGE, np.array([[0, 0, 100, 50], [10, 0, 60, 50]], np.float32))
    np.testing.assert_allclose(scores[:, 1], [0.1, 0.05, 0.2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(boxes[0], boxes[2])
    assert [shape for _, shape, _ in net.runs] == [(1, 3, 200, 300), (1, 3, 400, 600)]  # one at a time


def test_scales_that_max_size_makes_equal_run_once(net):
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE, cfg.TEST.SCALE_CHOICE = (200, 500, 600), 450, 'all'
    scores, _ = im_detect(net, IMAGE, np.array([[0, 0, 100, 50]], np.float32))
    np.testing.assert_allclose(scores[:, 1], [0.1, 0.15], rtol=1e-6)  # 450 / 300 = 1.5


def test_with_iterations_every_scale_has_its_own(net):
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE, cfg.TEST.SCALE_CHOICE = (200, 400), 10000, 'all'
    cfg.TEST.BBOX_ITERATIONS = 2
    scores, _ = im_detect(net, IMAGE, np.array([[0, 0, 99, 99]], np.float32))
    # a box that does not move gains a pixel of width, as the original's regression does
    np.testing.assert_allclose(scores[:, 1], [0.099, 0.1, 0.198, 0.2], rtol=1e-5)
    assert [kind for kind, _, _ in net.runs] == ['whole', 'roi layers'] * 2


def test_no_proposals(net):
    cfg.TEST.SCALE_CHOICE, cfg.TEST.BBOX_ITERATIONS = 'all', 2
    scores, boxes = im_detect(net, IMAGE, np.zeros((0, 4), np.float32))
    assert scores.shape == (0, 2) and boxes.shape == (0, 8) and not net.runs


def test_training_draws_a_scale_for_each_image(blood_cells):
    """640 x 480 photographs at 120 or 240 pixels: both occur, for either image of a mini-batch."""
    cfg.TRAIN.SCALES = (120, 240)
    roidb = Roidb(blood_cells)
    seen = set()
    for seed in range(20):
        blobs = get_minibatch([roidb[0], roidb[1]], 4, np.random.default_rng(seed))
        right = [blobs['data'][i].any(axis=(0, 1)).nonzero()[0].max() for i in (0, 1)]
        seen.add(tuple(320 if x > 160 else 160 for x in right))
        for i in (0, 1):
            mine = blobs['rois'][blobs['rois'][:, 0] == i]
            assert mine[:, 3].max() <= (320 if right[i] > 160 else 160)
    assert seen == {(160, 160), (160, 320), (320, 160), (320, 320)}


def test_a_mistaken_choice_is_named():
    with pytest.raises(ConfigError, match=r"TEST\.SCALE_CHOICE is one of nearest, all; got 'best'"):
        cfg_from_list(['TEST.SCALE_CHOICE', 'best'])
