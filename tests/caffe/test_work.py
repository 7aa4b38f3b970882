"""Multiply-adds of layers, against what is published for known nets and against counting by hand."""

import pytest
from google.protobuf import text_format

import caffe
from caffe import work
from caffe.command.layer_work import layer_shapes
from caffe.proto import caffe_pb2


def shapes(text, bottoms, tops, params=()):
    return work.LayerShapes(text_format.Parse(text, caffe_pb2.LayerParameter()), bottoms, tops, params)


def by_type(net):
    totals = {}
    for layer in layer_shapes(net):
        totals[layer.param.type] = totals.get(layer.param.type, 0) + work.forward(layer)
    return totals


# VGG16 and CaffeNet (BVLC's reference model), without what has no filters or matrices
VGG16 = [64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512, 'M']


def vgg16():
    yield 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3, 224, 224] } } }'
    top = 'x'
    for i, n in enumerate(VGG16):
        options = (
            'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }'
            if n == 'M'
            else f'type: "Convolution" convolution_param {{ num_output: {n} kernel_size: 3 pad: 1 }}'
        )
        yield f'layer {{ name: "l{i}" bottom: "{top}" top: "l{i}" {options} }}'
        top = f'l{i}'
    for i, n in enumerate((4096, 4096, 1000)):
        options = f'type: "InnerProduct" inner_product_param {{ num_output: {n} }}'
        yield f'layer {{ name: "fc{i}" bottom: "{top}" top: "fc{i}" {options} }}'
        top = f'fc{i}'


def caffenet():
    yield 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3, 227, 227] } } }'
    top = 'x'
    pool = 'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 }'
    layers = [
        'num_output: 96 kernel_size: 11 stride: 4',
        pool,
        'num_output: 256 kernel_size: 5 pad: 2 group: 2',
        pool,
        'num_output: 384 kernel_size: 3 pad: 1',
        'num_output: 384 kernel_size: 3 pad: 1 group: 2',
        'num_output: 256 kernel_size: 3 pad: 1 group: 2',
        pool,
    ]
    for i, text in enumerate(layers):
        options = text if text is pool else f'type: "Convolution" convolution_param {{ {text} }}'
        yield f'layer {{ name: "l{i}" bottom: "{top}" top: "l{i}" {options} }}'
        top = f'l{i}'


def net_of(lines, tmp_path):
    (tmp_path / 'net.prototxt').write_text('\n'.join(lines))
    return caffe.Net(str(tmp_path / 'net.prototxt'), caffe.TEST)


def test_vgg16_has_the_published_15_5_giga_multiply_adds(tmp_path):
    totals = by_type(net_of(vgg16(), tmp_path))
    assert totals['Convolution'] == 15_346_630_656
    assert totals['InnerProduct'] == 25088 * 4096 + 4096 * 4096 + 4096 * 1000 == 123_633_664
    assert totals['Pooling'] == 0  # MAX compares


def test_caffenet_has_the_published_666_mega_multiply_adds_in_its_convolutions(tmp_path):
    assert by_type(net_of(caffenet(), tmp_path))['Convolution'] == 665_784_864


def test_a_deconvolution_works_as_its_convolution():
    """3 -> 4 channels, 5x5 pixels become 10x10 by 2x2 filters: each pixel times each tap."""
    layer = shapes('type: "Deconvolution"', [(2, 3, 5, 5)], [(2, 4, 10, 10)], [(3, 4, 2, 2), (4,)])
    assert work.forward(layer) == 2 * 5 * 5 * 3 * 4 * 2 * 2


@pytest.mark.parametrize('static', [False, True])
def test_recurrent_layers_multiply_each_matrix_once_a_step(static):
    """T = 7 steps, N = 2 streams, 5 inputs, 3 outputs; the static input of 4 is the same at each step."""
    extra = [(12, 4)] if static else []
    lstm = shapes('type: "LSTM"', [(7, 2, 5), (7, 2)], [(7, 2, 3)], [(12, 5), (12,), *extra, (12, 3)])
    assert work.forward(lstm) == 2 * (7 * (12 * 5 + 12 * 3) + (12 * 4 if static else 0))
    extra = [(3, 4)] if static else []
    rnn = shapes('type: "RNN"', [(7, 2, 5), (7, 2)], [(7, 2, 3)], [(3, 5), (3,), *extra, (3, 3), (3, 3), (3,)])
    assert work.forward(rnn) == 2 * (7 * (3 * 5 + 3 * 3 + 3 * 3) + (3 * 4 if static else 0))


AVE = 'type: "Pooling" pooling_param { pool: AVE'


@pytest.mark.parametrize(
    ('text', 'bottoms', 'tops', 'count'),
    [
        (f'{AVE} kernel_size: 3 }}', [(1, 2, 9, 9)], [(1, 2, 7, 7)], 98 * 9),
        (f'{AVE} global_pooling: true }}', [(1, 2, 9, 8)], [(1, 2, 1, 1)], 144),
        ('type: "LRN" lrn_param { local_size: 5 }', [(1, 2, 3, 3)], [(1, 2, 3, 3)], 18 * 6),
        ('type: "Eltwise"', [(2, 3)] * 3, [(2, 3)], 18),
        ('type: "Eltwise" eltwise_param { operation: MAX }', [(2, 3)] * 3, [(2, 3)], 0),
        ('type: "BatchNorm"', [(2, 3)], [(2, 3)], 6),
        ('type: "ReLU"', [(2, 3)], [(2, 3)], 0),
        ('type: "Python"', [(2, 3)], [(2, 3)], 0),
        ('type: "InnerProduct"', [(0, 3)], [(0, 4)], 0),  # no rows: no work
    ],
)  # fmt: skip
def test_counts(text, bottoms, tops, count):
    params = [(4, 3)] if 'InnerProduct' in text else []
    assert work.forward(shapes(text, bottoms, tops, params)) == count


def test_a_backward_pass_costs_one_forward_for_the_weights_and_one_for_the_bottom():
    layer = shapes('type: "InnerProduct"', [(2, 3)], [(2, 4)], [(4, 3), (4,)])
    assert work.backward(layer, [True, True], [True]) == 2 * work.forward(layer)
    assert work.backward(layer, [True, True], [False]) == work.forward(layer)
    assert work.backward(layer, [False, False], [True]) == work.forward(layer)
    assert work.backward(layer, [False, False], [False]) == 0
    batch_norm = shapes('type: "BatchNorm"', [(2, 3)], [(2, 3)], [(3,), (3,), (1,)])
    assert work.backward(batch_norm, [False] * 3, [True]) == 6
