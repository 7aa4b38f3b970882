"""Anchors fitted to boxes, and prototxts made for them."""

from itertools import pairwise

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from projects.anchors import SetAnchorsError, fitted_anchors, set_anchors, smallest_side
from projects.photographs import Box, Photograph
from rpn.generate_anchors import generate_anchors


def photograph(*boxes):
    """200 x 100 pixels with boxes of these widths and heights."""
    return Photograph('a.jpg', 200, 100, tuple(Box('x', 0, 0, w, h, False, 'a.xml') for w, h in boxes))


def test_anchors_run_from_the_small_boxes_to_the_large_in_steps_of_two():
    squares = photograph(*[(2**k, 2**k) for k in np.linspace(3, 6, 101)])  # 8 to 64 pixels, twice that in the net
    scales, ratios = fitted_anchors([squares], scale=200)
    # 5 % are beyond at either end: 16 * 2**0.15 = 17.8 and 128 / 2**0.15 = 115.4 pixels, of 16 for scale 1
    assert scales[0] == pytest.approx(17.8 / 16, abs=0.01) and scales[-1] == pytest.approx(115.4 / 16, abs=0.02)
    assert len(scales) == 4 and all(1.7 < b / a < 2 for a, b in pairwise(scales))
    assert ratios == [0.77, 1.0, 1.3]


def test_boxes_of_one_size_are_met_by_an_anchor_of_it():
    scales, ratios = fitted_anchors([photograph((32, 16))], scale=100)
    assert (scales[1], ratios[1]) == (pytest.approx(512**0.5 / 16, abs=0.01), 0.5)
    x1, y1, x2, y2 = generate_anchors(ratios=ratios, scales=scales)[4]
    assert (x2 - x1 + 1, y2 - y1 + 1) == pytest.approx((32, 16), abs=1)


def test_ratios_are_height_to_width():
    _, ratios = fitted_anchors([photograph((10, 40), (20, 20), (40, 10))], scale=100)
    assert ratios[1] == 1 and ratios[0] < 0.77 and ratios[2] > 1.3


def test_the_smallest_side_of_proposals():
    assert smallest_side([photograph((10, 40))]) == 5
    assert smallest_side([photograph((90, 90))]) == 16
    assert smallest_side([photograph((1, 1))]) == 1


@pytest.mark.parametrize('file', ['train', 'test'])
@pytest.mark.parametrize('net', ['models/demo/small', 'models/pascal_voc/VGG16', 'models/pascal_voc/VGG_CNN_M_1024'])
def test_a_prototxt_for_other_anchors(net, file):
    path = f'{net}/faster_rcnn_end2end_ohem/{file}.prototxt'
    with open(path, encoding='utf-8') as stream:
        before = stream.read()
    param = text_format.Parse(set_anchors(before, [1.5, 3, 6, 12], [0.5, 1, 2]), caffe_pb2.NetParameter())
    layers = {layer.name: layer for layer in param.layer}
    assert layers['rpn_cls_score'].convolution_param.num_output == 24
    assert layers['rpn_bbox_pred'].convolution_param.num_output == 48
    assert list(layers['rpn_cls_prob_reshape'].reshape_param.shape.dim) == [0, 24, -1, 0]
    stride = 8 if 'small' in net else 16
    for name in ('proposal', *(['rpn-data'] if file == 'train' else [])):
        given = layers[name].python_param.param_str
        assert given == f"{{'feat_stride': {stride}, 'scales': [1.5, 3, 6, 12], 'ratios': [0.5, 1, 2]}}"
    assert list(layers['rpn_cls_score_reshape'].reshape_param.shape.dim) == [0, 2, -1, 0]


def test_the_changed_net_runs(tmp_path):
    with open('models/demo/small/faster_rcnn_end2end_ohem/test.prototxt', encoding='utf-8') as stream:
        (tmp_path / 'test.prototxt').write_text(set_anchors(stream.read(), [1.5, 3, 6, 12, 20], [0.5, 1, 2]))
    net = caffe.Net(str(tmp_path / 'test.prototxt'), caffe.TEST)
    net.blobs['data'].reshape(1, 3, 64, 96)
    net.blobs['data'].data[...] = 1
    net.blobs['im_info'].data[...] = 64, 96, 1
    net.forward()
    assert net.blobs['rpn_cls_prob_reshape'].data.shape[1] == 30 and net.blobs['rois'].data.shape[1] == 5


def test_a_net_without_an_rpn():
    with (
        open('models/demo/small/fast_rcnn/test.prototxt', encoding='utf-8') as stream,
        pytest.raises(
            SetAnchorsError,
            match=r'fast/test\.prototxt: no layer with feat_stride, rpn_bbox_pred, rpn_cls_prob_reshape',
        ),
    ):
        set_anchors(stream.read(), [1], [1], 'fast/test.prototxt')
