"""experiments/count_loading.py on checkouts that are written here."""

import subprocess
import sys
from pathlib import Path

import pytest
from count_loading import blocks, input_layers, is_net, settle, with_inputs
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from fast_rcnn.config import cfg

ROOT = Path(__file__).parents[2]
IP = """layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"""
INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n'
DATA = """layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "nowhere_lmdb" backend: LMDB batch_size: 2 } }
"""
ANNOTATED = """layer { name: "d"
  include { phase: TRAIN }  # type: "Data"
  transform_param { noise { type: "x" } } type: "AnnotatedData"
  top: "data" top: "label" resize_param { height: 300 width: 300 }
  annotated_data_param { batch_sampler { } } }
"""
ROIS = """layer { name: "data" type: "Python" top: "data" top: "rois" top: "labels" %s
  python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 3" } }
layer { name: "pick" type: "Python" bottom: "data" bottom: "labels" bottom: "rois" top: "f" top: "l" top: "r"
  python_param { module: "roi_data_layer.layer" layer: "ASDNPretrainLabelLayer" } }
"""
FILES = {
    'deploy.prototxt': INPUT + IP,
    'folder/rpn_test.pt': INPUT + IP,
    'train.prototxt': DATA + IP + LOSS,
    'ssd.prototxt': ANNOTATED + IP,
    'no_boxes.prototxt': ROIS % '',
    'boxes.prototxt': ROIS % 'top: "bbox_targets" top: "bbox_inside_weights" top: "bbox_outside_weights"',
    'first_release.prototxt': ROIS % 'top: "bbox_targets" top: "bbox_loss_weights"',
    'wrong.prototxt': INPUT + IP.replace('InnerProduct', 'Unpooling'),
    'solver.prototxt': 'net: "train.prototxt"\nbase_lr: 0.1\n',
    'solver_with_net.prototxt': f'base_lr: 0.1\nnet_param {{\n{INPUT + IP}}}\n',
    'labelmap.prototxt': 'item { name: "cat" label: 1 }\n',
}


@pytest.fixture
def checkout(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / 'checkout' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / 'checkout'


def test_nets_are_counted_by_what_they_need(checkout):
    done = subprocess.run(
        [sys.executable, str(ROOT / 'experiments/count_loading.py'), str(checkout), '--why'],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *reasons, head, _, row = done.stdout.strip().splitlines()
    assert head == '| checkout | nets | load | load with Input for data | do not load |'
    # deploy, rpn_test.pt, and three of Fast R-CNN's, each with the settings that its data layer shows; a net by a data
    # base that is not there, and one by a fork's layer; an unknown layer
    assert row == '| checkout | 8 | 5 | 2 | 1 |'
    assert [reason.split(': ')[:2] for reason in reasons] == [
        ['ssd.prototxt', 'load with Input for data'],
        ['train.prototxt', 'load with Input for data'],
        ['wrong.prototxt', 'do not load'],
    ]
    assert '"noise"' in reasons[0] and 'nowhere_lmdb' in reasons[1] and 'Unpooling' in reasons[2]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / 'experiments/count_loading.py'), str(tmp_path / 'none')],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and f'no folder: {tmp_path / "none"}' in done.stderr


def test_solvers_and_label_maps_are_no_nets():
    nets = [name for name, text in FILES.items() if is_net(text)]
    assert sorted(set(FILES) - set(nets)) == ['labelmap.prototxt', 'solver.prototxt', 'solver_with_net.prototxt']


def test_layers_are_found_by_their_braces():
    text = '# layer {\nlayer { a { } # }\n}\nlayers: {\n a { } }\n'
    assert [text[start:stop] for start, stop in blocks(text)] == [
        'layer { a { } # }\n}',
        'layers: {\n a { } }',
    ]


def test_data_layers_become_inputs_and_others_stay():
    assert with_inputs(INPUT + IP) is None
    text = with_inputs(ANNOTATED + IP)
    assert 'AnnotatedData' not in text and text.endswith(IP)
    assert 'top: "data" include { phase: TRAIN } input_param { shape { dim: 1 dim: 3 dim: 300 dim: 300 } }' in text
    assert 'top: "label" include { phase: TRAIN } input_param { shape { dim: 1 dim: 1 dim: 1 dim: 8 } }' in text
    image, label = input_layers(DATA, 'Data', 3, None)
    assert 'include { phase: TRAIN }' in image and 'dim: 224' in image and label.count('dim:') == 1


def test_settings_are_those_of_the_net_s_own_data_layer():
    """Python layers after it, of the same module, do not count."""

    cfg.TRAIN.BBOX_REG = False
    settle(text_format.Parse(FILES['boxes.prototxt'], caffe_pb2.NetParameter()))
    assert cfg.TRAIN.BBOX_REG and not cfg.TRAIN.HAS_RPN
    settle(text_format.Parse(FILES['no_boxes.prototxt'], caffe_pb2.NetParameter()))
    assert not cfg.TRAIN.BBOX_REG
