"""Augmented images: boxes stay on what they show, the same numbers give the same image, nothing is on by default."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from stand_in_data import ListImdb

from fast_rcnn.config import ConfigError, cfg, cfg_from_file, cfg_from_list
from roi_data_layer.augmentation import Change, change_look, change_shape, changed, drawn_change, entry_of, is_on, named
from roi_data_layer.minibatch import get_minibatch
from roi_data_layer.order import augmenting_rng
from roi_data_layer.prefetch import BatchMaker
from roi_data_layer.roidb import Roidb

EVERYTHING = {'SCALE_JITTER': (0.5, 1.5), 'CROP': 0.5, 'TURN': True, 'COLOUR': 0.5, 'HUE': 30.0, 'BLUR': 2.0}
MEANS = np.array([[[100.0, 110.0, 120.0]]])


def entry(boxes, classes, width=10, height=6, **more):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    plain = {'image': 'a.png', 'width': width, 'height': height, 'flipped': False}
    return {**plain, 'boxes': boxes, 'gt_classes': np.array(classes, np.int32), **more}


def test_by_default_images_stay_as_they_are(blood_cells):
    roidb = Roidb(blood_cells)
    assert not is_on()
    for i in range(len(roidb)):
        plain, shown = roidb[i], entry_of(roidb, i, 5)
        assert sorted(shown) == sorted(plain)
        for key, value in plain.items():
            np.testing.assert_array_equal(shown[key], value)


@pytest.mark.parametrize('key', sorted(EVERYTHING))
def test_each_setting_turns_it_on(key):
    cfg.TRAIN.AUGMENT[key] = EVERYTHING[key]
    assert is_on()


# The object takes in x 1 to 4, y 2 to 3 of 10 x 6 pixels. A quarter turn counter-clockwise takes (x, y) to (y, 9 - x)
@pytest.mark.parametrize(
    ('turns', 'size', 'box'),
    [(0, (10, 6), [1, 2, 4, 3]), (1, (6, 10), [2, 5, 3, 8]), (2, (10, 6), [5, 2, 8, 3]), (3, (6, 10), [2, 1, 3, 4])],
)
def test_quarter_turns(turns, size, box):
    new = changed(entry([[1, 2, 4, 3]], [1]), Change(turns=turns))
    assert (new['width'], new['height']) == size and new['stored'] == (10, 6)
    assert new['boxes'].tolist() == [box]


@pytest.mark.parametrize('turns', range(4))
@pytest.mark.parametrize('window', [None, (2, 1, 8, 4), (0, 2, 4, 5)])
def test_a_box_stays_on_what_it_shows(turns, window):
    image = np.zeros((6, 10, 3), np.uint8)
    image[2:5, 3:5] = 255
    change = Change(window=window, turns=turns)
    new, pixels = changed(entry([[3, 2, 4, 4]], [1]), change), change_shape(image, change)
    assert pixels.shape == (new['height'], new['width'], 3)
    ys, xs = np.nonzero(pixels[:, :, 0])
    assert new['boxes'].tolist() == [[xs.min(), ys.min(), xs.max(), ys.max()]]


def test_what_a_window_does_to_objects_and_proposals():
    boxes = [
        [0, 0, 9, 9],  # an object of which the last 8 columns are inside: it ends at the window's edge
        [20, 0, 29, 9],  # an object outside: gone
        [0, 0, 9, 8],  # a proposal of the first: of 9 rows, so its IoU with it stays 0.9
        [0, 0, 3, 9],  # half of it inside: stays
        [0, 0, 2, 9],  # a third: left out
        [2, 20, 9, 29],  # below: left out
    ]
    cfg.TRAIN.BBOX_THRESH = 0.5
    new = changed(entry(boxes, [1, 2, 0, 0, 0, 0], 40, 40), Change(window=(2, 0, 19, 9)))
    assert (new['width'], new['height']) == (18, 10)
    assert new['boxes'].tolist() == [[0, 0, 7, 9], [0, 0, 7, 8], [0, 0, 1, 9]]
    assert new['gt_classes'].tolist() == [1, 0, 0] and new['max_classes'].tolist() == [1, 1, 1]
    np.testing.assert_allclose(new['max_overlaps'], [1, 0.9, 0.25])
    # centres are half a row apart, of 9 rows; heights 10 and 9; the third is no example, its IoU is 0.25
    expected = [[1, 0, 0, 0, 0], [1, 0, 0.5 / 9, 0, np.log(10 / 9)], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(new['bbox_targets'], expected, atol=1e-6)


def test_windows_cut_no_object_badly(blood_cells):
    cfg.TRAIN.AUGMENT.CROP, cfg.TRAIN.AUGMENT.CROP_HOLDS = 0.4, 0.7
    plain, windows = Roidb(blood_cells)[0], 0
    objects = plain['boxes'][plain['gt_classes'] > 0].astype(float)
    for n in range(60):
        for change in drawn_change(plain, augmenting_rng(3, n, 0)):
            if change.window is None:
                continue
            windows += 1
            x1, y1, x2, y2 = change.window
            assert 0 <= x1 <= x2 < 640 and 0 <= y1 <= y2 < 480
            assert x2 - x1 + 1 >= 0.4 * 640 - 1 and y2 - y1 + 1 >= 0.4 * 480 - 1
            wide = np.minimum(objects[:, 2], x2) - np.maximum(objects[:, 0], x1) + 1
            high = np.minimum(objects[:, 3], y2) - np.maximum(objects[:, 1], y1) + 1
            area = (objects[:, 2] - objects[:, 0] + 1) * (objects[:, 3] - objects[:, 1] + 1)
            inside = np.maximum(wide, 0) * np.maximum(high, 0) / area
            assert ((inside == 0) | (inside >= 0.7)).all() and (inside > 0).any()
    assert windows > 20


def test_objects_that_no_window_spares_keep_the_whole_image():
    cfg.TRAIN.AUGMENT.CROP, cfg.TRAIN.AUGMENT.CROP_HOLDS = 0.5, 1.0
    full = entry([[0, 0, 99, 99]], [1], 100, 100)
    assert {change.window for n in range(20) for change in drawn_change(full, augmenting_rng(3, n, 0))} <= {
        None,
        (0, 0, 99, 99),
    }


def test_an_image_is_a_function_of_seed_mini_batch_and_image(blood_cells):
    cfg.TRAIN.AUGMENT.update(EVERYTHING)
    roidb = Roidb(blood_cells)
    first = entry_of(roidb, 1, 7)
    entry_of(roidb, 0, 3)  # what is asked for in between does not matter
    again = entry_of(roidb, 1, 7)
    assert first['change'] == again['change']
    np.testing.assert_array_equal(first['bbox_targets'], again['bbox_targets'])
    cfg.RNG_SEED += 1
    other_seed = entry_of(roidb, 1, 7)['change']
    cfg.RNG_SEED -= 1
    others = {other_seed, entry_of(roidb, 2, 7)['change'], entry_of(roidb, 1, 8)['change']}
    assert len({first['change'], *others}) == 4


def test_a_setting_changes_what_it_is_about_and_nothing_else(blood_cells):
    cfg.TRAIN.AUGMENT.update(TURN=True, COLOUR=0.3)
    before = entry_of(Roidb(blood_cells), 0, 4)['change']
    cfg.TRAIN.AUGMENT.BLUR = 1.0
    after = entry_of(Roidb(blood_cells), 0, 4)['change']
    assert after.blur > 0 and before.blur == 0
    assert (before.turns, before.brightness, before.contrast) == (after.turns, after.brightness, after.contrast)


def test_targets_are_normalised_as_those_of_unchanged_images(blood_cells):
    """A quarter turn leaves boxes' IoUs alone, and swaps the targets in x with those in y but for a sign."""
    cfg.TRAIN.AUGMENT.TURN = True
    roidb = Roidb(blood_cells)
    n = next(n for n in range(50) if entry_of(roidb, 0, n)['change'].turns == 1)
    plain, turned = roidb[0], entry_of(roidb, 0, n)
    np.testing.assert_allclose(turned['max_overlaps'], plain['max_overlaps'], atol=1e-6)
    means, stds = (table[plain['bbox_targets'][:, 0].astype(int)] for table in (roidb.bbox_means, roidb.bbox_stds))
    learned = plain['bbox_targets'][:, 0] > 0
    x, y, w, h = (plain['bbox_targets'][:, 1:] * stds + means)[learned].T
    turned_back = (turned['bbox_targets'][:, 1:] * stds + means)[learned]
    np.testing.assert_allclose(turned_back, np.stack((y, -x, h, w), axis=1), atol=2e-5)


def flat(*colour, shape=(4, 5)):
    """An image of one colour (B, G, R), as network input."""
    return (np.full((*shape, 3), colour, np.float32) - MEANS).astype(np.float32)


@pytest.mark.parametrize(
    ('change', 'before', 'after'),
    [
        (Change(brightness=1.5), (100, 40, 10), (150, 60, 15)),
        (Change(brightness=2.0), (200, 40, 10), (255, 80, 20)),  # no more than there is
        (Change(contrast=0.5), (130, 90, 110), (120, 100, 110)),  # half-way to 110, the grey of the means
        (Change(contrast=1.8), (255, 0, 110), (255, 0, 110)),
        (Change(saturation=0.0), (100, 0, 0), (11.4, 11.4, 11.4)),  # 0.114 of blue
        (Change(saturation=1.5), (80, 80, 80), (80, 80, 80)),  # a grey has none
        (Change(hue=120.0), (200, 50, 10), (50, 10, 200)),  # a third of the circle: colours change places
        (Change(hue=180.0), (60, 60, 60), (60, 60, 60)),
    ],
)
def test_colours(change, before, after):
    pixels = change_look(flat(*before), change, MEANS)
    assert pixels.dtype == np.float32
    if change.hue == 120:  # in either sense
        assert sorted(np.rint((pixels + MEANS)[0, 0]).tolist()) == sorted(after) and pixels[0, 0, 0] != before[0] - 100
    else:
        np.testing.assert_allclose(pixels + MEANS, np.full((4, 5, 3), after), atol=1e-3)


def test_blur_spreads_a_point_and_leaves_an_even_image():
    np.testing.assert_allclose(change_look(flat(9, 8, 7), Change(blur=2.0), MEANS), flat(9, 8, 7), atol=1e-4)
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 100
    spread = change_look(point, Change(blur=2.0), MEANS)
    assert spread.sum() == pytest.approx(300, rel=1e-3)
    # the middle of a Gaussian in two dimensions: 1 / (2 pi sigma^2)
    assert spread[20, 20, 0] == pytest.approx(100 / (2 * np.pi * 4), rel=0.02)


def settings_of_mining():
    cfg.TRAIN.USE_OHEM, cfg.TRAIN.BG_THRESH_LO, cfg.TRAIN.IMS_PER_BATCH = True, 0.0, 1
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (240,), 400


def test_the_size_of_the_network_s_image(blood_cells):
    settings_of_mining()
    cfg.TRAIN.AUGMENT.SCALE_JITTER = (0.5, 0.5)
    roidb = Roidb(blood_cells)
    blobs = get_minibatch([entry_of(roidb, 0, 0)], 4, np.random.default_rng(0))
    assert blobs['data'].shape == (1, 3, 120, 160)  # of 640 x 480 pixels, to half of 240
    np.testing.assert_allclose(blobs['rois'][0, 1:], roidb[0]['boxes'][0] / 4, rtol=1e-6)
    cfg.TRAIN.AUGMENT.SCALE_JITTER = (2.0, 2.0)
    blobs = get_minibatch([entry_of(roidb, 0, 0)], 4, np.random.default_rng(0))
    assert blobs['data'].shape == (1, 3, 300, 400)  # MAX_SIZE stays the limit


def test_mini_batches_of_a_net_with_an_rpn(blood_cells):
    settings_of_mining()
    cfg.TRAIN.HAS_RPN, cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = True, True
    cfg.TRAIN.AUGMENT.update(TURN=True, SCALE_JITTER=(0.5, 0.5))
    roidb = Roidb(blood_cells)
    n = next(n for n in range(50) if entry_of(roidb, 0, n)['change'].turns == 1)
    blobs = get_minibatch([entry_of(roidb, 0, n)], 4, np.random.default_rng(0))
    np.testing.assert_array_equal(blobs['im_info'], [[160, 120, 0.25]])  # 480 x 640 turned, to half of 240
    x1, y1, x2, y2 = blood_cells.annotation(0)['boxes'].T
    np.testing.assert_allclose(blobs['gt_boxes'][:, :4], np.stack((y1, 639 - x2, y2, 639 - x1), axis=1) / 4, rtol=1e-5)


def test_the_image_is_the_file_s_changed(tmp_path):
    """An image of four colours, mirrored, then turned: the corners tell how."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[:30, :40], image[:30, 40:], image[30:, :40], image[30:, 40:] = 10, 60, 110, 160
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    settings_of_mining()
    cfg.TRAIN.SCALES, cfg.TRAIN.AUGMENT.TURN = (60,), True
    photo = {'path': tmp_path / 'a.png', 'size': (80, 60), 'boxes': [[0, 0, 39, 29]], 'classes': [1], 'proposals': []}
    roidb = Roidb(ListImdb([photo], ['__background__', 'x']))
    n = next(n for n in range(50) if entry_of(roidb, 1, n)['change'].turns == 1)
    shown = entry_of(roidb, 1, n)
    assert named(shown) == f'{tmp_path}/a.png (mirrored, turned by 90)'
    blobs = get_minibatch([shown], 2, np.random.default_rng(0))
    pixels = blobs['data'][0].transpose(1, 2, 0) + cfg.PIXEL_MEANS
    # mirrored: 60 10 / 160 110; its right column is then the upper row
    corners = [pixels[y, x, 0].round().item() for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))]
    assert corners == [10, 110, 60, 160]
    x1, y1, x2, y2 = blobs['rois'][0, 1:].astype(int)
    assert set(np.rint(pixels[y1 : y2 + 1, x1 : x2 + 1]).ravel()) == {10}


def test_mini_batches_have_every_roi_that_training_needs(blood_cells):
    """All of it on, for many mini-batches: boxes lie inside the image, and the objects are among the RoIs."""
    settings_of_mining()
    cfg.TRAIN.AUGMENT.update(EVERYTHING)
    roidb = Roidb(blood_cells)
    make = BatchMaker(roidb, 4)
    for n in range(30):
        blobs, (i,) = make(n)
        new = entry_of(roidb, int(i), n)
        _, _, height, width = blobs['data'].shape
        rois = blobs['rois'][:, 1:]
        assert (rois >= 0).all() and (rois[:, 3] <= height + 0.5).all()  # the size is rounded
        assert (rois[:, 2] <= width + 0.5).all()
        assert (rois[:, 2:] >= rois[:, :2]).all() and np.isfinite(blobs['bbox_targets']).all()
        assert len(rois) == len(new['boxes']) and (blobs['labels'] > 0).any()
        assert np.abs(blobs['data']).max() <= 255


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (['CROP', '1.5'], r'TRAIN\.AUGMENT\.CROP expects finite numbers in \[0\.1, 1\]; got 1\.5'),
        (['SCALE_JITTER', '(1.2, 0.8)'], r'TRAIN\.AUGMENT\.SCALE_JITTER expects the lower number first; got \(1\.2, 0'),
        (['SCALE_JITTER', '0.8'], r'expects a list of 2 numbers, such as \(1\.0, 1\.0\); got float 0\.8'),
        (['TURN', '90'], r'TRAIN\.AUGMENT\.TURN expects True or False'),
        (['COLOR', '0.2'], r'no setting TRAIN\.AUGMENT\.COLOR; did you mean TRAIN\.AUGMENT\.COLOUR\?'),
    ],
)
def test_settings_that_are_none(settings, said):
    with pytest.raises(ConfigError, match=said):
        cfg_from_list([f'TRAIN.AUGMENT.{settings[0]}', settings[1]])


def test_the_group_itself_is_no_setting():
    with pytest.raises(ConfigError, match=r'TRAIN\.AUGMENT is a group of settings \(SCALE_JITTER, CROP, .*got True'):
        cfg_from_list(['TRAIN.AUGMENT', 'True'])


def test_entries_of_one_s_own_that_do_not_say_how_targets_are_normalised(blood_cells):
    cfg.TRAIN.AUGMENT.TURN = True
    with pytest.raises(ConfigError, match=r'needs to know how they are normalised: .*not a list'):
        entry_of(list(Roidb(blood_cells)), 0, 0)


def test_the_settings_in_the_documentation_load(tmp_path):
    page = (Path(__file__).parents[2] / 'docs' / 'your-own-data.md').read_text()
    (tmp_path / 'a.yml').write_text(re.search(r'```yaml\n(TRAIN:\n  AUGMENT:.*?)```', page, re.DOTALL)[1])
    cfg_from_file(str(tmp_path / 'a.yml'))
    assert is_on() and sorted(cfg.TRAIN.AUGMENT) == sorted([*EVERYTHING, 'CROP_HOLDS'])
    assert cfg.TRAIN.AUGMENT.SCALE_JITTER == (0.8, 1.25) and cfg.TRAIN.AUGMENT.TURN is True


@pytest.mark.parametrize('size', [(1, 1), (1, 50), (50, 1), (2, 2), (33, 7)])
def test_images_of_any_size_stay_images(size):
    """Many changes of a narrow image: the pixels have the size that the entry says, and boxes lie in it."""
    cfg.TRAIN.AUGMENT.update(EVERYTHING, CROP=0.1, CROP_HOLDS=0.1)
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    for n in range(20):
        rng = np.random.default_rng(n)
        x1, y1 = (int(rng.integers(side)) for side in size)
        box = [x1, y1, int(rng.integers(x1, width)), int(rng.integers(y1, height))]
        for change in drawn_change(entry([box, box], [1, 0], width, height), augmenting_rng(3, n, 0)):
            new = changed(entry([box, box], [1, 0], width, height), change)
            pixels = change_shape(image, change)
            assert pixels.shape == (new['height'], new['width'], 3) and pixels.size
            assert (new['boxes'] >= 0).all() and (new['boxes'][:, :2] <= new['boxes'][:, 2:]).all()
            assert (new['boxes'][:, 2] < new['width']).all() and (new['boxes'][:, 3] < new['height']).all()
            look = change_look(pixels.astype(np.float32), change, MEANS)
            assert look.shape == pixels.shape and np.isfinite(look).all()
