"""Mining, against what the released OHEM code passed on, and rule by rule."""

import numpy as np
import pytest
from stand_in_data import GOLDEN

from roi_data_layer.mining import mine_hard_rois, roi_losses, suppressed_by


@pytest.mark.parametrize('case', ['plain', 'two_images', 'no_nms'])
def test_passes_on_what_the_original_did_in_its_order(case):
    recorded = np.load(GOLDEN / 'mining.npz')
    given = {name: recorded[f'{case}/in/{name}'] for name in ('prob', 'pred', 'rois', 'labels', 'tgt', 'ins', 'outw')}
    cls_loss, bbox_loss = roi_losses(
        given['prob'], given['labels'], given['pred'], given['tgt'], given['ins'], given['outw']
    )
    kept = mine_hard_rois(
        cls_loss + bbox_loss,
        given['rois'],
        given['labels'],
        int(recorded[f'{case}/batch']),
        0.7 if recorded[f'{case}/nms'] else None,
    )
    for name in ('rois', 'labels', 'tgt', 'ins', 'outw'):
        np.testing.assert_array_equal(given[name][kept], recorded[f'{case}/out/{name}'])


def test_losses_by_hand():
    prob = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]], dtype=np.float32)
    labels = np.array([0, 1, 1], dtype=np.float32)
    pred = np.array([[9] * 8, [0, 0, 0, 0, 0.5, -2, 0, 0], [0] * 8], dtype=np.float32)
    inside = np.array([[1] * 8, [0] * 4 + [1] * 4, [0] * 8], dtype=np.float32)
    outside = np.array([[1] * 8, [0] * 4 + [1, 1, 1, 1], [1] * 8], dtype=np.float32)
    cls_loss, bbox_loss = roi_losses(prob, labels, pred, np.zeros_like(pred), inside, outside)
    np.testing.assert_allclose(cls_loss, [np.log(2), np.log(4), 52 * np.log(2)], rtol=1e-6)  # p = 0 counts as 2^-52
    np.testing.assert_allclose(bbox_loss, [0, 0.5 * 0.25 + 1.5, 0])  # none for the background


def test_a_net_without_box_regression():
    cls_loss, bbox_loss = roi_losses(np.array([[0.5, 0.5]], np.float32), np.array([1.0]))
    assert cls_loss == pytest.approx(np.log(2)) and bbox_loss == 0


def test_a_label_beyond_the_classes_is_explained():
    with pytest.raises(ValueError, match=r'labels must lie in \[0, 2\).*got 3 to 3'):
        roi_losses(np.ones((1, 2), np.float32), np.array([3.0]))


ROIS = np.array([[0, 0, 0, 9, 9], [0, 0, 0, 9, 9], [0, 0, 0, 9, 9], [1, 0, 0, 9, 9], [0, 40, 0, 49, 9]], np.float32)
LABELS = np.array([0, 0, 1, 0, 0], np.float32)
LOSS = np.array([1.0, 5.0, 2.0, 3.0, 4.0])


def test_only_rois_of_the_same_image_and_label_suppress_each_other():
    assert mine_hard_rois(LOSS, ROIS, LABELS, 64, 0.7).tolist() == [1, 4, 3, 2]  # 0 repeats 1
    assert mine_hard_rois(LOSS, ROIS, LABELS, 2, 0.7).tolist() == [1, 4]
    assert mine_hard_rois(LOSS, ROIS, LABELS, 64, None).tolist() == [1, 4, 3, 2, 0]
    assert suppressed_by(LOSS, ROIS, LABELS, 0.7).tolist() == [1, 1, 2, 3, 4]


def test_no_rois():
    nothing = mine_hard_rois(np.zeros(0), np.zeros((0, 5), np.float32), np.zeros(0, np.float32), 64, 0.7)
    assert nothing.shape == (0,)


def test_a_loss_that_is_not_a_number_is_not_lost():
    assert mine_hard_rois(np.array([1, np.nan, 2.0]), ROIS[[0, 3, 4]], LABELS[:3] * 0, 1, 0.7).tolist() == [1]
