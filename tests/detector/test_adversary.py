"""A-Fast-RCNN's adversary: its arithmetic, its layers, and its nets.

golden/original/adversary.npz holds what the layers of the released code (xiaolonw/adversarial-frcnn) give for made-up
blobs, run from their source with Python 2's print and integer division translated.
"""

import numpy as np
import pytest
from stand_in_data import GOLDEN, Blob

from fast_rcnn.config import cfg
from roi_data_layer import layer as family
from roi_data_layer.adversary import (
    adversary_rng,
    blocks,
    cells_to_drop,
    deceived,
    leaves_alone,
    mask_loss,
    most_harmful,
)

RECORDED = np.load(GOLDEN / 'adversary.npz')
DROP = "{'count_drop':15,'permute_count': 20, 'count_drop_neg': 4, 'channels': 3, 'iter_size': 2, 'maintain_before': 1}"
LOSS = "{'num_classes':4, 'score_thres':0.1 , 'iter_size': 2, 'maintain_before': 1 }"


def layer_of(name, param_str):
    """A layer as Caffe hands it over, before setup."""
    made = type(name, (getattr(family, name),), {'param_str': param_str})
    return made.__new__(made)


def run(name, param_str, *bottoms, tops, weight=None):
    """A layer set up and passed through once; (layer, its tops' numbers, the gradient of bottom 0)."""
    layer = layer_of(name, param_str)
    bottom, top = [Blob(values) for values in bottoms], [Blob() for _ in range(tops)]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    if weight is not None:
        top[0].diff = np.full_like(top[0].data, weight)
        layer.backward(top, [True] + [False] * (len(bottom) - 1), bottom)
    return layer, [blob.data for blob in top], bottom[0].diff


def recorded(*names):
    return [RECORDED[name] for name in names]


IMAGE = np.zeros((1, 3, 8, 8))


# ------------------------------------------------------------------------------------------------ as the original


def test_rois_of_objects_are_taken_out_as_in_the_original():
    given = recorded('select/features', 'select/labels', 'select/rois')
    _, found, _ = run('ASDNPretrainLabelLayer', '', *given, tops=3)
    for values, name in zip(found, ('features', 'labels', 'rois'), strict=True):
        np.testing.assert_array_equal(values, RECORDED[f'select/out_{name}'])


@pytest.mark.parametrize(('size', 'stride', 'cells'), [(2, 2, 7), (3, 3, 7), (2, 2, 6), (3, 1, 5)])
def test_blocks_are_hidden_as_in_the_original(size, stride, cells):
    name = f'hide/{size}_{stride}_{cells}'
    param_str = f"{{'drop_size':{size},'drop_stride': {stride}}}"
    _, found, _ = run('ASDNPretrainDataLayer', param_str, RECORDED[f'{name}/in'], tops=2)
    np.testing.assert_array_equal(found[0], RECORDED[f'{name}/features'])
    np.testing.assert_array_equal(found[1], RECORDED[f'{name}/masks'])


@pytest.mark.parametrize('drop_neg', [True, False])
def test_the_loss_of_the_adversary_alone_is_the_original_s(drop_neg):
    """drop_neg has no effect there: the recorded gradients of both are the same."""
    names = ('scores', 'masks', 'prob', 'labels')
    given = [*recorded(*(f'pretrain_loss/{name}' for name in names)), np.zeros((4, 5)), IMAGE]
    param_str = f"{{'num_classes':4, 'drop_neg':{drop_neg} }}"
    _, (loss,), gradient = run('ASDNPretrainLossLayer', param_str, *given, tops=1, weight=0.5)
    np.testing.assert_allclose(loss, RECORDED[f'pretrain_loss/{drop_neg}/loss'], rtol=1e-6)
    np.testing.assert_allclose(gradient, RECORDED[f'pretrain_loss/{drop_neg}/gradient'], rtol=1e-5, atol=1e-9)


def test_the_loss_beside_the_detector_is_the_original_s():
    given = [*recorded(*(f'loss/{name}' for name in ('scores', 'dropped', 'before', 'after', 'labels')))]
    given += [np.zeros((6, 5)), IMAGE]
    layer, (loss,), gradient = run('ASDNLossLayer', LOSS, *given, tops=1, weight=0.5)
    np.testing.assert_allclose(loss, RECORDED['loss/loss'], rtol=1e-6)
    np.testing.assert_allclose(gradient, RECORDED['loss/gradient'], rtol=1e-5, atol=1e-9)
    # Probabilities of their class fell by 0.05, 0.8 (background), 0.6, -0.6, ?, 0.15
    assert layer.last.tolist() == [False, False, True, False, False, True]
    bottom, top = [Blob(values) for values in given], [Blob(loss)]
    layer.forward(bottom, top)  # pass 1, in which nothing is dropped: the log shows the loss of pass 0, as there
    layer.backward(top, [True] + [False] * 6, bottom)
    assert top[0].data == loss and not bottom[0].diff.any() and not RECORDED['loss/gradient_of_pass_2'].any()


def test_cells_are_dropped_in_the_passes_of_the_original():
    """Which of the candidates is drawn at random there, so the recorded counts are held against ours, and the ranks."""
    need, labels = recorded('drop/need', 'drop/labels')
    layer, (dropped, factor), _ = run('ASDNDataLayer', DROP, need, labels, tops=2)
    for ours in (dropped, RECORDED['drop/dropped']):
        assert ours.sum(axis=(1, 2, 3)).tolist() == [15, 4, 15, 15, 4, 15]
        for row in np.flatnonzero(labels):
            twentieth = np.sort(need[row], axis=None)[-20]
            assert need[row][ours[row] > 0].min() >= twentieth
    np.testing.assert_array_equal(factor, np.repeat(1 - dropped, 3, axis=1))
    assert not RECORDED['drop/dropped_of_pass_2'].any()
    top = [Blob(), Blob()]
    layer.forward([Blob(need), Blob(labels)], top)  # pass 1
    assert not top[0].data.any() and (top[1].data == 1).all()


# ------------------------------------------------------------------------------------------------ by hand


def test_blocks_by_hand():
    """3 cells, blocks of 2 at 0 and 2; the latter reaches over the border, so it is moved to 1."""
    assert blocks(3, 2, 2).astype(int).tolist() == [
        [[1, 1, 0], [1, 1, 0], [0, 0, 0]],
        [[0, 1, 1], [0, 1, 1], [0, 0, 0]],
        [[0, 0, 0], [1, 1, 0], [1, 1, 0]],
        [[0, 0, 0], [0, 1, 1], [0, 1, 1]],
    ]
    assert len(blocks(7, 2, 2)) == 16  # 4 x 4, of a 7 x 7 RoI


def test_the_most_harmful_attempt_leaves_the_lowest_probability():
    # two RoIs, of classes 1 and 2, three attempts
    probability = np.array([[0, 0.5, 0.9], [0, 0.1, 0.3], [0, 0.2, 0], [0, 0, 0.3], [1, 0.2, 0], [0, 0, 0.4]])
    assert most_harmful(probability, np.array([1, 2])).tolist() == [1, 0]  # the first of equal ones


@pytest.mark.parametrize(
    ('iter_size', 'maintain_before', 'alone'),
    [
        (1, 0, [False] * 4),
        (1, 1, [True] * 4),
        (2, 1, [False, True, False, True]),
        (4, 2, [True, False, False, True]),  # counts 1, 2, 3, 0: below 2 are 1 and 0
    ],
)
def test_passes_in_which_nothing_is_dropped(iter_size, maintain_before, alone):
    assert [leaves_alone(n, iter_size, maintain_before) for n in range(4)] == alone


def test_dropped_cells_depend_on_the_pass_alone():
    need, labels = np.random.default_rng(1).random((5, 1, 6, 6), np.float32), np.array([1, 0, 2, 0, 1])

    def drop(seed, n):
        return cells_to_drop(need, labels, 11, 15, 3, adversary_rng(seed, n))

    np.testing.assert_array_equal(drop(3, 8), drop(3, 8))
    assert (drop(3, 8) != drop(3, 9)).any() and (drop(3, 8) != drop(4, 8)).any()


def test_every_candidate_is_drawn_as_often_as_another():
    """Two of the three that are needed most, 3000 times: each in two of three draws; the others never."""
    need = np.tile(np.array([0.1, 0.9, 0.2, 0.8], np.float32).reshape(1, 1, 2, 2), (3000, 1, 1, 1))
    dropped = cells_to_drop(need, np.ones(3000), 2, 3, 0, adversary_rng(3, 0))
    share = dropped.mean(axis=0).ravel()
    assert share[0] == 0
    np.testing.assert_allclose(share[1:], 2 / 3, atol=0.04)  # four deviations


def test_of_equally_needed_cells_the_first_are_candidates():
    dropped = cells_to_drop(np.zeros((1, 1, 2, 2)), np.ones(1), 2, 2, 0, adversary_rng(3, 0))
    assert dropped.ravel().tolist() == [1, 1, 0, 0]


def test_an_object_counts_if_its_class_lost_more_than_the_threshold():
    before = np.array([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1], [0.5, 0.5]])
    after = np.array([[0.4, 0.6], [0.15, 0.85], [0.1, 0.9], [0.9, 0.1]])
    assert deceived(before, after, np.array([1, 1, 0, 1]), 0.1).tolist() == [True, False, False, True]


def test_the_mask_loss_by_hand():
    """Two RoIs of one cell, scores 0 and log 3, so 0.5 and 0.75; masks 1 and 0."""
    scores, masks = np.array([0, np.log(3)]).reshape(2, 1, 1, 1), np.array([1.0, 0]).reshape(2, 1, 1, 1)
    loss, gradient = mask_loss(scores, masks)
    assert loss == pytest.approx((np.log(2) + np.log(4)) / 2)
    np.testing.assert_allclose(gradient.ravel(), [-0.5 / 2, 0.75 / 2])
    loss, gradient = mask_loss(scores, masks, np.array([False, True]))
    assert loss == pytest.approx(np.log(4) / 2)  # divided by all cells
    np.testing.assert_allclose(gradient.ravel(), [0, 0.75 / 2])


def test_the_mask_loss_of_large_scores_and_of_none():
    loss, gradient = mask_loss(np.array([1e4, -1e4]).reshape(2, 1, 1, 1), np.array([0.0, 1]).reshape(2, 1, 1, 1))
    assert loss == 1e4 and gradient.ravel().tolist() == [0.5, -0.5]
    loss, gradient = mask_loss(np.zeros((0, 1, 7, 7)), np.zeros((0, 1, 7, 7)))
    assert loss == 0 and gradient.shape == (0, 1, 7, 7)


def test_the_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(2)
    scores, masks = rng.standard_normal((3, 1, 4, 4)), (rng.random((3, 1, 4, 4)) < 0.4).astype(float)
    counts = np.array([True, False, True])
    _, gradient = mask_loss(scores, masks, counts)
    for at in ((0, 0, 1, 2), (1, 0, 0, 0), (2, 0, 3, 3)):
        step = np.zeros_like(scores)
        step[at] = 1e-5
        difference = mask_loss(scores + step, masks, counts)[0] - mask_loss(scores - step, masks, counts)[0]
        assert gradient[at] == pytest.approx(difference / 2e-5, abs=1e-9)


def test_without_objects_there_is_nothing_to_learn():
    given = [np.zeros((4, 3, 7, 7)), np.zeros(4), np.zeros((4, 5))]
    _, (features, labels, rois), _ = run('ASDNPretrainLabelLayer', '', *given, tops=3)
    assert features.shape == (0, 3, 7, 7) and labels.shape == (0,) and rois.shape == (0, 5)
    given = [np.zeros((0, 1, 7, 7)), np.zeros((0, 1, 7, 7)), np.zeros((0, 4)), labels, rois, IMAGE]
    _, (loss,), _ = run('ASDNPretrainLossLayer', "{'num_classes': 4, 'drop_neg': True}", *given, tops=1, weight=1)
    assert loss.tolist() == [0]


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ('name', 'param_str', 'said'),
    [
        ('ASDNPretrainDataLayer', '', r"lacks drop_size, drop_stride; expected drop_size, drop_stride; got ''"),
        ('ASDNPretrainDataLayer', "{'drop_size': 2", r'is not valid YAML'),
        ('ASDNPretrainDataLayer', 'drop_size', r'gives parameters as in'),
        ('ASDNPretrainDataLayer', "{'drop_size': 0, 'drop_stride': 2}", r'drop_size in param_str is 0; expected'),
        ('ASDNPretrainDataLayer', "{'drop_size': 2, 'drop_stride': 1.5}", r'drop_stride in param_str is 1.5'),
        ('ASDNPretrainDataLayer', "{'drop_size': 9, 'drop_stride': 1}", r'drop_size .* is 9, .* have 7 cells a side'),
        ('ASDNPretrainDataLayer', "{'drop_size': 2, 'drop_stride': 2, 'x': 1}", r'has x, which it does not know'),
        ('ASDNPretrainLossLayer', "{'num_classes': 4, 'drop_neg': 1}", r'drop_neg in param_str is 1; expected True or'),
        ('ASDNDataLayer', DROP.replace('15', '21'), r'count_drop 21, permute_count 20 .* an RoI has 49 cells'),
        ('ASDNDataLayer', DROP.replace('20', '50'), r'permute_count 50'),
        ('ASDNLossLayer', LOSS.replace('0.1', '.nan'), r'score_thres in param_str is nan; expected a number from 0 on'),
        ('ASDNLossLayer', LOSS.replace("'iter_size': 2", "'iter_size': true"), r'iter_size in param_str is True'),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_explained(name, param_str, said):
    bottoms = {'ASDNPretrainDataLayer': 1, 'ASDNPretrainLossLayer': 6, 'ASDNDataLayer': 2, 'ASDNLossLayer': 7}[name]
    tops = 2 if 'Data' in name else 1
    with pytest.raises(ValueError, match=f'{name}.*{said}'):
        run(name, param_str, *[np.zeros((2, 1, 7, 7))] * bottoms, tops=tops)


@pytest.mark.parametrize(
    ('name', 'param_str', 'shapes', 'tops', 'said'),
    [
        ('ASDNPretrainLabelLayer', '', [(2, 1, 7, 7), (2,)], 3, 'has 2 bottoms and 3 tops; expected 3 bottoms'),
        ('ASDNPretrainLabelLayer', '', [(2, 1, 7, 7), (3,), (3, 5)], 3, 'numbers of rows: features 2, labels 3'),
        ('ASDNPretrainDataLayer', "{'drop_size': 2, 'drop_stride': 2}", [(2, 1, 7, 6)], 2, r'shape \(2, 1, 7, 6\)'),
        ('ASDNDataLayer', DROP, [(2, 1, 7, 7), (3,)], 2, 'mask_pred 2, labels 3'),
        ('ASDNDataLayer', DROP, [(2, 49), (2,)], 2, r'shape \(2, 49\); expected the features of RoIs'),
        ('ASDNLossLayer', LOSS, [(2, 1, 7, 7), (2, 1, 7, 7), (2, 4), (2, 4), (3,), (3, 5), (1,)], 1, 'labels 3'),
        ('ASDNPretrainLossLayer', "{'num_classes': 4, 'drop_neg': False}",
         [(2, 1, 7, 7), (3, 1, 7, 7), (3, 4), (2,), (2, 5), (1,)], 1, 'a whole number of attempts for each RoI'),
    ],
)  # fmt: skip
def test_blobs_that_do_not_fit_are_explained(name, param_str, shapes, tops, said):
    with pytest.raises(ValueError, match=f'{name}.*{said}'):
        run(name, param_str, *[np.zeros(shape) for shape in shapes], tops=tops)


def test_labels_outside_the_classes_are_explained():
    given = [np.zeros((2, 1, 7, 7)), np.zeros((2, 1, 7, 7)), np.ones((2, 4)), np.ones((2, 4)), [0, 4], [0, 0], IMAGE]
    with pytest.raises(ValueError, match=r'labels must lie in \[0, 4\), as num_classes says; got 0 to 4'):
        run('ASDNLossLayer', LOSS, *given, tops=1)


def test_probabilities_of_other_classes_than_said_are_explained():
    given = [np.zeros((2, 1, 7, 7)), np.zeros((2, 1, 7, 7)), np.ones((2, 5)), np.ones((2, 5)), [0, 1], [0, 0], IMAGE]
    with pytest.raises(ValueError, match=r'ASDNLossLayer: class probabilities of shape \(2, 5\); num_classes .* is 4'):
        run('ASDNLossLayer', LOSS, *given, tops=1)


def test_a_gradient_that_does_not_exist_is_refused():
    layer = layer_of('ASDNLossLayer', LOSS)
    with pytest.raises(ValueError, match='only the first of its 2 bottoms has a gradient'):
        layer.backward([Blob([1])], [True, True], [Blob(), Blob()])


def test_the_mining_layer_passes_scores_on_where_a_top_asks_for_them():
    cfg.TRAIN.BBOX_REG, cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.OHEM_USE_NMS = False, 2, False
    prob = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    layer, tops, _ = run(
        'HardRoiMiningLayer', "'num_classes': 2", prob, np.zeros((3, 8)), np.zeros((3, 5)), np.ones(3), tops=3
    )
    assert layer.last['kept'].tolist() == [0, 2]  # of class 1 they lose most
    np.testing.assert_allclose(tops[2], prob[[0, 2]])
    with pytest.raises(ValueError, match='HardRoiMiningLayer has 4 tops, expected 2'):
        run('HardRoiMiningLayer', "'num_classes': 2", *[np.zeros((3, 2))] * 4, tops=4)
