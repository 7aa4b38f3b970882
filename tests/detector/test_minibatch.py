"""Mini-batches, against the original's and against the settings."""

import cv2
import numpy as np
import pytest
from stand_in_data import GOLDEN, ListImdb

from fast_rcnn.config import ConfigError, cfg
from roi_data_layer.image_blob import image_scale, read_image, stacked
from roi_data_layer.minibatch import get_minibatch
from roi_data_layer.roidb import Roidb

RNG = np.random.default_rng(0)
PHOTO = GOLDEN / 'images' / 'BloodImage_00000.jpg'


def mining_settings():
    cfg.TRAIN.USE_OHEM, cfg.TRAIN.BG_THRESH_LO = True, 0.0
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (300,), 500
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BATCH_SIZE = 1, 64


@pytest.mark.parametrize('i', range(6))
def test_all_rois_as_the_original_s(blood_cells, recorded, i):
    mining_settings()
    blobs = get_minibatch([Roidb(blood_cells)[i]], 4, RNG)
    assert blobs['data'].shape == tuple(recorded[f'{i}/blob_shape'])
    # JPEG decoders differ by a grey level here and there; a shifted or unmirrored image is off by tens
    difference = np.abs(blobs['data'][:, :, ::7, ::7] - recorded[f'{i}/blob/data'])
    assert difference.max() <= 4 and difference.mean() < 0.1
    for name in ('rois', 'labels', 'bbox_inside_weights', 'bbox_outside_weights'):
        np.testing.assert_array_equal(blobs[name], recorded[f'{i}/blob/{name}'], err_msg=name)
    np.testing.assert_allclose(blobs['bbox_targets'], recorded[f'{i}/blob/bbox_targets'], atol=2e-5)
    assert {blob.dtype for blob in blobs.values()} == {np.dtype(np.float32)}


def entry(overlaps, classes, **changes):
    """An entry on the 640 x 480 photograph, whose RoI number k is [k, 0, 99, 99]."""
    n = len(overlaps)
    boxes = np.full((n, 4), (0, 0, 99, 99), np.float32)
    boxes[:, 0] = np.arange(n)
    plain = {
        'image': str(PHOTO), 'width': 640, 'height': 480, 'flipped': False, 'boxes': boxes,
        'max_overlaps': np.array(overlaps, np.float32), 'max_classes': np.array(classes),
        'bbox_targets': np.zeros((n, 5), np.float32),
    }  # fmt: skip
    return {**plain, **changes}


def test_a_quarter_is_foreground():
    example = entry([0.9] * 100 + [0.3] * 100 + [0.05] * 100, [1] * 300)
    cfg.TRAIN.SCALES = (480,)  # scale 1, so that rois show which boxes were taken
    blobs = get_minibatch([example, example], 3, RNG)
    assert blobs['rois'].shape == (128, 5)
    for image in (0, 1):
        mine = blobs['rois'][:, 0] == image
        taken = blobs['rois'][mine, 1]
        assert blobs['labels'][mine].tolist() == [1] * 16 + [0] * 48
        assert (taken[:16] < 100).all() and ((taken[16:] >= 100) & (taken[16:] < 200)).all()
        assert len(np.unique(taken)) == 64


def test_foreground_is_not_filled_up_but_background_is():
    cfg.TRAIN.IMS_PER_BATCH = 1
    blobs = get_minibatch([entry([0.9] * 3 + [0.3] * 200, [2] * 203)], 3, RNG)
    assert blobs['labels'].tolist() == [2] * 3 + [0] * 125


def test_the_same_numbers_give_the_same_mini_batch():
    example = entry([0.9] * 100 + [0.3] * 100, [1] * 200)
    a, b = (get_minibatch([example], 3, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a['rois'], b['rois'])


def test_targets_stand_in_the_columns_of_their_class():
    mining_settings()
    targets = np.array([[2, 0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0, 0]], np.float32)
    cfg.TRAIN.BBOX_INSIDE_WEIGHTS = (1.0, 2.0, 3.0, 0.0)
    blobs = get_minibatch([entry([0.9, 0.0], [2, 0], bbox_targets=targets)], 3, RNG)
    np.testing.assert_array_equal(blobs['bbox_targets'], [[0] * 8 + list(targets[0, 1:]), [0] * 12])
    np.testing.assert_array_equal(blobs['bbox_inside_weights'], [[0] * 8 + [1, 2, 3, 0], [0] * 12])
    np.testing.assert_array_equal(blobs['bbox_outside_weights'], [[0] * 8 + [1, 1, 1, 0], [0] * 12])


def test_without_box_regression():
    mining_settings()
    cfg.TRAIN.BBOX_REG = False
    assert list(get_minibatch([entry([0.9], [1])], 3, RNG)) == ['data', 'rois', 'labels']


@pytest.mark.parametrize(
    ('size', 'scale'), [((480, 640), 600 / 480), ((300, 900), 1000 / 900), ((900, 300), 1000 / 900)]
)
def test_the_longer_side_is_bounded(size, scale):
    assert image_scale(*size, 600, 1000) == scale


def test_images_are_padded_below_and_to_the_right():
    blob = stacked([np.ones((2, 3, 3), np.float32), np.full((4, 1, 3), 2, np.float32)])
    assert blob.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(blob[0, 0], [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(blob[1, 2], [[2, 0, 0]] * 4)


def test_the_exif_orientation_is_ignored(tmp_path):
    """Boxes are in stored pixels, so a photograph marked as 'turned' must not be turned on reading."""
    jpeg = PHOTO.read_bytes()
    tiff = b'II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00'
    exif = b'Exif\x00\x00' + tiff  # one entry: orientation 6, a quarter turn
    turned = tmp_path / 'turned.jpg'
    turned.write_bytes(jpeg[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + jpeg[2:])
    assert cv2.imread(str(turned)).shape == (640, 480, 3)  # OpenCV does turn it unless told otherwise
    assert read_image(turned).shape == (480, 640, 3)


def test_problems_name_the_image(tmp_path):
    mining_settings()
    (tmp_path / 'broken.jpg').write_bytes(b'not a photograph')
    for name in ('broken.jpg', 'missing.jpg'):
        with pytest.raises(ValueError, match=rf'{name}: cannot be read'):
            get_minibatch([entry([0.9], [1], image=str(tmp_path / name))], 3, RNG)
    with pytest.raises(ValueError, match='640 x 480 pixels, but its annotation says 640 x 481'):
        get_minibatch([entry([0.9], [1], height=481)], 3, RNG)
    cfg.TRAIN.USE_OHEM, cfg.TRAIN.BG_THRESH_LO = False, 0.1
    with pytest.raises(ValueError, match=r'BloodImage_00000\.jpg: none of its 2 RoIs'):
        get_minibatch([entry([0.05, 0.0], [0, 0])], 3, RNG)


def test_settings_that_do_not_go_together():
    example = entry([0.9], [1])
    with pytest.raises(ConfigError, match=r'BATCH_SIZE, 128, must be a multiple of TRAIN.IMS_PER_BATCH, 3'):
        get_minibatch([example] * 3, 3, RNG)
    cfg.TRAIN.USE_OHEM = True
    with pytest.raises(ConfigError, match=r'set TRAIN.BG_THRESH_LO to 0.0, not 0.1'):
        get_minibatch([example], 3, RNG)


def test_an_image_without_objects_is_all_background_to_mining():
    mining_settings()
    image = {'path': PHOTO, 'size': (640, 480), 'boxes': [], 'classes': [], 'proposals': [[0, 0, 9, 9]] * 5}
    with_object = {**image, 'boxes': [[20, 20, 60, 60]], 'classes': [1]}  # a set without any is refused
    roidb = Roidb(ListImdb([image, with_object], ['__background__', 'cell']))
    assert get_minibatch([roidb[0]], 2, RNG)['labels'].tolist() == [0] * 5
