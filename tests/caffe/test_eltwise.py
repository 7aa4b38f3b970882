import numpy as np
import pytest
from gradient import check_gradient
from one_layer import backward, forward, make, run

from caffe.layer import LayerError

RNG = np.random.default_rng(0)
X, Y, Z = (RNG.standard_normal((2, 3, 4)).astype('f') for _ in range(3))


@pytest.mark.parametrize(
    ('option', 'result'),
    [
        ('', X + Y + Z),
        ('operation: SUM coeff: 2 coeff: -1 coeff: 0.5', 2 * X - Y + 0.5 * Z),
        ('operation: PROD', X * Y * Z),
        ('operation: PROD stable_prod_grad: false', X * Y * Z),
        ('operation: MAX', np.maximum(np.maximum(X, Y), Z)),
    ],
)
def test_eltwise(option, result):
    text = f'type: "Eltwise" top: "y" eltwise_param {{ {option} }}'
    np.testing.assert_allclose(run(text, X, Y, Z)[0], result, rtol=1e-5, atol=1e-6)
    check_gradient(text, [X, Y, Z], check=(0, 1, 2), eps=1e-3, rtol=2e-2)


@pytest.mark.parametrize('option', ['', 'operation: SUM coeff: 2 coeff: -1', 'operation: PROD', 'operation: MAX'])
def test_eltwise_in_place(option):
    text, diff = f'type: "Eltwise" top: "y" eltwise_param {{ {option} }}', RNG.standard_normal(X.shape)
    apart, inside = (make(text, X, Y, in_place=p) for p in (False, True))
    np.testing.assert_array_equal(forward(*apart)[0], forward(*inside)[0])
    for a, b in zip(backward(*apart, diff), backward(*inside, diff), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_eltwise_product_with_zeros_has_a_gradient():
    net = make('type: "Eltwise" top: "y" eltwise_param { operation: PROD }', [[0.0]], [[3.0]])
    forward(*net)
    assert backward(*net, 1)[0] == 3


def test_eltwise_maximum_of_equals_sends_the_gradient_to_the_second():
    net = make('type: "Eltwise" top: "y" eltwise_param { operation: MAX }', [[1.0]], [[1.0]], [[1.0]])
    forward(*net)
    assert [d.item() for d in backward(*net, 1)] == [0, 1, 0]


def test_eltwise_refusals():
    with pytest.raises(LayerError, match='one coefficient per bottom blob'):
        make('type: "Eltwise" top: "y" eltwise_param { coeff: 1 }', X, Y)
    with pytest.raises(LayerError, match='only takes coefficients for summation'):
        make('type: "Eltwise" top: "y" eltwise_param { operation: PROD coeff: 1 coeff: 1 }', X, Y)
    with pytest.raises(LayerError, match='bottoms must have one shape'):
        make('type: "Eltwise" top: "y"', X, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ('option', 'shape'),
    [('', (3,)), ('axis: 0 num_axes: 2', (2, 3)), ('axis: 0 num_axes: -1', (2, 3, 4)), ('num_axes: 0', ())],
)
@pytest.mark.parametrize('kind', ['Scale', 'Bias'])
def test_scale_and_bias_with_a_parameter(kind, option, shape):
    filler = 'filler { type: "uniform" min: 0.5 max: 2 }'
    text = f'type: "{kind}" top: "y" {kind.lower()}_param {{ {option} {filler} }}'
    layer, bottom, top = make(text, X)
    assert [b.shape for b in layer.blobs] == [shape]
    start = 1 if option == '' else 0
    operand = layer.blobs[0].data.reshape((1,) * start + shape + (1,) * (3 - start - len(shape)))
    want = X * operand if kind == 'Scale' else X + operand
    np.testing.assert_allclose(forward(layer, bottom, top)[0], want, rtol=1e-6)
    check_gradient(text, [X])


@pytest.mark.parametrize('kind', ['Scale', 'Bias'])
def test_scale_and_bias_with_two_bottoms(kind):
    operand = RNG.standard_normal((3, 4))
    text = f'type: "{kind}" top: "y" {kind.lower()}_param {{ axis: 1 }}'
    np.testing.assert_allclose(run(text, X, operand)[0], X * operand if kind == 'Scale' else X + operand, rtol=1e-5)
    check_gradient(text, [X, operand], check=(0, 1))


def test_scale_starts_as_identity():
    layer, bottom, top = make('type: "Scale" top: "y" scale_param { bias_term: true }', X)
    np.testing.assert_array_equal(forward(layer, bottom, top)[0], X)
    assert [b.shape for b in layer.blobs] == [(3,), (3,)]


@pytest.mark.parametrize('bottoms', [[X], [X, RNG.standard_normal(3)]])
def test_scale_with_bias(bottoms):
    text = """type: "Scale" top: "y" scale_param { bias_term: true filler { type: "gaussian" std: 1 }
              bias_filler { type: "gaussian" std: 1 } }"""
    check_gradient(text, bottoms, check=tuple(range(len(bottoms))))
    if len(bottoms) == 2:
        assert len(make(text, *bottoms)[0].blobs) == 1  # the bias only


@pytest.mark.parametrize('text', ['type: "Scale" top: "y" scale_param { bias_term: true }', 'type: "Bias" top: "y"'])
def test_scale_and_bias_in_place(text):
    diff = RNG.standard_normal(X.shape)
    apart, inside = (make(text, X, in_place=p) for p in (False, True))
    for layer, _, _ in (apart, inside):
        for k, blob in enumerate(layer.blobs):
            blob.data[...] = [2 + k, 3, 0]
    np.testing.assert_array_equal(forward(*apart)[0], forward(*inside)[0])
    np.testing.assert_array_equal(backward(*apart, diff)[0], backward(*inside, diff)[0])
    for a, b in zip(apart[0].blobs, inside[0].blobs, strict=True):
        np.testing.assert_array_equal(a.diff, b.diff)


def test_scale_refusals():
    with pytest.raises(LayerError, match='num_axes must be non-negative, or -1'):
        make('type: "Scale" top: "y" scale_param { num_axes: -2 }', X)
    with pytest.raises(LayerError, match="extend past bottom\\[0\\]'s shape"):
        make('type: "Scale" top: "y" scale_param { axis: 2 num_axes: 2 }', X)
    with pytest.raises(LayerError, match='dimension mismatch between bottom'):
        make('type: "Scale" top: "y"', X, np.zeros(4))
