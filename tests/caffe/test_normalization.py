"""LRN, BatchNorm and MVN: what they compute, and their gradients."""

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient, run_layer

from caffe.layer import LayerError

X = np.random.default_rng(0).standard_normal((2, 4, 3, 5))
LRN = 'type: "LRN" lrn_param {{ local_size: {} alpha: 0.5 beta: 0.75 {} }}'


@pytest.mark.parametrize('size', [1, 3, 5, 11])
def test_lrn_divides_by_the_squares_of_the_channels_around(size):
    padded = np.pad(X**2, [(0, 0), (size // 2,) * 2, (0, 0), (0, 0)])
    total = sum(padded[:, i : i + 4] for i in range(size))
    want = X / (2 + 0.5 / size * total) ** 0.75
    np.testing.assert_allclose(run_layer(LRN.format(size, 'k: 2'), [X])[0], want, rtol=1e-5)


def test_lrn_within_a_channel_divides_by_the_squares_of_the_pixels_around():
    padded = np.pad(X**2, [(0, 0), (0, 0), (1, 1), (1, 1)])
    total = sum(padded[:, :, i : i + 3, j : j + 5] for i in range(3) for j in range(3))
    want = X / (1 + 0.5 / 9 * total) ** 0.75
    text = LRN.format(3, 'norm_region: WITHIN_CHANNEL')
    np.testing.assert_allclose(run_layer(text, [X])[0], want, rtol=1e-5)


@pytest.mark.parametrize('options', ['k: 2', '', 'norm_region: WITHIN_CHANNEL'])
@pytest.mark.parametrize('size', [3, 5])
def test_lrn_gradient(size, options):
    check_gradient(LRN.format(size, options), [X[:1, :, :2, :3]])


def test_lrn_refuses_what_caffe_does_not_do():
    with pytest.raises(LayerError, match='only supports odd values'):
        run_layer(LRN.format(4, ''), [X])
    with pytest.raises(LayerError, match='remove k'):
        run_layer(LRN.format(3, 'norm_region: WITHIN_CHANNEL k: 2'), [X])
    with pytest.raises(LayerError, match='Input must have 4 axes'):
        run_layer(LRN.format(3, ''), [X[0]])


def batch_norm(x, mean, variance, eps=1e-5):
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + eps)


def test_batch_norm_in_training_uses_the_batch():
    (y,) = run_layer('type: "BatchNorm"', [X], phase='TRAIN')
    np.testing.assert_allclose(y, batch_norm(X, X.mean(axis=(0, 2, 3)), X.var(axis=(0, 2, 3))), rtol=1e-4, atol=1e-5)


def test_batch_norm_gathers_statistics_and_tests_with_them():
    run = RunningLayer('type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.9 }', [X], phase='TRAIN')
    other = 2 * X + 1
    run.forward()
    run.bottoms[0].data[...] = other
    run.forward()
    means, variances, weight = (b.data for b in run.layer.blobs)
    count = X.size / 4
    axes = (0, 2, 3)
    np.testing.assert_allclose(weight, [1.9], rtol=1e-6)
    np.testing.assert_allclose(means, 0.9 * X.mean(axis=axes) + other.mean(axis=axes), rtol=1e-4)
    want = (0.9 * X.var(axis=axes) + other.var(axis=axes)) * count / (count - 1)
    np.testing.assert_allclose(variances, want, rtol=1e-4)

    test = RunningLayer('type: "BatchNorm"', [X])
    for blob, value in zip(test.layer.blobs, (means, variances, weight), strict=True):
        blob.data[...] = value
    np.testing.assert_allclose(test.forward()[0], batch_norm(X, means / 1.9, variances / 1.9), rtol=1e-4, atol=1e-5)


def test_batch_norm_without_statistics_divides_by_the_root_of_eps():
    (y,) = run_layer('type: "BatchNorm" batch_norm_param { eps: 0.25 }', [X])
    np.testing.assert_allclose(y, 2 * X, rtol=1e-5)


@pytest.mark.parametrize('options', ['', 'use_global_stats: true eps: 0.25'])
@pytest.mark.parametrize('shape', [(6, 2), (2, 3, 2, 2)])
def test_batch_norm_gradient(options, shape):
    x = np.random.default_rng(1).standard_normal(shape)
    text = f'type: "BatchNorm" batch_norm_param {{ {options} }}'
    check_gradient(text, [x], phase='TRAIN', check_params=False)


def test_batch_norm_in_place_is_the_same():
    results = []
    for in_place in (False, True):
        run = RunningLayer('type: "BatchNorm"', [X], phase='TRAIN', in_place=in_place)
        results.append((run.forward(), run.backward([X + 1])))
    np.testing.assert_array_equal(results[0], results[1])


def test_batch_norm_outlives_a_layer_in_place_on_its_top():
    run = RunningLayer('type: "BatchNorm"', [X], phase='TRAIN')
    run.forward()
    want = run.backward([X])[0]
    run.tops[0].data[...] = 0
    np.testing.assert_array_equal(run.backward([X])[0], want)


def test_batch_norm_statistics_do_not_learn():
    run = RunningLayer('type: "BatchNorm"', [X])
    assert [p.lr_mult for p in run.layer.layer_param.param] == [0, 0, 0]
    with pytest.raises(LayerError, match='Cannot configure batch normalization statistics'):
        run_layer('type: "BatchNorm" param { lr_mult: 1 }', [X])


@pytest.mark.parametrize(('across', 'axes'), [('false', (2, 3)), ('true', (1, 2, 3))])
def test_mvn_takes_mean_and_deviation_off(across, axes):
    centred = X - X.mean(axis=axes, keepdims=True)
    text = f'type: "MVN" mvn_param {{ across_channels: {across} normalize_variance: %s }}'
    np.testing.assert_allclose(run_layer(text % 'false', [X])[0], centred, rtol=1e-4, atol=1e-6)
    want = centred / centred.std(axis=axes, keepdims=True)
    np.testing.assert_allclose(run_layer(text % 'true', [X])[0], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('across', ['false', 'true'])
@pytest.mark.parametrize('variance', ['false', 'true'])
def test_mvn_gradient(across, variance):
    text = f'type: "MVN" mvn_param {{ across_channels: {across} normalize_variance: {variance} }}'
    check_gradient(text, [X[:, :2]], rtol=2e-2, atol=3e-3)


def test_mvn_gives_four_axes():
    assert run_layer('type: "MVN"', [np.random.default_rng(0).standard_normal((2, 3))])[0].shape == (
        2,
        3,
        1,
        1,
    )
