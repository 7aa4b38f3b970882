"""net.keep_frozen: what frozen layers make of an image is computed once, and training is the same byte for byte."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.kernels import convolution
from caffe.process import device

FROZEN = 'param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }'
DATA = """
layer { name: "data" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 1 channels: 3 height: 8 width: 8 } }
"""
CONV = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" %s
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" %s
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
"""
CONV2 = """
layer { name: "other" type: "Convolution" bottom: "conv1" top: "other" %s
  convolution_param { num_output: 5 kernel_size: 5 weight_filler { type: "gaussian" std: 1 } } }
"""
READS = """
layer { name: "fc" type: "InnerProduct" bottom: "%s" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
LEARNS = """
layer { name: "drop" type: "Dropout" bottom: "pool2" top: "pool2" }
layer { name: "conv3" type: "Convolution" bottom: "pool2" top: "conv3"
  convolution_param { num_output: 6 kernel_size: 2 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv3" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
NET = DATA + CONV % (FROZEN, FROZEN) + LEARNS
SOLVER = """
train_net: "%s" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01 iter_size: 2 random_seed: 1
snapshot_prefix: "%s"
"""
IMAGES = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype('f')
LABELS = np.float32([0, 1, 2, 0])


@pytest.fixture
def solver(tmp_path):
    """Makes a solver on the four images, for a net of this text."""

    def make(text=NET, name='model'):
        net = tmp_path / 'net.prototxt'
        net.write_text(text)
        path = tmp_path / f'{name}.prototxt'
        path.write_text(SOLVER % (net, tmp_path / name))
        made = caffe.get_solver(str(path))
        made.net.set_input_arrays(IMAGES, LABELS)
        return made

    return make


def passes(net, count):
    """The blobs after so many passes with the same dropout, all read at the end of the last one."""
    caffe.set_random_seed(5)
    for _ in range(count):
        net.forward()
    return {name: blob.data.copy() for name, blob in net.blobs.items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values.view(np.uint32), second[name].view(np.uint32), err_msg=name)


# -- what it is for


def test_each_image_is_computed_once_and_snapshots_are_the_same_byte_for_byte(solver):
    plain = solver(name='plain')
    plain.step(10)  # of two passes each: five times round the four images
    plain.snapshot()
    kept = solver(name='kept')
    frozen = kept.net.keep_frozen(1)
    kept.step(10)
    kept.snapshot()
    assert (frozen.first, frozen.last) == ('conv1', 'pool2')
    assert (frozen.misses, frozen.hits) == (4, 16)
    models = [Path(f'{s.param.snapshot_prefix}_iter_10.caffemodel').read_bytes() for s in (plain, kept)]
    assert models[0] == models[1]


def test_an_inner_blob_has_its_numbers_when_it_is_read_and_the_others_keep_theirs(solver):
    """Dropout works in place on pool2, the last of the frozen blobs: to compute conv1 anew must not undo it."""
    plain, kept = solver().net, solver().net
    frozen = kept.keep_frozen(1)
    expected, found = passes(plain, 6), passes(kept, 6)
    assert frozen.hits == 2
    assert (expected['pool2'] == 0).sum() > (expected['conv2'].max(axis=(2, 3)) <= 0).sum()  # some were dropped
    assert_equal(found, expected)


def test_a_view_of_an_inner_blob_stays_live(solver):
    net, plain = solver().net, solver().net
    net.keep_frozen(1)
    view = net.blobs['conv1'].data
    for _ in range(7):
        net.forward()
        plain.forward()
        np.testing.assert_array_equal(view, plain.blobs['conv1'].data)


def test_images_of_several_sizes_and_two_readers(tmp_path):
    path = tmp_path / 'net.prototxt'
    path.write_text(
        'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }'
        + CONV % (FROZEN, FROZEN)
        + """layer { name: "a" type: "Power" bottom: "pool2" top: "a" power_param { scale: 2 } }
             layer { name: "b" type: "Tile" bottom: "pool2" top: "b" tile_param { tiles: 2 } }
             layer { name: "c" type: "Tile" bottom: "conv1" top: "c" tile_param { tiles: 2 } }"""
    )
    caffe.set_random_seed(3)
    net = caffe.Net(str(path), caffe.TRAIN)
    record = net.keep_frozen(1)
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(1, 3, *size)).astype('f') for size in ((8, 8), (9, 14), (14, 9))]
    images += [np.ones((1, 3, 9, 14), 'f'), np.ones((1, 3, 14, 9), 'f')]  # the same bytes

    def outputs(image):
        net.blobs['data'].reshape(*image.shape)
        return {name: array.copy() for name, array in net.forward(data=image, blobs=['pool2', 'conv2']).items()}

    first = [outputs(image) for image in images]
    assert (record.misses, record.hits) == (5, 0)
    for image, expected in zip(images, first, strict=True):
        assert_equal(outputs(image), expected)
    assert (record.misses, record.hits) == (5, 5)


# -- when it must not serve


def test_other_parameters_are_noticed_however_they_come(solver, tmp_path):
    plain, kept = solver().net, solver().net
    frozen = kept.keep_frozen(1)
    view = kept.params['conv2'][0].data
    for net in (plain, kept):
        passes(net, 5)
    assert frozen.hits == 1
    view *= 2
    plain.params['conv2'][0].data[...] *= 2
    assert_equal(passes(kept, 4), passes(plain, 4))
    assert frozen.hits == 1
    other = solver(NET.replace('std: 1', 'std: 2')).net
    other.save(str(tmp_path / 'other.caffemodel'))
    for net in (plain, kept):
        net.copy_from(str(tmp_path / 'other.caffemodel'))
    assert_equal(passes(kept, 4), passes(plain, 4))
    assert frozen.hits == 1


def test_another_way_to_convolve_is_computed_anew(solver):
    net = solver().net
    kept = net.keep_frozen(1)
    passes(net, 4)
    with convolution.routes.force('bands'):
        passes(net, 4)
    assert (kept.hits, kept.misses) == (0, 8)


def test_another_precision_is_computed_anew(solver):
    net = solver().net
    frozen = net.keep_frozen(1)
    passes(net, 4)
    try:
        caffe.set_precision('bf16')
        passes(net, 4)
        assert frozen.hits == 0
        passes(net, 4)
        assert frozen.hits == 4
    finally:
        caffe.set_precision('fp32')
    passes(net, 4)
    assert frozen.hits == 4


def test_when_the_memory_is_full_the_first_images_stay(solver, capfd):
    """(5, 2, 2) numbers are 20 bits and, at most, 80 bytes an image: 170 bytes hold two of four."""
    net, plain = solver().net, solver().net
    frozen = net.keep_frozen(170 / 2**30)
    for _ in range(3):
        assert_equal(passes(net, 4), passes(plain, 4))
    assert frozen.nbytes <= 170
    assert (frozen.misses, frozen.hits) in [(4 + 2 * missing, 2 * (4 - missing)) for missing in (1, 2)]
    assert capfd.readouterr().err.count('there is no room for more') == 1


def test_partial_passes_and_debug_info_compute(solver):
    net = solver().net
    frozen = net.keep_frozen(1)
    passes(net, 4)
    net.forward(end='pool2')
    net._debug_info = True
    net.forward()
    assert (frozen.hits, frozen.misses) == (0, 4)
    net._debug_info = False
    net.forward()
    net.forward(start='conv2')  # from conv1 on, which is computed for it
    assert (frozen.hits, frozen.misses) == (1, 4)


def test_an_inner_blob_whose_image_is_gone_is_an_error_and_no_stale_number(solver):
    net = solver().net
    net.keep_frozen(1)
    passes(net, 4)
    net.forward()
    net.blobs['data'].data[...] = 0
    with pytest.raises(RuntimeError, match=r'the last pass did not compute layers conv1 to pool2.*have changed since'):
        net.blobs['conv1'].data  # noqa: B018
    net.forward()
    assert net.blobs['conv1'].data.any()


def test_hooks_are_called_for_each_layer(solver):
    net, seen = solver().net, []
    net.keep_frozen(1)
    net.before_forward(seen.append)
    net.after_forward(seen.append)
    passes(net, 5)
    assert seen == 5 * [i for i in range(len(net.layers)) for _ in range(2)]


# -- in a folder


def test_a_later_run_takes_what_an_earlier_one_left_in_the_folder(solver, tmp_path):
    first, second, plain = (solver().net for _ in range(3))
    first.keep_frozen(1, tmp_path / 'kept')
    expected = passes(first, 4)
    frozen = second.keep_frozen(1, tmp_path / 'kept')
    found = passes(second, 4)
    assert (frozen.misses, frozen.hits) == (0, 4)
    assert_equal(found, expected)
    assert_equal(found, passes(plain, 4))
    files = list((tmp_path / 'kept').iterdir())
    assert len(files) == 4
    assert frozen.nbytes == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize(
    'change',
    [
        NET.replace('std: 1', 'std: 2'),  # other parameters
        NET.replace('pool: MAX', 'pool: AVE'),  # the same parameters, another layer
    ],
)
def test_another_net_does_not_take_it(solver, tmp_path, change):
    passes_of = solver().net
    passes_of.keep_frozen(1, tmp_path / 'kept')
    passes(passes_of, 4)
    net = solver(change).net
    frozen = net.keep_frozen(1, tmp_path / 'kept')
    found = passes(net, 4)
    assert frozen.hits == 0
    assert_equal(found, passes(solver(change).net, 4))


def cut(file, data):
    file.write_bytes(data[: len(data) // 2])


def changed(file, data):
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def longer(file, data):
    file.write_bytes(data + bytes(40))


def emptied(file, data):
    file.write_bytes(b'')


def another_ones(file, data):
    other = next(path for path in file.parent.iterdir() if path != file)
    file.write_bytes(other.read_bytes())


def a_folder(file, data):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize('damage', [cut, changed, longer, emptied, another_ones, a_folder], ids=lambda f: f.__name__)
def test_a_damaged_file_is_noticed_and_its_image_computed(solver, tmp_path, capfd, damage):
    first, second, plain = (solver().net for _ in range(3))
    first.keep_frozen(1, tmp_path / 'kept')
    passes(first, 4)
    file = min((tmp_path / 'kept').iterdir())
    damage(file, file.read_bytes())
    frozen = second.keep_frozen(1, tmp_path / 'kept')
    assert_equal(passes(second, 4), passes(plain, 4))
    assert (frozen.misses, frozen.hits) == (1, 3)
    said = capfd.readouterr().err
    assert f'{file} is damaged: it is computed anew' in said or f'{file} cannot be read (Is a directory)' in said
    if damage is not a_folder:
        passes(second, 4)  # it was written anew
        assert (frozen.misses, frozen.hits) == (1, 7)


def test_a_limit_above_the_memory_is_none_for_a_folder(solver, tmp_path):
    """What is read of a file is its size, however much the folder may hold."""
    for expected in ((0, 4), (4, 0)):
        net = solver().net
        frozen = net.keep_frozen(2**20, tmp_path / 'folder')
        passes(net, 4)
        assert (frozen.hits, frozen.misses) == expected


def test_files_serve_nets_that_read_the_same_tops(tmp_path):
    """Of two frozen layers side by side one net learns from the first's top, another from the second's."""

    def net(read):
        text = DATA + CONV % (FROZEN, FROZEN) + CONV2 % FROZEN + READS % read
        path = tmp_path / f'{read}.prototxt'
        path.write_text(text)
        caffe.set_random_seed(3)
        made = caffe.Net(str(path), caffe.TRAIN)
        made.set_input_arrays(IMAGES, LABELS)
        return made

    for read in ('pool2', 'other'):
        kept, plain = net(read), net(read)
        kept.keep_frozen(1, tmp_path / 'folder')
        assert_equal(passes(kept, 4), passes(plain, 4))


def test_a_folder_that_is_removed_ends_nothing(solver, tmp_path):
    net = solver().net
    frozen = net.keep_frozen(1, tmp_path / 'folder')
    passes(net, 2)
    shutil.rmtree(tmp_path / 'folder')
    passes(net, 4)
    assert frozen.nbytes == 0


def test_a_full_folder_takes_no_more(solver, tmp_path, capfd):
    """A file has 32 bytes beside the 20 bits and the numbers; 230 hold one or two."""
    net, plain = solver().net, solver().net
    frozen = net.keep_frozen(230 / 2**30, tmp_path / 'kept')
    for _ in range(2):
        assert_equal(passes(net, 4), passes(plain, 4))
    assert 0 < frozen.hits < 4
    assert 0 < frozen.nbytes <= 230
    assert capfd.readouterr().err.count('is not kept, but computed each time: the files') == 1


def test_a_full_disk_does_not_end_the_training(solver, disk, capfd):
    net, plain = solver().net, solver().net
    frozen = net.keep_frozen(1, disk.path / 'kept')
    disk.fill()
    for _ in range(2):
        assert_equal(passes(net, 4), passes(plain, 4))
    assert frozen.hits == 0
    assert capfd.readouterr().err.count('No space left on device') == 1
    assert not [name for name in disk.files() if 'kept' in name]


def test_a_folder_that_cannot_be_written_to_is_refused(solver, tmp_path, as_nobody):
    net = solver().net
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        net.keep_frozen(1, tmp_path / 'file')
    (tmp_path / 'closed').mkdir(mode=0o555)
    with as_nobody(), pytest.raises(PermissionError, match='closed'):
        net.keep_frozen(1, tmp_path / 'closed')


# -- where there is nothing to keep


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (DATA + CONV % ('', FROZEN) + LEARNS, 'first with parameters, conv1, learns'),
        (NET + 'force_backward: true', 'first with parameters, conv1, learns'),
        (
            DATA
            + 'layer { name: "mean" type: "Bias" param { lr_mult: 0 } bottom: "data" top: "data" }'
            + NET.removeprefix(DATA),
            'mean, writes to what the first one reads',
        ),
        (DATA + 'layer { name: "s" type: "Silence" bottom: "data" bottom: "label" }', 'none has parameters'),
        (
            DATA + 'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }' + LEARNS.replace('pool2', 'bn'),
            'bn, is of type BatchNorm, which may make something else each time',
        ),
    ],
)  # fmt: skip
def test_a_net_without_frozen_layers_is_refused_with_the_reason(solver, text, said):
    with pytest.raises(ValueError, match=said):
        solver(text).net.keep_frozen(1)


@pytest.mark.parametrize(
    ('layer', 'last'),
    [
        ('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }', 'relu2'),
        ('type: "Pooling" pooling_param { pool: AVE kernel_size: 2 stride: 2 }', 'between'),
        ('type: "BatchNorm" batch_norm_param { use_global_stats: true }', 'between'),
        ('type: "BatchNorm"', 'relu2'),
        ('type: "Dropout"', 'relu2'),
        (f'type: "Convolution" {FROZEN} convolution_param {{ num_output: 1 kernel_size: 1 }}', 'between'),
        ('type: "Convolution" convolution_param { num_output: 1 kernel_size: 1 }', 'relu2'),
    ],
)
def test_they_end_where_a_layer_learns_or_makes_something_else_each_time(solver, layer, last):
    before = NET[: NET.index('layer { name: "pool2"')]
    between = f'layer {{ name: "between" bottom: "conv2" top: "between" {layer} }}'
    net = solver(before + between + LEARNS.replace('pool2', 'between')).net
    assert net.keep_frozen(1).last == last


def test_they_end_where_a_layer_reads_something_else_too(tmp_path):
    path = tmp_path / 'net.prototxt'
    path.write_text(
        """layer { name: "in" type: "Input" top: "data" top: "more" input_param {
             shape { dim: 1 dim: 3 dim: 8 dim: 8 } shape { dim: 1 dim: 5 dim: 2 dim: 2 } } }"""
        + CONV % (FROZEN, FROZEN)
        + 'layer { name: "sum" type: "Eltwise" bottom: "pool2" bottom: "more" top: "sum" }'
    )
    net = caffe.Net(str(path), caffe.TRAIN)
    assert net.keep_frozen(1).last == 'pool2'
    image = np.ones(net.blobs['data'].shape)
    before, after = (net.forward(data=image, more=np.full(net.blobs['more'].shape, n))['sum'].copy() for n in (0, 1))
    np.testing.assert_array_equal(after, before + 1)


def test_a_limit_that_is_none_and_a_gpu_are_refused(solver):
    net = solver().net
    for gib in (0, -1, float('nan'), float('inf')):
        with pytest.raises(ValueError, match='a number of GiB above 0; it was given'):
            net.keep_frozen(gib)
    with pytest.raises(ValueError, match=r'needs 1000000.0 GiB of memory; .* GiB are left'):
        net.keep_frozen(1e6)
    frozen, plain = net.keep_frozen(1), solver().net
    passes(net, 8)
    device.simulate_gpu()
    caffe.set_mode_gpu()
    try:
        with pytest.raises(ValueError, match='on the CPU alone'):
            net.keep_frozen(1)
        assert_equal(passes(net, 6), passes(plain, 6))  # it was switched on before: layers run
    finally:
        device.simulate_gpu(False)
        caffe.set_mode_cpu()
    assert frozen.hits == 4
