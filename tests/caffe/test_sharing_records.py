"""In TRAIN the solvers of a training share out the records of Data, HDF5Data and ImageData, as Caffe's do."""

import cv2
import h5py
import numpy as np
import pytest

import caffe
from caffe.proto import caffe_pb2


@pytest.fixture
def as_rank(monkeypatch):
    """as_rank(rank, count): makes this process that one."""

    def set_place(rank, count):
        monkeypatch.setattr('caffe.process.ranks._Process.rank', rank)
        monkeypatch.setattr('caffe.process.ranks._Process.count', count)

    return set_place


@pytest.fixture
def layer(tmp_path):
    """layer(kind, batch_size, options): the text of a data layer of the records 0, 1, ..., 6, which are its labels."""

    def data(batch_size, options):
        lmdb = pytest.importorskip('lmdb')
        with lmdb.open(str(tmp_path / 'db')) as database, database.begin(write=True) as transaction:
            for i in range(7):
                datum = caffe_pb2.Datum(channels=1, height=1, width=1, label=i, float_data=[i])
                transaction.put(b'%d' % i, datum.SerializeToString())
        return f'type: "Data" data_param {{ source: "{tmp_path}/db" backend: LMDB batch_size: {batch_size} {options} }}'

    def hdf5(batch_size, options):
        for name, rows in (('a', range(4)), ('b', range(4, 7))):
            with h5py.File(tmp_path / f'{name}.h5', 'w') as file:
                file['d'] = file['l'] = np.array(rows, 'f')
        (tmp_path / 'list').write_text(f'{tmp_path}/a.h5\n{tmp_path}/b.h5\n')
        return f'type: "HDF5Data" hdf5_data_param {{ source: "{tmp_path}/list" batch_size: {batch_size} {options} }}'

    def images(batch_size, options):
        for i in range(7):
            cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((2, 2, 3), i, np.uint8))
        (tmp_path / 'images').write_text(''.join(f'{tmp_path}/{i}.png {i}\n' for i in range(7)))
        return (
            f'type: "ImageData" image_data_param {{ source: "{tmp_path}/images" batch_size: {batch_size} {options} }}'
        )

    kinds = {'Data': data, 'HDF5Data': hdf5, 'ImageData': images}

    def write(kind, batch_size, options=''):
        path = tmp_path / 'net.prototxt'
        path.write_text(f'layer {{ name: "d" top: "d" top: "l" {kinds[kind](batch_size, options)} }}')
        return str(path)

    return write


def seen(net, batches, phase=caffe.TRAIN):
    """The labels of so many batches; the data are those of the labels."""
    net = caffe.Net(net, phase)
    labels = []
    for _ in range(batches):
        out = net.forward()
        np.testing.assert_array_equal(out['d'].reshape(len(out['l']), -1).max(axis=1), out['l'])
        labels += out['l'].astype(int).tolist()
    return labels


@pytest.mark.parametrize('kind', ['Data', 'HDF5Data', 'ImageData'])
def test_every_so_many_th_record_goes_to_a_rank(layer, as_rank, kind):
    """Of 0 ... 6, over and over, three ranks take every third: 0 3 6 2 5 1 4, then the same again."""
    net = layer(kind, 2)
    for rank, expected in enumerate(([0, 3, 6, 2, 5, 1, 4, 0], [1, 4, 0, 3, 6, 2, 5, 1], [2, 5, 1, 4, 0, 3, 6, 2])):
        as_rank(rank, 3)
        assert seen(net, 4) == expected
        assert seen(net, 4, caffe.TEST) == [0, 1, 2, 3, 4, 5, 6, 0]
    as_rank(0, 1)
    assert seen(net, 4) == [0, 1, 2, 3, 4, 5, 6, 0]


@pytest.mark.parametrize('kind', ['Data', 'HDF5Data', 'ImageData'])
def test_more_ranks_than_records(layer, as_rank, kind):
    """Nine ranks, seven records: rank 8 begins with number 8, which is 1 of the second round; 17 is 3 of the third."""
    net = layer(kind, 1)
    as_rank(8, 9)
    assert seen(net, 3) == [8 % 7, 17 % 7, 26 % 7]


@pytest.mark.parametrize('kind', ['HDF5Data', 'ImageData'])
def test_shuffled_records_go_to_one_rank_each(layer, as_rank, tmp_path, kind):
    """The ranks' own random numbers differ (random_seed + rank); the order that they share out does not."""
    solver = tmp_path / 'solver.prototxt'
    solver.write_text(f'net: "{layer(kind, 7, "shuffle: true")}" base_lr: 1 lr_policy: "fixed" random_seed: 5')

    def shares():
        of_ranks = []
        for rank in range(2):
            as_rank(rank, 2)
            net = caffe.get_solver(str(solver)).net
            of_ranks.append([int(label) for _ in range(4) for label in net.forward()['l']])
        return of_ranks

    first, second = shares()
    together = [label for pair in zip(first, second, strict=True) for label in pair]
    epochs = [together[i : i + 7] for i in range(0, 56, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 4
    assert shares() == [first, second]
