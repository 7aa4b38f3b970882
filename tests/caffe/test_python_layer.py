"""Python layers: what a prototxt names and what such a layer finds."""

import json

import numpy as np
import pytest

import caffe


@pytest.fixture
def net_of(tmp_path, monkeypatch):
    """Makes a net whose last layer is the class `Written` of this text."""
    monkeypatch.syspath_prepend(tmp_path)
    made = 0

    def make(source, phase=caffe.TEST, learns=False, options=''):
        nonlocal made
        made += 1
        (tmp_path / f'written{made}.py').write_text('import caffe\n' + source)
        below = 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }'
        path = tmp_path / 'net.prototxt'
        path.write_text(f"""
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
{f'layer {{ name: "below" type: "InnerProduct" bottom: "x" top: "y" {below} }}' if learns else ''}
layer {{ name: "written" type: "Python" bottom: "{'y' if learns else 'x'}" top: "z" {options}
  python_param {{ module: "written{made}" layer: "Written" }} }}""")
        return caffe.Net(str(path), phase)

    return make


IDENTITY = """
class Written(caffe.Layer):
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff
"""


@pytest.mark.parametrize(('phase', 'name'), [(caffe.TRAIN, 'TRAIN'), (caffe.TEST, 'TEST')])
def test_phase_is_the_int_of_bvlc_and_prints_as_in_the_fast_rcnn_branch(net_of, phase, name):
    found = net_of(IDENTITY, phase).layer_dict['written'].phase
    assert isinstance(found, int)
    assert found == phase
    assert {0: 'TRAIN', 1: 'TEST'}[found] == name  # BVLC: keys are ints
    assert {'TRAIN': 'TRAIN', 'TEST': 'TEST'}[str(found)] == name  # the branch: cfg[str(self.phase)]
    assert f'{found}' == f'{found!s}' == '%s' % found == name  # noqa: UP031
    assert f'{found:d}' == '%d' % found == json.dumps(found) == str(int(phase))  # noqa: UP031
    assert ('TEST' if found else 'TRAIN') == name
    assert np.array([found]).dtype.kind == 'i'


def test_native_layers_have_that_phase_too(net_of):
    assert str(net_of(IDENTITY, caffe.TRAIN).layers[0].phase) == 'TRAIN'
