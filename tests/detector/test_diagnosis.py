"""The cause of a loss that is not a number, or of a box loss that is always 0, is named."""

import json

import cv2
import numpy as np
import pytest
from stand_in_data import Blob

from fast_rcnn.config import cfg
from fast_rcnn.diagnosis import no_box_loss, not_finite


class Net:
    """A net by its blobs, parameters and bottoms."""

    def __init__(self, blobs, params=(), bottoms=None):
        self.blobs = {name: Blob(value) for name, value in blobs.items()}
        self.params = {name: [Blob(value)] for name, value in dict(params).items()}
        if bottoms is not None:
            self.bottom_names = bottoms


ROIS = [[0, 1, 2, 3, 4], [1, 5, 6, 7, 8]]
SHOWN = ['a.jpg', 'b.jpg (mirrored)']


def test_the_first_bad_blob_its_image_and_box_are_named_and_dumped(tmp_path):
    net = Net({
        'data': np.zeros((2, 3, 20, 30)), 'rois': ROIS, 'fc': [[1, 2], [np.inf, 0]],
        'cls_prob': [[1, 0], [np.nan, np.nan]],
    })  # fmt: skip
    said = not_finite(net, SHOWN, str(tmp_path / 'dump'), weights_are_old=True)
    assert 'fc, at [1, 0] of [2, 2]; image b.jpg (mirrored), box (5.0, 6.0, 7.0, 8.0)' in said and 'dump' in said
    summary = json.loads((tmp_path / 'dump' / 'summary.json').read_text())
    assert (summary['blob'], summary['not_finite'], summary['box']) == ('fc', 1, [5, 6, 7, 8])
    with np.load(tmp_path / 'dump' / 'blobs.npz') as stored:
        assert set(stored) == {'fc', 'rois', 'cls_prob'}
        assert stored['fc'][1, 0] == np.inf
    assert cv2.imread(str(tmp_path / 'dump' / 'image.png')).shape == (20, 30, 3)


def test_of_a_feature_map_the_image_is_known_but_no_box(tmp_path):
    features = np.zeros((2, 4, 5, 6))
    features[0, 1, 2, 3] = np.nan
    said = not_finite(Net({'data': np.zeros((2, 3, 20, 30)), 'conv': features}), SHOWN, str(tmp_path), False)
    assert 'conv, at [0, 1, 2, 3]' in said and 'image a.jpg' in said and 'box' not in said


def test_weights_that_were_bad_before_are_the_cause(tmp_path):
    net = Net({'fc': [[np.nan]]}, {'good': [1.0], 'spoilt': [np.nan]})
    assert 'the weights of spoilt were not finite before' in not_finite(net, SHOWN, str(tmp_path), True)
    assert 'the weights of' not in not_finite(net, SHOWN, str(tmp_path), False)  # they have been updated by NaN since


def test_a_box_loss_of_zero_has_a_cause():
    ones = np.ones((2, 8))
    blobs = {'labels_hard': [0, 1], 'bbox_inside_weights_hard': ones, 'bbox_outside_weights_hard': ones}
    assert no_box_loss(Net({'labels_hard': [0, 0]})) is None  # no foreground, no box loss
    assert 'all outside weights are 0' in no_box_loss(Net({**blobs, 'bbox_outside_weights_hard': 0 * ones}))
    none_inside = Net({**blobs, 'bbox_inside_weights_hard': 0 * ones})
    assert 'TRAIN.BBOX_THRESH, 0.5' in no_box_loss(none_inside)
    cfg.TRAIN.BBOX_INSIDE_WEIGHTS = (0.0, 0.0, 0.0, 0.0)
    assert 'TRAIN.BBOX_INSIDE_WEIGHTS is all 0' in no_box_loss(none_inside)
    wrong = ['bbox_pred', 'bbox_inside_weights_hard', 'bbox_targets_hard', 'bbox_outside_weights_hard']
    assert 'the bottoms of loss_bbox are bbox_pred, bbox_inside_weights_hard' in no_box_loss(
        Net(blobs, bottoms={'loss_bbox': wrong})
    )
    right = ['bbox_pred', 'bbox_targets_hard', 'bbox_inside_weights_hard', 'bbox_outside_weights_hard']
    assert no_box_loss(Net(blobs, bottoms={'loss_bbox': right})).startswith('are the bottoms of loss_bbox in order')


@pytest.mark.parametrize('name', ['labels', 'labels_hard'])
def test_labels_are_found_in_nets_with_and_without_mining(name):
    assert no_box_loss(Net({name: [1]})) is not None
