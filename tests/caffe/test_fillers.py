"""Fillers against the distributions that filler.hpp describes."""

import numpy as np
import pytest

from caffe.blob import Blob
from caffe.fillers import fill
from caffe.layer import LayerError
from caffe.process import device
from caffe.proto import caffe_pb2


def filled(*shape, seed=1, **options):
    device.set_random_seed(seed)
    blob = Blob(*shape)
    fill(blob, caffe_pb2.FillerParameter(**options))
    return blob.data


def test_constant():
    assert (filled(2, 3, type='constant', value=0.5) == 0.5).all()


def test_uniform_stays_between_its_bounds():
    values = filled(100, 100, type='uniform', min=-1, max=3)
    assert values.min() >= -1 and values.max() <= 3
    assert abs(values.mean() - 1) < 0.05


def test_gaussian_has_mean_and_standard_deviation():
    values = filled(100, 100, type='gaussian', mean=2, std=0.1)
    assert abs(values.mean() - 2) < 0.01 and abs(values.std() - 0.1) < 0.01


def test_sparse_gaussian_keeps_sparse_of_shape_0_on_average():
    values = filled(100, 100, type='gaussian', std=1, sparse=20)
    assert abs((values != 0).mean() - 20 / 100) < 0.02


def test_positive_unitball_rows_sum_to_one():
    values = filled(4, 3, 5, type='positive_unitball')
    assert values.min() >= 0
    np.testing.assert_allclose(values.reshape(4, -1).sum(axis=1), 1, rtol=1e-5)


# A blob of shape (40, 10, 5, 5): fan-in 10 * 25 = 250, fan-out 40 * 25 = 1000, average 625.
@pytest.mark.parametrize(('norm', 'n'), [('FAN_IN', 250), ('FAN_OUT', 1000), ('AVERAGE', 625)])
def test_xavier_is_uniform_with_bound_sqrt_3_over_n(norm, n):
    bound = np.sqrt(3 / n)
    values = filled(40, 10, 5, 5, type='xavier', variance_norm=norm)
    assert 0.99 * bound < np.abs(values).max() <= bound


@pytest.mark.parametrize(('norm', 'n'), [('FAN_IN', 250), ('FAN_OUT', 1000), ('AVERAGE', 625)])
def test_msra_is_gaussian_with_variance_2_over_n(norm, n):
    values = filled(40, 10, 5, 5, type='msra', variance_norm=norm)
    np.testing.assert_allclose(values.var(), 2 / n, rtol=0.05)


def test_bilinear_of_size_4_interpolates_by_a_factor_of_2():
    row = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(filled(2, 1, 4, 4, type='bilinear')[1, 0], np.outer(row, row))


def test_bilinear_of_odd_size_peaks_in_the_middle():
    row = np.array([0.5, 1, 0.5])
    np.testing.assert_allclose(filled(1, 1, 3, 3, type='bilinear')[0, 0], np.outer(row, row))


def test_a_seed_repeats_the_values():
    assert (filled(3, 3, type='gaussian', seed=7) == filled(3, 3, type='gaussian', seed=7)).all()
    assert (filled(3, 3, type='gaussian', seed=7) != filled(3, 3, type='gaussian', seed=8)).any()


def test_values_reach_a_simulated_device():
    device.simulate_gpu()
    device.set_mode_gpu()
    try:
        blob = Blob(2, 2)
        fill(blob, caffe_pb2.FillerParameter(type='constant', value=3))
        assert (blob.read().numpy() == 3).all()
    finally:
        device.simulate_gpu(False)


@pytest.mark.parametrize(
    ('shape', 'options', 'message'),
    [
        ((2,), {'type': 'gausian'}, "Unknown filler name: 'gausian'; the nearest that exists is 'gaussian'"),
        ((0, 2), {'type': 'constant'}, 'without elements'),
        ((2,), {'type': 'xavier', 'sparse': 3}, 'Sparsity not supported by this Filler'),
        ((2, 2), {'type': 'bilinear'}, 'blob must be 4 dim'),
        ((1, 1, 2, 3), {'type': 'bilinear'}, 'filter must be square'),
        ((2,), {'type': 'uniform', 'min': 2, 'max': 1}, 'min 2 is larger than max 1'),
        ((2,), {'type': 'constant', 'value': np.nan}, 'filler constant: value is nan, a number is expected'),
        ((2,), {'type': 'constant', 'value': -np.inf}, 'filler constant: value must be finite, got -inf'),
        ((2,), {'type': 'gaussian', 'std': np.inf}, 'filler gaussian: mean and std must be finite, got 0 and inf'),
        ((2,), {'type': 'gaussian', 'std': np.nan}, 'filler gaussian: std is nan'),
        ((2,), {'type': 'gaussian', 'mean': np.inf}, 'filler gaussian: mean and std must be finite, got inf and 1'),
        ((2,), {'type': 'uniform', 'max': np.inf}, 'filler uniform: from min 0 to max inf is more than float32'),
        ((2,), {'type': 'uniform', 'min': -3e38, 'max': 3e38}, 'more than float32 can hold'),
        ((2, 2), {'type': 'gaussian', 'sparse': 5}, 'must not exceed the number of outputs'),
    ],
)
def test_bad_options_are_refused(shape, options, message):
    with pytest.raises(LayerError, match=message):
        filled(*shape, **options)
