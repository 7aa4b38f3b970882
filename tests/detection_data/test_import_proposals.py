"""tools/import_proposals.py: published MATLAB files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from detection_data.factory import get_imdb
from detection_data.proposals import ProposalsError
from detection_data.proposals_mat import image_file, read_image_mat

TOOL = Path(__file__).parents[2] / 'tools' / 'import_proposals.py'


def run(*args):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], capture_output=True, text=True)


def test_a_file_an_image_as_mcg_publishes(folder, tmp_path):
    boxes = tmp_path / 'MCG'
    boxes.mkdir()
    for k, image_id in enumerate('ab'):
        # y1, x1, y2, x2, 1-based, best last
        rows = np.array([[1, 11, 20, 30 + k], [5, 6, 40, 60]], np.float64)
        savemat(boxes / f'{image_id}.mat', {'boxes': rows, 'scores': np.array([[0.1], [0.2]])})
    name = f'folder:{folder.root}:train'
    done = run('--imdb', name, '--source', boxes, '--method', 'mcg')
    assert done.returncode == 0, done.stderr
    assert '2 images, 2 boxes an image' in done.stdout
    data = get_imdb(name)
    data.set_proposal_method('mcg')
    np.testing.assert_array_equal(data.proposals_of(1), [[5, 4, 59, 39], [10, 0, 30, 19]])
    again = run('--imdb', name, '--source', boxes, '--method', 'mcg')
    assert again.returncode == 1 and '--overwrite replaces it' in again.stderr
    assert run('--imdb', name, '--source', boxes, '--method', 'mcg', '--overwrite').returncode == 0


def test_a_file_a_data_set_as_fast_rcnn_publishes(folder, tmp_path):
    cell = np.empty((1, 2), object)
    cell[0, 0] = np.array([[1, 11, 20, 30]], np.uint16)
    cell[0, 1] = np.array([[5, 6, 40, 60], [1, 1, 9, 9]], np.uint16)
    savemat(tmp_path / 'train.mat', {'boxes': cell})
    name = f'folder:{folder.root}:train'
    done = run('--imdb', name, '--source', tmp_path / 'train.mat')
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(get_imdb(name).proposals_of(0), [[10, 0, 29, 19]])


def test_the_folders_of_py_faster_rcnn(tmp_path):
    stem = 'COCO_val2014_000000447991'
    path = tmp_path / 'COCO_val2014_0' / 'COCO_val2014_000000447' / f'{stem}.mat'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'')
    assert image_file(str(tmp_path), stem) == str(path)


def test_copies_and_slivers_are_dropped_and_the_first_kept(tmp_path):
    # x1, y1, x2, y2; the third is a copy, the fourth one pixel high; corners of 0 are taken for 1
    rows = np.array([[2, 3, 20, 30], [0, 1, 10, 10], [2, 3, 20, 30], [5, 5, 30, 5], [4, 4, 9, 9]])
    savemat(tmp_path / 'a.mat', {'boxes': rows})
    found = read_image_mat(str(tmp_path / 'a.mat'), 60, 40, 'xy', max_boxes=2)
    np.testing.assert_array_equal(found, [[1, 2, 19, 29], [0, 0, 9, 9]])


def test_boxes_in_the_other_order_are_noticed(tmp_path):
    savemat(tmp_path / 'a.mat', {'boxes': np.array([[1, 1, 60, 40]])})
    assert len(read_image_mat(str(tmp_path / 'a.mat'), 60, 40, 'xy')) == 1
    with pytest.raises(ProposalsError, match=r'in the other order of coordinates'):
        read_image_mat(str(tmp_path / 'a.mat'), 60, 40, 'yx')


def test_what_is_missing_or_damaged_is_named(folder, tmp_path):
    name = f'folder:{folder.root}:train'
    done = run('--imdb', name, '--source', tmp_path / 'none.mat')
    assert done.returncode == 1 and 'there is no such file or folder' in done.stderr
    empty = tmp_path / 'empty'
    empty.mkdir()
    done = run('--imdb', name, '--source', empty, '--method', 'mcg')
    assert done.returncode == 1 and "no boxes of image 'a'" in done.stderr
    (empty / 'a.mat').write_text('no MATLAB file')
    done = run('--imdb', name, '--source', empty, '--method', 'mcg')
    assert done.returncode == 1 and 'not a MATLAB file' in done.stderr
    assert not list((folder.root / 'proposals').iterdir())
    done = run('--imdb', name, '--source', empty, '--method', 'mcg', '--max_boxes', -1)
    assert done.returncode == 1 and '--max_boxes is -1; expected 1 or more' in done.stderr


def test_order_and_max_boxes_are_those_of_a_file_of_a_set_too(folder, tmp_path):
    cell = np.empty((1, 2), object)
    cell[0, 0] = np.array([[11, 1, 60, 20], [1, 1, 9, 9]])  # x1, y1, x2, y2
    cell[0, 1] = np.array([[6, 5, 60, 40]])
    savemat(tmp_path / 'train.mat', {'boxes': cell})
    name = f'folder:{folder.root}:train'
    done = run('--imdb', name, '--source', tmp_path / 'train.mat')
    assert done.returncode == 1 and 'in the other order of coordinates (--order)' in done.stderr
    done = run('--imdb', name, '--source', tmp_path / 'train.mat', '--order', 'xy', '--max_boxes', 1)
    assert done.returncode == 0, done.stderr
    assert get_imdb(name).proposals_of(0).tolist() == [[10, 0, 59, 19]]
