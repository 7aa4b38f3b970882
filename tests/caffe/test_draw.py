"""caffe.draw: nets as Graphviz graphs."""

import shutil

import pytest
from google.protobuf import text_format

import caffe
from caffe import draw
from caffe.proto import caffe_pb2

TEXT = """
name: "a net"
layer { name: "in" type: "Data" top: "x" top: "label" include { phase: TRAIN } data_param { batch_size: 8 } }
layer { name: "in" type: "Input" top: "x" include { phase: TEST } }
layer { name: "conv/1" type: "Convolution" bottom: "x" top: "conv/1" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 20 kernel_h: 3 kernel_w: 5 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv/1" top: "conv/1" }
layer { name: "pool" type: "Pooling" bottom: "conv/1" top: "pool" pooling_param { pool: AVE kernel_size: 2 } }
layer { name: "global" type: "Pooling" bottom: "pool" top: "global" pooling_param { global_pooling: true } }
"""
NET = text_format.Parse(TEXT, caffe_pb2.NetParameter())

needs_graphviz = pytest.mark.skipif(shutil.which('dot') is None, reason="Graphviz's program dot is not installed")


def node_labels(graph):
    return [node.get_label().strip('"') for node in graph.get_nodes()]


def test_labels_and_edges():
    graph = draw.get_pydot_graph(NET, 'TB', phase=caffe.TRAIN, display_lrm=True)
    assert node_labels(graph) == [
        'in (Data)',
        'x',
        'label',
        'conv/1 (Convolution) kernel size: 3x5 stride: 2 pad: 0 lr mult: 1, 2',
        'conv/1',
        'relu (ReLU)',
        'pool (AVE Pooling) kernel size: 2 stride: 1 pad: 0',
        'pool',
        'global (MAX Pooling) global',
        'global',
    ]
    edges = [edge.get_label() for edge in graph.get_edges() if edge.get_label()]
    assert [label.strip(' "') for label in edges] == ['Batch 8', 'Batch 8', '20', '', '']
    in_place = [edge for edge in graph.get_edges() if edge.get('dir') == 'both']
    assert len(in_place) == 1


def test_phases():
    assert 'in (Input)' not in node_labels(draw.get_pydot_graph(NET, 'TB', phase=caffe.TRAIN))
    assert 'in (Data)' not in node_labels(draw.get_pydot_graph(NET, 'TB', phase=caffe.TEST))
    both = node_labels(draw.get_pydot_graph(NET, 'TB'))
    assert {'in (Data)', 'in (Input)'} <= set(both)


def test_old_formats_are_upgraded_first():
    v1 = text_format.Parse('layers { name: "r" type: RELU bottom: "x" top: "y" }', caffe_pb2.NetParameter())
    assert node_labels(draw.get_pydot_graph(v1, 'LR')) == ['r\\n(ReLU)', 'x', 'y']


def test_text_needs_no_graphviz(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    path = tmp_path / 'net.dot'
    draw.draw_net_to_file(NET, str(path))
    assert path.read_text().startswith('digraph "a net" {')
    with pytest.raises(RuntimeError, match=r'install graphviz .* or draw to a \.dot file'):
        draw.draw_net_to_file(NET, str(tmp_path / 'net.png'))
    assert list(tmp_path.iterdir()) == [path]


@needs_graphviz
def test_pictures(tmp_path):
    path = tmp_path / 'net.png'
    draw.draw_net_to_file(NET, str(path), 'BT', caffe.TEST)
    assert path.read_bytes().startswith(b'\x89PNG')
    assert b'conv/1' in draw.draw_net(NET, 'LR', 'svg')
    with pytest.raises(ValueError, match=r"cannot draw 'foo': .*not recognized"):
        draw.draw_net_to_file(NET, str(tmp_path / 'net.foo'))


def test_refusals():
    with pytest.raises(ValueError, match="rankdir is LR, RL, TB or BT, not 'up'"):
        draw.get_pydot_graph(NET, 'up')
    with pytest.raises(ValueError, match='the ending says the format'):
        draw.draw_net_to_file(NET, 'net')
