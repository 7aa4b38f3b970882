"""Every detection gets one kind; expected kinds follow from the boxes, whose IoUs are given beside them."""

import numpy as np
import pytest

from inspection.detection_errors import KINDS, REASONS, sort_detections, why_missed

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


# A cat at [0, 0, 9, 9]; a box of its first h rows has an IoU of h / 10 with it
def why(cats=(), dogs=(), proposals=None, **options):
    """Why the cat was missed, at a score of 0.5."""
    detections = [[], np.array(cats).reshape(-1, 5), np.array(dogs).reshape(-1, 5)]
    given = None if proposals is None else np.array(proposals).reshape(-1, 4)
    return why_missed(np.array(CAT), 1, detections, ['__background__', 'cat', 'dog'], 0.5, given, **options)


@pytest.mark.parametrize(
    ('seen', 'reason', 'words'),
    [
        ({'dogs': [[*CAT, 0.8]], 'cats': [[*CAT, 0.3]]}, 'wrong class', 'taken for dog 0.80'),
        ({'dogs': [[*CAT, 0.4]], 'cats': [[*CAT, 0.3]]}, 'low score', 'low score 0.30'),  # 0.4 does not count
        ({'cats': [[0, 0, 9, 5, 0.2], [0, 0, 9, 6, 0.45]]}, 'low score', 'low score 0.45'),
        ({'cats': [[0, 0, 9, 6, 0.9]]}, 'found with another', "its detection (0.90) is a neighbour's"),
        ({'proposals': [[0, 0, 9, 3]]}, 'no proposal', 'no proposal (best IoU 0.40)'),
        ({'proposals': []}, 'no proposal', 'no proposal (best IoU 0.00)'),
        ({'cats': [[0, 0, 9, 3, 0.9]], 'proposals': [CAT]}, 'box off', 'box off (IoU 0.40)'),
        ({'cats': [[0, 0, 9, 3, 0.9]], 'proposals': [[0, 0, 9, 3]]}, 'no proposal', 'no proposal (best IoU 0.40)'),
        ({'cats': [[0, 0, 9, 3, 0.4]], 'proposals': [CAT]}, 'low score', 'low score, or NMS'),
        ({'proposals': [CAT]}, 'low score', 'low score, or NMS'),
        ({}, 'no proposal, or low score', 'no proposal, or low score'),
    ],
)
def test_why_an_object_was_missed(seen, reason, words):
    assert why(**seen) == (reason, words) and reason in REASONS


def test_a_reason_goes_by_the_caller_s_iou():
    assert why(cats=[[0, 0, 9, 3, 0.2]], iou_threshold=0.3)[0] == 'low score'
