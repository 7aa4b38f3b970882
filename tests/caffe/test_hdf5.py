import h5py
import numpy as np
import pytest
from one_layer import forward, make

import caffe
from caffe.layer import LayerError


@pytest.fixture
def source(tmp_path):
    """A list of two files, of 3 and 2 rows: x = row number (twice), y = 10 * row number."""
    for name, rows in (('a', [0, 1, 2]), ('b', [3, 4])):
        with h5py.File(tmp_path / f'{name}.h5', 'w') as file:
            file['x'] = np.repeat(np.array(rows, 'f')[:, None], 2, 1)
            file['y'] = 10 * np.array(rows)
    (tmp_path / 'list.txt').write_text(f'{tmp_path}/a.h5\n{tmp_path}/b.h5\n')
    return tmp_path / 'list.txt'


def data(source, batch_size, options=''):
    return make(
        'type: "HDF5Data" top: "x" top: "y" '
        f'hdf5_data_param {{ source: "{source}" batch_size: {batch_size} {options} }}'
    )


def test_rows_come_in_order_file_after_file_and_again(source):
    net = data(source, 4)
    seen = []
    for _ in range(3):
        x, y = forward(*net)
        assert x.shape == (4, 2) and y.shape == (4,)
        np.testing.assert_array_equal(y, 10 * x[:, 1])
        seen += x[:, 0].tolist()
    assert seen == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_shuffled_every_row_comes_once_an_epoch(source):
    caffe.set_random_seed(1)
    net = data(source, 5, 'shuffle: true')
    epochs = []
    for _ in range(8):
        x, y = forward(*net)
        np.testing.assert_array_equal(y, 10 * x[:, 1])
        epochs.append(x[:, 0].tolist())
        assert sorted(epochs[-1]) == [0, 1, 2, 3, 4]
    assert len({tuple(e) for e in epochs}) > 1


def test_refusals(source, tmp_path):
    with pytest.raises(LayerError, match='Failed to open source file'):
        data(tmp_path / 'none.txt', 1)
    with pytest.raises(LayerError, match=r"has no dataset 'z'; it has \['x', 'y'\]"):
        make(f'type: "HDF5Data" top: "z" hdf5_data_param {{ source: "{source}" batch_size: 1 }}')
    (tmp_path / 'b.h5').write_bytes(b'no HDF5')
    net = data(source, 3)
    with pytest.raises(LayerError, match='Failed opening HDF5 file'):
        forward(*net)
    with pytest.raises(LayerError, match='does not transform data'):
        make(f'type: "HDF5Data" top: "x" transform_param {{ }} hdf5_data_param {{ source: "{source}" }}')


def test_output_writes_all_passes(tmp_path):
    net = make(f'type: "HDF5Output" hdf5_output_param {{ file_name: "{tmp_path}/out.h5" }}', [[1, 2]], [3])
    forward(*net)
    net[1][0].data[...] = 7
    forward(*net)
    with h5py.File(tmp_path / 'out.h5') as file:
        np.testing.assert_array_equal(file['data'], [[1, 2], [7, 7]])
        np.testing.assert_array_equal(file['label'], [3, 3])
