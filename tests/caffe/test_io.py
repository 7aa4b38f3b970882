"""caffe.io: messages to arrays and back, the Transformer, images."""

import cv2
import numpy as np
import pytest

import caffe
from caffe import io
from caffe.proto import caffe_pb2

RNG = np.random.default_rng(3)


# ---- Messages


def test_blobproto_round_trip():
    data, diff = RNG.standard_normal((2, 2, 3, 4)).astype('f')
    blob = caffe_pb2.BlobProto.FromString(io.array_to_blobproto(data, diff).SerializeToString())
    assert list(blob.shape.dim) == [2, 3, 4]
    np.testing.assert_array_equal(io.blobproto_to_array(blob), data)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), diff)


def test_blobproto_of_old_files_has_four_axes():
    blob = caffe_pb2.BlobProto(num=1, channels=2, height=1, width=3, data=range(6))
    np.testing.assert_array_equal(io.blobproto_to_array(blob), [[[[0, 1, 2]], [[3, 4, 5]]]])


def test_blobproto_refusals():
    with pytest.raises(ValueError, match=r'shape \[2, 2\] has 3 numbers'):
        io.blobproto_to_array(caffe_pb2.BlobProto(shape={'dim': [2, 2]}, data=[1, 2, 3]))
    with pytest.raises(ValueError, match='one shape'):
        io.array_to_blobproto(np.zeros(3), np.zeros(4))


def test_blobprotovector_round_trip():
    arrays = [np.arange(6.0).reshape(2, 3), np.array([7.0])]
    back = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str(arrays))
    for a, b in zip(arrays, back, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('dtype', ['u1', 'f4', 'f8'])
def test_datum_round_trip(dtype):
    array = RNG.integers(0, 256, (3, 4, 5)).astype(dtype)
    datum = caffe_pb2.Datum.FromString(io.array_to_datum(array, 7).SerializeToString())
    assert (datum.label, len(datum.data)) == (7, 60 if dtype == 'u1' else 0)
    back = io.datum_to_array(datum)
    assert back.dtype == (np.uint8 if dtype == 'u1' else np.float64)
    np.testing.assert_array_equal(back, array)
    back[...] = 0  # the caller's own


def test_datum_with_an_encoded_image():
    bgr = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    datum = caffe_pb2.Datum(encoded=True, data=cv2.imencode('.png', bgr)[1].tobytes())
    np.testing.assert_array_equal(io.datum_to_array(datum), bgr.transpose(2, 0, 1))


def test_datum_without_label_and_of_wrong_shape():
    assert not io.array_to_datum(np.zeros((1, 2, 3))).HasField('label')
    with pytest.raises(ValueError, match=r'got \(2, 3\)'):
        io.array_to_datum(np.zeros((2, 3)))


# ---- Transformer


def imagenet_transformer(mean):
    transformer = io.Transformer({'data': (10, 3, 4, 5)})
    transformer.set_transpose('data', (2, 0, 1))
    transformer.set_channel_swap('data', (2, 1, 0))
    transformer.set_raw_scale('data', 255)
    transformer.set_mean('data', np.array(mean))
    transformer.set_input_scale('data', 0.5)
    return transformer


def test_preprocess_in_caffes_order():
    image = np.zeros((4, 5, 3), 'f')
    image[1, 2] = [0.2, 0.4, 1.0]  # RGB
    before = image.copy()
    out = imagenet_transformer([10.0, 20, 30]).preprocess('data', image)
    assert (out.shape, out.dtype) == ((3, 4, 5), np.float32)
    # BGR, times 255, less the mean, times 0.5
    np.testing.assert_allclose(out[:, 1, 2], [(255 - 10) / 2, (102 - 20) / 2, (51 - 30) / 2], rtol=1e-6)
    np.testing.assert_array_equal(out[:, 0, 0], [-5, -10, -15])
    np.testing.assert_array_equal(image, before)


def test_deprocess_is_the_way_back():
    transformer = imagenet_transformer([10.0, 20, 30])
    image = RNG.random((4, 5, 3)).astype('f')
    blob = transformer.preprocess('data', image)
    np.testing.assert_allclose(transformer.deprocess('data', blob), image, atol=1e-6)
    np.testing.assert_allclose(transformer.deprocess('data', blob[np.newaxis]), image, atol=1e-6)


def test_deprocess_of_a_gray_image_and_an_odd_transpose():
    transformer = io.Transformer({'data': (1, 1, 4, 5)})
    transformer.set_transpose('data', (2, 0, 1))
    image = RNG.random((4, 5, 1)).astype('f')
    np.testing.assert_array_equal(transformer.deprocess('data', transformer.preprocess('data', image)), image)


def test_nothing_set_only_resizes_and_copies():
    transformer = io.Transformer({'data': (1, 4, 2, 2)})
    image = RNG.random((2, 2, 4)).astype('f')
    out = transformer.preprocess('data', image)
    np.testing.assert_array_equal(out, image)
    assert not np.shares_memory(out, image)
    assert transformer.preprocess('data', np.zeros((6, 6, 4), 'f')).shape == (2, 2, 4)


def test_a_mean_image_is_resized_to_the_input():
    transformer = io.Transformer({'data': (1, 3, 2, 2)})
    mean = np.repeat(np.arange(3.0), 64).reshape(3, 8, 8)  # constant in each channel
    transformer.set_mean('data', mean)
    assert transformer.mean['data'].shape == (3, 2, 2)
    np.testing.assert_allclose(transformer.mean['data'], mean[:, ::4, ::4])
    transformer.set_mean('data', mean[:, :2, :2])
    np.testing.assert_array_equal(transformer.mean['data'], mean[:, :2, :2])


def test_transformer_refusals():
    transformer = io.Transformer({'data': (1, 3, 4, 5)})
    for call, message in [
        (lambda: transformer.preprocess('image', None), "'image' is not one of the net inputs: data"),
        (lambda: transformer.set_transpose('data', (0, 1)), 'same number of dimensions as the input, 3'),
        (lambda: transformer.set_channel_swap('data', (1, 0)), 'as the input has channels, 3'),
        (lambda: transformer.set_mean('data', np.zeros(2)), 'Mean channels incompatible'),
        (lambda: transformer.set_mean('data', np.zeros((2, 4, 5))), 'Mean shape invalid'),
        (lambda: transformer.deprocess('data', np.zeros((2, 3, 4, 5))), 'one input of data'),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


# ---- Images


def test_resize_is_linear_between_pixel_centres():
    # Twice as wide: centres at -1/4, 1/4, 3/4 and 5/4 of [0, 1]; outside is the minimum, 0.
    out = io.resize_image(np.array([[[0.0], [1.0]]]), (1, 4))
    np.testing.assert_allclose(out[0, :, 0], [0, 0.25, 0.75, 0.75])
    # Half as wide, nothing smoothed: centres at 1/2 and 5/2.
    out = io.resize_image(np.array([[[2.0], [4], [8], [0]]]), (1, 2))
    np.testing.assert_allclose(out[0, :, 0], [3, 4])
    assert out.dtype == np.float32


def test_resize_of_other_than_one_or_three_channels_keeps_the_corners():
    image = np.stack([np.array([[0.0, 1.0]])] * 4, axis=2)
    np.testing.assert_allclose(io.resize_image(image, (1, 3))[0, :, 0], [0, 0.5, 1])


def test_resize_nearest_constant_and_unchanged():
    image = RNG.random((6, 6, 3)).astype('f')
    np.testing.assert_array_equal(io.resize_image(image, (6, 6)), image)
    np.testing.assert_array_equal(io.resize_image(image, (2, 2), 0), image[1::3, 1::3])
    np.testing.assert_array_equal(io.resize_image(np.full((3, 3, 1), 0.3), (2, 5)), np.full((2, 5, 1), 0.3, 'f'))
    with pytest.raises(ValueError, match=r'got \(3, 3\)'):
        io.resize_image(np.zeros((3, 3)), (2, 2))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_load_image(tmp_path, dtype):
    top = np.iinfo(dtype).max
    bgr = np.zeros((2, 3, 3), dtype)
    bgr[0, 1] = [top, 0, top // 5 * 2]
    path = str(tmp_path / 'color.png')
    cv2.imwrite(path, bgr)
    image = io.load_image(path)
    assert (image.shape, image.dtype) == ((2, 3, 3), np.float32)
    np.testing.assert_allclose(image[0, 1], [0.4, 0, 1], atol=1e-4)
    gray = io.load_image(path, color=False)
    assert gray.shape == (2, 3, 1)
    np.testing.assert_allclose(gray[0, 1, 0], 0.4 * 0.2125 + 0.0721, atol=1e-4)  # scikit-image's rgb2gray


def test_load_image_gray_and_alpha(tmp_path):
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, np.full((2, 3), 51, np.uint8))
    np.testing.assert_allclose(io.load_image(path), np.full((2, 3, 3), 0.2), rtol=1e-6)
    np.testing.assert_allclose(io.load_image(path, color=False), np.full((2, 3, 1), 0.2), rtol=1e-6)
    cv2.imwrite(path, np.full((2, 3, 4), [51, 0, 255, 9], np.uint8))
    np.testing.assert_allclose(io.load_image(path), np.full((2, 3, 3), [1, 0, 0.2]), rtol=1e-6)


def test_load_image_refusals(tmp_path):
    path = tmp_path / 'image.png'
    with pytest.raises(FileNotFoundError):
        io.load_image(str(path))
    path.write_text('no image')
    with pytest.raises(ValueError, match=r'image\.png: not an image'):
        io.load_image(str(path))


def test_oversample():
    image = np.arange(5 * 6).reshape(5, 6, 1)  # pixel (y, x) is 6 y + x
    crops = io.oversample([image, image + 100], (2, 3))
    assert (crops.shape, crops.dtype) == ((20, 2, 3, 1), np.float32)
    # corners at y 0 and 3, x 0 and 3; centre at (5 - 2) // 2, (6 - 3) // 2
    np.testing.assert_array_equal(crops[:5, 0, 0, 0], [0, 3, 18, 21, 7])
    np.testing.assert_array_equal(crops[5:10], crops[:5, :, ::-1])
    np.testing.assert_array_equal(crops[10:], crops[:10] + 100)
    with pytest.raises(ValueError, match='does not fit'):
        caffe.io.oversample([image], (6, 6))
