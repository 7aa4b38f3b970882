import numpy as np
import pytest
from one_layer import backward, forward, make

from caffe.layer import LayerError


def top_shape(text, *shape):
    return make(text, np.zeros(shape))[2][0].shape


@pytest.mark.parametrize(
    ('option', 'shape'),
    [
        ('', (2, 60)),
        ('axis: 0', (120,)),
        ('axis: 1 end_axis: 2', (2, 12, 5)),
        ('axis: -2 end_axis: -1', (2, 3, 20)),
    ],
)
def test_flatten(option, shape):
    assert top_shape(f'type: "Flatten" top: "y" flatten_param {{ {option} }}', 2, 3, 4, 5) == shape


def test_flatten_refuses_an_end_before_its_start():
    with pytest.raises(LayerError, match='end_axis 1 lies before axis 2'):
        top_shape('type: "Flatten" top: "y" flatten_param { axis: 2 end_axis: 1 }', 2, 3, 4)


def reshape(dims, option=''):
    dims = ' '.join(f'dim: {d}' for d in dims)
    return f'type: "Reshape" top: "y" reshape_param {{ shape {{ {dims} }} {option} }}'


@pytest.mark.parametrize(
    ('text', 'shape'),
    [
        (reshape([0, -1]), (2, 12)),
        (reshape([0, 0, 2, 2]), (2, 3, 2, 2)),
        (reshape([-1]), (24,)),
        (reshape([2, 2], 'axis: 2'), (2, 3, 2, 2)),
        (reshape([1, 3], 'axis: 1 num_axes: 1'), (2, 1, 3, 4)),
        (reshape([1], 'axis: -1 num_axes: 0'), (2, 3, 4, 1)),
        (reshape([], 'axis: 1 num_axes: 0'), (2, 3, 4)),
    ],
)
def test_reshape(text, shape):
    assert top_shape(text, 2, 3, 4) == shape


def test_reshape_of_no_rows():
    assert top_shape(reshape([0, -1]), 0, 3, 4) == (0, 12)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (reshape([-1, -1]), 'multiple -1 dims'),
        (reshape([5, -1]), 'must be divisible by the product of the specified dimensions'),
        (reshape([5, 5]), r'output count must match input count: bottom \(2, 3, 4\), top \(5, 5\)'),
        (reshape([1, 1, 1, 0]), 'there was no corresponding bottom axis to copy'),
        (reshape([1], 'axis: 4'), 'axis 4 out of range for 3-D input blob'),
        (reshape([1], 'axis: 2 num_axes: 2'), 'is out of range for 3-D input blob'),
        (reshape([1], 'num_axes: -2'), 'num_axes must be >= 0, or -1'),
        (reshape([-3]), 'neither a size, nor 0, nor -1'),
    ],
)
def test_reshape_refusals(text, message):
    with pytest.raises(LayerError, match=message):
        top_shape(text, 2, 3, 4)


@pytest.mark.parametrize('text', ['type: "Flatten" top: "y"', reshape([0, -1])])
def test_data_and_diff_are_the_same_memory(text):
    x = np.arange(24).reshape(2, 3, 4)
    net = make(text, x)
    np.testing.assert_array_equal(forward(*net)[0], x.reshape(2, 12))
    np.testing.assert_array_equal(backward(*net, x.reshape(2, 12))[0], x)
    with pytest.raises(LayerError, match='does not allow in-place'):
        make(text, x, in_place=True)
