"""Pictures of RoIs and of mistakes stay legible whatever the shape of the image and the names of the classes."""

import dataclasses

import cv2
import numpy as np
import pytest

from detection_data.palette import class_colour
from inspection.curves import classes_in, draw_curves
from inspection.draw import (
    draw_by_loss,
    draw_by_score,
    draw_chosen,
    draw_detections,
    draw_mined_rois,
    draw_objects,
    scale_end,
    shown_at_once,
)
from inspection.error_pictures import draw_counts, draw_sheet
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
    legend = picture.shape[0] - expected[1]  # a line above
    assert picture.shape[1] == expected[0] and 20 < legend < 0.1 * max(expected) and picture[legend:].any()


def test_a_name_with_half_a_letter(tmp_path):
    """Of a file name that is not UTF-8, or of JSON's escapes: OpenCV 5 would end the process."""
    found = [{'class': 'caf\udce9', 'score': 0.9, 'box': (5, 5, 60, 60)}]
    plain = [{**found[0], 'class': 'caf?'}]
    image = np.full((480, 640, 3), 200, np.uint8)
    classes = ['__background__', 'caf\udce9'], ['__background__', 'caf?']
    pictures = [draw_detections(image, each, names) for each, names in zip((found, plain), classes, strict=True)]
    np.testing.assert_array_equal(*pictures)


def test_the_panels_of_a_wide_image_lie_one_below_the_other():
    classes = ['__background__', 'cat']
    wide, square = (draw_mined_rois(batch_of(*size), 0, classes) for size in ((1000, 100), (300, 300)))
    assert wide.shape[1] == 1600 and wide.shape[0] < 520
    assert square.shape[1] == 2 * 480 + 8


def test_a_net_with_an_rpn_has_a_panel_of_its_proposals():
    batch = dataclasses.replace(batch_of(300, 300), score=np.float32([0.9, 0.1, np.nan]))
    with_scores = draw_mined_rois(batch, 0, ['__background__', 'cat'])
    assert with_scores.shape[1] == 3 * 480 + 2 * 8
    # the panel of proposals has the two boxes, bright and dark; the third is an object itself, not proposed
    first = with_scores[:, :480]
    alone = draw_by_score(batch.images[0], batch.rois[:2, 1:], batch.score[:2], panels=3)
    np.testing.assert_array_equal(first, alone)


def test_a_chart_of_no_mistakes(tmp_path):
    kinds = ('confusion', 'localisation', 'duplicate', 'background', 'missed')
    draw_counts(str(tmp_path / 'c.png'), {'$x^$': dict.fromkeys(kinds, 0)}, kinds)
    assert cv2.imread(str(tmp_path / 'c.png')) is not None


def test_a_sheet_of_mistakes_has_a_white_rim_below_the_last_name(tmp_path):
    """Names of files stand below crops; where crops are of many shapes those of the last row were cut off."""
    photo = str(tmp_path / 'a photograph with gyp.jpg')
    cv2.imwrite(photo, np.full((480, 640, 3), 128, np.uint8))
    boxes = [
        (509, 6, 615, 108), (514, 43, 638, 151), (17, 123, 141, 231), (69, 62, 193, 170), (18, 28, 142, 136),
        (269, 0, 391, 70), (22, 136, 254, 422), (371, 191, 467, 278), (304, 212, 400, 299), (225, 287, 323, 438),
        (312, 317, 407, 413), (281, 383, 376, 479),
    ]  # fmt: skip
    missed = [
        {
            'class': 'cat', 'score': None, 'box': box, 'object_box': box, 'iou': 1, 'object_class': 'cat',
            'why_in_words': 'low score 0.40', 'image': photo,
        }
        for box in boxes
    ]  # fmt: skip
    draw_sheet(str(tmp_path / 's.png'), missed, 'missed', 12, ['__background__', 'cat'])
    sheet = cv2.imread(str(tmp_path / 's.png'))
    assert (sheet[-4:] == 255).all() and (sheet[:, :4] == 255).all() and (sheet[:, -4:] == 255).all()


def test_the_ground_truth_is_dashes_of_white_on_black():
    grey = np.full((480, 640, 3), 128, np.uint8)
    found = [{'class': 'cat', 'score': 0.9, 'box': [100, 100, 200, 200]}]
    without, with_it = (draw_detections(grey, found, ['cat'], o) for o in (None, np.array([[300, 300, 400, 400]])))
    assert without.shape == with_it.shape
    legend = without.shape[0] - 480
    edge = with_it[legend + 300, 300:401]
    assert set(np.unique(edge)) == {0, 255} and 4 < (edge == 0).all(axis=1).sum() < 97
    assert (with_it[legend + 350, 320:380] == 128).all()  # thin
    changed = (without[:legend] != with_it[:legend]).any(axis=(0, 2))
    assert changed.any() and not changed[:60].any(), 'the legend has one entry more, at its end'


def test_a_class_has_its_colour_in_every_picture():
    grey = np.full((480, 640, 3), 128, np.uint8)
    box = np.array([[100, 100, 300, 300]])
    r, g, b = class_colour(2)
    pictures = [
        draw_detections(grey, [{'class': 'dog', 'score': 0.9, 'box': box[0]}], ['cat', 'dog']),
        draw_objects(grey, box, np.array([2]), ['__background__', 'cat', 'dog']),
        draw_chosen(grey, box, np.ones(1), np.array([2]), np.array([0]), ['__background__', 'cat', 'dog']),
    ]
    for picture in pictures:
        line = picture[picture.shape[0] - 480 + 200, 90:110]
        assert (line == (b, g, r)).all(axis=1).any()
        patch = picture[: picture.shape[0] - 480]
        assert (patch == (b, g, r)).all(axis=2).sum() > 50, 'and in the legend'


def test_colours_of_classes_are_twenty_one_and_then_begin_anew():
    colours = [class_colour(i) for i in range(22)]
    assert len(set(colours)) == 22 and class_colour(22) == class_colour(1)  # the background's is one of its own


@pytest.mark.parametrize(
    ('values', 'end'),
    [([0.0], 1e-6), ([1.0] * 10, 1.0), ([2.341] * 10, 2.4), ([0.0101] * 5, 0.011), ([12.1] * 5, 13), ([0.3] * 5, 0.3)],
)
def test_a_scale_ends_at_a_number_that_can_be_written_beside_it(values, end):
    assert scale_end(np.array(values)) == end
    assert f'{scale_end(np.array(values)):g}' == f'{end:g}'


def test_colours_of_a_scale_are_those_of_its_ends():
    """The hardest box has the last colour of the legend's ramp, one of no loss the first, but for smooth edges."""
    grey = np.zeros((480, 640, 3), np.uint8)
    picture = draw_by_loss(grey, np.array([[50, 50, 100, 100], [300, 300, 400, 400]]), np.array([0.0, 2.0]))
    legend = picture.shape[0] - 480
    row = next(r for r in picture[:legend] if len(np.unique(r, axis=0)) > 60)  # through the ramp
    coloured = np.flatnonzero(row.max(axis=1).astype(int) - row.min(axis=1) > 40)
    ramp = row[coloured[0] : coloured[0] + 110]
    np.testing.assert_allclose(ramp[0], picture[legend + 75, 50], atol=25)
    np.testing.assert_allclose(ramp[-1], picture[legend + 350, 300], atol=25)


def test_a_small_image_is_drawn_with_the_hardest_alone():
    assert [shown_at_once(*size) for size in ((100, 100), (256, 192), (1000, 600))] == [30, 49, 200]
    boxes = np.array([[x, 5, x + 1, 60] for x in range(0, 80, 2)])  # 40 boxes, the left one hardest
    black = np.zeros((80, 100, 3), np.uint8)
    picture = draw_by_loss(black, boxes, np.linspace(1, 0.5, 40))
    row = picture[-480 + 200]
    assert row[: 6 * 60].any() and not row[6 * 64 : 6 * 78].any()
    everything = draw_by_loss(black, boxes, np.linspace(1, 0.5, 40), most=40)[-480 + 200]
    assert everything[6 * 64 : 6 * 78].any()


@pytest.mark.parametrize('size', [(4000, 3000), (4000, 1000), (1000, 4000)])
def test_letters_grow_with_the_photograph(size):
    """Shown whole on a screen, letters of a large photograph's labels are no smaller than those of a small one's."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    found = [{'class': 'cat', 'score': 0.5, 'box': [10, size[1] // 2, size[0] // 2, size[1] - 10]}]
    large = draw_detections(image, found, ['cat']).shape[0] - size[1]
    small = draw_detections(np.zeros((600, 800, 3), np.uint8), found, ['cat']).shape[0] - 600
    shown = min(1400 / size[0], 900 / size[1])
    assert large * shown >= 0.95 * small


def test_many_classes_take_more_lines_of_the_legend():
    names = [f'class of number {i}' for i in range(20)]
    grey = np.full((480, 640, 3), 128, np.uint8)
    found = [{'class': name, 'score': 0.9, 'box': [10, 10, 50, 50]} for name in names]
    one, many = (draw_detections(grey, some, names).shape[0] - 480 for some in (found[:1], found))
    assert many % one == 0 and many // one > 3


def test_a_detection_of_no_class():
    with pytest.raises(ValueError, match=r"of class 'cow'; the classes are cat, dog"):
        draw_detections(
            np.zeros((9, 9, 3), np.uint8), [{'class': 'cow', 'score': 1, 'box': [0, 0, 1, 1]}], ['cat', 'dog']
        )


def line_of(iteration, *classes, **more):
    """A line of a record whose RoIs are of these classes."""
    by_class = {name: {'rois': 2, 'cls': 1.0, 'bbox': 0.5} for name in classes}
    seconds = {'step': 1.0, 'data': 0.1, 'mining': 0.1, 'forward': 0.5, 'backward': 0.2}
    mined = {'rois': 4, 'fg': 1, 'bg': 3, 'cls': 1.0, 'bbox': 0.5, 'loss': 1.5}
    return {
        'iteration': iteration, 'lr': 0.1, 'images': 2, 'loss': {'loss_cls': 1.0},
        'all': {'rois': 9, 'fg': 2, 'cls': 1.0, 'bbox': 0.5, 'loss': 1.5, 'by_class': by_class},
        'mined': mined, 'seconds': seconds, 'memory': {'host_peak_mb': 100}, **more,
    }  # fmt: skip


def test_classes_of_a_record_are_in_the_order_that_its_lines_tell():
    lines = [
        line_of(0, 'background', 'leaf'),
        line_of(1, 'background', 'cat', 'leaf'),
        line_of(2, 'cat', 'dog', 'leaf'),
    ]
    assert classes_in(lines) == ['background', 'cat', 'dog', 'leaf']
    assert sorted(classes_in([line_of(0, 'a', 'b'), line_of(1, 'b', 'a')])) == ['a', 'b']  # of two sets: any order


def test_names_of_any_length_and_letters_in_curves(tmp_path):
    """A name of 60000 letters took longer than anybody waits, a dollar sign was mathematics."""
    names = ['background', 'a' * 100_000, '$x', 'caf\udce9']
    by_class = {name: {'rois': 1, 'cls': 0.5, 'bbox': 0.1} for name in names}
    line = {
        'iteration': 0, 'lr': 0.1, 'images': 1, 'loss': {'loss_cls': 1.0}, 'seconds': {'step': 1.0},
        'memory': {'host_peak_mb': 1.0}, 'all': {'rois': 4, 'fg': 3, 'loss': 0.6, 'by_class': by_class},
        'mined': {'rois': 4, 'fg': 3, 'loss': 0.6, 'cls': 0.5, 'bbox': 0.1},
    }  # fmt: skip
    for runs in ({'$a_1$': [line]}, {'b' * 10_000: [line], 'caf\udce9': [line]}):
        draw_curves(str(tmp_path / 'c.png'), runs, 1, {'$x$': {0: 1.0}})
        assert cv2.imread(str(tmp_path / 'c.png')).shape[1] < 2000


def test_what_was_not_recorded_has_no_panel(tmp_path):
    """Eight panels of a run with mining are three rows of three; without, the three that are left are one row."""
    whole = [line_of(i, 'background', 'cat') for i in range(4)]
    bare = [{k: v for k, v in line.items() if k not in ('all', 'mined')} for line in whole]
    for name, lines in (('whole', whole), ('bare', bare)):
        draw_curves(str(tmp_path / f'{name}.png'), {name: lines}, 1, {})
    whole, bare = (cv2.imread(str(tmp_path / f'{name}.png')).shape for name in ('whole', 'bare'))
    assert whole[1] == bare[1] and whole[0] > 2.5 * bare[0]
