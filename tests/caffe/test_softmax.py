import numpy as np
import pytest
from gradient import check_gradient
from one_layer import backward, forward, make, run

from caffe.layer import LayerError

RNG = np.random.default_rng(0)


def test_is_a_distribution_along_its_axis():
    x = RNG.standard_normal((2, 3, 4))
    (y,) = run('type: "Softmax" top: "y" softmax_param { axis: 2 }', x)
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(2, keepdims=True), rtol=1e-5)


def test_large_scores_do_not_overflow():
    (y,) = run('type: "Softmax" top: "y"', [[1e4, 1e4, -1e4]])
    np.testing.assert_allclose(y, [[0.5, 0.5, 0]])


@pytest.mark.parametrize('axis', [1, -1])
def test_gradient(axis):
    check_gradient(f'type: "Softmax" top: "y" softmax_param {{ axis: {axis} }}', [RNG.standard_normal((2, 3, 4))])


def test_in_place_gives_the_same_gradient():
    x, diff = RNG.standard_normal((2, 5)), RNG.standard_normal((2, 5))
    apart, inside = (make('type: "Softmax" top: "y"', x, in_place=p) for p in (False, True))
    forward(*apart), forward(*inside)
    np.testing.assert_array_equal(backward(*apart, diff)[0], backward(*inside, diff)[0])


def test_no_rows():
    layer, bottom, top = make('type: "Softmax" top: "y"', np.zeros((0, 4)))
    assert forward(layer, bottom, top)[0].shape == (0, 4)
    assert backward(layer, bottom, top, np.zeros((0, 4)))[0].shape == (0, 4)


def test_axis_out_of_range():
    with pytest.raises(LayerError, match='axis 3 out of range for 2-D blob'):
        run('type: "Softmax" top: "y" softmax_param { axis: 3 }', np.zeros((2, 3)))
