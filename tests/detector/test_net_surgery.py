"""tools/do_net_surgery.py: what its file may say, and what is copied."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import caffe

sys.path.append(str(Path(__file__).parents[2] / 'tools'))
from do_net_surgery import copy_layer, operations, read_steps

ENTRY = {'prototxt': 'a.prototxt', 'model': 'a.caffemodel', 'copy_ops': {'source': ['fc5'], 'dest': ['fc6']}}
NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "small" type: "InnerProduct" bottom: "data" top: "small"
  inner_product_param { num_output: 3 bias_term: false } }
"""


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / 'net.prototxt'
    path.write_text(NET)
    return caffe.Net(str(path), caffe.TEST), caffe.Net(str(path), caffe.TEST)


def without(key):
    return {name: value for name, value in ENTRY.items() if name != key}


def ops(**lists):
    return {**ENTRY, 'copy_ops': lists}


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('[', 'is not valid JSON'),
        ('[' * 100000, 'is not valid JSON'),
        ('{}', 'expected a list of nets to copy from; got dict'),
        ('[]', 'expected a list'),
        ('[3]', 'entry 1: expected "prototxt" and "model"'),
        (json.dumps([ENTRY, without('model')]), 'entry 2: expected "prototxt" and "model"'),
        (json.dumps([{**ENTRY, 'model': 3}]), 'entry 1: expected "prototxt" and "model", the names of two files'),
        (json.dumps([without('copy_ops')]), 'entry 1: "copy_ops" is to have "source" and "dest"'),
        (json.dumps([ops(source=['a'])]), 'entry 1: "copy_ops" is to have "source" and "dest"'),
        (json.dumps([ops(source=['a'], dest=[])]), 'copy_ops has 1 layers as "source" and 0 as "dest"'),
        (json.dumps([ops(source=['a'], dest=['a'], reshape=[])]), '"reshape" has to be as long'),
        (json.dumps([ops(source=['a'], dest=['a'], reshape=1)]), '"reshape" has to be as long'),
        (json.dumps([ops(source=[1], dest=['a'])]), '"source" and "dest" are names of layers'),
        (json.dumps([ops(source=['a'], dest=['a'], reshape=[2])]), '"reshape" is 0 or 1'),
    ],
)
def test_a_wrong_file_is_explained(tmp_path, content, said):
    path = tmp_path / 'surgery.json'
    path.write_text(content)
    with pytest.raises(ValueError) as error:
        read_steps(str(path))
    assert str(path) in str(error.value) and said in str(error.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r'there is no file nowhere.json \(--net_surgery_json\)'):
        read_steps('nowhere.json')


def test_a_file_as_published_is_read(tmp_path):
    path = tmp_path / 'surgery.json'
    path.write_text(json.dumps([ops(source=['a', 'b'], dest=['c', 'd'], reshape=[0, 1])]))
    assert operations(read_steps(str(path))[0]) == [('a', 'c', False), ('b', 'd', True)]
    assert operations(ENTRY) == [('fc5', 'fc6', False)]


def test_weights_and_bias_are_copied_into_another_layer_too(nets):
    source, net = nets
    copy_layer(source, 'fc', net, 'fc', False, 'x')
    np.testing.assert_array_equal(net.params['fc'][0].data, source.params['fc'][0].data)
    # 4 filters of 2 x 3 x 3 are a matrix of 4 x 18
    copy_layer(source, 'conv', net, 'fc', True, 'x')
    np.testing.assert_array_equal(net.params['fc'][0].data, source.params['conv'][0].data.reshape(4, 18))


@pytest.mark.parametrize(
    ('name', 'into', 'reshape', 'said'),
    [
        ('fc9', 'fc', False, 'x: it has no layer fc9 with weights; there are conv, fc, small'),
        ('fc', 'fc9', False, 'x: the new net has no layer fc9 with weights; there are conv, fc, small'),
        ('fc', 'small', False, 'x: fc has 2 blobs of weights, and small of the new net 1'),
        (
            'conv',
            'fc',
            False,
            r'blob 0 of conv has shape \(4, 2, 3, 3\), that of fc in the new net \(4, 18\); "reshape": 1',
        ),
    ],
)
def test_layers_that_do_not_fit_are_explained(nets, name, into, reshape, said):
    with pytest.raises(ValueError, match=said):
        copy_layer(*nets[:1], name, nets[1], into, reshape, 'x')
