"""Non-maximum suppression, against the definition and against the original."""

import numpy as np
import pytest
from stand_in_data import GOLDEN

from fast_rcnn.nms import descending, nms, suppressors


def by_definition(dets, thresh):
    """Greedy NMS box by box in float32, with the double-precision threshold of the original's C code."""
    x1, y1, x2, y2, scores = dets.T.astype(np.float32)
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    dead, kept = np.zeros(len(dets), bool), []
    for i in np.argsort(-scores, kind='stable'):
        if dead[i]:
            continue
        kept.append(i)
        width = np.maximum(np.minimum(x2[i], x2) - np.maximum(x1[i], x1) + 1, 0)
        height = np.maximum(np.minimum(y2[i], y2) - np.maximum(y1[i], y1) + 1, 0)
        shared = width * height
        dead |= (shared / (areas[i] + areas - shared)).astype(np.float64) >= thresh
    return np.array(kept, dtype=np.int64)


def random_boxes(rng, n, grid=1):
    corner = rng.uniform(0, 300, (n, 2))
    boxes = np.hstack((corner, corner + rng.uniform(5, 150, (n, 2))))
    return (np.round(boxes / grid) * grid).astype(np.float32)


@pytest.mark.parametrize('cls', [1, 2, 3])
def test_keeps_what_the_original_kept(cls):
    recorded = np.load(GOLDEN / 'detect.npz')
    boxes = recorded['one/boxes'][:, 4 * cls : 4 * cls + 4]
    dets = np.hstack((boxes, recorded['one/scores'][:, cls : cls + 1]))
    # Which of several identical rows the original kept was up to its unstable sort: compare the rows themselves
    np.testing.assert_array_equal(dets[nms(dets, 0.3)], dets[recorded[f'one/nms/{cls}']])


@pytest.mark.parametrize('n', [0, 1, 2, 127, 128, 129, 700])
@pytest.mark.parametrize('thresh', [0.0, 0.3, 0.7, 1.0])
def test_agrees_with_the_definition(n, thresh):
    rng = np.random.default_rng(n)
    for grid in (0.01, 25):  # a coarse grid makes identical boxes, and IoUs of exactly 1
        dets = np.hstack((random_boxes(rng, n, grid), rng.random((n, 1)).round(2))).astype(np.float32)
        np.testing.assert_array_equal(nms(dets, thresh), by_definition(dets, thresh))


def test_an_overlap_of_exactly_the_threshold_suppresses():
    dets = np.array([[0, 0, 9, 9, 0.9], [0, 0, 4, 9, 0.8]], dtype=np.float32)  # IoU 50 / 100
    assert nms(dets, 0.5).tolist() == [0]
    assert nms(dets, np.nextafter(0.5, 1)).tolist() == [0, 1]


def test_the_threshold_is_not_rounded_to_float32():
    # IoU 70 / 100 is float32(0.7) = 0.69999999, just below the double 0.7: the original's C code keeps the box
    dets = np.array([[0, 0, 9, 9, 0.9], [0, 0, 6, 9, 0.8]], dtype=np.float32)
    assert nms(dets, 0.7).tolist() == [0, 1]
    assert nms(dets, float(np.float32(0.7))).tolist() == [0]


def test_equal_scores_keep_the_earlier_row():
    dets = np.array([[0, 0, 9, 9, 0.5]] * 3, dtype=np.float32)
    assert nms(dets, 0.5).tolist() == [0]
    assert descending(np.array([1.0, 3.0, 3.0, np.nan, 2.0])).tolist() == [3, 1, 2, 4, 0]


def test_groups_do_not_compete_and_suppressors_are_named():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 9], [50, 50, 60, 60]], dtype=np.float32)
    scores = np.array([0.6, 0.9, 0.7, 0.8])
    by = suppressors(boxes, descending(scores), 0.5, groups=np.array([1, 1, 2, 1]))
    assert by.tolist() == [1, 1, 2, 3]  # box 0 by box 1; box 2 is in a group of its own


@pytest.mark.parametrize('limit', [0, 1, 5, 130, 10_000])
def test_a_limit_gives_the_first_of_the_full_result(limit):
    rng = np.random.default_rng(1)
    boxes, order = random_boxes(rng, 400), descending(rng.random(400))
    groups = rng.integers(0, 3, 400)
    full = suppressors(boxes, order, 0.5, groups)
    part = suppressors(boxes, order, 0.5, groups, limit)
    kept, wanted = order[part[order] == order], order[full[order] == order][:limit]
    np.testing.assert_array_equal(kept, wanted)
    reached = part >= 0
    np.testing.assert_array_equal(part[reached], full[reached])


@pytest.mark.filterwarnings('error')
def test_boxes_without_pixels_suppress_nothing():
    dets = np.array([[5, 5, 4, 4, 0.9], [5, 5, 4, 4, 0.8]], dtype=np.float32)
    assert nms(dets, 0.5).tolist() == [0, 1]
