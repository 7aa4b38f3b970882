import numpy as np
import pytest
from gradient import check_gradient
from one_layer import backward, forward, make, run

from caffe.layer import LayerError

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 3, 4)).astype('f'), RNG.standard_normal((2, 2, 4)).astype('f')


@pytest.mark.parametrize('option', ['', 'axis: -2', 'concat_dim: 1'])
def test_concat(option):
    text = f'type: "Concat" top: "y" concat_param {{ {option} }}'
    np.testing.assert_array_equal(run(text, A, B)[0], np.concatenate([A, B], 1))
    check_gradient(text, [A, B], check=(0, 1))


def test_concat_of_one_is_the_same_memory():
    layer, bottom, top = make('type: "Concat" top: "y"', A)
    forward(layer, bottom, top)
    assert top[0].shares_data_with(bottom[0])


def test_concat_leaves_out_a_bottom_without_gradient():
    net = make('type: "Concat" top: "y"', A, B)
    forward(*net)
    diffs = backward(*net, np.ones((2, 5, 4)), down=[False, True])
    assert not diffs[0].any() and diffs[1].all()


def test_concat_refusals():
    with pytest.raises(LayerError, match='All inputs must have the same shape, except at concat_axis'):
        make('type: "Concat" top: "y"', A, np.zeros((3, 2, 4)))
    with pytest.raises(LayerError, match='All inputs must have the same #axes'):
        make('type: "Concat" top: "y"', A, np.zeros((2, 2)))
    with pytest.raises(LayerError, match='Either axis or concat_dim should be specified; not both'):
        make('type: "Concat" top: "y" concat_param { axis: 1 concat_dim: 1 }', A, B)


@pytest.mark.parametrize(
    ('option', 'tops', 'sizes'),
    [('axis: 2', 2, [2, 2]), ('axis: 2 slice_point: 1', 2, [1, 3]), ('slice_dim: 1', 3, [1, 1, 1])],
)
def test_slice(option, tops, sizes):
    axis = 1 if 'dim' in option else 2
    text = 'type: "Slice"' + ' top: "y"' * tops + f' slice_param {{ {option} }}'
    for part, want in zip(run(text, A), np.split(A, np.cumsum(sizes)[:-1], axis), strict=True):
        np.testing.assert_array_equal(part, want)
    check_gradient(text, [A], n_tops=tops)


def test_slice_refusals():
    with pytest.raises(LayerError, match=r'Number of top blobs \(2\) should evenly divide input slice axis \(3\)'):
        make('type: "Slice" top: "a" top: "b"', A)
    with pytest.raises(LayerError, match='2 tops need 1 slice_points, found 2'):
        make('type: "Slice" top: "a" top: "b" slice_param { slice_point: 1 slice_point: 2 }', A)
    with pytest.raises(LayerError, match='slice_points must rise and lie within the axis of 3'):
        make('type: "Slice" top: "a" top: "b" slice_param { slice_point: 3 }', A)


def test_split_shares_data_and_sums_diffs():
    layer, bottom, top = make('type: "Split" top: "a" top: "b" top: "c"', A)
    assert all(t.shares_data_with(bottom[0]) for t in top)
    diffs = [RNG.standard_normal(A.shape) for _ in top]
    np.testing.assert_allclose(backward(layer, bottom, top, *diffs)[0], sum(diffs), atol=1e-6)


def test_split_adds_only_the_diffs_that_were_written():
    layer, bottom, top = make('type: "Split" top: "a" top: "b"', A)
    top[1].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, np.ones(A.shape))
    np.testing.assert_array_equal(top[1].diff, np.ones(A.shape))


def test_split_is_not_for_use_in_place():
    with pytest.raises(LayerError, match='does not allow in-place'):
        make('type: "Split" top: "y"', A, in_place=True)


def test_tile():
    text = 'type: "Tile" top: "y" tile_param { axis: 1 tiles: 3 }'
    np.testing.assert_array_equal(run(text, A)[0], np.tile(A, (1, 3, 1)))
    check_gradient(text, [A])
    with pytest.raises(LayerError, match='Number of tiles must be positive'):
        make('type: "Tile" top: "y" tile_param { tiles: 0 }', A)


@pytest.mark.parametrize(
    ('option', 'region'),
    [
        ('axis: 1', np.s_[:, :2, :3]),
        ('axis: 1 offset: 1', np.s_[:, 1:3, 1:4]),
        ('axis: -1 offset: 1', np.s_[:, :, 1:4]),
        ('axis: 1 offset: 1 offset: 0', np.s_[:, 1:3, :3]),
    ],
)
def test_crop(option, region):
    text, size = f'type: "Crop" top: "y" crop_param {{ {option} }}', np.zeros((2, 2, 3))
    np.testing.assert_array_equal(run(text, A, size)[0], A[region])
    check_gradient(text, [A, size])


def test_a_crop_that_was_written_for_the_first_fork_is_told_of_its_offset(capfd):
    """There the offset followed from the layers between the bottoms; BVLC's default is 0."""
    make('type: "Crop" top: "y" name: "score"', A, np.zeros((2, 2, 3)))
    assert "Crop layer 'score' has no crop_param, so it keeps the upper left corner" in capfd.readouterr().err
    make('type: "Crop" top: "y" name: "same size"', A, np.zeros(A.shape))
    make('type: "Crop" top: "y" name: "stated" crop_param { }', A, np.zeros((2, 2, 3)))
    assert 'Crop layer' not in capfd.readouterr().err


def test_crop_refusals():
    with pytest.raises(LayerError, match='the crop for dimension 2 is out-of-bounds'):
        make('type: "Crop" top: "y" crop_param { offset: 2 }', A, np.zeros((2, 3, 3)))
    with pytest.raises(LayerError, match='number of offset values specified'):
        make('type: "Crop" top: "y" crop_param { axis: 0 offset: 0 offset: 0 }', A, np.zeros((2, 3, 3)))
