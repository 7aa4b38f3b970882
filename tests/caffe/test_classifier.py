"""Classifier and Detector, on a net whose output is the mean of each channel of its input."""

import cv2
import numpy as np
import pytest

import caffe

MEANS = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } } }
layer { name: "means" type: "Pooling" bottom: "data" top: "means"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "out" type: "Flatten" bottom: "means" top: "out" }
"""


@pytest.fixture
def files(tmp_path):
    """A prototxt, and weights of it (none)."""
    model, weights = str(tmp_path / 'deploy.prototxt'), str(tmp_path / 'empty.caffemodel')
    with open(model, 'w') as file:
        file.write(MEANS)
    caffe.Net(model, caffe.TEST).save(weights)
    return model, weights


@pytest.fixture
def picture(tmp_path):
    """A 20 x 30 picture: left half red, right half blue."""
    bgr = np.zeros((20, 30, 3), np.uint8)
    bgr[:, :15, 2] = bgr[:, 15:, 0] = 255
    path = str(tmp_path / 'picture.png')
    cv2.imwrite(path, bgr)
    return path


def test_classifier_takes_the_centre_crop(files):
    image = np.zeros((8, 8, 3), 'f')
    image[1:7, 1:7] = [0.1, 0.2, 0.4]
    net = caffe.Classifier(*files, image_dims=(8, 8), raw_scale=10, channel_swap=(2, 1, 0), mean=np.array([1.0, 0, 0]))
    out = net.predict([image, image * 2], oversample=False)
    np.testing.assert_allclose(out, [[3, 2, 1], [7, 4, 2]], rtol=1e-5)


def test_classifier_takes_the_mean_over_ten_crops(files):
    image = np.zeros((8, 8, 3), 'f')
    image[0, 0] = 1  # in one of the four corner crops, and in its mirror image
    out = caffe.Classifier(*files, image_dims=(8, 8)).predict([image] * 5)
    np.testing.assert_allclose(out, np.full((5, 3), 2 / 10 / 36), rtol=1e-5)


def test_classifier_resizes_to_the_input(files):
    out = caffe.Classifier(*files).predict([np.full((11, 4, 3), 0.5)], oversample=False)
    np.testing.assert_allclose(out, [[0.5, 0.5, 0.5]], rtol=1e-6)


def test_detector_sees_windows(files, picture):
    windows = [(0, 0, 20, 15), (5, 15, 11, 30), (0, 0, 20, 30), (-5, -5, 6, 6), (0, 12, 6, 18)]
    found = caffe.Detector(*files).detect_windows(iter([(picture, windows)]))
    assert [d['window'] for d in found] == windows
    assert {d['filename'] for d in found} == {picture}
    expected = [[1, 0, 0], [0, 0, 1], [0.5, 0, 0.5], [1, 0, 0], [0.5, 0, 0.5]]
    np.testing.assert_allclose([d['prediction'] for d in found], expected, atol=1e-6)
    assert caffe.Detector(*files).detect_windows([]) == []


def test_detector_adds_context_and_fills_up_with_the_mean(files, picture):
    net = caffe.Detector(*files, raw_scale=255, mean=np.array([51.0, 0, 102]), channel_swap=(2, 1, 0), context_pad=1)
    image = caffe.io.load_image(picture)
    assert net.crop(image, (8, 4, 12, 8)).shape == (6, 6, 3)
    # The window of 4 x 4 pixels at the corner grows by 6 / (6 - 2) around its centre: a sixth lies outside.
    crop = net.crop(image, (0, 0, 4, 4))
    np.testing.assert_allclose(crop[0], np.tile([0.4, 0, 0.2], (6, 1)), rtol=1e-6)  # the mean, as RGB of 0 to 1
    np.testing.assert_allclose(crop[:, 0], np.tile([0.4, 0, 0.2], (6, 1)), rtol=1e-6)
    np.testing.assert_allclose(crop[1:, 1:], np.tile([1, 0, 0], (5, 5, 1)))
    # and the filling becomes 0 in the net's input
    np.testing.assert_allclose(net.transformer.preprocess('data', crop)[:, 0], 0, atol=1e-5)


def test_detector_proposes_windows_itself(files, picture):
    found = caffe.Detector(*files).detect_selective_search([picture])
    windows = np.array([d['window'] for d in found])
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= (20, 30)).all()
    best = found[[d['window'].tolist() for d in found].index([0, 0, 20, 15])]
    np.testing.assert_allclose(best['prediction'], [1, 0, 0], atol=0.05)


def test_detector_refusals(files, picture):
    with pytest.raises(ValueError, match=r'window \(0, 30, 5, 35\) .* has no pixels'):
        caffe.Detector(*files).detect_windows([(picture, [(0, 30, 5, 35)])])
    with pytest.raises(ValueError, match='context_pad 3 needs a square input of more than 6 pixels'):
        caffe.Detector(*files, context_pad=3)
