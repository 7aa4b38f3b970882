"""All names that `import caffe` gives its users in BVLC Caffe 1.0 (python/caffe/__init__.py) are here."""
# ruff: noqa: SIM905 (lists of names)

import importlib
import subprocess
import sys

import pytest

import caffe

# python/caffe/__init__.py of BVLC Caffe 1.0
NAMES = """
Net SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver NCCL Timer
init_log log set_mode_cpu set_mode_gpu set_device Layer get_solver layer_type_list set_random_seed
solver_count set_solver_count solver_rank set_solver_rank set_multiprocess has_nccl __version__
TRAIN TEST Classifier Detector io layers params NetSpec to_proto
""".split()

# what pycaffe.py imports from _caffe
NET_AND_SOLVERS = 'Net SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver NCCL Timer'

# what pycaffe.py and _caffe.cpp give a Net
NET_NAMES = """
blobs blob_loss_weights params inputs outputs top_names bottom_names layer_dict layers
forward backward forward_all forward_backward_all set_input_arrays reshape clear_param_diffs
copy_from share_with save save_hdf5 load_hdf5 before_forward after_forward before_backward after_backward
_forward _backward _batch _blobs _blob_names _layer_names _blob_loss_weights _inputs _outputs _top_ids
_bottom_ids _set_input_arrays
""".split()

IO_NAMES = """
blobproto_to_array array_to_blobproto arraylist_to_blobprotovector_str blobprotovector_str_to_arraylist
array_to_datum datum_to_array Transformer load_image resize_image oversample
""".split()


@pytest.mark.parametrize('name', NAMES)
def test_module(name):
    assert hasattr(caffe, name)


@pytest.mark.parametrize('name', IO_NAMES)
def test_io(name):
    assert hasattr(caffe.io, name)


def test_submodules_that_are_imported_by_name():
    for name, inside in [
        ('caffe.pycaffe', NET_AND_SOLVERS),
        (
            'caffe._caffe',
            f'{NET_AND_SOLVERS} Solver Blob '
            'Layer get_solver layer_type_list set_mode_cpu set_mode_gpu set_device set_random_seed init_log log '
            'solver_count set_solver_count solver_rank set_solver_rank set_multiprocess has_nccl __version__',
        ),
        ('caffe.classifier', 'Classifier'),
        ('caffe.detector', 'Detector'),
        ('caffe.draw', 'get_pydot_graph draw_net draw_net_to_file'),
        ('caffe.coord_map', 'coord_map_from_to crop'),
        ('caffe.net_spec', 'layers params NetSpec to_proto assign_proto Top Function'),
        ('caffe.proto.caffe_pb2', 'NetParameter SolverParameter BlobProto Datum'),
    ]:
        module = importlib.import_module(name)
        assert all(hasattr(module, n) for n in inside.split()), name


@pytest.fixture
def net(tmp_path):
    path = tmp_path / 'net.prototxt'
    path.write_text("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 4 } }
        layer { name: "sum" type: "Reduction" bottom: "ip" top: "sum" loss_weight: 0.5 }""")
    return caffe.Net(str(path), caffe.TRAIN)


@pytest.mark.parametrize('name', NET_NAMES)
def test_net(net, name):
    assert hasattr(net, name)


def test_privates_that_user_scripts_read(net):
    assert list(net._layer_names) == ['x', 'ip', 'sum']
    assert list(net._blob_names) == ['x', 'ip', 'sum']
    assert net._blobs[1].shape == (2, 4)
    assert (list(net._inputs), list(net._outputs)) == ([0], [2])
    assert (list(net._bottom_ids(1)), list(net._top_ids(1))) == ([0], [1])
    assert net._blob_loss_weights == [0, 0, 0.5]


def test_layers_and_blobs(net):
    layer = net.layers[1]
    assert layer.type == 'InnerProduct'
    assert [blob.shape for blob in layer.blobs] == [(4, 3), (4,)]
    blob = net.blobs['ip']
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 4, 1, 1, 8)


def test_layers_is_both_a_package_and_a_pseudo_module():
    from caffe import layers as L
    from caffe.layers.pooling import Pooling

    assert Pooling is not L.Pooling
    assert L.Pooling().fn.type_name == 'Pooling'
    assert 'Convolution' in dir(L)
    with pytest.raises(AttributeError, match='begin with a capital'):
        _ = L.convolutional


def test_pil_image_is_there_for_programs_that_import_pil_alone():
    """pycaffe's scikit-image loaded the submodule; here it loads at its first use."""
    program = """
import sys, PIL, caffe
assert 'PIL.Image' not in sys.modules
assert PIL.Image.new('L', (2, 3)).size == (2, 3)
assert not hasattr(PIL, 'Images')
"""
    subprocess.run([sys.executable, '-c', program], check=True)
