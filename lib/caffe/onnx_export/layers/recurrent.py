"""LSTM, RNN and the LSTM's unit (caffe.layers.recurrent).

ONNX's LSTM and RNN know no sequences that begin within a batch (Caffe's cont), so that the steps are a Scan.
"""

from __future__ import annotations

import numpy as np
from onnx import helper

from caffe.onnx_export.graph import subgraph
from caffe.onnx_export.recipes import Place, exports


def _unit(op, c_prev: str, gates: list[str], cont: str) -> tuple[str, str]:
    """`caffe.layers.recurrent.lstm_unit`: the new c and h; op(kind, *inputs) adds a node; cont: (..., N, 1)."""
    i, f, o, g = gates
    kept = op('Mul', op('Mul', cont, op('Sigmoid', f)), c_prev)
    c = op('Add', kept, op('Mul', op('Sigmoid', i), op('Tanh', g)))
    return c, op('Mul', op('Sigmoid', o), op('Tanh', c))


@exports('LSTMUnit')
def lstm_unit(at: Place) -> list[str]:
    """Sigmoid, Tanh, Mul and Add."""
    c, gates, cont = at.bottoms
    g = at.graph
    parts = g.ops('Split', 4, gates, axis=2, num_outputs=4)
    return list(_unit(g.op, c, parts, g.op('Unsqueeze', cont, g.ints(2))))


class _Steps:
    """The nodes of a Scan's body."""

    def __init__(self, prefix: str):
        self.nodes: list = []
        self.prefix = prefix

    def ops(self, kind: str, n_outputs: int, *inputs: str, **attributes) -> list[str]:
        outputs = [f'{self.prefix}/step/{len(self.nodes)}.{k}' for k in range(n_outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        return self.ops(kind, 1, *inputs, **attributes)[0]


def _matrix(at: Place, bottom: int, leading: int) -> str:
    """A bottom with all axes after the first `leading` made one."""
    dims = at.dims(bottom)
    return at.graph.reshape(at.bottoms[bottom], [*dims[:leading], at.graph.product(dims[leading:])])


def _linear(at: Place, x: str, weight: int, bias: int | None = None) -> str:
    """x times a parameter transposed, plus another."""
    g = at.graph
    y = g.op('MatMul', x, g.op('Transpose', at.weights(weight), perm=[1, 0]))
    return y if bias is None else g.op('Add', y, at.weights(bias))


def _scan(at: Place, n_states: int, step) -> tuple[str, list[str]]:
    """Runs step(body, states, x_t, cont_t) -> (new states, output) over time.

    Returns the output of all steps (T, N, D) and the states after the last, each (1, N, D); and which parameters
    come after those of the input.
    """
    g, param = at.graph, at.param
    exposed = n_states if param.expose_hidden else 0
    n_static = len(at.bottoms) - exposed - 2
    x = _linear(at, _matrix(at, 0, 2), 0, 1)
    if n_static:
        x = g.op('Add', x, _linear(at, _matrix(at, 2, 1), 2))
    streams = at.dims()[1]
    size = param.num_output
    if exposed:
        first = [g.op('Squeeze', b, g.ints(0)) for b in at.bottoms[-exposed:]]
    else:
        zeros = g.op('Expand', g.constant(0), g.as_value([streams, size]))
        first = [zeros] * n_states
    body = _Steps(g.fresh(g.prefix))
    names = [f'{body.prefix}/state/{k}' for k in range(n_states)]
    x_t, cont_t = f'{body.prefix}/x', f'{body.prefix}/cont'
    column = body.op('Unsqueeze', cont_t, g.ints(1))
    states, out = step(body, names, x_t, column, 2 + n_static)
    new = [body.op('Identity', s) for s in states]
    out = body.op('Identity', out)
    state = [(name, np.float32, [None, size]) for name in names]
    inputs = [*state, (x_t, np.float32, [None, None]), (cont_t, np.float32, [None])]
    outputs = [(name, np.float32, [None, size]) for name in [*new, out]]
    results = g.ops(
        'Scan', n_states + 1, *first, x, at.bottoms[1], num_scan_inputs=2,
        body=subgraph(body.nodes, 'step', inputs, outputs),
    )  # fmt: skip
    last = [g.op('Unsqueeze', s, g.ints(0)) for s in results[:-1]] if exposed else []
    return results[-1], last


@exports('LSTM')
def lstm(at: Place) -> list[str]:
    """A Scan of `lstm_unit`; without expose_hidden it starts with zeros in each run."""

    def step(body: _Steps, states: list[str], x: str, cont: str, weight: int) -> tuple[list[str], str]:
        h, c = states
        recurrent = at.graph.op('Transpose', at.weights(weight), perm=[1, 0])
        gates = body.op('Add', x, body.op('MatMul', body.op('Mul', cont, h), recurrent))
        c, h = _unit(body.op, c, body.ops('Split', 4, gates, axis=1, num_outputs=4), cont)
        return [h, c], h

    out, last = _scan(at, 2, step)
    return [out, *last]


@exports('RNN')
def rnn(at: Place) -> list[str]:
    """A Scan of Tanh steps; without expose_hidden it starts with zeros in each run."""
    first_weight: list[int] = []

    def step(body: _Steps, states: list[str], x: str, cont: str, weight: int) -> tuple[list[str], str]:
        first_weight.append(weight)
        recurrent = at.graph.op('Transpose', at.weights(weight), perm=[1, 0])
        h = body.op('Tanh', body.op('Add', body.op('MatMul', body.op('Mul', cont, states[0]), recurrent), x))
        return [h], h

    hidden, last = _scan(at, 1, step)
    out = at.graph.op('Tanh', _linear(at, hidden, first_weight[0] + 1, first_weight[0] + 2))
    return [out, *last]
