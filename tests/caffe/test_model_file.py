"""Weights and solver states: Caffe's own files read and written, old forms, damaged files, full disks."""

import os
import random
import resource
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

import whole_file
from caffe.files import wire
from caffe.files.model_file import (
    ModelFileError,
    StoredBlob,
    read_blobproto,
    read_state,
    read_weights,
    write_blobproto,
    write_state,
    write_weights,
    write_weights_hdf5,
)
from caffe.proto import caffe_pb2

# Recorded on the original Caffe/OHEM code: two layers trained for 12 iterations, with Caffe's own snapshots.
GOLDEN = Path(__file__).parents[1] / 'golden' / 'solvers'


def parameters(name):
    """What the parameters were when the snapshot was taken: {'conv/0': array, ...}."""
    with np.load(GOLDEN / f'{name}.npz') as arrays:
        return {key.removeprefix('step11/'): arrays[key] for key in arrays if key.startswith('step11/')}


def as_dict(layers):
    return {f'{name}/{i}': blob.data for name, _, blobs in layers for i, blob in enumerate(blobs)}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key], strict=True)


def layer(name, kind='InnerProduct', **more):
    return caffe_pb2.LayerParameter(name=name, type=kind, **more)


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def write_bytes(path, data):
    path.write_bytes(data)
    return path


# ---- Caffe's own files


@pytest.mark.parametrize('file', ['adam_exp_iter_12.caffemodel', 'sgd_fixed_iter_12.caffemodel'])
def test_reads_and_writes_caffes_weights(file, tmp_path):
    original = GOLDEN / file
    layers = read_weights(original)
    assert [(name, kind, len(blobs)) for name, kind, blobs in layers] == [
        ('input', 'Python', 0),
        ('conv', 'Convolution', 2),
        ('pool', 'Pooling', 0),
        ('relu', 'ReLU', 0),
        ('ip', 'InnerProduct', 2),
        ('loss', 'SoftmaxWithLoss', 0),
    ]
    assert_same(as_dict(layers), parameters(file.split('_iter')[0]))

    net = caffe_pb2.NetParameter.FromString(original.read_bytes())
    blobs = {name: [(blob.data, None) for blob in stored] for name, _, stored in layers}
    write_weights(tmp_path / 'copy', net.name, ((message, blobs[message.name]) for message in net.layer))
    assert (tmp_path / 'copy').read_bytes() == original.read_bytes()


@pytest.mark.parametrize('name', ['adam_exp', 'sgd_fixed'])
def test_reads_and_writes_caffes_state(name, tmp_path):
    original = GOLDEN / f'{name}_iter_12.solverstate'
    state = read_state(original)
    assert (state.iteration, state.learned_net, state.current_step) == (12, f'{name}_iter_12.caffemodel', 0)
    assert [blob.data.shape for blob in state.history[:4]] == [(6, 2, 3, 3), (6,), (5, 72), (5,)]
    assert len(state.history) == (8 if name == 'adam_exp' else 4)
    write_state(tmp_path / 'copy', 12, state.learned_net, (blob.data for blob in state.history), 0)
    assert (tmp_path / 'copy').read_bytes() == original.read_bytes()


def test_reads_caffes_hdf5_files():
    layers = read_weights(GOLDEN / 'nesterov_inv_iter_12.caffemodel.h5')
    assert [(name, kind, len(blobs)) for name, kind, blobs in layers] == [
        ('conv', '', 2),
        ('input', '', 0),
        ('ip', '', 2),
        ('loss', '', 0),
        ('pool', '', 0),
        ('relu', '', 0),
    ]
    assert_same(as_dict(layers), parameters('nesterov_inv'))
    state = read_state(GOLDEN / 'nesterov_inv_iter_12.solverstate.h5')
    assert state[:2] == (12, 'nesterov_inv_iter_12.caffemodel.h5')
    assert [blob.data.shape for blob in state.history] == [(6, 2, 3, 3), (6,), (5, 72), (5,)]


def hdf5_contents(path):
    contents = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            contents[name] = (item.id.get_type().encode(), item.shape, item[()].tolist())
        else:
            contents[name] = None

    with h5py.File(path) as file:
        file.visititems(visit)
    return contents


def test_writes_hdf5_files_as_caffe_does(tmp_path):
    original = GOLDEN / 'nesterov_inv_iter_12.caffemodel.h5'
    layers = read_weights(original)
    write_weights_hdf5(
        tmp_path / 'w.h5',
        [(layer(name), [(b.data, None) for b in blobs], [True] * len(blobs)) for name, _, blobs in layers],
    )
    assert hdf5_contents(tmp_path / 'w.h5') == hdf5_contents(original)

    original = GOLDEN / 'nesterov_inv_iter_12.solverstate.h5'
    state = read_state(original)
    write_state(tmp_path / 's.h5', 12, state.learned_net, [blob.data for blob in state.history], 0)
    assert hdf5_contents(tmp_path / 's.h5') == hdf5_contents(original)


# ---- writing


def test_protobuf_reads_what_is_written(tmp_path):
    weight, bias = arrays((3, 4), (3,))
    message = layer('ip', bottom=['a'], top=['b'], phase=caffe_pb2.TRAIN, loss_weight=[1, 2])
    message.param.add(name='w')
    message.inner_product_param.num_output = 3
    message.clip_param.MergeFrom(caffe_pb2.ClipParameter(min=0, max=6))
    message.blobs.add(data=[7])  # not looked at
    write_weights(tmp_path / 'net', 'net', [(message, [(weight, 2 * weight), (bias, None)]), (layer('b'), [])])
    net = caffe_pb2.NetParameter()
    net.MergeFromString((tmp_path / 'net').read_bytes())
    assert net.name == 'net'
    assert [a.name for a in net.layer] == ['ip', 'b']
    blobs = list(net.layer[0].blobs)
    assert [list(blob.shape.dim) for blob in blobs] == [[3, 4], [3]]
    np.testing.assert_array_equal(blobs[0].data, weight.ravel())
    np.testing.assert_array_equal(blobs[0].diff, 2 * weight.ravel())
    assert not blobs[1].diff
    del net.layer[0].blobs[:], message.blobs[:]
    assert net.layer[0] == message

    stored = read_weights(tmp_path / 'net')[0][2]
    np.testing.assert_array_equal(stored[0].diff, 2 * weight)
    assert stored[1].diff is None


@pytest.mark.parametrize('shape', [(), (0,), (2, 0, 3), (1, 1, 1, 1), (2, 3, 4, 5, 6)])
def test_blobs_of_any_shape(shape, tmp_path):
    (array,) = arrays(shape)
    write_blobproto(tmp_path / 'blob', array)
    blob = read_blobproto(tmp_path / 'blob')
    np.testing.assert_array_equal(blob.data, array, strict=True)
    assert not blob.legacy


def test_arrays_of_any_layout_and_type(tmp_path):
    (array,) = arrays((4, 6))
    for other in (array.astype(np.float64), np.asfortranarray(array), array[::-1][::-1]):
        write_blobproto(tmp_path / 'blob', other)
        np.testing.assert_array_equal(read_blobproto(tmp_path / 'blob').data, array)


def test_same_weights_same_bytes(tmp_path):
    (weight,) = arrays((3, 4))
    for path in ('a', 'b'):
        write_weights(tmp_path / path, 'net', [(layer('ip'), [(weight, None)])])
        write_weights_hdf5(tmp_path / f'{path}.h5', [(layer('ip'), [(weight, None)], [True])])
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()
    assert (tmp_path / 'a.h5').read_bytes() == (tmp_path / 'b.h5').read_bytes()


def test_hdf5_keeps_shared_parameters_once_and_their_diffs_always(tmp_path):
    weight, bias = arrays((3, 4), (3,))
    pair = [(weight, weight), (bias, bias)]
    path = tmp_path / 'w.h5'
    write_weights_hdf5(path, [(layer('a/1x1'), pair, [True, True]), (layer('b'), pair, [False, True])], True)
    with h5py.File(path) as file:
        assert sorted(file['data/a/1x1']) == ['0', '1']
        assert sorted(file['data/b']) == ['1']
        assert sorted(file['diff/b']) == ['0', '1']
    (first, _, both), (second, _, one) = read_weights(path)
    assert (first, second, len(both)) == ('a/1x1', 'b', 2)
    assert one[0] is None
    np.testing.assert_array_equal(one[1].data, bias)


def test_hdf5_refuses_two_layers_of_one_name(tmp_path):
    with pytest.raises(ValueError, match=r"cannot hold a layer named 'a'.*BINARYPROTO"):
        write_weights_hdf5(tmp_path / 'w.h5', [(layer('a'), [], []), (layer('a'), [], [])])
    assert os.listdir(tmp_path) == []


# ---- old forms


def test_v1_and_v0_layers(tmp_path):
    net = caffe_pb2.NetParameter(name='old')
    conv = net.layers.add(name='conv', type=caffe_pb2.V1LayerParameter.CONVOLUTION)
    conv.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    inner = net.layers.add().layer
    inner.MergeFrom(caffe_pb2.V0LayerParameter(name='fc', type='innerproduct'))
    inner.blobs.add(num=1, channels=1, height=1, width=2, data=[1, 2])
    net.layers.add().layer.MergeFrom(caffe_pb2.V0LayerParameter(name='pad', type='padding'))
    (a, a_type, (weight,)), (b, b_type, (bias,)) = read_weights(write_bytes(tmp_path / 'old', net.SerializeToString()))
    assert (a, a_type, b, b_type) == ('conv', 'Convolution', 'fc', 'InnerProduct')
    assert weight.legacy
    np.testing.assert_array_equal(weight.data, np.float32([[[[0, 1, 2], [3, 4, 5]]]]), strict=True)
    np.testing.assert_array_equal(bias.data.ravel(), [1, 2])


def test_shapes_fit_as_in_caffe():
    legacy = StoredBlob(np.zeros((1, 1, 2, 3), np.float32), legacy=True)
    assert legacy.fits((2, 3)) and legacy.fits((1, 2, 3)) and legacy.fits((1, 1, 2, 3))
    assert not legacy.fits((3, 2)) and not legacy.fits((6,)) and not legacy.fits((1, 1, 1, 2, 3))
    today = StoredBlob(np.zeros((1, 1, 2, 3), np.float32))
    assert today.fits([1, 1, 2, 3]) and not today.fits((2, 3))


def test_double_data_come_before_float_data(tmp_path):
    blob = caffe_pb2.BlobProto(data=[1, 2], double_data=[3, 4], double_diff=[5, 6])
    blob.shape.dim.append(2)
    stored = read_blobproto(write_bytes(tmp_path / 'blob', blob.SerializeToString()))
    np.testing.assert_array_equal(stored.data, np.float32([3, 4]), strict=True)
    np.testing.assert_array_equal(stored.diff, np.float32([5, 6]), strict=True)


def test_numbers_that_are_not_packed(tmp_path):
    """Data as one field a number, in runs of any length, mixed with packed ones."""
    values = np.arange(23, dtype='<f4')
    single = [b'\x2d' + value.tobytes() for value in values]  # field 5, 32 bits
    packed = wire.delimited(5, 20) + values[10:15].tobytes()
    shape = wire.delimited(7, 2) + b'\x08\x17'  # dim 23
    data = b''.join(single[:10]) + packed + shape + b''.join(single[15:])
    np.testing.assert_array_equal(read_blobproto(write_bytes(tmp_path / 'blob', data)).data, values)


# ---- mapped, not read


def test_weights_are_views_of_the_file(tmp_path):
    (weight,) = arrays((64, 64))
    path = tmp_path / 'net'
    write_weights(path, 'net', [(layer('ip'), [(weight, None)])])
    stored = read_weights(path)[0][2][0].data
    assert not stored.flags.owndata and not stored.flags.writeable
    write_weights(path, 'net', [(layer('ip'), [(0 * weight, None)])])
    np.testing.assert_array_equal(stored, weight)  # still those of the file that was opened


# ---- files that cannot be read


@pytest.mark.parametrize('read', [read_weights, read_state, read_blobproto])
@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'an empty file'),
        (b'<!DOCTYPE html>\n<html>Not found</html>', 'a web page'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'a Git LFS pointer'),
        (b'PK\x03\x04rest', 'a compressed archive'),
        (b'name: "VGG16"\nlayer {\n}\n', 'a text file'),
        (b'\x89HDF\r\n\x1a\nrest', 'HDF5|byte'),
        (b'\xff' * 100, 'more than 64 bits'),
        (b'\x00' * 100, '0 is not the number of a field'),
    ],
)
def test_what_people_give_instead(read, content, message, tmp_path):
    path = write_bytes(tmp_path / 'file', content)
    with pytest.raises(ModelFileError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no such file, where a .caffemodel is expected'):
        read_weights(tmp_path / 'missing')
    with pytest.raises(IsADirectoryError, match=r'a folder, where a .solverstate is expected'):
        read_state(tmp_path)


def test_weights_and_states_are_told_apart():
    with pytest.raises(ModelFileError, match=r'a .solverstate or .binaryproto, perhaps'):
        read_weights(GOLDEN / 'adam_exp_iter_12.solverstate')
    with pytest.raises(ModelFileError, match=r'a .caffemodel, perhaps'):
        read_state(GOLDEN / 'adam_exp_iter_12.caffemodel')
    with pytest.raises(ModelFileError, match="not a net's weights"):
        read_weights(GOLDEN / 'nesterov_inv_iter_12.solverstate.h5')
    with pytest.raises(ModelFileError, match="not a solver's state"):
        read_state(GOLDEN / 'nesterov_inv_iter_12.caffemodel.h5')


def test_a_file_cut_short_says_where(tmp_path):
    # the name and the first layer take 136 bytes; the second says that it has 560 bytes after its 4-byte head
    whole = (GOLDEN / 'adam_exp_iter_12.caffemodel').read_bytes()
    path = write_bytes(tmp_path / 'cut', whole[:500])
    with pytest.raises(ModelFileError, match=r'byte 140: field 100 needs 560 bytes, 360 are left.*cut short') as error:
        read_weights(path)
    assert (error.value.file, error.value.offset) == (str(path), 140)


def test_no_length_in_a_file_is_trusted(tmp_path):
    huge = caffe_pb2.BlobProto(data=[1])
    huge.shape.dim.extend([2**31 - 1] * 4)
    with pytest.raises(ModelFileError, match='numbers, not 1'):
        read_blobproto(write_bytes(tmp_path / 'blob', huge.SerializeToString()))
    huge.shape.dim[0] = -1
    with pytest.raises(ModelFileError, match='not the shape of a blob'):
        read_blobproto(write_bytes(tmp_path / 'blob', huge.SerializeToString()))
    path = tmp_path / 'huge.h5'
    with h5py.File(path, 'w') as file:
        file.create_dataset('data/ip/0', (2**40,), 'f4')  # never written, so not stored
    with pytest.raises(ModelFileError, match='not stored in full'):
        read_weights(path)


def test_a_net_with_both_forms_of_layers(tmp_path):
    net = caffe_pb2.NetParameter()
    net.layer.add()
    net.layers.add()
    with pytest.raises(ModelFileError, match='layer and layers'):
        read_weights(write_bytes(tmp_path / 'net', net.SerializeToString()))


@pytest.mark.parametrize(
    'file, read',
    [
        ('adam_exp_iter_12.caffemodel', read_weights),
        ('adam_exp_iter_12.solverstate', read_state),
        ('nesterov_inv_iter_12.caffemodel.h5', read_weights),
        ('nesterov_inv_iter_12.solverstate.h5', read_state),
    ],
)
def test_damaged_files_raise_our_error(file, read, tmp_path):
    whole = (GOLDEN / file).read_bytes()
    rng = random.Random(0)
    outcomes = {'read': 0, 'refused': 0}
    for i in range(300):
        data = bytearray(whole)
        kind = i % 3
        if kind == 0:
            del data[rng.randrange(len(data)) :]
        elif kind == 1:
            for _ in range(rng.choice((1, 4, 30))):
                at = rng.randrange(rng.choice((len(data), 2048)) - 1) % len(data)
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        else:
            at = rng.randrange(len(data))
            data[at:at] = data[: rng.randrange(200)]
        path = write_bytes(tmp_path / str(i), data)
        try:
            read(path)
            outcomes['read'] += 1
        except ModelFileError:
            outcomes['refused'] += 1
        path.unlink()
    assert min(outcomes.values()) > 10


# ---- whole or not at all


@pytest.fixture
def small_files():
    """No file of this process may grow beyond 64 KiB, as if the disk were full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def writers():
    big = np.zeros((100, 1000), np.float32)
    return {
        'net.caffemodel': lambda path: write_weights(path, 'n', [(layer('ip'), [(big, None)])] * 2),
        'net.caffemodel.h5': lambda path: write_weights_hdf5(path, [(layer('ip'), [(big, None)], [True])]),
        'net.solverstate': lambda path: write_state(path, 1, 'n', [big, big], 0),
        'net.solverstate.h5': lambda path: write_state(path, 1, 'n', [big], 0),
        'mean.binaryproto': lambda path: write_blobproto(path, big),
    }


@pytest.mark.parametrize('name', writers())
@pytest.mark.parametrize('earlier', [True, False])
def test_a_full_disk_leaves_the_earlier_file(name, earlier, tmp_path, small_files):
    path = tmp_path / name
    if earlier:
        path.write_bytes(b'earlier')
    with pytest.raises(OSError, match=r'; \d{6} bytes are needed in') as error:
        writers()[name](path)
    assert error.value.filename == str(path)
    assert ('The file that was there is unharmed' in str(error.value)) == earlier
    assert os.listdir(tmp_path) == ([name] if earlier else [])
    assert not earlier or path.read_bytes() == b'earlier'


def test_large_arrays_are_written_without_a_copy(tmp_path, monkeypatch):
    (weight,) = arrays((64, 64))
    written = []
    monkeypatch.setattr(whole_file, 'write', lambda path, pieces: written.extend(pieces))
    write_weights('not written', 'net', [(layer('ip'), [(weight, None)])])
    assert any(piece is weight for piece in written)


@pytest.mark.parametrize('ending', ['', '.h5'])
def test_a_state_says_the_type_of_its_solver(ending, tmp_path):
    path = tmp_path / f'a.solverstate{ending}'
    write_state(path, 3, 'a.caffemodel', [np.ones(2, np.float32)], 1, 'Nesterov')
    state = read_state(path)
    assert (state.iteration, state.learned_net, state.current_step, state.solver_type) == (
        3,
        'a.caffemodel',
        1,
        'Nesterov',
    )


def test_a_name_of_weights_with_a_zero_byte_is_damage(tmp_path):
    """No file system has such names; one came from a damaged file."""
    path = tmp_path / 'a.solverstate'
    path.write_bytes(caffe_pb2.SolverState(iter=1, learned_net='a\0b').SerializeToString())
    with pytest.raises(ModelFileError, match=r'a\.solverstate, byte 4: the name .* has a zero byte in it'):
        read_state(path)


def test_a_state_is_the_same_bytes_whenever_it_is_written(tmp_path):
    write_state(tmp_path / 'a.solverstate.h5', 1, 'n', arrays((2, 3)), 0, 'SGD')
    times = {}
    with h5py.File(tmp_path / 'a.solverstate.h5') as file:
        file.visititems(lambda name, item: times.update({name: h5py.h5g.get_objinfo(item.id).mtime}))
    assert times == dict.fromkeys(['iter', 'learned_net', 'solver_type', 'current_step', 'history', 'history/0'], 0)
