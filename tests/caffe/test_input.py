import numpy as np
import pytest
from one_layer import backward, forward, make

import caffe
from caffe.layer import LayerError


def test_input_has_one_shape_for_all_or_one_each():
    one = 'type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } }'
    assert [t.shape for t in make(one)[2]] == [(2, 3), (2, 3)]
    each = 'type: "Input" top: "a" top: "b" input_param { shape { dim: 2 } shape { dim: 5 dim: 1 } }'
    assert [t.shape for t in make(each)[2]] == [(2,), (5, 1)]
    with pytest.raises(LayerError, match=r'3 tops vs\. 2 shapes'):
        make('type: "Input" top: "a" top: "b" top: "c" input_param { shape { dim: 2 } shape { dim: 5 } }')


def test_input_keeps_what_the_user_wrote_and_his_reshape():
    layer, bottom, top = make('type: "Input" top: "a" input_param { shape { dim: 2 } }')
    top[0].reshape(3)
    top[0].data[...] = [1, 2, 3]
    np.testing.assert_array_equal(forward(layer, bottom, top)[0], [1, 2, 3])


CONSTANT, RANDOM = 'data_filler { type: "constant" value: 2 }', 'data_filler { type: "uniform" }'


def test_dummy_data_fills_constants_once_and_random_numbers_anew():
    net = make(f'type: "DummyData" top: "a" top: "b" dummy_data_param {{ shape {{ dim: 4 }} {CONSTANT} {RANDOM} }}')
    constant, random = forward(*net)
    np.testing.assert_array_equal(constant, [2, 2, 2, 2])
    net[2][0].data[1] = 7
    again, other = forward(*net)
    np.testing.assert_array_equal(again, [2, 7, 2, 2])
    assert (other != random).all()


def test_dummy_data_repeats_with_the_seed():
    text = f'type: "DummyData" top: "a" dummy_data_param {{ shape {{ dim: 4 }} {RANDOM} }}'
    runs = []
    for _ in range(2):
        caffe.set_random_seed(3)
        runs.append(forward(*make(text))[0])
    np.testing.assert_array_equal(*runs)


def test_dummy_data_without_filler_is_zero_and_takes_the_old_shape_fields():
    dims = 'num: 2 num: 3 channels: 1 height: 4 width: 5'
    text = f'type: "DummyData" top: "a" top: "b" dummy_data_param {{ {dims} }}'
    with pytest.raises(LayerError, match='channels'):
        make(text.replace('height', 'channels: 1 channels: 2 height'))
    a, b = forward(*make(text))
    assert a.shape == (2, 1, 4, 5) and b.shape == (3, 1, 4, 5) and not a.any()


def test_dummy_data_refusals():
    with pytest.raises(LayerError, match='Both shape and legacy fields'):
        make('type: "DummyData" top: "a" dummy_data_param { num: 2 shape { dim: 1 } }')
    with pytest.raises(LayerError, match='Must specify data_filler 0 times, once, or once per top blob'):
        make(f'type: "DummyData" top: "a" dummy_data_param {{ shape {{ dim: 1 }} {CONSTANT} {CONSTANT} }}')
    with pytest.raises(LayerError, match='Must specify shape once, or once per top blob'):
        make('type: "DummyData" top: "a"')


def test_parameter_is_its_top_and_gathers_its_diff():
    layer, _, _ = net = make('type: "Parameter" top: "w" parameter_param { shape { dim: 2 } }')
    layer.blobs[0].data[...] = [3, 4]
    np.testing.assert_array_equal(forward(*net)[0], [3, 4])
    backward(*net, [1, 2])
    backward(*net, [10, 20])
    np.testing.assert_array_equal(layer.blobs[0].diff, [11, 22])
