import numpy as np
import pytest
from gradient import check_gradient
from one_layer import backward, forward, make, run

from caffe.layer import LayerError

RNG = np.random.default_rng(0)
T, N, D = 4, 2, 3
X = RNG.standard_normal((T, N, 5))
CONT = np.array([[0, 0], [1, 1], [1, 0], [1, 1]])  # stream 1 begins anew at step 2
STATIC = RNG.standard_normal((N, 2))


def recurrent(kind, options='', tops=('y',)):
    fillers = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "uniform" min: -1 max: 1 }'
    names = ' '.join(f'top: "{name}"' for name in tops)
    return f'type: "{kind}" {names} recurrent_param {{ num_output: {D} {fillers} {options} }}'


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, cont, h, c, w_xc, b_c, w_hc):
    outputs = []
    for x_t, cont_t in zip(x, cont[..., None], strict=True):
        i, f, o, g = np.split(x_t @ w_xc.T + b_c + (cont_t * h) @ w_hc.T, 4, 1)
        c = cont_t * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs), h, c


def rnn(x, cont, h, w_xh, b_h, w_hh, w_ho, b_o):
    outputs = []
    for x_t, cont_t in zip(x, cont[..., None], strict=True):
        h = np.tanh(x_t @ w_xh.T + b_h + (cont_t * h) @ w_hh.T)
        outputs.append(np.tanh(h @ w_ho.T + b_o))
    return np.array(outputs), h


@pytest.mark.parametrize(('kind', 'reference', 'states'), [('LSTM', lstm, 2), ('RNN', rnn, 1)])
def test_values(kind, reference, states):
    layer, _, _ = net = make(recurrent(kind), X, CONT)
    zeros = [np.zeros((N, D))] * states
    want = reference(X, CONT, *zeros, *(b.data for b in layer.blobs))[0]
    np.testing.assert_allclose(forward(*net)[0], want, rtol=1e-4, atol=1e-6)


def test_parameters_come_in_the_order_of_caffe():
    assert [b.shape for b in make(recurrent('LSTM'), X, CONT)[0].blobs] == [(12, 5), (12,), (12, 3)]
    assert [b.shape for b in make(recurrent('LSTM'), X, CONT, STATIC)[0].blobs] == [
        (12, 5),
        (12,),
        (12, 2),
        (12, 3),
    ]
    assert [b.shape for b in make(recurrent('RNN'), X, CONT)[0].blobs] == [(3, 5), (3,), (3, 3), (3, 3), (3,)]


@pytest.mark.parametrize('kind', ['LSTM', 'RNN'])
def test_gradient(kind):
    check_gradient(recurrent(kind), [X, CONT])
    check_gradient(recurrent(kind), [X, CONT, STATIC], check=(0, 2))


@pytest.mark.parametrize('kind', ['LSTM', 'RNN'])
def test_the_state_goes_on_in_the_next_pass(kind):
    whole = make(recurrent(kind), X, CONT)
    halves = make(recurrent(kind), X[:2], CONT[:2])
    for mine, its in zip(halves[0].blobs, whole[0].blobs, strict=True):
        mine.data[...] = its.data
    first = forward(*halves)[0]
    halves[1][0].data[...], halves[1][1].data[...] = X[2:], CONT[2:]
    np.testing.assert_allclose(np.concatenate([first, forward(*halves)[0]]), forward(*whole)[0], rtol=1e-5, atol=1e-6)
    halves[0].reset()
    halves[1][0].data[...], halves[1][1].data[...] = X[:2], 1
    np.testing.assert_allclose(forward(*halves)[0], first, rtol=1e-5, atol=1e-6)


def test_exposed_state_comes_in_and_goes_out():
    h, c = RNG.standard_normal((2, 1, N, D))
    layer, _, _ = net = make(recurrent('LSTM', 'expose_hidden: true', tops='yhc'), X, np.ones((T, N)), h, c)
    out, h_last, c_last = forward(*net)
    want = lstm(X, np.ones((T, N)), h[0], c[0], *(b.data for b in layer.blobs))
    for got, expected in zip((out, h_last[0], c_last[0]), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    # Gradients end at the border of a pass.
    diffs = backward(*net, np.ones((T, N, D)), 1, 1, down=[True, False, True, True])
    assert diffs[0].any() and not diffs[2].any() and not diffs[3].any()


def test_refusals():
    with pytest.raises(LayerError, match='num_output must be positive'):
        make('type: "LSTM" top: "y"', X, CONT)
    with pytest.raises(LayerError, match='must have exactly 2 axes'):
        make(recurrent('RNN'), X, CONT[:3])
    with pytest.raises(LayerError, match='and 2 hidden states'):
        make(recurrent('LSTM', 'expose_hidden: true', tops='yhc'), X, CONT)
    net = make(recurrent('RNN'), X, CONT)
    forward(*net)
    with pytest.raises(LayerError, match='Cannot backpropagate to sequence indicators'):
        backward(*net, np.ones((T, N, D)))
    net[1][0].reshape(3, N, 5), net[1][1].reshape(3, N)
    with pytest.raises(LayerError, match='input number of timesteps changed: 4 and 3'):
        forward(*net)


def test_lstm_unit():
    c, gates = RNG.standard_normal((1, N, D)), RNG.standard_normal((1, N, 4 * D))
    check_gradient('type: "LSTMUnit" top: "c" top: "h"', [c, gates, [[1, 0]]], check=(0, 1), n_tops=2)
    new_c, h = run('type: "LSTMUnit" top: "c" top: "h"', c, gates, [[1, 0]])
    i, _, o, g = np.split(gates[0, 1], 4)
    np.testing.assert_allclose(new_c[0, 1], sigmoid(i) * np.tanh(g), rtol=1e-5)  # the old cell is forgotten
    np.testing.assert_allclose(h, sigmoid(np.split(gates, 4, 2)[2]) * np.tanh(new_c), rtol=1e-5)
    assert o.shape == (D,)
