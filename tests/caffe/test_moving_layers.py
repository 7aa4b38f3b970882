"""Layers that only move numbers give gradients that only move, too: against finite differences."""

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient

import caffe

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 2, 4))


@pytest.mark.parametrize('options', ['', 'axis: 0 end_axis: 1', 'axis: -2'])
def test_flatten(options):
    check_gradient(f'type: "Flatten" flatten_param {{ {options} }}', [X])


@pytest.mark.parametrize('options', ['shape { dim: [4, -1] }', 'axis: 1 num_axes: 1 shape { dim: [2, 1] }'])
def test_reshape(options):
    check_gradient(f'type: "Reshape" reshape_param {{ {options} }}', [X])


@pytest.mark.parametrize('readers', [1, 2, 3])
def test_split_adds_the_gradients_of_its_readers(readers):
    check_gradient('type: "Split"', [X], n_tops=readers)


def test_filter_gives_gradients_to_the_rows_that_passed():
    check_gradient('type: "Filter"', [X, np.array([1, 0, 1])])


@pytest.mark.parametrize('options', ['', 'bias_term: false'])
def test_embed(options):
    """The rows that are looked up, one of them twice. Indices have no gradient."""
    fill = 'weight_filler { type: "gaussian" }'
    text = f'type: "Embed" embed_param {{ input_dim: 4 num_output: 3 {fill} {options} }}'
    check_gradient(text, [np.array([1, 3, 1])], check=())


def test_parameter():
    check_gradient('type: "Parameter" parameter_param { shape { dim: [2, 3] } }', [], check=())


def test_silence_gives_zeros():
    layer = RunningLayer('type: "Silence"', [X, X], n_tops=0)
    layer.forward()
    layer.bottoms[0].diff[...] = 7
    for diff in layer.backward([]):
        np.testing.assert_array_equal(diff, np.zeros_like(diff))


@pytest.mark.parametrize('type', ['Accuracy', 'ArgMax', 'Threshold'])
def test_what_has_no_gradient_in_caffe_has_none_here(type):
    bottoms = [RNG.standard_normal((3, 4)), np.array([0, 1, 2])][: 1 + (type == 'Accuracy')]
    layer = RunningLayer(f'type: "{type}"', bottoms)
    tops = layer.forward()
    with pytest.raises((NotImplementedError, caffe.LayerError)):
        layer.backward([np.ones_like(t) for t in tops])
