"""Every detection gets one kind; expected kinds follow from the boxes, whose IoUs are given beside them."""

import numpy as np
import pytest

from inspection.detection_errors import KINDS, sort_detections

# Two cats (1) and a dog (2), 10 x 10 each
CAT, CAT2, DOG = [0, 0, 9, 9], [100, 0, 109, 9], [50, 0, 59, 9]
BOXES, CLASSES, EASY = np.array([CAT, CAT2, DOG]), np.array([1, 1, 2]), np.zeros(3, bool)


def kinds(cats=(), dogs=(), difficult=EASY, **options):
    """The kinds of the detections of both classes, best first, then the objects missed."""
    found = sort_detections(
        [[], np.array(cats).reshape(-1, 5), np.array(dogs).reshape(-1, 5)],
        BOXES,
        CLASSES,
        difficult,
        **options,
    )
    return [e['kind'] for e in found if e['kind'] != 'missed'], [e['object'] for e in found if e['kind'] == 'missed']


def test_a_detection_that_finds_its_object_is_right():
    assert kinds(cats=[[*CAT, 0.9], [*CAT2, 0.8]], dogs=[[*DOG, 0.7]]) == (['right'] * 3, [])


def test_a_second_detection_of_one_object_is_a_duplicate_the_lower_scoring_one():
    assert kinds(cats=[[0, 0, 9, 8, 0.5], [*CAT, 0.4]]) == (['right', 'duplicate'], [1, 2])  # IoU 0.9
    assert kinds(cats=[[0, 0, 9, 8, 0.4], [*CAT, 0.5]]) == (['right', 'duplicate'], [1, 2])


@pytest.mark.parametrize(
    ('box', 'kind'),
    [
        ([0, 0, 9, 4], 'localisation'),  # IoU 0.5, which is not more than 0.5
        ([0, 0, 9, 0], 'localisation'),  # IoU 0.1
        ([0, 0, 8, 0], 'background'),  # IoU 0.09
        ([200, 0, 209, 9], 'background'),
        (DOG, 'confusion'),
        ([50, 0, 59, 5], 'confusion'),  # IoU 0.6 with the dog
        ([50, 0, 59, 4], 'background'),  # IoU 0.5 with the dog: too little to be taken for it
    ],
)
def test_a_wrong_detection_goes_by_what_it_overlaps(box, kind):
    assert kinds(cats=[[*box, 0.9]])[0] == [kind]


def test_the_thresholds_are_the_callers():
    assert kinds(cats=[[0, 0, 9, 4, 0.9]], iou_threshold=0.4)[0] == ['right']
    assert kinds(cats=[[0, 0, 9, 0, 0.9]], touch=0.2)[0] == ['background']


def test_difficult_objects_count_neither_way():
    hard = np.array([True, False, False])
    assert kinds(cats=[[*CAT, 0.9]], difficult=hard) == (['ignored'], [1, 2])


def test_what_is_told_of_a_mistake():
    (wrong, *missed) = sort_detections([[], [[0, 0, 9, 3, 0.75]], []], BOXES, CLASSES, EASY)
    assert wrong == {
        'kind': 'localisation',
        'cls': 1,
        'score': 0.75,
        'box': [0, 0, 9, 3],
        'object': 0,
        'iou': 0.4,
    }
    assert [(e['cls'], e['score'], e['object'], e['iou']) for e in missed] == [
        (1, None, 0, 0.4),
        (1, None, 1, 0.0),
        (2, None, 2, 0.0),
    ]


def test_images_without_objects_or_detections():
    nothing = np.zeros((0, 5))
    assert sort_detections([nothing] * 3, np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool)) == []
    only = sort_detections([nothing, [[*CAT, 0.5]], nothing], np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool))
    assert [(e['kind'], e['object'], e['iou']) for e in only] == [('background', None, 0.0)]
    assert set(KINDS) == {'confusion', 'localisation', 'duplicate', 'background', 'missed'}
