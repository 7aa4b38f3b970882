"""Stand-ins for layers that a Caffe may lack, against what Fast R-CNN's Caffe recorded."""

from pathlib import Path

import numpy as np
import pytest
from stand_in_data import Blob

import caffe
from caffe_stand_ins import layers, prototxt

LAYERS = Path(__file__).parents[1] / 'golden' / 'layers'


def make(cls, param_str, bottom):
    made = type('Made', (cls,), {'param_str': param_str}).__new__(type('Made', (cls,), {'param_str': param_str}))
    top = [Blob()]
    made.setup(bottom, top)
    made.reshape(bottom, top)
    made.forward(bottom, top)
    return made, top


def pooled(features, rois, size, scale):
    bottom = [Blob(features), Blob(rois)]
    layer, top = make(
        layers.RoIPooling,
        f"{{'pooled_h': {size[0]}, 'pooled_w': {size[1]}, 'spatial_scale': {scale}}}",
        bottom,
    )
    return layer, bottom, top


def by_definition(features, rois, size, scale):
    """Pixel by pixel, as roi_pooling_layer.cpp is written: values, and the first position of each maximum."""
    height, width = features.shape[2:]
    out = np.zeros((len(rois), features.shape[1], *size), np.float32)
    where = np.full(out.shape, -1)
    for r, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (int(np.floor(np.float32(c) * np.float32(scale) + 0.5)) for c in corners)
        bin_h = np.float32(max(y2 - y1 + 1, 1)) / np.float32(size[0])
        bin_w = np.float32(max(x2 - x1 + 1, 1)) / np.float32(size[1])
        for ph in range(size[0]):
            for pw in range(size[1]):
                top_left = np.floor(np.float32(ph) * bin_h), np.floor(np.float32(pw) * bin_w)
                bottom_right = np.ceil(np.float32(ph + 1) * bin_h), np.ceil(np.float32(pw + 1) * bin_w)
                ys = range(max(int(top_left[0]) + y1, 0), min(int(bottom_right[0]) + y1, height))
                xs = range(max(int(top_left[1]) + x1, 0), min(int(bottom_right[1]) + x1, width))
                for c in range(features.shape[1]):
                    cells = [(features[int(image), c, y, x], -(y * width + x)) for y in ys for x in xs]
                    if cells:
                        best = max(cells)
                        out[r, c, ph, pw], where[r, c, ph, pw] = best[0], -best[1]
    return out, where


@pytest.mark.parametrize('seed', range(3))
def test_pooling_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((2, 3, 9, 13)), 0).astype(np.float32).round(1)  # with many ties
    corner = rng.uniform(-20, 200, (40, 2))
    boxes = np.hstack((corner, corner + rng.uniform(-10, 180, (40, 2))))  # beyond the image, and x2 < x1, too
    boxes = np.maximum(boxes, 0) if seed else boxes
    rois = np.column_stack((rng.integers(0, 2, 40), boxes)).astype(np.float32)
    _, _, top = pooled(features, rois, (3, 4), 1 / 16)
    out, where = by_definition(features, rois, (3, 4), 1 / 16)
    np.testing.assert_array_equal(top[0].data, out)
    np.testing.assert_array_equal(layers.roi_argmax(features, rois, (3, 4), 1 / 16), where)


def test_pooling_gives_each_maximum_its_gradient():
    features = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    rois = [[0, 0, 0, 3, 3], [0, 0, 0, 1, 1], [0, 2, 2, 1, 1]]
    layer, bottom, top = pooled(features, np.array(rois, np.float32), (1, 1), 1)
    assert top[0].data.ravel().tolist() == [15, 5, 10]
    top[0].diff[...] = np.array([1, 10, 100], np.float32).reshape(3, 1, 1, 1)
    layer.backward(top, [True, False], bottom)
    expected = np.zeros(16)
    expected[[15, 5]] = 1, 10  # the third RoI, with x2 < x1, is pooled as 1 x 1 but gets no gradient
    np.testing.assert_array_equal(bottom[0].diff.ravel(), expected)


@pytest.mark.parametrize('weighted', [True, False])
def test_smooth_l1_gradient_is_the_slope_of_the_loss(weighted):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((3, 4)) * 2 for _ in range(2)] + [rng.random((3, 4)) for _ in range(2)]
    bottom = [Blob(value) for value in values[: 4 if weighted else 2]]
    layer, top = make(layers.SmoothL1Loss, "{'sigma': 2}", bottom)
    top[0].diff[...] = 3  # loss_weight
    layer.backward(top, [True, True], bottom)
    for i in range(2):
        for index in np.ndindex(3, 4):
            ends = []
            for step in (-0.01, 0.01):
                moved = [Blob(blob.data) for blob in bottom]
                moved[i].data = moved[i].data.copy()
                moved[i].data[index] += step
                ends.append(make(layers.SmoothL1Loss, "{'sigma': 2}", moved)[1][0].data.item())
            assert bottom[i].diff[index] == pytest.approx(3 * (ends[1] - ends[0]) / 0.02, abs=0.02)


def test_smooth_l1_with_the_three_bottoms_of_the_first_release():
    bottom = [Blob(np.array([rows], np.float32)) for rows in ([1, 5, 3], [0.5, 1, 0], [1, 0.5, 0])]
    layer, top = make(layers.SmoothL1Loss, '', bottom)
    assert top[0].data.item() == 0.125 + 1.5  # weights * (a - b) = [0.5, 2, 0]
    top[0].diff[...] = 1
    layer.backward(top, [True, True, True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [[0.5, 1, 0]])  # not multiplied by the weights again
    np.testing.assert_array_equal(bottom[1].diff, [[-0.5, -1, 0]])


def recorded_cases(word):
    return [path.stem for path in sorted(LAYERS.glob('*.npz')) if word in path.stem]


@pytest.mark.parametrize('case', recorded_cases('roi') + recorded_cases('smooth_l1'))
def test_as_recorded_on_the_original_caffe(case, tmp_path):
    rewritten = tmp_path / 'net.prototxt'
    text = (LAYERS / f'{case}.prototxt').read_text()
    rewritten.write_text(prototxt.rewrite(text, ['ROIPooling', 'SmoothL1Loss']))
    assert '"Python"' in rewritten.read_text()
    net = caffe.Net(str(rewritten), caffe.TRAIN)
    recorded = np.load(LAYERS / f'{case}.npz')
    for key in recorded.files:
        if key.startswith('in/'):
            net.blobs[key[3:]].reshape(*recorded[key].shape)
            net.blobs[key[3:]].data[...] = recorded[key]
    net.forward()
    for key in recorded.files:
        if key.startswith('out/'):
            np.testing.assert_allclose(net.blobs[key[4:]].data.ravel(), recorded[key].ravel(), rtol=1e-5, atol=1e-6)
        if key.startswith('topdiff/'):
            net.blobs[key[8:]].diff[...] = recorded[key].reshape(net.blobs[key[8:]].diff.shape)
    net.backward()
    for key in recorded.files:
        if key.startswith('bottomdiff/'):
            np.testing.assert_allclose(net.blobs[key[11:]].diff, recorded[key], rtol=1e-5, atol=1e-6, err_msg=key)


NET = """
name: "net" # layer { in a comment
layer { name: "pool" type: "ROIPooling" bottom: "a" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_w: 7 pooled_h: 6 spatial_scale: 0.0625 # 1/16 }
  } }
layer { name: "odd } name" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SmoothL1Loss" bottom: "ip" bottom: "t" top: "loss" loss_weight: 2 }
"""


def test_only_missing_types_are_rewritten():
    assert prototxt.rewrite(NET, []) == NET
    text = prototxt.rewrite(NET, ['ROIPooling'])
    assert 'layer: "RoIPooling"' in text and "'pooled_w': 7, 'pooled_h': 6, 'spatial_scale': 0.0625" in text
    assert 'roi_pooling_param' not in text and 'type: "SmoothL1Loss"' in text
    both = prototxt.rewrite(NET, ['ROIPooling', 'SmoothL1Loss'])
    assert 'loss_weight: 2' in both and 'num_output: 3' in both and 'odd } name' in both
    assert both.count('type: "Python"') == 2


def test_a_net_that_an_earlier_run_rewrote_still_loads(tmp_path):
    """It names the module that had the layers then."""
    path = tmp_path / 'python_layers_net.prototxt'
    path.write_text(
        'layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "loss" type: "Python" bottom: "a" bottom: "b" top: "loss" loss_weight: 1 '
        'python_param { module: "roi_data_layer.stand_ins" layer: "SmoothL1Loss" param_str: "{\'sigma\': 1}" } }'
    )
    net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs['a'].data[...] = 2
    assert net.forward()['loss'] == pytest.approx(3 * 1.5)  # smooth L1 of 2 is 1.5; three numbers a row


def test_a_net_that_caffe_knows_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / 'net.prototxt'
    path.write_text(NET)
    known = ['ROIPooling', 'SmoothL1Loss', 'InnerProduct']
    monkeypatch.setattr(prototxt.caffe, 'layer_type_list', lambda: known)
    assert prototxt.prototxt_with_stand_ins(str(path), str(tmp_path)) == str(path)
    known.remove('ROIPooling')
    other = prototxt.prototxt_with_stand_ins(str(path), str(tmp_path))
    assert other != str(path) and 'RoIPooling' in Path(other).read_text()
