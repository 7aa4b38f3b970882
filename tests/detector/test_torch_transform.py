"""TorchImageTransformLayer: pixels as networks trained in Torch want them."""

import numpy as np
import pytest
from stand_in_data import GOLDEN

import caffe
from fast_rcnn.config import cfg
from fast_rcnn.test import im_detect, load_net
from roi_data_layer.image_blob import read_image

# The colour (B, G, R) of every pixel
COLOUR = np.array([51.0, 102.0, 204.0], np.float32)  # 0.2, 0.4, 0.8 of 255


def net(tmp_path, param_str='', shape='dim: 2 dim: 3 dim: 4 dim: 5'):
    (tmp_path / 'net.prototxt').write_text(f"""
layer {{ name: "data_caffe" type: "Input" top: "data_caffe" input_param {{ shape {{ {shape} }} }} }}
layer {{ name: "data_xform" type: "Python" bottom: "data_caffe" top: "data"
  python_param {{ module: "transform.torch_image_transform_layer" layer: "TorchImageTransformLayer"
    param_str: "{param_str}" }} }}""")
    return caffe.Net(str(tmp_path / 'net.prototxt'), caffe.TEST)


def as_a_data_layer_gives_it(images=2):
    pixels = np.zeros((images, 3, 4, 5), np.float32)
    pixels += (COLOUR - cfg.PIXEL_MEANS.ravel()).astype(np.float32)[:, None, None]
    return pixels


def test_rgb_between_0_and_1_less_the_mean_over_the_deviation(tmp_path):
    """The numbers are those of fb.resnet.torch, which py-faster-rcnn's layer has too."""
    given = as_a_data_layer_gives_it()
    before = given.copy()
    n = net(tmp_path)
    out = n.forward(data_caffe=given)['data']
    red = (0.8 - 0.48462227599918) / 0.22889466674951
    green = (0.4 - 0.45624044862054) / 0.22446679341259
    blue = (0.2 - 0.40588363755159) / 0.22495548344775
    assert out.shape == (2, 3, 4, 5)
    for channel, expected in enumerate((red, green, blue)):
        np.testing.assert_allclose(out[:, channel], expected, atol=1e-5)
    np.testing.assert_array_equal(n.blobs['data_caffe'].data, before)  # the original adds the means into it


def test_other_means_of_the_settings(tmp_path):
    cfg.PIXEL_MEANS = np.array([[[10.0, 20.0, 30.0]]])
    out = net(tmp_path).forward(data_caffe=as_a_data_layer_gives_it())['data']
    np.testing.assert_allclose(out[:, 0], (0.8 - 0.48462227599918) / 0.22889466674951, atol=1e-5)


def test_other_numbers_and_sizes(tmp_path):
    n = net(tmp_path, "{'means': [0.5, 0.25, 0], 'stds': [0.1, 0.5, 2]}")
    n.blobs['data_caffe'].reshape(1, 3, 4, 5)
    out = n.forward(data_caffe=as_a_data_layer_gives_it(1))['data']
    np.testing.assert_allclose(out[0, :, 0, 0], [3, 0.3, 0.1], atol=1e-5)


@pytest.mark.parametrize(
    ('param_str', 'shape', 'message'),
    [
        ('', 'dim: 2 dim: 1 dim: 4 dim: 5', r'bottom 0 is of shape \(2, 1, 4, 5\); expected images \(N, 3, H, W\)'),
        ("{'mean': [1, 2, 3]}", None, 'it may give means and stds, three numbers each in RGB order'),
        ("{'means': [1, 2]}", None, 'three numbers each'),
        ("{'stds': [1, 2, 0]}", None, 'those of stds above 0'),
        ("{'stds': ['a', 2, 1]}", None, 'three numbers each'),
        ("{'stds': 1}", None, 'three numbers each'),
        ('means', None, 'it may give means and stds'),
        ('{', None, "param_str '{' is not valid YAML: expected the node content"),
        ('{' * 9999, None, 'param_str .{0,210} is not valid YAML'),
        (f"{{'means': [{'9' * 400}, 0, 0]}}", None, 'three numbers each'),
    ],
)
def test_bad_input(tmp_path, param_str, shape, message):
    with pytest.raises(ValueError, match=message):
        net(tmp_path, param_str, *[shape] if shape else [])


def test_two_bottoms_are_not_one(tmp_path):
    blobs = 'layer { name: "a" type: "Input" top: "a" top: "b" input_param { shape { dim: [1, 3, 4, 4] } } }'
    python = 'module: "transform.torch_image_transform_layer" layer: "TorchImageTransformLayer"'
    layer = f'layer {{ name: "x" type: "Python" bottom: "a" bottom: "b" top: "x" python_param {{ {python} }} }}'
    (tmp_path / 'two.prototxt').write_text(f'{blobs}\n{layer}')
    with pytest.raises(ValueError, match='has 2 bottoms and 1 tops; expected 1 of each'):
        caffe.Net(str(tmp_path / 'two.prototxt'), caffe.TEST)


def test_a_detector_with_it_tests_as_others_do(tmp_path):
    """As docs/your-own-data.md has it: the input is data, the first layer reads data_xform."""
    path = GOLDEN / 'detect.prototxt'
    layer = (
        'layer { name: "data_xform" type: "Python" bottom: "data" top: "data_xform" python_param { '
        'module: "transform.torch_image_transform_layer" layer: "TorchImageTransformLayer" } }\n'
        'layer { name: "conv1" type: "Convolution" bottom: "data_xform"'
    )
    text = path.read_text().replace('layer { name: "conv1" type: "Convolution" bottom: "data"', layer)
    (tmp_path / 'net.prototxt').write_text(text)
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE = (300,), 600
    detector = load_net(str(tmp_path / 'net.prototxt'), str(GOLDEN / 'detect.caffemodel'))
    image = read_image(GOLDEN / 'images' / 'BloodImage_00007.jpg')
    scores, _ = im_detect(detector, image, np.array([[0, 0, 200, 200], [50, 60, 400, 300]], np.float32))
    assert scores.shape == (2, 4)
    seen = detector.blobs['data_xform'].data
    assert -3 < seen.min() < seen.max() < 3  # brightnesses in deviations
