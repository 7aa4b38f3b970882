"""NetSpec: nets written in Python become the prototxts that BVLC's net_spec.py makes of them."""
# ruff: noqa: C408 (nets are written with dict(), as in pycaffe)

import copy

import pytest
from google.protobuf import text_format

import caffe
from caffe import NetSpec, to_proto
from caffe import layers as L
from caffe import params as P
from caffe.net_spec import assign_proto, param_name_dict
from caffe.proto import caffe_pb2


def same(net, text):
    assert net == text_format.Parse(text, caffe_pb2.NetParameter())


def test_named_blobs_name_their_layers():
    n = NetSpec()
    n.data, n.label = L.Data(ntop=2, batch_size=64, source='a_db', backend=P.Data.LMDB)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type='xavier'))
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.relu1, n.label)
    same(
        n.to_proto(),
        """
        layer { name: "data" type: "Data" top: "data" top: "label"
          data_param { source: "a_db" batch_size: 64 backend: LMDB } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
          convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
          pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
        layer { name: "relu1" type: "ReLU" bottom: "pool1" top: "pool1" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool1" bottom: "label" top: "loss" }""",
    )


def test_unnamed_blobs_are_numbered_by_type():
    data = L.DummyData(shape=dict(dim=[1, 2]))
    hidden = L.ReLU(L.InnerProduct(L.InnerProduct(data, num_output=3), num_output=4), in_place=True)
    same(
        to_proto(hidden, L.Silence(hidden, ntop=0)),
        """
        layer { name: "DummyData1" type: "DummyData" top: "DummyData1"
          dummy_data_param { shape { dim: 1 dim: 2 } } }
        layer { name: "InnerProduct1" type: "InnerProduct" bottom: "DummyData1" top: "InnerProduct1"
          inner_product_param { num_output: 3 } }
        layer { name: "InnerProduct2" type: "InnerProduct" bottom: "InnerProduct1" top: "InnerProduct2"
          inner_product_param { num_output: 4 } }
        layer { name: "ReLU1" type: "ReLU" bottom: "InnerProduct2" top: "InnerProduct2" }
        layer { name: "Silence1" type: "Silence" bottom: "InnerProduct2" }""",
    )
    assert hidden.to_proto() == to_proto(hidden)


def test_layers_without_tops_are_named_by_their_attribute():
    n = NetSpec()
    n.x = L.Input(shape=[dict(dim=[1, 2])])
    n.quiet = L.Silence(n.x, ntop=0)
    assert [(layer.name, list(layer.top)) for layer in n.to_proto().layer] == [('x', ['x']), ('quiet', [])]


def test_keywords_go_to_the_layers_own_message_or_to_the_layer():
    top = L.Python(module='m', layer='C', param_str='7', ntop=2, include=dict(phase=caffe.TRAIN), loss_weight=[1, 0])
    same(
        to_proto(*top),
        """layer { name: "Python1" type: "Python" top: "Python1" top: "Python2" loss_weight: 1 loss_weight: 0
          include { phase: TRAIN } python_param { module: "m" layer: "C" param_str: "7" } }""",
    )
    top = L.Deconvolution(L.Input(), param=[dict(lr_mult=0)], convolution_param=dict(num_output=2, kernel_size=[3, 4]))
    same(
        top.to_proto(),
        """layer { name: "Input1" type: "Input" top: "Input1" }
        layer { name: "Deconvolution1" type: "Deconvolution" bottom: "Input1" top: "Deconvolution1"
          param { lr_mult: 0 } convolution_param { num_output: 2 kernel_size: 3 kernel_size: 4 } }""",
    )


def test_an_own_option_may_end_as_whole_messages_do():
    n = NetSpec()
    n.x = L.DetectionOutput(L.Input(), num_classes=3, nms_param=dict(top_k=4), loss_param=dict(ignore_label=1))
    layer = n.to_proto().layer[1]
    assert (layer.detection_output_param.num_classes, layer.detection_output_param.nms_param.top_k) == (3, 4)
    assert layer.loss_param.ignore_label == 1


def test_items_update_and_delete():
    n = NetSpec()
    n['a/b'] = L.Input(shape=dict(dim=1))
    n.c = L.ReLU(n['a/b'])
    assert list(n.tops) == ['a/b', 'c']
    assert [layer.name for layer in copy.copy(n).to_proto().layer] == ['a/b', 'c']
    del n['a/b']
    assert [layer.name for layer in n.to_proto().layer] == ['Input1', 'c']
    del n.c
    assert not n.tops
    assert not hasattr(n, 'c')


def test_a_net_deeper_than_pythons_stack():
    top = L.Input(shape=dict(dim=1))
    for _ in range(5000):
        top = L.ReLU(top)
    assert [layer.name for layer in top.to_proto().layer][-1] == 'ReLU5000'


def test_assign_proto():
    layer = caffe_pb2.LayerParameter()
    assign_proto(layer, 'bottom', 'one')
    assign_proto(layer, 'bottom', ['two'])
    assign_proto(layer, 'transform_param', {'mean_value': (1, 2), 'mirror': True})
    assert list(layer.bottom) == ['one', 'two']
    assert list(layer.transform_param.mean_value) == [1, 2]


def test_names_of_parameters():
    names = param_name_dict()
    assert names['InnerProduct'] == 'inner_product'
    assert names['HDF5Data'] == 'hdf5_data'
    assert P.Eltwise.MAX == caffe_pb2.EltwiseParameter.MAX == 2


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda x: L.Convolution(x, kernal_size=3), AttributeError, "did you mean 'kernel_size'"),
        (
            lambda x: L.Deconvolution(x, num_output=3),
            AttributeError,
            r'write convolution_param=dict\(num_output=...\)',
        ),
        (
            lambda x: L.Convolution(x, weight_filler=dict(tipe='xavier')),
            AttributeError,
            "no field 'tipe'; did you mean 'type'",
        ),
        (
            lambda x: L.Convolution(x, num_output='ten'),
            TypeError,
            r"'Convolution1' .*: in field ConvolutionParameter.num_output: cannot be 'ten'",
        ),
    ],
)
def test_wrong_options_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make(L.Input(shape=dict(dim=1))).to_proto()


def test_other_mistakes():
    n = NetSpec()
    with pytest.raises(TypeError, match=r'tuple of 2 tops: give each a name'):
        n.data = L.Data(ntop=2)
    with pytest.raises(TypeError, match=r"^ReLU input 0 is not a Top \(type is <class 'tuple'>\)"):
        L.ReLU(L.Data(ntop=2))
    with pytest.raises(AttributeError, match='PoolingParameter has no constant'):
        _ = P.Pooling.MEAN
    with pytest.raises(AttributeError, match="did you mean 'Pooling'"):
        _ = P.Poling.MAX


def test_names_blobs_and_options_as_ssds_scripts_ask_for_them():
    """keys, vals and update of python/caffe/net_spec.py, branch ssd of weiliu89/caffe."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={'dim': [1, 3, 8, 8]})
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3)
    assert n.keys() == ['data', 'conv']
    assert n.vals() == [n.data, n.conv]
    n.update('conv', {'pad': 1, 'kernel_size': 5})
    options = n.to_proto().layer[1].convolution_param
    assert (options.num_output, list(options.kernel_size), list(options.pad)) == (4, [5], [1])
