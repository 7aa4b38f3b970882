"""Nets as ONNX files give what the engine gives, in onnxruntime."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('onnx', reason='export needs the package onnx: pip install onnx onnxruntime')
pytest.importorskip('onnxruntime', reason='what is exported is run by onnxruntime: pip install onnxruntime')

import export_cases
import exported
import onnx
import published_nets

import caffe
from caffe.__main__ import main
from caffe.layer import layer_type_list
from caffe.onnx_export import recipes
from caffe.onnx_export.model import ExportError, export

MOST = 1e-4


def net_of(tmp_path, text, phase=caffe.TEST):
    path = tmp_path / 'net.prototxt'
    path.write_text(text)
    return caffe.Net(str(path), phase)


INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'


@pytest.mark.parametrize('layer_type', layer_type_list())
def test_every_type_exports_or_says_why_not(layer_type):
    recipes.load()
    assert recipes.exports_type(layer_type) != bool(recipes.why_not(layer_type))


def test_every_type_that_exports_has_a_case():
    recipes.load()
    tried = {name for case in export_cases.CASES for name in case.types}
    assert {name for name in layer_type_list() if recipes.exports_type(name)} - tried == set()


def version_of_onnxruntime():
    return tuple(map(int, exported.onnxruntime.__version__.split('.')[:2]))


@pytest.mark.parametrize('case', export_cases.CASES, ids=lambda case: case.name)
def test_onnxruntime_equals_the_engine(case, tmp_path):
    if case.name == 'DetectionOutput none' and version_of_onnxruntime() < (1, 24):
        pytest.skip('onnxruntime 1.18 to 1.23 end the process where an SSD finds nothing (docs/export.md)')
    assert exported.measure(case, tmp_path) < MOST


@pytest.mark.parametrize('path', exported.recordings(), ids=lambda path: path.stem)
def test_onnxruntime_equals_the_original_caffe(path):
    assert exported.measure_recording(path)[1] < MOST


@pytest.mark.parametrize(
    ('text', 'sizes'),
    [
        (published_nets.lenet(), [(2, 1, 28, 28), (5, 1, 28, 28)]),
        (published_nets.caffenet(), [(2, 3, 227, 227)]),
        (published_nets.caffenet(norm_first=True), [(1, 3, 227, 227)]),
        (published_nets.googlenet(), [(1, 3, 224, 224), (2, 3, 224, 224)]),
        (published_nets.resnet50(), [(1, 3, 224, 224), (2, 3, 197, 251)]),
    ],
    ids=['LeNet', 'CaffeNet', 'AlexNet', 'GoogLeNet', 'ResNet-50'],
)
def test_published_nets(text, sizes, tmp_path):
    """Every blob of the nets, with weights that keep numbers about as large as they came in."""
    net = net_of(tmp_path, text)
    rng = np.random.default_rng(0)
    for node in net.nodes:
        for k, blob in enumerate(node.layer.blobs):
            spread = rng.standard_normal(blob.shape)
            if node.layer.type == 'BatchNorm':
                blob.data[...] = spread if k == 0 else np.abs(spread) + 0.5
            elif node.layer.type == 'Scale':
                blob.data[...] = 0.5 + 0.1 * spread
            else:
                blob.data[...] = spread * (np.sqrt(2 / np.prod(blob.shape[1:])) if len(blob.shape) > 1 else 0.1)
    names = [name for name in net.blobs if '_split_' not in name and name != 'data']
    running = exported.session(export(net, names))
    for size in sizes:
        data = rng.uniform(-128, 128, size).astype(np.float32)
        exported.run(net, {'data': data})
        got = running.run(names, {'data': data})
        worst = {n: exported.difference(g, np.array(net.blobs[n].data)) for n, g in zip(names, got, strict=True)}
        assert max(worst.values()) < MOST, max(worst, key=worst.get)


def test_a_real_resnet_50(tmp_path):
    from test_real_model import DEPLOY, IMAGES, WEIGHTS

    net = caffe.Net(DEPLOY, caffe.TEST, weights=WEIGHTS)
    model = export(net, ['fc_nsfw', 'pool'])
    assert exported.compare(net, model, [{'data': IMAGES[:1]}]) < MOST


def test_lengths_are_free_where_the_net_takes_others(tmp_path):
    tail = 'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }'
    shape = exported.session(export(net_of(tmp_path, INPUT + tail))).get_inputs()[0].shape
    assert shape == ['data.N', 3, 8, 8]
    tail = (
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        'convolution_param { num_output: 2 kernel_size: 3 } }'
    )
    running = exported.session(export(net_of(tmp_path, INPUT + tail)))
    assert running.get_inputs()[0].shape == ['data.N', 3, 'data.H', 'data.W']
    assert running.get_outputs()[0].shape == ['c.N', 2, 'c.H', 'c.W']


def test_exporting_leaves_shapes_and_inputs_as_they_were(tmp_path):
    net = net_of(tmp_path, INPUT + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    net.blobs['data'].data[...] = 7
    export(net)
    assert net.blobs['data'].shape == net.blobs['r'].shape == (1, 3, 8, 8)
    assert (net.blobs['data'].data == 7).all()


def test_a_blob_has_its_name_and_the_last_value_of_layers_in_place(tmp_path):
    net = net_of(
        tmp_path,
        INPUT + 'layer { name: "p" type: "Power" bottom: "data" top: "x" power_param { shift: -1 } }'
        'layer { name: "r" type: "ReLU" bottom: "x" top: "x" } layer { name: "t" type: "TanH" bottom: "x" top: "y" }',
    )
    (x,) = exported.session(export(net, ['x'])).run(['x'], {'data': np.zeros((1, 3, 8, 8), np.float32)})
    assert (x == 0).all()  # max(-1, 0)


def test_a_parameter_of_two_layers_is_there_once(tmp_path):
    layer = (
        'layer {{ name: "{0}" type: "InnerProduct" bottom: "{1}" top: "{0}" '
        'param {{ name: "w" }} param {{ name: "b" }} inner_product_param {{ num_output: 192 }} }}'
    )
    net = net_of(tmp_path, INPUT + layer.format('a', 'data') + layer.format('b', 'a'))
    exported_net = export(net)
    assert [list(t.dims) for t in exported_net.graph.initializer if len(t.dims) > 1] == [[192, 192]]
    exported_bytes = exported_net.SerializeToString()
    onnx.checker.check_model(exported_bytes, full_check=True)


def test_all_layers_that_do_not_export_are_named_at_once(tmp_path):
    net = net_of(
        tmp_path,
        'layer { name: "mem" type: "MemoryData" top: "data" top: "label" memory_data_param { batch_size: 1 channels: 3 '
        'height: 8 width: 8 } }\n'
        'layer { name: "noise" type: "DummyData" top: "noise" dummy_data_param { shape { dim: 2 } '
        'data_filler { type: "gaussian" } } }\n'
        'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'
        'layer { name: "drop" type: "Dropout" bottom: "r" top: "d" }',
        caffe.TRAIN,
    )
    with pytest.raises(ExportError) as error:
        export(net)
    text = str(error.value)
    assert "net.prototxt:1: layer 'mem' (MemoryData): it reads the memory of its process" in text
    assert "net.prototxt:2: layer 'noise' (DummyData): its numbers are random (filler 'gaussian')" in text
    assert "net.prototxt:4: layer 'drop' (Dropout): it is random in TRAIN" in text
    assert "'r'" not in text


def test_a_blob_that_is_not_there_is_named(tmp_path):
    net = net_of(tmp_path, INPUT + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    with pytest.raises(ValueError, match='no blob fc7; it has data, r'):
        export(net, ['fc7'])


def test_rois_none_of_them(tmp_path):
    case = next(case for case in export_cases.CASES if case.types == ['ROIPooling'])
    net = net_of(tmp_path, case.prototxt)
    arrays = case.arrays(0) | {'rois': np.zeros((0, 5), np.float32)}
    (got,) = exported.session(export(net)).run(None, arrays)
    assert got.shape == (0, 3, 7, 6)


def test_rois_are_pooled_to_the_digit(tmp_path):
    case = next(case for case in export_cases.CASES if case.types == ['ROIPooling'])
    net = net_of(tmp_path, case.prototxt)
    assert exported.compare(net, export(net), [case.arrays(k) for k in range(case.n_sizes)]) == 0


def command(tmp_path, net):
    """Runs `caffe export` on a net; returns the exit status and the file that it writes."""
    net.save(str(tmp_path / 'net.caffemodel'))
    files = {'--def': 'net.prototxt', '--net': 'net.caffemodel', '--out': 'net.onnx'}
    status = main(['export', *(word for flag, name in files.items() for word in (flag, str(tmp_path / name)))])
    return status, tmp_path / 'net.onnx'


def test_the_command(tmp_path):
    tail = (
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" '
        'inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }'
    )
    net = net_of(tmp_path, INPUT + tail)
    status, out = command(tmp_path, net)
    assert status == 0
    assert exported.compare(net, onnx.load(out), [{'data': np.ones((2, 3, 8, 8), np.float32)}]) < MOST


def test_the_command_names_a_layer_that_does_not_export(tmp_path, capsys):
    text = (
        'layer { name: "noise" type: "DummyData" top: "noise" '
        'dummy_data_param { shape { dim: 2 } data_filler { type: "gaussian" } } }'
    )
    status, out = command(tmp_path, net_of(tmp_path, text))
    assert status == 1
    assert "layer 'noise' (DummyData)" in capsys.readouterr().err
    assert not out.exists()


def test_importing_caffe_does_not_import_onnx():
    code = 'import caffe, caffe.__main__, sys; sys.exit("onnx" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
