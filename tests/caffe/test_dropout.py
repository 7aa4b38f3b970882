"""Dropout."""

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient, run_layer

from caffe.layer import LayerError


def prototxt(ratio, more=''):
    return f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} {more} }}'


@pytest.mark.parametrize('ratio', [0.1, 0.5, 0.9])
def test_training_zeroes_that_share_and_scales_the_rest(ratio):
    (y,) = run_layer(prototxt(ratio), [np.ones((100, 101))], phase='TRAIN')
    kept = y != 0
    assert abs((~kept).mean() - ratio) < 0.02
    np.testing.assert_allclose(y[kept], 1 / (1 - ratio), rtol=1e-6)


def test_elements_are_dropped_one_by_one():
    """Elements that share a random number are dropped together as often as chance has it."""
    (y,) = run_layer(prototxt(0.5), [np.ones((4096, 4))], phase='TRAIN')
    correlation = np.corrcoef(y.T)
    assert np.abs(correlation - np.eye(4)).max() < 0.06


def test_testing_is_the_identity():
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    run = RunningLayer(prototxt(0.5), [x])
    np.testing.assert_array_equal(run.forward()[0], x)
    np.testing.assert_array_equal(run.backward([x])[0], x)


def test_gradient_passes_where_data_passed():
    x = np.random.default_rng(0).standard_normal((3, 7))
    check_gradient(prototxt(0.4), [x], phase='TRAIN')


def test_in_place_is_the_same():
    x = np.random.default_rng(0).standard_normal((3, 7))
    results = []
    for in_place in (False, True):
        run = RunningLayer(prototxt(0.4), [x], phase='TRAIN', in_place=in_place)
        results.append((run.forward(), run.backward([x])))
    np.testing.assert_array_equal(results[0], results[1])


def test_a_seed_repeats_the_mask():
    masks = [run_layer(prototxt(0.5), [np.ones(64)], phase='TRAIN', seed=seed)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


def test_nothing_in_nothing_out():
    run = RunningLayer(prototxt(0.5), [np.zeros((0, 4))], phase='TRAIN')
    assert run.forward()[0].shape == (0, 4)
    run.backward([np.zeros((0, 4))])


UNSCALED = 'scale_train: false'  # DropoutParameter of the Fast R-CNN branch, as ZF's and R-FCN's nets have it


def test_without_scale_train_what_is_kept_stays_as_it_is():
    (y,) = run_layer(prototxt(0.25, UNSCALED), [np.full((100, 101), 3)], phase='TRAIN')
    assert set(np.unique(y)) == {0, 3}
    assert abs((y == 0).mean() - 0.25) < 0.02


@pytest.mark.parametrize('in_place', [False, True])
def test_without_scale_train_testing_multiplies_by_the_share_that_training_keeps(in_place):
    x = np.array([[4.0, -8, 0]], np.float32)
    run = RunningLayer(prototxt(0.25, UNSCALED), [x], in_place=in_place)
    np.testing.assert_array_equal(run.forward()[0], [[3, -6, 0]])
    np.testing.assert_array_equal(run.backward([x])[0], [[3, -6, 0]])


@pytest.mark.parametrize('phase', ['TRAIN', 'TEST'])
@pytest.mark.parametrize('in_place', [False, True])
def test_without_scale_train_the_gradient_is_that_of_what_was_computed(phase, in_place):
    x = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    ones = np.ones_like(x)
    run = RunningLayer(prototxt(0.4, UNSCALED), [x], phase=phase, in_place=in_place)
    slope = run.forward()[0] / x
    np.testing.assert_allclose(run.backward([ones])[0], slope, rtol=1e-6)


@pytest.mark.parametrize('phase', ['TRAIN', 'TEST'])
@pytest.mark.parametrize('more', ['', UNSCALED])
@pytest.mark.parametrize('in_place', [False, True])
def test_a_ratio_of_0_switches_it_off(phase, more, in_place):
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    run = RunningLayer(prototxt(0, more), [x], phase=phase, in_place=in_place)
    np.testing.assert_array_equal(run.forward()[0], x)
    np.testing.assert_array_equal(run.backward([x])[0], x)


@pytest.mark.parametrize('ratio', [-0.1, 1, 1.5, 'nan'])
def test_a_ratio_below_0_or_from_1_on_is_refused(ratio):
    with pytest.raises(LayerError, match=r'dropout_ratio must be at least 0 .* and less than 1'):
        run_layer(prototxt(ratio), [np.ones(3)])
