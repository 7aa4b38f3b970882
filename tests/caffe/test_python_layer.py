"""Python layers: what a prototxt names and what such a layer finds."""

import itertools
import json
import re

import numpy as np
import pytest

import caffe

NUMBERS = itertools.count()  # a module is imported once, whatever becomes of its file


@pytest.fixture
def net_of(tmp_path, monkeypatch):
    """Makes a net whose last layer is the class `Written` of this text."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source, phase=caffe.TEST, learns=False, options='', param_str=''):
        made = next(NUMBERS)
        (tmp_path / f'written{made}.py').write_text('import caffe\n' + source)
        below = 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }'
        path = tmp_path / 'net.prototxt'
        path.write_text(f"""
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
{f'layer {{ name: "below" type: "InnerProduct" bottom: "x" top: "y" {below} }}' if learns else ''}
layer {{ name: "written" type: "Python" bottom: "{'y' if learns else 'x'}" top: "z" {options}
  python_param {{ module: "written{made}" layer: "Written" param_str: "{param_str}" }} }}""")
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


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('def forward', 'def foward', r"Written has no method 'forward' \(is 'foward' meant to be it\?\), which every"),
        ('def forward', 'def compute', r"Written has no method 'forward', which every Python layer needs"),
        (
            'def reshape',
            'def Reshape',
            r"Written has no method 'reshape' \(is 'Reshape' meant to be it\?\), which every",
        ),
        ('def setup', 'def set_up', r"Written has no method 'setup' \(is 'set_up' meant to be it\?\)"),
        ('def backward', 'def backwards', r"Written has no method 'backward' \(is 'backwards' meant to be it\?\)"),
    ],
)
def test_a_method_that_is_missing_or_misspelt_is_named_when_the_net_is_made(net_of, old, new, message):
    with pytest.raises(caffe.LayerError, match=r"net\.prototxt:4: layer 'written' \(Python\): written\d+\." + message):
        net_of(IDENTITY.replace(old, new))


def test_a_module_that_is_no_python_is_named_with_its_line(net_of):
    with pytest.raises(
        caffe.LayerError,
        match=r"layer 'written' .* module 'written\d+' is no Python: .*written\d+\.py:3: expected ':'",
    ):
        net_of('class Written(caffe.Layer)\n    pass\n'.replace('class', '\nclass'))


def test_a_top_that_reshape_forgets_is_put_down_to_its_layer(net_of, tmp_path):
    net_of(IDENTITY)
    prototxt = (tmp_path / 'net.prototxt').read_text()
    (tmp_path / 'forgets.py').write_text(
        'import caffe' + IDENTITY.replace('top[0].reshape(*bottom[0].data.shape)', 'pass')
    )
    path = tmp_path / 'forgets.prototxt'
    ip = 'inner_product_param { num_output: 3 }'
    for below in ('layer { name: "sil" type: "Silence" bottom: "z" }', ''):  # with a Split between, and without
        path.write_text(
            re.sub(r'module: "\w+"', 'module: "forgets"', prototxt)
            + f'layer {{ name: "ip" type: "InnerProduct" bottom: "z" top: "ip" {ip} }} {below}'
        )
        with pytest.raises(
            caffe.LayerError,
            match=r"layer 'ip' .*; z\w* has no shape: reshape of 'written' \(.*:4\) has to call top\[...\]\.reshape",
        ):
            caffe.Net(str(path), caffe.TEST)


def test_a_layer_may_do_without_setup_and_inherit_the_rest(net_of):
    text = IDENTITY.replace('Written', 'Base').replace('def setup(self, bottom, top):\n        pass', '')
    net = net_of(text + 'class Written(Base):\n    pass\n')
    net.blobs['x'].data[...] = 7
    assert (net.forward()['z'] == 7).all()


NO_BACKWARD = IDENTITY.partition('    def backward')[0]


def test_backward_is_missed_only_where_a_gradient_is_asked_for(net_of):
    loss = 'loss_weight: 1'
    net_of(NO_BACKWARD, learns=True)  # no loss above
    net_of(NO_BACKWARD, options=loss)  # nothing below learns
    net_of(NO_BACKWARD, learns=True, options=loss + ' propagate_down: false')
    with pytest.raises(
        caffe.LayerError,
        match=r"net\.prototxt:4: layer 'written' .*no method 'backward', and a gradient is asked for \(bottom 'y'\)",
    ):
        net_of(NO_BACKWARD, learns=True, options=loss)


def test_a_param_str_that_the_layer_cannot_read_is_shown_with_its_place(net_of):
    source = IDENTITY.replace('pass', 'self.options = eval(self.param_str)')
    with pytest.raises(SyntaxError) as raised:
        net_of(source, param_str='(1, 2')
    (note,) = raised.value.__notes__
    assert note.startswith("in layer 'written' (Python) of ")
    assert note.endswith("net.prototxt:4, param_str '(1, 2'")
