import cv2
import numpy as np
import pytest
from one_layer import forward, make

import caffe
from caffe.files.model_file import write_blobproto
from caffe.layer import LayerError
from caffe.layers.transformer import ImageTransformer
from caffe.proto import caffe_pb2

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (3, 6, 8), dtype=np.uint8)


def transform(train=False, **options):
    return ImageTransformer(caffe_pb2.TransformationParameter(**options), train)(IMAGE)


# -- transform_param


def test_nothing_asked_nothing_changed():
    out = transform()
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, IMAGE)


def test_mean_is_taken_away_before_scaling():
    np.testing.assert_allclose(transform(mean_value=[100], scale=0.5), (IMAGE - 100.0) / 2)
    each = np.array([10, 20, 30])
    np.testing.assert_allclose(transform(mean_value=each), IMAGE - each[:, None, None].astype('f'))


def test_crop_is_central_in_testing():
    np.testing.assert_array_equal(transform(crop_size=4), IMAGE[:, 1:5, 2:6])


def test_crops_in_training_are_anywhere_and_repeat_with_the_seed():
    caffe.set_random_seed(5)
    crops = [transform(train=True, crop_size=5) for _ in range(60)]
    places = [
        (y, x) for c in crops for y in range(2) for x in range(4) if np.array_equal(c, IMAGE[:, y : y + 5, x : x + 5])
    ]
    assert len(places) == 60 and len(set(places)) == 8
    caffe.set_random_seed(5)
    np.testing.assert_array_equal(transform(train=True, crop_size=5), crops[0])


def test_mirror_is_at_random():
    caffe.set_random_seed(0)
    kinds = {np.array_equal(transform(mirror=True), IMAGE) for _ in range(20)}
    assert kinds == {True, False}
    assert all(
        np.array_equal(m, IMAGE) or np.array_equal(m, IMAGE[:, :, ::-1])
        for m in (transform(mirror=True) for _ in range(20))
    )


def test_mean_image_is_cropped_with_the_image(tmp_path):
    mean = RNG.uniform(0, 255, (1, 3, 6, 8)).astype('f')
    write_blobproto(tmp_path / 'mean.binaryproto', mean)
    out = transform(crop_size=4, mean_file=str(tmp_path / 'mean.binaryproto'))
    np.testing.assert_allclose(out, IMAGE[:, 1:5, 2:6] - mean[0, :, 1:5, 2:6])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'crop_size': 7}, 'crop_size 7 is larger than an image of 6x8'),
        ({'mean_value': [1, 2]}, 'either 1 mean_value or as many as channels: 3; found 2'),
        ({'mean_value': [1], 'mean_file': 'm'}, 'Cannot specify mean_file and mean_value at the same time'),
        ({'force_color': True, 'force_gray': True}, 'cannot set both'),
    ],
)
def test_transform_refusals(options, message):
    with pytest.raises(LayerError, match=message):
        transform(**options)


# -- ImageData


@pytest.fixture
def images(tmp_path):
    """Three images a.png, b.png, 'c d.png' of 6x8 pixels, and a list with labels 0, 1, 2."""
    arrays = []
    lines = []
    for label, name in enumerate(['a.png', 'b.png', 'c d.png']):
        arrays.append(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        cv2.imwrite(str(tmp_path / name), arrays[-1])
        lines.append(f'{name} {label}\n')
    (tmp_path / 'list.txt').write_text(''.join(lines))
    return np.array(arrays).transpose(0, 3, 1, 2)


def image_data(folder, options='', transform=''):
    return make(
        f"""type: "ImageData" top: "data" top: "label" transform_param {{ {transform} }}
            image_data_param {{ source: "{folder}/list.txt" root_folder: "{folder}/" {options} }}"""
    )


def test_images_come_in_the_order_of_the_list_and_again(images, tmp_path):
    net = image_data(tmp_path, 'batch_size: 2')
    data, labels = forward(*net)
    np.testing.assert_array_equal(data, images[:2])
    assert labels.tolist() == [0, 1]
    data, labels = forward(*net)
    np.testing.assert_array_equal(data, images[[2, 0]])
    assert labels.tolist() == [2, 0]


def test_shuffled_every_image_comes_once_an_epoch(images, tmp_path):
    net = image_data(tmp_path, 'batch_size: 3 shuffle: true')
    for _ in range(5):
        data, labels = forward(*net)
        assert sorted(labels) == [0, 1, 2]
        np.testing.assert_array_equal(data, images[labels.astype(int)])


def test_resized_gray_and_transformed(images, tmp_path):
    net = image_data(tmp_path, 'new_height: 12 new_width: 4 is_color: false', 'scale: 0.5 crop_size: 3')
    data, _ = forward(*net)
    gray = cv2.imread(str(tmp_path / 'a.png'), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_allclose(data[0, 0], cv2.resize(gray, (4, 12))[4:7, 0:3] / 2)


def test_image_data_refusals(images, tmp_path):
    with pytest.raises(LayerError, match='new_height and new_width to be set at the same time'):
        image_data(tmp_path, 'new_height: 3')
    cv2.imwrite(str(tmp_path / 'b.png'), np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(LayerError, match=r'b\.png is \(3, 3, 3\).* the first of its batch \(3, 6, 8\)'):
        forward(*image_data(tmp_path, 'batch_size: 2'))
    (tmp_path / 'b.png').write_text('no image')
    with pytest.raises(LayerError, match=r'Could not load .*b\.png'):
        forward(*image_data(tmp_path, 'batch_size: 2'))
    (tmp_path / 'list.txt').write_text('a.png 0\n\na.png dog\n')
    with pytest.raises(LayerError, match=r"list\.txt:3: expected \"path label\", got 'a.png dog'"):
        image_data(tmp_path)
    (tmp_path / 'list.txt').write_text('\n')
    with pytest.raises(LayerError, match='File is empty'):
        image_data(tmp_path)
