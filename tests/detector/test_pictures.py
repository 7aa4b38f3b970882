"""Pictures of RoIs and of mistakes stay legible whatever the shape of the image and the names of the classes."""

import dataclasses

import cv2
import numpy as np
import pytest

from inspection.draw import draw_by_score, draw_detections, draw_mined_rois
from inspection.error_pictures import draw_counts
from inspection.hard_rois import MiniBatch


def batch_of(width: int, height: int) -> MiniBatch:
    """A mini-batch of one image and three RoIs, of which two are mined."""
    rois = np.float32([[0, 1, 1, width // 2, height // 2], [0, 2, 2, 20, 20], [0, 3, 3, width - 3, height - 3]])
    return MiniBatch(
        images=[np.full((height, width, 3), 128, np.uint8)], names=['a.jpg'], rois=rois, labels=np.array([1, 0, 1]),
        predicted=np.array([1, 1, 1]), iou=np.ones(3), cls_loss=np.array([3.0, 2.0, 1.0]), bbox_loss=np.zeros(3),
        kept=np.array([0, 1]), by=np.array([0, 1, 0]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ('width', 'height', 'expected'),
    [
        (64, 64, (480, 480)),
        (160, 120, (640, 480)),
        (2000, 1500, (2000, 1500)),
        (2400, 160, (2400, 160)),
        (1000, 60, (1600, 96)),  # a panorama is not enlarged beyond what can be looked at whole
        (60, 1000, (480, 1600)),  # and a narrow image has room for labels beside it
    ],
)
def test_the_size_of_a_picture(width, height, expected):
    image = np.zeros((height, width, 3), np.uint8)
    found = [{'class': 'cat', 'score': 0.9, 'box': [1, 1, 30, 30]}]
    picture = draw_detections(image, found, ['cat'])
    assert picture.shape[1::-1] == expected and picture[: height // 2].any()


def test_the_panels_of_a_wide_image_lie_one_below_the_other():
    classes = ['__background__', 'cat']
    wide, square = (draw_mined_rois(batch_of(*size), 0, classes) for size in ((1000, 100), (300, 300)))
    assert wide.shape[1] == 1600 and wide.shape[0] < 500
    assert square.shape[1] == 2 * 480 + 8


def test_a_net_with_an_rpn_has_a_panel_of_its_proposals():
    batch = dataclasses.replace(batch_of(300, 300), score=np.float32([0.9, 0.1, np.nan]))
    with_scores = draw_mined_rois(batch, 0, ['__background__', 'cat'])
    assert with_scores.shape[1] == 3 * 480 + 2 * 8
    # the panel of proposals has the two boxes, bright and dark; the third is an object itself, not proposed
    first = with_scores[:, :480]
    alone = draw_by_score(batch.images[0], batch.rois[:2, 1:], batch.score[:2])
    np.testing.assert_array_equal(first, alone)


def test_a_chart_of_no_mistakes(tmp_path):
    kinds = ('confusion', 'localisation', 'duplicate', 'background', 'missed')
    draw_counts(str(tmp_path / 'c.png'), {'$x^$': dict.fromkeys(kinds, 0)}, kinds)
    assert cv2.imread(str(tmp_path / 'c.png')) is not None
