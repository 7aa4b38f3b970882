"""The VOC evaluation: AP, matching, and what the original computes."""

import json
from pathlib import Path

import numpy as np
import pytest

from detection_data.voc_eval import (
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    evaluate_class,
    format_table,
    match_detections,
    voc_ap,
)

GOLDEN = Path(__file__).parents[1] / 'golden' / 'original' / 'voc_ap.json'  # recorded on the original OHEM code


def dets(*rows):
    return np.array(rows, float).reshape(-1, 5)


def boxes(*rows):
    return np.array(rows, float).reshape(-1, 4)


BOX = (10, 10, 29, 29)  # 20 x 20 pixels


def test_area_is_the_sum_of_recall_steps_times_the_best_precision_to_the_right():
    # Recalls 1/4, 1/2, 3/4; precision 1, 1/2, 3/5 -> envelope 1, 3/5, 3/5.
    assert voc_ap([0.25, 0.5, 0.75], [1, 0.5, 0.6]) == pytest.approx(0.25 * (1 + 0.6 + 0.6))


def test_11_point_takes_the_best_precision_at_each_tenth():
    # Recall >= 0, 0.1, 0.2: 1.0; 0.3 ... 0.7: 0.6; 0.8 ... 1: 0.
    assert voc_ap([0.25, 0.5, 0.75], [1, 0.5, 0.6], use_07_metric=True) == pytest.approx((3 * 1 + 5 * 0.6) / 11)


def test_no_detection_gives_ap_0():
    result = evaluate_class([dets()], [boxes(BOX)], [np.array([False])])
    assert (result.ap_07, result.ap_area, result.detections) == (0, 0, 0)


def test_all_found_gives_ap_1():
    result = evaluate_class([dets((*BOX, 0.9))], [boxes(BOX)], [np.array([False])])
    assert (result.ap_07, result.ap_area) == (pytest.approx(1), 1)


def test_the_overlap_must_exceed_the_threshold():
    # 20 x 10 pixels of the box: IoU exactly 1/2. One row more: 220 / 400.
    half, more = (10, 10, 29, 19, 0.9), (10, 10, 29, 20, 0.9)
    _, outcome = match_detections([dets(half)], [boxes(BOX)], [np.array([False])])
    assert outcome.tolist() == [FALSE_POSITIVE]
    _, outcome = match_detections([dets(more)], [boxes(BOX)], [np.array([False])])
    assert outcome.tolist() == [TRUE_POSITIVE]


def test_the_second_detection_of_a_box_is_wrong_whatever_its_overlap():
    loose, exact = (10, 10, 29, 25, 0.9), (*BOX, 0.8)
    scores, outcome = match_detections([dets(exact, loose)], [boxes(BOX)], [np.array([False])])
    assert scores.tolist() == [0.9, 0.8]
    assert outcome.tolist() == [TRUE_POSITIVE, FALSE_POSITIVE]


def test_a_detection_belongs_to_the_box_it_overlaps_most_and_does_not_fall_back_to_another():
    near = (12, 10, 31, 29)
    _, outcome = match_detections(
        [dets((*BOX, 0.9), (11, 10, 29, 29, 0.8))], [boxes(BOX, near)], [np.array([False, False])]
    )
    assert outcome.tolist() == [TRUE_POSITIVE, FALSE_POSITIVE]


def test_difficult_boxes_count_neither_way_however_often_they_are_found():
    gt, hard = [boxes(BOX, (50, 50, 69, 69))], [np.array([True, False])]
    found = [dets((*BOX, 0.9), (*BOX, 0.8), (50, 50, 69, 69, 0.7))]
    _, outcome = match_detections(found, gt, hard)
    assert outcome.tolist() == [IGNORED, IGNORED, TRUE_POSITIVE]
    result = evaluate_class(found, gt, hard)
    assert (result.ground_truth, result.difficult, result.ap_area) == (1, 1, 1)
    assert result.precision.tolist() == [0, 0, 1]


def test_boxes_of_other_images_do_not_match():
    _, outcome = match_detections([dets((*BOX, 0.9)), dets()], [boxes(), boxes(BOX)], [np.zeros(0), np.zeros(1)])
    assert outcome.tolist() == [FALSE_POSITIVE]


def test_equal_scores_are_taken_in_the_order_given():
    wrong, right = (100, 100, 120, 120, 0.5), (*BOX, 0.5)
    for order, expected in (((wrong, right), 0.5), ((right, wrong), 1.0)):
        result = evaluate_class([dets(*order)], [boxes(BOX)], [np.array([False])])
        assert result.ap_area == expected


@pytest.mark.parametrize('hard', [[], [True]])
def test_without_ground_truth_that_counts_the_ap_is_nan(hard):
    gt = boxes(*[BOX] * len(hard))
    result = evaluate_class([dets((*BOX, 0.9))], [gt], [np.array(hard, bool)])
    assert np.isnan(result.ap_07) and np.isnan(result.ap_area)
    assert result.ground_truth == 0


def golden_cases():
    for name, case in json.loads(GOLDEN.read_text()).items():
        for key, expected in case['ap'].items():
            yield pytest.param(case, key, expected, id=f'{name} {key}')


@pytest.mark.parametrize('case, key, expected', list(golden_cases()))
def test_ap_is_that_of_the_original(case, key, expected):
    of_class, metric, threshold = key.split()
    c = int(of_class[1:])
    gt = [np.array([g for g in image if g[5] == c], float).reshape(-1, 6) for image in case['gt']]

    def ap(break_ties: np.ndarray) -> float:
        of_this_class = [d for d in case['detections'] if d[6] == c]
        rows = [(d[0], (*d[2:6], d[1] + t)) for d, t in zip(of_this_class, break_ties, strict=False)]
        found = [dets(*[row for image, row in rows if image == this]) for this in case['images']]
        result = evaluate_class(found, [g[:, :4] for g in gt], [g[:, 4] > 0 for g in gt], float(threshold))
        return result.ap_07 if metric == '11pt' else result.ap_area

    count = len(case['detections'])
    if ap(np.zeros(count)) == pytest.approx(expected, abs=1e-12):
        return
    # Scores have three digits, so some are equal, and the original leaves their order to an unstable
    # sort: some order of the equal ones gives its figure.
    rng = np.random.default_rng(0)
    assert any(ap(rng.uniform(0, 1e-6, count)) == pytest.approx(expected, abs=1e-12) for _ in range(500))


def pixels(box):
    x1, y1, x2, y2 = map(int, box)
    return {(x, y) for x in range(x1, x2 + 1) for y in range(y1, y2 + 1)}


def brute_force_ap(detections, gt, hard, threshold, use_07):
    """AP in plain loops, from its definition."""
    flat = [(d[4], k, d[:4]) for k, image in enumerate(detections) for d in image]
    flat.sort(key=lambda entry: -entry[0])
    total = sum(not h for image in hard for h in image)
    taken, right, wrong, curve = set(), 0, 0, []
    for _, image, box in flat:
        best, best_iou = None, -1.0
        for j, other in enumerate(gt[image]):
            mine, theirs = pixels(box), pixels(other)
            iou = len(mine & theirs) / len(mine | theirs)
            if iou > best_iou:
                best, best_iou = j, iou
        if best_iou > threshold and hard[image][best]:
            pass
        elif best_iou > threshold and (image, best) not in taken:
            taken.add((image, best))
            right += 1
        else:
            wrong += 1
        curve.append((right / total, right / (right + wrong) if right + wrong else 0.0))
    if use_07:
        levels = np.arange(0, 1.1, 0.1)
        return sum(max([p for r, p in curve if r >= level], default=0) for level in levels) / 11
    area, before = 0.0, 0.0
    for k, (r, _) in enumerate(curve):
        area += (r - before) * max(p for _, p in curve[k:])
        before = r
    return area


@pytest.mark.parametrize('seed', range(12))
def test_agrees_with_counting_pixels_one_by_one(seed):
    rng = np.random.default_rng(seed)

    def some(n):
        corner = rng.integers(0, 12, (n, 2))
        return np.hstack([corner, corner + rng.integers(1, 9, (n, 2))]).astype(float)

    gt = [some(rng.integers(0, 5)) for _ in range(6)]
    gt[0] = some(2)
    hard = [rng.random(len(g)) < 0.2 for g in gt]
    hard[0][:] = False
    # Half of the detections are ground truth moved by a pixel or so.
    found = []
    for g in gt:
        near = g[rng.random(len(g)) < 0.9]
        near = near + np.tile(rng.integers(-1, 2, (len(near), 2)), 2)
        both = np.vstack([near, near, some(4)])
        found.append(np.hstack([both, rng.random((len(both), 1))]))
    for threshold in (0.5, 0.7):
        result = evaluate_class(found, gt, hard, threshold)
        assert result.ap_07 == pytest.approx(brute_force_ap(found, gt, hard, threshold, True), abs=1e-12)
        assert result.ap_area == pytest.approx(brute_force_ap(found, gt, hard, threshold, False), abs=1e-12)


def test_the_table_has_a_line_a_class_and_says_what_was_left_out():
    results = {
        'classes': {
            'cat': {'ap': 0.5, 'ground_truth': 4, 'detections': 9},
            'dog': {'ap': float('nan'), 'ground_truth': 0, 'detections': 1},
        },
        'mAP': 0.5,
        'metric': 'area',
        'iou_threshold': 0.5,
        'images': 3,
        'without_ground_truth': ['dog'],
    }
    lines = format_table(results).splitlines()
    assert lines[1].split() == ['cat', '0.5000', '4', '9']
    assert lines[2].split() == ['dog', 'n/a', '0', '1']
    assert lines[3].startswith('mean') and '0.5000' in lines[3] and 'area' in lines[3]
    assert 'dog' in lines[4]
