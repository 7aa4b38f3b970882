"""MATLAB files: read as scipy reads whole ones, and a message for every other."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from detection_data.mat_file import MatError, read_variables
from detection_data.proposals import ProposalsError
from detection_data.proposals_mat import convert, read_image_mat, read_mat

# Three files in which bits were flipped; scipy 1.17 dies of them by SIGSEGV and SIGBUS
DAMAGED = sorted((Path(__file__).parent / 'damaged').glob('mat_*.mat'))


def cells(*boxes):
    array = np.empty((1, len(boxes)), object)
    for k, each in enumerate(boxes):
        array[0, k] = np.array(each)
    return array


@pytest.mark.parametrize('packed', [False, True])
def test_numbers_texts_and_cells(tmp_path, packed):
    numbers = np.random.default_rng(0).uniform(1, 9, (5, 4))
    names = np.empty((2, 1), object)
    names[:, 0] = ['a', 'b/ü']
    content = {
        'boxes': cells(numbers, np.zeros((0, 4)), np.arange(8, dtype=np.uint16).reshape(2, 4)),
        'images': names, 'scores': np.float32([[0.5], [0.25]]), 'more': {'x': 1}, 'z': np.array([[1 + 2j]]),
    }  # fmt: skip
    savemat(tmp_path / 'x.mat', content, do_compression=packed)
    found, there = read_variables(str(tmp_path / 'x.mat'), ['boxes', 'images', 'more', 'z', 'none'])
    assert there == ['boxes', 'images', 'scores', 'more', 'z']
    np.testing.assert_array_equal(found['boxes'][0], numbers)
    assert found['boxes'][1].shape == (0, 4) and found['boxes'][2].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found['images'] == ['a', 'b/ü']
    assert found['more'] is None and found['z'] is None and 'none' not in found


@pytest.mark.parametrize('path', DAMAGED, ids=lambda path: path.stem)
def test_damage_that_kills_scipy(path):
    with pytest.raises(MatError, match=rf'{path.name}: a damaged MATLAB file \(.*\); fetch it again'):
        read_variables(str(path), ['boxes', 'images'])


@pytest.mark.parametrize('packed', [False, True])
def test_damage_anywhere_ends_in_a_message(tmp_path, packed):
    savemat(tmp_path / 'w.mat', {'boxes': cells(np.ones((3, 4)), np.ones((2, 4), np.uint8))}, do_compression=packed)
    whole = (tmp_path / 'w.mat').read_bytes()
    rng = np.random.default_rng(4)
    told = 0
    for _ in range(3000):
        spoilt = bytearray(whole)
        place = int(rng.integers(124, len(whole)))
        kind = rng.integers(4)
        if kind == 0:
            spoilt[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del spoilt[place : place + int(rng.integers(1, 9))]
        elif kind == 2:
            spoilt[place:place] = rng.bytes(3)
        else:
            spoilt[place : place + 4] = b'\xff\xff\xff\x7f'[: len(whole) - place]
        (tmp_path / 'x.mat').write_bytes(spoilt)
        try:
            read_variables(str(tmp_path / 'x.mat'), ['boxes'])
        except MatError:
            told += 1
    assert told > 1000


def test_a_small_file_that_unpacks_to_much_is_not_unpacked(tmp_path):
    stream = zlib.compress(struct.pack('<II', 14, 2**31) + bytes(1000))
    header = b'MATLAB 5.0 MAT-file'.ljust(124) + b'\0\1IM'
    (tmp_path / 'x.mat').write_bytes(header + struct.pack('<II', 15, len(stream)) + stream)
    with pytest.raises(MatError, match=rf'{len(stream)} packed bytes are said to hold {2**31}'):
        read_variables(str(tmp_path / 'x.mat'), ['boxes'])


def test_other_versions_are_told_with_the_command_to_save_anew(tmp_path):
    path = tmp_path / 'x.mat'
    path.write_bytes(b'MATLAB 7.3 MAT-file'.ljust(512) + b'\x89HDF\r\n\x1a\n')
    with pytest.raises(MatError, match=r"a MATLAB 7\.3 file \(HDF5\); save it anew in MATLAB with save\(.*'-v7'\)"):
        read_variables(str(path), ['boxes'])
    savemat(path, {'boxes': np.ones((9, 4))}, format='4')
    with pytest.raises(MatError, match='a MATLAB 4 file, or none; expected one that MATLAB saved'):
        read_variables(str(path), ['boxes'])
    path.write_text('<html>not found</html>')
    with pytest.raises(MatError, match='not a MATLAB file'):
        read_variables(str(path), ['boxes'])


@pytest.mark.parametrize(
    'content, said',
    [
        ({'bbs': np.ones((2, 4)), 'n': 3.0}, r'there is no variable boxes, but bbs, n\. Name the variable .* boxes = '),
        ({'boxes': 'here'}, r'boxes is not numbers or cells of numbers'),
        ({'boxes': np.ones((2, 5))}, r'boxes of size 2x5, expected mx4: is the fifth a score\? .*boxes\(:, 1:4\)'),
        ({'boxes': np.ones((4, 9))}, r'boxes of size 4x9, expected mx4: they lie on their side'),
        ({'boxes': np.ones((2, 3))}, r'boxes of size 2x3, expected mx4'),
        ({'boxes': np.array([[1, 1, np.nan, 4.0]])}, r'box 0 has a coordinate that is no number'),
        ({'boxes': np.array([[20, 30, 5, 9]])}, r'box 0 ends before it begins, .*x, y, width, height\?'),
        ({'boxes': np.array([[1, 1, 60, 40]])}, r'1 boxes reach out of the image, of 60x40, the first .*\(--order\)'),
        ({'boxes': np.ones((2, 4)), 'scores': np.ones(3)}, r'has 2 boxes but 3 scores'),
    ],
)
def test_what_is_wrong_with_the_boxes_of_an_image(tmp_path, content, said):
    savemat(tmp_path / 'a.mat', content)
    with pytest.raises(ProposalsError, match=rf'a\.mat:? ?{said}|a\.mat: {said}'):
        read_image_mat(str(tmp_path / 'a.mat'), 60, 40)


@pytest.mark.parametrize(
    'boxes, said',
    [
        (
            [[[1, 1, 40, 60]], [[1, 1, 120, 1449]]],
            r"boxes\{2\}, of image 'b': 1 boxes reach out of the image, of 60x40",
        ),
        (
            [[[1, 1, 40, 60]], [[30, 20, 5, 9]]],
            r"boxes\{2\}, of image 'b': box 0 ends before it begins, \(19, 29, 8, 4\)",
        ),
        ([[[1, 1, 60, 40]], [[1, 1, 2, 2]]], r"boxes\{1\}, of image 'a': .*other order of coordinates \(--order\)"),
        ([[[1, 1, 40, 60]], [[1, 1, 2, 2, 9]]], r'boxes\{2\}: boxes of size 1x5, expected mx4: is the fifth a score\?'),
        ([[[1, 1, 40, 60]], [[-2064, 1, 2318, 9]]], r"boxes\{2\}, of image 'b': 1 boxes reach out"),
    ],
)
def test_a_file_of_other_images_or_another_order_is_refused(tmp_path, boxes, said):
    savemat(tmp_path / 'x.mat', {'boxes': cells(*boxes)})
    with pytest.raises(ProposalsError, match=said):
        convert(str(tmp_path / 'x.mat'), str(tmp_path / 'x.h5'), ['a', 'b'], size_of=lambda i: (60, 40))
    assert not (tmp_path / 'x.h5').exists()


def test_a_file_of_one_image_given_as_that_of_a_set(tmp_path):
    savemat(tmp_path / 'x.mat', {'boxes': np.ones((3, 4))})
    with pytest.raises(
        ProposalsError, match='boxes is an array of numbers, as in the file of one image; expected a cell'
    ):
        read_mat(str(tmp_path / 'x.mat'))
