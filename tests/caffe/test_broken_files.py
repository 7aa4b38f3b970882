"""Damaged files, and nets with numbers out of all proportion, end in one message that names file and layer."""

import resource
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.files import model_file
from caffe.kernels import host_memory
from caffe.kernels.host_memory import check_room

BROKEN = Path(__file__).parent / 'broken'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('netfwd_1001', r"1001\.prototxt:3: layer 'input' \(Input\): .*blob size exceeds INT_MAX: shape \(2, 92233"),
        ('netfwd_813', r"813\.prototxt:3: layer 'input' .*none of them negative; got shape \(-2147483648, 3, 6, 5\)"),
        (
            'netfwd_1247',
            r"1247\.prototxt:5: layer 't' \(Tile\): .*blob size exceeds INT_MAX: shape \(2, 6442450941, 4, 4\)",
        ),
        ('netfwd_1952', r"1952\.prototxt:4: layer 'layer' \(Embed\): filler uniform: from min -1 to max inf is more"),
        ('netfwd_460', r"460\.prototxt:10: layer 'ip' \(InnerProduct\): filler gaussian: std is nan"),
        (
            'netfwd_4929',
            r"4929\.prototxt:5: layer 'layer' \(ROIPooling\): .*blob size exceeds INT_MAX: shape \(9, 4, 7, 21",
        ),
    ],
)
def test_a_net_with_a_number_out_of_proportion(name, message, monkeypatch):
    monkeypatch.syspath_prepend(BROKEN.parents[1] / 'golden')  # netfwd_460 names a Python layer there
    monkeypatch.chdir(BROKEN.parents[1] / 'golden' / 'solvers')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(caffe.LayerError, match=message):
        caffe.Net(str(BROKEN / f'{name}.prototxt'), caffe.TEST).forward()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


@pytest.mark.parametrize(
    ('layer', 'message'),
    [
        ('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 pad: 2000000000 }', 'Convolution'),
        (
            'type: "Convolution" convolution_param { num_output: 2147483647 kernel_size: 1 }',
            'blob size exceeds INT_MAX',
        ),
        ('type: "InnerProduct" inner_product_param { num_output: 2000000000 }', 'INT_MAX|GiB are left'),
        ('type: "Pooling" pooling_param { kernel_size: 2 pad: 1 stride: 4000000000 }', ''),
        ('type: "Tile" tile_param { axis: 0 tiles: 1099511 }', 'INT_MAX|GiB are left'),
        ('type: "SPP" spp_param { pyramid_height: 30 }', ''),
    ],
)
def test_numbers_that_no_machine_holds_are_refused_by_the_layer(tmp_path, layer, message):
    path = tmp_path / 'net.prototxt'
    shape = 'dim: 2 dim: 3 dim: 64 dim: 64'
    path.write_text(
        f'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}\n'
        f'layer {{ name: "huge" bottom: "x" top: "y" {layer} }}'
    )
    with pytest.raises(caffe.LayerError, match=rf"net\.prototxt:2: layer 'huge' .*({message})"):
        caffe.Net(str(path), caffe.TEST).forward()


def test_more_memory_than_there_is_left_is_refused_before_it_is_touched():
    with pytest.raises(
        ValueError, match=r'a blob of shape \(7,\) needs 1048576\.0 GiB of memory; [0-9.]+ GiB are left'
    ):
        check_room(2**50, 'a blob of shape (7,)')
    check_room(2**20, 'a small one')


def test_blobs_that_together_need_more_than_there_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(host_memory, '_left', lambda: 4 * 2**30)
    path = tmp_path / 'net.prototxt'
    shape = 'dim: 1 dim: 64 dim: 2048 dim: 2048'  # 1 GiB
    layers = [f'layer {{ name: "in" type: "Input" top: "b0" input_param {{ shape {{ {shape} }} }} }}']
    layers += [f'layer {{ name: "r{k}" type: "Power" bottom: "b{k}" top: "b{k + 1}" }}' for k in range(4)]
    for n in (4, 5):
        path.write_text('\n'.join(layers[:n]))
        if n == 4:
            caffe.Net(str(path), caffe.TEST)  # just fits, and nothing is touched yet
    said = (
        r"this net of 5 blobs, the largest 'b0' of \(1, 64, 2048, 2048\), needs 5\.0 GiB of memory; 4\.0 GiB are left"
    )
    with pytest.raises(caffe.LayerError, match=said):
        caffe.Net(str(path), caffe.TEST)


def test_what_torch_raises_in_a_native_layer_is_placed_and_what_a_python_layer_raises_stays(tmp_path, monkeypatch):
    path = tmp_path / 'net.prototxt'
    path.write_text("""
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "relu" type: "ReLU" bottom: "x" top: "y" }""")
    net = caffe.Net(str(path), caffe.TEST)

    def refuse(bottom, top):
        raise RuntimeError('the tensor has a negative dimension\nand a long story')

    monkeypatch.setattr(net.layers[1], 'forward', refuse)
    place = r"net\.prototxt:3: layer 'relu' \(ReLU\): "
    with pytest.raises(caffe.LayerError, match=place + r'RuntimeError: the tensor has a negative dimension'):
        net.forward()
    net.layers[1].layer_param.type = 'Python'
    with pytest.raises(RuntimeError, match='a long story'):
        net.forward()


def test_hdf5data_of_a_damaged_file(tmp_path):
    listed = tmp_path / 'list.txt'
    listed.write_text(str(BROKEN / 'hdf5data_2.h5'))
    path = tmp_path / 'net.prototxt'
    path.write_text(
        'layer { name: "rows" type: "HDF5Data" top: "data" top: "label"\n'
        f'  hdf5_data_param {{ source: "{listed}" batch_size: 2 }} }}'
    )
    with pytest.raises(
        caffe.LayerError, match=r"net\.prototxt:1: layer 'rows' .*hdf5data_2\.h5: it is damaged or none"
    ):
        caffe.Net(str(path), caffe.TEST)


def test_a_solver_state_with_a_zero_byte_in_a_name():
    with pytest.raises(
        caffe.ModelFileError, match=r'solverstate_190\.solverstate, byte \d+: the name .* has a zero byte'
    ):
        model_file.read_state(BROKEN / 'solverstate_190.solverstate')


@pytest.mark.parametrize('name', ['elsewhere/gone.caffemodel', '/', '..'])
def test_a_solver_state_whose_weights_are_gone_names_both(tmp_path, name):
    (tmp_path / 'net.prototxt').write_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
    )
    (tmp_path / 'solver.prototxt').write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed"')
    model_file.write_state(tmp_path / 's.solverstate', 3, name, [], 0)
    message = rf"weights that belong to this solver state, '{name}', are not there, and not beside it: .*s\.solverstate"
    with pytest.raises(FileNotFoundError, match=message):
        caffe.get_solver(str(tmp_path / 'solver.prototxt')).restore(str(tmp_path / 's.solverstate'))


@pytest.mark.parametrize('value', [np.nan, -np.inf])
@pytest.mark.parametrize('form', ['BINARYPROTO', 'HDF5'])
def test_a_history_that_is_not_finite_is_not_resumed_from(tmp_path, value, form):
    (tmp_path / 'net.prototxt').write_text("""
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }""")
    path = tmp_path / 'solver.prototxt'
    path.write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 '
        f'snapshot_prefix: "{tmp_path}/s" snapshot_format: {form}'
    )
    solver = caffe.get_solver(str(path))
    solver.history[1].data[1] = value
    solver.snapshot()
    state = str(tmp_path / 's_iter_0.solverstate') + ('.h5' if form == 'HDF5' else '')
    with pytest.raises(caffe.SolverError, match=r'history blob 1, of shape \(2,\), holds numbers that are not finite'):
        caffe.get_solver(str(path)).restore(state)
