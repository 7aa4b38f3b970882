import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from one_layer import forward, make

from caffe.files.lmdb_file import LmdbFile
from caffe.layer import LayerError
from caffe.layers.lmdb_data import _records, datum_image
from caffe.proto import caffe_pb2

BROKEN = Path(__file__).parent / 'broken'
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
    with pytest.raises(LayerError, match='which is not there'):
        data(tmp_path / 'none')
    (tmp_path / 'data.mdb').write_bytes(b'x' * 9000)
    with pytest.raises(LayerError, match='is no LMDB'):
        data(tmp_path)


def written(folder, records, **options):
    lmdb = pytest.importorskip('lmdb')
    with lmdb.open(str(folder), map_size=1 << 24, **options) as database, database.begin(write=True) as transaction:
        for key, value in records.items():
            transaction.put(key, value)


def test_a_file_is_read_as_lmdbs_own_library_reads_it(tmp_path):
    """A tree of several levels, values that need pages of their own, records taken out again."""
    lmdb = pytest.importorskip('lmdb')
    records = {f'{i * 7919 % 10007:06d}'.encode(): bytes([i % 251]) * (i % 97) for i in range(3000)}
    records |= {f'large {i}'.encode(): bytes([i]) * 3000 * i for i in range(8)}
    written(tmp_path, records)
    with lmdb.open(str(tmp_path), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key in list(records)[::5]:
            transaction.delete(key)
            del records[key]
    assert list(LmdbFile(str(tmp_path)).records()) == sorted(records.items())
    assert len(LmdbFile(str(tmp_path))) == len(records)


def test_a_database_without_a_folder(tmp_path):
    written(tmp_path / 'one_file', {b'a': b'1'}, subdir=False)
    assert list(LmdbFile(str(tmp_path / 'one_file')).records()) == [(b'a', b'1')]


def test_an_empty_database(tmp_path):
    written(tmp_path, {})
    with pytest.raises(LayerError, match='has no records'):
        data(tmp_path)


@pytest.mark.parametrize('name', ['lmdb_10.mdb', 'lmdb_333.mdb'])
def test_a_database_that_was_cut_short_is_refused(tmp_path, name):
    """To map it would end the process (SIGBUS). tests/caffe/broken holds files that once did."""
    shutil.copy(BROKEN / name, tmp_path / 'data.mdb')
    have = (BROKEN / name).stat().st_size
    with pytest.raises(LayerError, match=rf'data\.mdb is damaged: it is cut short, has {have} bytes of 12288'):
        data(tmp_path)


def test_damaged_databases_are_refused_or_read_and_never_end_the_process(tmp_path):
    """Bits flipped in headers and pages; each either reads or raises LayerError."""
    image = bytes(1600)
    written(tmp_path / 'whole', {f'{i:04d}'.encode(): image * (1 + i % 4) for i in range(40)})
    whole = (tmp_path / 'whole' / 'data.mdb').read_bytes()
    refused, rng = 0, np.random.default_rng(0)
    for i in range(150):
        damaged = bytearray(whole)
        for _ in range(1 + i % 3):
            page, at = rng.integers(len(whole) // 4096), rng.integers(160)
            damaged[page * 4096 + at] ^= 1 << rng.integers(8)
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / 'data.mdb').write_bytes(damaged)
        try:
            for _ in zip(range(45), _records(str(folder)), strict=False):
                pass
        except LayerError as error:
            refused += 1
            assert str(folder) in str(error)
    assert 10 < refused < 150


def test_a_net_that_fails_leaves_its_database_to_others(tmp_path):
    lmdb = pytest.importorskip('lmdb')
    datum = caffe_pb2.Datum(channels=1, height=1, width=1, data=b'a').SerializeToString()
    written(tmp_path, {b'0': datum})
    net = data(tmp_path)
    forward(*net)
    written(tmp_path, {b'1': b'no Datum'})  # a process may open an LMDB only once
    with pytest.raises(LayerError, match=r"record '1' of .* is no readable Datum"):
        forward(*data(tmp_path))
    with lmdb.open(str(tmp_path)) as database:
        assert database.stat()['entries'] == 2


def test_leveldb_is_refused():
    with pytest.raises(LayerError, match=r'LEVELDB \(the default\), which is not read here: convert the data set'):
        make('type: "Data" top: "data" data_param { source: "x" batch_size: 1 }')
