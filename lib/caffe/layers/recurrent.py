"""Recurrent layers over a sequence: LSTM, RNN, and the LSTM's unit (recurrent, lstm and rnn_layer.cpp).

Caffe unrolls these into a net of small layers; here a loop over time computes the same numbers, and torch
derives the gradient of that loop.

Bottoms: x (T, N, ...); cont (T, N), 0 where a sequence begins and 1 where it goes on; then, if there, a
static input (N, ...) that is seen at every step. With recurrent_param.expose_hidden the first hidden state
comes in as the last bottoms and the last one goes out as the last tops, (1, N, num_output) each; without, the
state is kept from one forward pass to the next. No gradient crosses the border between two passes, nor
reaches cont or exposed states.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from caffe.blob import Blob
from caffe.layer import FunctionLayer, LayerError, register

Tensors = list[torch.Tensor]


def lstm_unit(c_prev: torch.Tensor, gates: torch.Tensor, cont: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of an LSTM: the new (c, h), each (..., N, D).

    c_prev: (..., N, D); gates: (..., N, 4 * D), what enters the input, forget and output gates and the cell,
    in this order; cont: (..., N), 0 forgets c_prev. Hochreiter & Schmidhuber 1997 with forget gates;
    lstm_unit_layer.cpp.
    """
    i, f, o, g = gates.chunk(4, -1)
    c = cont.unsqueeze(-1) * f.sigmoid() * c_prev + i.sigmoid() * g.tanh()
    return c, o.sigmoid() * c.tanh()


@register('LSTMUnit')
class LSTMUnit(FunctionLayer):
    """`lstm_unit` as a layer: bottoms c (1, N, D), gates (1, N, 4 * D), cont (1, N); tops c, h (1, N, D)."""

    num_bottom = 3
    num_top = 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        c, gates, cont = (b.shape for b in bottom)
        if len(c) != 3 or c[0] != 1 or gates != (1, c[1], 4 * c[2]) or cont != (1, c[1]):
            raise LayerError(
                f'expected bottoms of shape (1, N, D), (1, N, 4 * D) and (1, N); found {c}, {gates} and {cont}'
            )
        for blob in top:
            blob.reshape(*c)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(lstm_unit(*bottoms))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[2]:
            raise LayerError('Cannot backpropagate to sequence indicators.')
        super().backward(top, propagate_down, bottom)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 2


class Recurrent(FunctionLayer):
    """What LSTM and RNN share: checks, the static input, and the hidden state between forward passes."""

    param_field = 'recurrent_param'
    num_bottom = (2, None)
    num_top = (1, None)
    num_states = 1  # how many blobs make up the hidden state

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.size = self.param.num_output
        if self.size <= 0:
            raise LayerError('num_output must be positive')
        exposed = self.num_states if self.param.expose_hidden else 0
        n_bottom = len(bottom) - exposed
        if n_bottom not in (2, 3) or len(top) != 1 + exposed:
            raise LayerError(
                f'takes x, cont, perhaps a static input, and {exposed} hidden states, and gives 1 + {exposed} tops '
                f'(expose_hidden: {str(bool(exposed)).lower()}); '
                f'the prototxt names {len(bottom)} bottoms, {len(top)} tops'
            )
        self.has_static = n_bottom == 3
        self.steps = bottom[0].shape[0] if bottom[0].shape else 0
        self._check_inputs(bottom)
        self.carried = [Blob() for _ in range(self.num_states)]
        if not self.blobs:
            self.make_params(bottom)

    def _check_inputs(self, bottom) -> None:
        x, cont = bottom[0].shape, bottom[1].shape
        if len(x) < 2:
            raise LayerError(f'bottom[0] must have at least 2 axes -- (#timesteps, #streams, ...); found {x}')
        if cont != x[:2]:
            raise LayerError(
                'bottom[1] must have exactly 2 axes -- (#timesteps, #streams), those of bottom[0]; found '
                f'{cont} and {x}'
            )
        if x[0] != self.steps:
            raise LayerError(f'input number of timesteps changed: {self.steps} and {x[0]}')
        if self.has_static and bottom[2].shape[:1] != x[1:2]:
            raise LayerError(f'the static input has {bottom[2].shape[:1]} streams, x has {x[1]}')

    def make_params(self, bottom: list[Blob]) -> None:
        """Makes the parameters in Caffe's order."""
        raise NotImplementedError

    def _input_params(self, bottom, width: int) -> None:
        """Weights of x with a bias, and weights of the static input, each to `width` numbers."""
        self.new_param((width, math.prod(bottom[0].shape[2:])), self.param.weight_filler)
        self.new_param((width,), self.param.bias_filler)
        if self.has_static:
            self.new_param((width, math.prod(bottom[2].shape[1:])), self.param.weight_filler)

    def _transformed_input(self, bottoms, params) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What x and the static input add to each step (T, N, width), and the parameters not used yet."""
        out = functional.linear(bottoms[0].flatten(2) if bottoms[0].dim() > 2 else bottoms[0][..., None], *params[:2])
        if not self.has_static:
            return out, params[2:]
        static = bottoms[2].flatten(1) if bottoms[2].dim() > 1 else bottoms[2][:, None]
        return out + functional.linear(static, params[2]), params[3:]

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._check_inputs(bottom)
        streams = bottom[0].shape[1]
        state_shape = (1, streams, self.size)
        top[0].reshape(self.steps, streams, self.size)
        for blob in [*self.carried, *top[1:]]:
            blob.reshape(*state_shape)
        for i, blob in enumerate(bottom[2 + self.has_static :], start=2 + self.has_static):
            if blob.shape != state_shape:
                raise LayerError(
                    f'bottom[{i}] shape must match hidden state input shape: {blob.shape} and {state_shape}'
                )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.param.expose_hidden:
            self.first_state = [blob.read() for blob in self.carried]
        inputs = [b.read() for b in bottom]
        with torch.no_grad():
            out, last_state = self.unroll(inputs, [p.read() for p in self.blobs], self._states(inputs))
        top[0].write(out)
        for blob, state in zip(top[1:] if self.param.expose_hidden else self.carried, last_state, strict=True):
            blob.write(state.clone()[None])

    def _states(self, bottoms) -> list[torch.Tensor]:
        """The hidden state before the first step, (N, num_output) each."""
        states = bottoms[2 + self.has_static :] if self.param.expose_hidden else self.first_state
        return [s.detach()[0] for s in states]

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        out, last_state = self.unroll(bottoms, params, self._states(bottoms))
        exposed = [s.detach()[None] for s in last_state] if self.param.expose_hidden else []
        return [out, *exposed]

    def unroll(self, bottoms: Tensors, params: Tensors, states: Tensors) -> tuple[torch.Tensor, Tensors]:
        """Outputs of all steps (T, N, num_output), and the state after the last: (N, num_output) each."""
        raise NotImplementedError

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            raise LayerError('Cannot backpropagate to sequence indicators.')
        super().backward(top, propagate_down, bottom)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 1

    def reset(self) -> None:
        """Forgets the hidden state (RecurrentLayer::Reset)."""
        for blob in self.carried:
            blob.write(torch.zeros_like(blob.read()))


@register('LSTM')
class LSTM(Recurrent):
    """Long short-term memory: `lstm_unit` at each step.

    Parameters: W_xc (4D, inputs), b_c (4D), [W_xc_static (4D, inputs)], W_hc (4D, D).
    The exposed hidden state is h, c.
    """

    num_states = 2

    def make_params(self, bottom: list[Blob]) -> None:
        self._input_params(bottom, 4 * self.size)
        self.new_param((4 * self.size, self.size), self.param.weight_filler)

    def unroll(self, bottoms: Tensors, params: Tensors, states: Tensors) -> tuple[torch.Tensor, Tensors]:
        gates, (w_hc,) = self._transformed_input(bottoms, params)
        h, c = states
        outputs = []
        for step, cont in zip(gates, bottoms[1], strict=True):
            c, h = lstm_unit(c, step + functional.linear(cont[:, None] * h, w_hc), cont)
            outputs.append(h)
        return torch.stack(outputs), [h, c]


@register('RNN')
class RNN(Recurrent):
    """h = tanh(W_hh h + W_xh x + b_h), out = tanh(W_ho h + b_o).

    Parameters: W_xh (D, inputs), b_h (D), [W_xh_static (D, inputs)], W_hh (D, D), W_ho (D, D), b_o (D). The
    exposed hidden state is h.
    """

    def make_params(self, bottom: list[Blob]) -> None:
        self._input_params(bottom, self.size)
        self.new_param((self.size, self.size), self.param.weight_filler)
        self.new_param((self.size, self.size), self.param.weight_filler)
        self.new_param((self.size,), self.param.bias_filler)

    def unroll(self, bottoms: Tensors, params: Tensors, states: Tensors) -> tuple[torch.Tensor, Tensors]:
        inputs, (w_hh, w_ho, b_o) = self._transformed_input(bottoms, params)
        (h,) = states
        hidden = []
        for step, cont in zip(inputs, bottoms[1], strict=True):
            h = torch.tanh(functional.linear(cont[:, None] * h, w_hh) + step)
            hidden.append(h)
        return torch.tanh(functional.linear(torch.stack(hidden), w_ho, b_o)), [h]
