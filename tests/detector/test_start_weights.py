"""A net that has nothing to start from is told before it is trained for hours."""

import pytest

import caffe
from fast_rcnn.start_weights import layers_without_weights

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'


def layer(name, bottom, fill='', kind='Convolution'):
    option = 'convolution_param { kernel_size: 1 ' if kind == 'Convolution' else 'inner_product_param { '
    filler = f'weight_filler {{ {fill} }}' if fill else ''
    place = f'bottom: "{bottom}" top: "{name}"'
    return f'layer {{ name: "{name}" type: "{kind}" {place} {option} num_output: 2 {filler} }} }}\n'


def relu(name):
    return f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'


XAVIER = 'type: "xavier"'


@pytest.mark.parametrize(
    ('text', 'dead'),
    [
        # as VGG16's prototxts: no fillers below, fillers in the last layer
        (
            layer('c1', 'data') + relu('c1') + layer('c2', 'c1') + relu('c2') + layer('score', 'c2', XAVIER),
            ['c1', 'c2'],
        ),
        # one in the middle is enough to stop all
        (layer('c1', 'data', XAVIER) + relu('c1') + layer('c2', 'c1') + layer('score', 'c2', XAVIER), ['c2']),
        # a last layer of zeros learns: its inputs are not zero
        (layer('c1', 'data', XAVIER) + relu('c1') + layer('score', 'c1', kind='InnerProduct'), []),
        # zeros that a filler asks for are meant
        (layer('c1', 'data', 'type: "constant" value: 0') + layer('score', 'c1', XAVIER), []),
        (layer('c1', 'data', XAVIER) + layer('score', 'c1', XAVIER), []),
    ],
)
def test_layers_that_can_never_learn(tmp_path, text, dead):
    path = tmp_path / 'net.prototxt'
    path.write_text(DATA + text)
    caffe.set_mode_cpu()
    assert layers_without_weights(caffe.Net(str(path), caffe.TRAIN), DATA + text) == dead


def test_weights_from_a_file_are_weights(tmp_path):
    text = DATA + layer('c1', 'data') + layer('score', 'c1', XAVIER)
    path = tmp_path / 'net.prototxt'
    path.write_text(text)
    caffe.set_mode_cpu()
    net = caffe.Net(str(path), caffe.TRAIN)
    net.params['c1'][0].data[0, 0] = 1
    net.save(str(tmp_path / 'some.caffemodel'))
    other = caffe.Net(str(path), caffe.TRAIN)
    other.copy_from(str(tmp_path / 'some.caffemodel'))
    assert layers_without_weights(other, text) == []
