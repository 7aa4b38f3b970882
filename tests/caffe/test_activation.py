"""Element-wise layers: what they compute, their gradients, and both in place."""

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient, run_layer

from caffe.layer import LayerError

X = np.array([[-2.5, -1.2, -0.3], [0.4, 1.1, 3.0]])
POSITIVE = np.array([[0.3, 0.7, 1.2], [1.9, 2.4, 3.1]])

# (prototxt, the function, an input within its domain and off its kinks)
CASES = {
    'relu': ('type: "ReLU"', lambda x: np.maximum(x, 0), X),
    'leaky relu': (
        'type: "ReLU" relu_param { negative_slope: 0.1 }',
        lambda x: np.where(x > 0, x, 0.1 * x),
        X,
    ),
    'elu': ('type: "ELU" elu_param { alpha: 0.7 }', lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1)), X),
    'sigmoid': ('type: "Sigmoid"', lambda x: 1 / (1 + np.exp(-x)), X),
    'tanh': ('type: "TanH"', np.tanh, X),
    'bnll': ('type: "BNLL"', lambda x: np.log1p(np.exp(x)), X),
    'swish': ('type: "Swish" swish_param { beta: 1.5 }', lambda x: x / (1 + np.exp(-1.5 * x)), X),
    'abs': ('type: "AbsVal"', np.abs, X),
    'clip': ('type: "Clip" clip_param { min: -1 max: 1.5 }', lambda x: x.clip(-1, 1.5), X),
    'exp': ('type: "Exp" exp_param { scale: 0.5 shift: 0.3 }', lambda x: np.exp(0.3 + 0.5 * x), X),
    'exp to a base': ('type: "Exp" exp_param { base: 2 shift: 1 }', lambda x: 2 ** (1 + x), X),
    'log': ('type: "Log" log_param { scale: 2 shift: 0.5 }', lambda x: np.log(0.5 + 2 * x), POSITIVE),
    'log to a base': ('type: "Log" log_param { base: 10 }', np.log10, POSITIVE),
    'power': ('type: "Power" power_param { power: 2 scale: -0.5 shift: 1 }', lambda x: (1 - 0.5 * x) ** 2, X),
    'linear power': ('type: "Power" power_param { scale: 3 shift: -1 }', lambda x: 3 * x - 1, X),
    'root': ('type: "Power" power_param { power: 0.5 }', np.sqrt, POSITIVE),
    'power 0': ('type: "Power" power_param { power: 0 scale: 2 }', np.ones_like, X),
    'power of a constant': (
        'type: "Power" power_param { power: 3 scale: 0 shift: 2 }',
        lambda x: 8 + 0 * x,
        X,
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_value_and_gradient(name):
    text, function, x = CASES[name]
    np.testing.assert_allclose(run_layer(text, [x])[0], function(x), rtol=1e-5, atol=1e-6)
    check_gradient(text, [x])


@pytest.mark.parametrize('name', [n for n in CASES if n != 'abs'])
def test_in_place_is_the_same(name):
    text, _, x = CASES[name]
    results = []
    for in_place in (False, True):
        run = RunningLayer(text, [x], in_place=in_place)
        results.append((run.forward(), run.backward([X + 1])))
    np.testing.assert_array_equal(results[0], results[1])


def test_prelu_slopes_are_a_quarter_unless_filled():
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    run = RunningLayer('type: "PReLU"', [x])
    np.testing.assert_array_equal(run.layer.blobs[0].data, [0.25] * 3)
    np.testing.assert_allclose(run.forward()[0], np.where(x > 0, x, 0.25 * x), rtol=1e-5)


@pytest.mark.parametrize('options', ['', 'channel_shared: true'])
@pytest.mark.parametrize('shape', [(2, 3), (2, 3, 2, 2)])
def test_prelu_gradient(options, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    x += 0.1 * np.sign(x)
    check_gradient(f'type: "PReLU" prelu_param {{ filler {{ type: "uniform" }} {options} }}', [x])


def test_prelu_in_place_is_the_same():
    results = []
    for in_place in (False, True):
        run = RunningLayer('type: "PReLU"', [X], in_place=in_place)
        results.append((run.forward(), run.backward([X + 1]), [run.layer.blobs[0].diff]))
    for apart, in_place in zip(*results, strict=True):
        np.testing.assert_array_equal(apart, in_place)


def test_threshold_is_one_above():
    text = 'type: "Threshold" threshold_param { threshold: 0.4 }'
    x = np.array([0.3, 0.4, 0.5], np.float32)
    np.testing.assert_array_equal(run_layer(text, [x])[0], [0, 0, 1])
    run = RunningLayer(text, [x])
    with pytest.raises(LayerError, match='Threshold has no gradient'):
        run.backward([x])


def test_log_and_exp_take_only_bases_they_have():
    for text in ('type: "Exp" exp_param { base: 0 }', 'type: "Log" log_param { base: -2 }'):
        with pytest.raises(LayerError, match='base must be positive, or -1 for e'):
            run_layer(text, [X])
    with pytest.raises(LayerError, match='no logarithm to base 1'):
        run_layer('type: "Log" log_param { base: 1 }', [X])


def test_abs_is_not_in_place():
    with pytest.raises(LayerError, match='does not allow in-place computation'):
        RunningLayer('type: "AbsVal"', [X], in_place=True)


def test_elements_of_nothing():
    assert run_layer('type: "ReLU"', [np.zeros((0, 4))])[0].shape == (0, 4)
