import sys

import cv2
import numpy as np
import pytest
from one_layer import forward, make

from caffe.layer import LayerError
from caffe.layers.lmdb_data import datum_image
from caffe.proto import caffe_pb2

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 3, 4, 5), dtype=np.uint8)


def encoded(image):
    return cv2.imencode('.png', image.transpose(1, 2, 0))[1].tobytes()


def test_datum_of_raw_encoded_and_float_pixels():
    raw = caffe_pb2.Datum(channels=3, height=4, width=5, data=IMAGES[0].tobytes())
    np.testing.assert_array_equal(datum_image(raw), IMAGES[0])
    file = caffe_pb2.Datum(encoded=True, data=encoded(IMAGES[0]))
    np.testing.assert_array_equal(datum_image(file), IMAGES[0])
    assert datum_image(file, force_gray=True).shape == (1, 4, 5)
    floats = caffe_pb2.Datum(channels=1, height=1, width=2, float_data=[0.5, -1])
    np.testing.assert_array_equal(datum_image(floats), [[[0.5, -1]]])


def test_datum_refusals():
    with pytest.raises(LayerError, match='Incorrect data field size: 3 numbers for a datum of shape'):
        datum_image(caffe_pb2.Datum(channels=1, height=2, width=2, data=b'abc'))
    with pytest.raises(LayerError, match='Could not decode datum'):
        datum_image(caffe_pb2.Datum(encoded=True, data=b'abc'))


def data(folder, options=''):
    return make(
        f"""type: "Data" top: "data" top: "label"
            data_param {{ source: "{folder}" backend: LMDB batch_size: 2 {options} }}"""
    )


def test_records_come_in_order_and_again_for_every_net(tmp_path):
    lmdb = pytest.importorskip('lmdb')
    with lmdb.open(str(tmp_path), map_size=1 << 20) as database, database.begin(write=True) as transaction:
        for i, image in enumerate(IMAGES):
            datum = caffe_pb2.Datum(channels=3, height=4, width=5, data=image.tobytes(), label=i)
            transaction.put(f'{i:08d}'.encode(), datum.SerializeToString())
    first, second = data(tmp_path), data(tmp_path)
    for net in (first, second):
        for order in ([0, 1], [2, 0], [1, 2]):
            images, labels = forward(*net)
            np.testing.assert_array_equal(images, IMAGES[order])
            assert labels.tolist() == order


def test_no_database(tmp_path):
    pytest.importorskip('lmdb')
    with pytest.raises(LayerError, match='which is not there'):
        data(tmp_path / 'none')
    (tmp_path / 'data.mdb').write_bytes(b'x' * 9000)
    with pytest.raises(LayerError, match='is no LMDB'):
        data(tmp_path)


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lmdb', None)
    with pytest.raises(LayerError, match='pip install lmdb'):
        data(tmp_path)


def test_leveldb_is_refused():
    with pytest.raises(LayerError, match=r'LEVELDB \(the default\), which is not read here: convert the data set'):
        make('type: "Data" top: "data" data_param { source: "x" batch_size: 1 }')
