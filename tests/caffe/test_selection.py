import numpy as np
import pytest
from gradient import check_gradient
from one_layer import backward, forward, make, run

from caffe.layer import LayerError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 2)).astype('f')


def test_argmax_over_each_item():
    (index,) = run('type: "ArgMax" top: "y" argmax_param { top_k: 2 }', X)
    assert index.shape == (3, 1, 2)
    np.testing.assert_array_equal(index[:, 0], np.argsort(-X.reshape(3, 8))[:, :2])


def test_argmax_with_values():
    (both,) = run('type: "ArgMax" top: "y" argmax_param { out_max_val: true }', X)
    assert both.shape == (3, 2, 1)
    np.testing.assert_array_equal(both[:, 0, 0], X.reshape(3, 8).argmax(1))
    np.testing.assert_array_equal(both[:, 1, 0], X.reshape(3, 8).max(1))


def test_argmax_along_an_axis():
    np.testing.assert_array_equal(run('type: "ArgMax" top: "y" argmax_param { axis: 1 }', X)[0], X.argmax(1)[:, None])
    text = 'type: "ArgMax" top: "y" argmax_param { axis: -2 top_k: 3 out_max_val: true }'
    np.testing.assert_array_equal(run(text, X)[0], -np.sort(-X, 1)[:, :3])


def test_argmax_of_equal_values_takes_the_last():
    assert run('type: "ArgMax" top: "y" argmax_param { top_k: 2 }', [[7, 7, 7]])[0].ravel().tolist() == [2, 1]


def test_argmax_refusals():
    with pytest.raises(LayerError, match='top k must not be less than 1'):
        make('type: "ArgMax" top: "y" argmax_param { top_k: 0 }', X)
    with pytest.raises(LayerError, match='less than or equal to the dimension of the axis: top_k 5, dimension 4'):
        make('type: "ArgMax" top: "y" argmax_param { top_k: 5 axis: 1 }', X)


def test_filter_keeps_the_selected_items():
    _, bottom, _ = net = make('type: "Filter" top: "a" top: "b"', X, [[1], [2], [3]], [1, 0, 1])
    a, b = forward(*net)
    np.testing.assert_array_equal(a, X[[0, 2]])
    np.testing.assert_array_equal(b, [[1], [3]])
    da, db, _ = backward(*net, np.ones((2, 4, 2)), [[5], [6]], down=[True, True, False])
    assert da[0].all() and not da[1].any() and da[2].all()
    np.testing.assert_array_equal(db, [[5], [0], [6]])
    bottom[2].data[...] = 0
    assert forward(*net)[0].shape == (0, 4, 2)


def test_filter_refusals():
    with pytest.raises(LayerError, match='Selector blob dimensions must be singletons'):
        make('type: "Filter" top: "a"', X, np.zeros((3, 2)))
    with pytest.raises(LayerError, match='same 0th dimension as the selector'):
        make('type: "Filter" top: "a"', X, np.zeros(2))


def test_batch_reindex():
    order = [2, 0, 0, 1, 2]
    np.testing.assert_array_equal(run('type: "BatchReindex" top: "y"', X, order)[0], X[order])
    check_gradient('type: "BatchReindex" top: "y"', [X, order])
    with pytest.raises(LayerError, match=r'not below the batch size 3: indices are 0 \.\. 3'):
        run('type: "BatchReindex" top: "y"', X, [0, 3])


@pytest.mark.parametrize(
    ('operation', 'function'),
    [
        ('SUM', np.sum),
        ('ASUM', lambda x, a: abs(x).sum(a)),
        ('SUMSQ', lambda x, a: (x**2).sum(a)),
        ('MEAN', np.mean),
    ],
)
@pytest.mark.parametrize('axis', [0, 1, -1])
def test_reduction(operation, function, axis):
    text = f'type: "Reduction" top: "y" reduction_param {{ operation: {operation} axis: {axis} coeff: 2 }}'
    want = 2 * function(X, tuple(range(axis % 3, 3)))
    np.testing.assert_allclose(run(text, X)[0], want, rtol=1e-5)
    check_gradient(text, [X], eps=1e-3, rtol=2e-2)


def test_silence_takes_anything_and_sends_back_zeros():
    net = make('type: "Silence"', X, [1, 2])
    net[1][0].diff[...] = 1
    assert forward(*net) == []
    assert not backward(*net, down=[True, False])[0].any()
