"""Box arithmetic: inclusive pixels."""

import numpy as np

from fast_rcnn.bbox_transform import bbox_overlaps, bbox_transform, bbox_transform_inv, clip_boxes


def test_overlap_counts_both_end_pixels():
    a = np.array([[0, 0, 9, 9]], dtype=np.float32)  # 10 x 10 pixels
    others = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [9, 9, 18, 18], [10, 0, 19, 9]], dtype=np.float32)
    # 50 of 150 pixels, 1 of 199, none
    np.testing.assert_allclose(bbox_overlaps(a, others), [[1, 50 / 150, 1 / 199, 0]])


def test_overlap_of_nothing():
    assert bbox_overlaps(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert bbox_overlaps(np.zeros((3, 4)), np.zeros((0, 4))).shape == (3, 0)


def test_a_box_without_pixels_overlaps_nothing():
    empty = np.array([[5.0, 5.0, 4.0, 4.0]])
    assert bbox_overlaps(empty, empty) == 0


def test_targets_by_hand():
    example = np.array([[0.0, 0.0, 9.0, 19.0]])  # 10 x 20, centre (5, 10)
    truth = np.array([[10.0, 0.0, 29.0, 9.0]])  # 20 x 10, centre (20, 5)
    np.testing.assert_allclose(bbox_transform(example, truth), [[1.5, -0.25, np.log(2), -np.log(2)]])


def test_prediction_moves_each_class_by_itself_and_keeps_the_original_s_far_corner():
    example = np.array([[0.0, 0.0, 9.0, 19.0]], dtype=np.float32)
    deltas = np.array([[0, 0, 0, 0, 1.5, -0.25, np.log(2), -np.log(2)]], dtype=np.float32)
    # 10 x 20 around (5, 10), and 20 x 10 around (20, 5): the far corner is 1 beyond the inclusive one
    np.testing.assert_allclose(
        bbox_transform_inv(example, deltas), [[0, 0, 10, 20, 10, 0, 30, 10]], rtol=1e-6, atol=1e-5
    )


def test_prediction_of_nothing_and_of_anything():
    assert bbox_transform_inv(np.zeros((0, 4)), np.zeros((0, 8), np.float32)).shape == (0, 8)
    box = np.array([[0, 0, 9, 9]], dtype=np.float32)
    wild = bbox_transform_inv(box, np.array([[0, 0, 1000, 1000]], dtype=np.float32))
    np.testing.assert_array_equal(clip_boxes(wild, (100, 200, 3)), [[0, 0, 199, 99]])


def test_clipping_keeps_the_last_pixel():
    boxes = np.array([[-3.0, -1.0, 250.0, 99.5, 5.0, 6.0, 7.0, 8.0]])
    np.testing.assert_array_equal(clip_boxes(boxes, (100, 200, 3)), [[0, 0, 199, 99, 5, 6, 7, 8]])
