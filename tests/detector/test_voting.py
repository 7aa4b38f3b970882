"""Box voting by hand (Gidaris and Komodakis, ICCV 2015, section 4)."""

import numpy as np

from fast_rcnn.box_voting import vote
from fast_rcnn.config import cfg
from fast_rcnn.test import detections


def dets(*rows):
    return np.array(rows, dtype=np.float32).reshape(-1, 5)


def test_the_mean_of_the_voters_weighted_by_score():
    kept = dets([0, 0, 9, 9, 0.9])
    voters = dets(
        [0, 0, 9, 9, 0.9],
        [2, 0, 11, 9, 0.6],  # 8 x 10 pixels shared, 120 in the union: IoU 2/3
        [6, 0, 15, 9, 0.5],  # 4 x 10 shared, 160: IoU 1/4, no vote
    )
    # x1: (0.9 * 0 + 0.6 * 2) / 1.5 = 0.8
    np.testing.assert_allclose(vote(kept, voters, 0.5), [[0.8, 0, 9.8, 9, 0.9]], rtol=1e-6)
    np.testing.assert_array_equal(kept, [[0, 0, 9, 9, np.float32(0.9)]])  # the argument is left alone


def test_an_iou_of_just_the_threshold_votes():
    kept = dets([0, 0, 9, 9, 0.5])
    half = dets([0, 0, 9, 9, 0.5], [0, 0, 4, 9, 0.5])  # 50 of 100 pixels: IoU 1/2 exactly
    np.testing.assert_allclose(vote(kept, half, 0.5), [[0, 0, 6.5, 9, 0.5]])
    np.testing.assert_allclose(vote(kept, half, 0.51), kept)


def test_negative_scores_have_no_weight():
    kept = dets([0, 0, 9, 9, -0.5], [50, 0, 59, 9, 1])
    voters = dets([0, 0, 9, 9, -0.5], [2, 0, 11, 9, -1], [50, 0, 59, 9, 1], [52, 0, 61, 9, -1])
    np.testing.assert_allclose(vote(kept, voters, 0.5), kept)  # nobody votes on the first, itself on the second


def test_nothing_kept():
    assert vote(dets(), dets([0, 0, 9, 9, 1]), 0.5).shape == (0, 5)
    assert vote(dets(), dets(), 0.5).shape == (0, 5)


def test_voting_follows_nms_and_is_among_boxes_of_one_class():
    cfg.TEST.BBOX_VOTE = True
    scores = np.array([[0, 0.9, 0], [0, 0.6, 0], [0, 0, 0.6]], np.float32)
    boxes = np.tile(np.array([[0, 0, 9, 9], [2, 0, 11, 9], [2, 0, 11, 9]], np.float32), (1, 3))
    first, second = detections(scores, boxes, 100, 0.05)
    np.testing.assert_allclose(first, [[0.8, 0, 9.8, 9, 0.9]], rtol=1e-6)
    np.testing.assert_allclose(second, [[2, 0, 11, 9, 0.6]], rtol=1e-6)
