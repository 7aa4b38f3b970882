"""InnerProduct and Embed."""

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient

from caffe.layer import LayerError

FILL = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


def layer(options, *shape, type='InnerProduct', field='inner_product_param'):
    x = np.random.default_rng(0).standard_normal(shape)
    return RunningLayer(f'type: "{type}" {field} {{ {options} }}', [x])


def test_bottom_is_flattened_from_axis_1():
    run = layer(f'num_output: 4 {FILL}', 2, 3, 5)
    (y,) = run.forward()
    weight, bias = (b.data for b in run.layer.blobs)
    assert weight.shape == (4, 15) and bias.shape == (4,)
    np.testing.assert_allclose(y, run.bottoms[0].data.reshape(2, 15) @ weight.T + bias, rtol=1e-4, atol=1e-5)


def test_axis_counts_from_the_end_where_negative():
    run = layer(f'num_output: 4 axis: -1 {FILL}', 2, 3, 5)
    assert run.forward()[0].shape == (2, 3, 4)
    assert run.layer.blobs[0].shape == (4, 5)


@pytest.mark.parametrize('options', ['', 'transpose: true', 'bias_term: false', 'axis: 2', 'axis: 2 transpose: true'])
def test_gradient(options):
    x = np.random.default_rng(0).standard_normal((2, 3, 2))
    check_gradient(f'type: "InnerProduct" inner_product_param {{ num_output: 3 {FILL} {options} }}', [x])


def test_a_gradient_kept_as_two_factors_reads_as_any_other():
    """Large matrices and few rows: the diff is laid out when it is read, after one pass or several."""
    run = layer(f'num_output: 1024 {FILL}', 3, 2048)
    rng = np.random.default_rng(1)
    want = 0
    for _ in range(3):
        (y,) = run.forward()
        diff = rng.standard_normal(y.shape).astype(np.float32)
        run.tops[0].diff[...] = diff
        run.layer.backward(run.tops, [False], run.bottoms)
        want = want + diff.T @ run.bottoms[0].data
        run.bottoms[0].data[...] += 1  # what the product was made of may change
    weight = run.layer.blobs[0]
    assert weight.diff_product is not None
    np.testing.assert_allclose(weight.diff, want, rtol=1e-4, atol=1e-4)
    assert weight.diff_product is None


def test_diffs_of_parameters_add_up():
    run = layer(f'num_output: 4 {FILL}', 2, 3)
    run.forward()
    run.backward([np.ones((2, 4))])
    once = [b.diff.copy() for b in run.layer.blobs]
    run.layer.backward(run.tops, [True], run.bottoms)
    for blob, diff in zip(run.layer.blobs, once, strict=True):
        np.testing.assert_allclose(blob.diff, 2 * diff, rtol=1e-5)


def test_no_rows_give_no_rows_and_no_gradient():
    run = layer(f'num_output: 4 {FILL}', 0, 3)
    assert run.forward()[0].shape == (0, 4)
    run.backward([np.zeros((0, 4))])
    assert not run.layer.blobs[0].diff.any()


def test_a_bottom_of_another_size_is_refused():
    run = layer('num_output: 4', 2, 3)
    run.bottoms[0].reshape(2, 5)
    with pytest.raises(LayerError, match='Input size incompatible with inner product parameters'):
        run.forward()


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(LayerError, match='axis 3 out of range'):
        layer('num_output: 4 axis: 3', 2, 3)


def embed(options, index):
    return RunningLayer(f'type: "Embed" embed_param {{ num_output: 2 input_dim: 4 {options} {FILL} }}', [index])


def test_embed_takes_rows_of_the_weights():
    run = embed('', np.array([[3, 0, 3]]))
    weight, bias = (b.data for b in run.layer.blobs)
    np.testing.assert_allclose(run.forward()[0], (weight[[3, 0, 3]] + bias)[None])


def test_embed_adds_the_diffs_of_repeated_indices():
    run = embed('', np.array([3, 0, 3]))
    run.forward()
    run.backward([[[1, 2], [3, 4], [5, 6]]], [False])
    np.testing.assert_array_equal(run.layer.blobs[0].diff, [[3, 4], [0, 0], [0, 0], [6, 8]])
    np.testing.assert_array_equal(run.layer.blobs[1].diff, [9, 12])


@pytest.mark.parametrize('wrong', [-1, 4, 0.5])
def test_embed_names_an_index_out_of_range(wrong):
    with pytest.raises(LayerError, match=r'from 0 to 3 .* element 1 of the bottom is'):
        embed('', np.array([0, wrong])).forward()


def test_embed_has_no_gradient_for_its_indices():
    run = embed('', np.array([1]))
    run.forward()
    with pytest.raises(LayerError, match="Can't backpropagate"):
        run.backward([np.ones((1, 2))])
