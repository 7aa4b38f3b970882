"""tools/make_proposals.py: the same result with any number of processes, and no finished work lost."""

import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from detection_data.factory import get_imdb
from detection_data.proposals import write_proposals

TOOL = Path(__file__).parents[2] / 'tools' / 'make_proposals.py'


def run(*args):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], capture_output=True, text=True)


@pytest.fixture
def many(folder):
    ids = [f'n{k:02d}' for k in range(18)]  # three pieces
    for image_id in ids:
        folder.add(image_id)
    folder.split('many', *ids)
    return folder


def boxes_of(folder, method='random'):
    with h5py.File(folder.root / 'proposals' / f'{method}_many.h5') as f:
        return f['boxes'][()], f['offsets'][()]


def test_the_number_of_processes_changes_nothing(many):
    name = f'folder:{many.root}:many'
    results = []
    for jobs in (1, 2):
        done = run('--imdb', name, '--method', 'random', '--max_boxes', 40, '--jobs', jobs)
        assert done.returncode == 0, done.stderr
        results.append(boxes_of(many))
        (many.root / 'proposals' / 'random_many.h5').unlink()
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_joined_set_and_recall_by_selective_search(folder):
    name = f'folder:{folder.root}:train+folder:{folder.root}:test'
    done = run('--imdb', name, '--jobs', 1, '--recall')
    assert done.returncode == 0, done.stderr
    assert 'recall of pets_train at IoU 0.5' in done.stdout
    assert len(get_imdb(name).proposals_of(2)) > 0
    again = run('--imdb', name)
    assert again.returncode == 0 and again.stdout.count('is there already') == 2


def test_finished_pieces_are_not_computed_again(many):
    name = f'folder:{many.root}:many'
    broken = many.root / 'JPEGImages' / 'n17.jpg'
    picture = broken.read_bytes()
    broken.write_bytes(b'no picture')
    done = run('--imdb', name, '--method', 'random', '--jobs', 1)
    assert done.returncode == 1
    assert 'n17.jpg: cannot be read as an image' in done.stderr and 'Traceback' not in done.stderr
    partial = many.root / 'proposals' / 'random_many.h5.partial'
    kept = sorted(partial.glob('*.npz'))
    assert [p.name for p in kept] == ['0000000.npz', '0000008.npz']
    written = kept[0].stat().st_mtime_ns

    # A piece of other settings is not taken for one of these.
    broken.write_bytes(b'still no picture')
    assert run('--imdb', name, '--method', 'random', '--jobs', 1).returncode == 1
    assert kept[0].stat().st_mtime_ns == written
    assert run('--imdb', name, '--method', 'random', '--jobs', 1, '--max_boxes', 7).returncode == 1
    assert kept[0].stat().st_mtime_ns != written

    broken.write_bytes(picture)
    assert run('--imdb', name, '--method', 'random', '--jobs', 1, '--max_boxes', 7).returncode == 0
    assert not partial.exists()
    assert np.diff(boxes_of(many)[1]).max() == 7


def test_proposals_made_otherwise_are_not_overwritten(many):
    name = f'folder:{many.root}:many'
    assert run('--imdb', name, '--method', 'random', '--jobs', 1).returncode == 0
    done = run('--imdb', name, '--method', 'random', '--seed', 4)
    assert done.returncode == 1 and 'remove it to make it anew' in done.stderr


def test_proposals_of_images_that_have_changed_are_not_taken_for_theirs(many):
    name = f'folder:{many.root}:many'
    assert run('--imdb', name, '--method', 'random', '--jobs', 1).returncode == 0
    many.add('n03', size=(90, 70))
    done = run('--imdb', name, '--method', 'random', '--jobs', 1)
    assert done.returncode == 1 and 'image files of' in done.stderr and 'remove it to make it anew' in done.stderr


@pytest.mark.parametrize(
    'args, words',
    [
        (('--imdb', 'voc_2007_tst'), 'nearest names: voc_2007_test'),
        (('--imdb', 'voc_2007_test', '--method', 'edges'), 'invalid choice'),
        (('--imdb', 'voc_2007_test', '--jobs', '0'), '--jobs is 0'),
    ],
)
def test_wrong_arguments_are_told_in_a_line(args, words):
    done = run(*args)
    assert done.returncode != 0 and words in done.stderr and 'Traceback' not in done.stderr


def test_a_split_that_grew_is_extended_if_asked_for(many):
    name = f'folder:{many.root}:many'
    assert run('--imdb', name, '--method', 'random', '--jobs', 1).returncode == 0
    many.add('new')
    many.split('many', 'new', *reversed(get_imdb(name).image_index))
    done = run('--imdb', name, '--method', 'random', '--jobs', 1)
    assert done.returncode == 1
    assert '1 are new, 0 are gone, or their order is another; --extend keeps what is there' in done.stderr
    done = run('--imdb', name, '--method', 'random', '--jobs', 1, '--extend')
    assert done.returncode == 0, done.stderr
    total = len(get_imdb(name).image_index)
    assert f'{total} images, {total - 1} of them as they were' in done.stdout
    data = get_imdb(name)
    data.set_proposal_method('random')
    assert all(len(data.proposals_of(i)) > 0 for i in range(total))


def test_sets_of_one_name_have_files_of_their_own(tmp_path):
    """A folder's split, labels in COCO's format called the same, and these with other images beside one another."""
    images = tmp_path / 'JPEGImages'
    other = tmp_path / 'smaller'
    for folder in (images, other, tmp_path / 'Annotations', tmp_path / 'ImageSets' / 'Main'):
        folder.mkdir(parents=True)
    (tmp_path / 'ImageSets' / 'Main' / 'train.txt').write_text('1\n')
    (tmp_path / 'classes.txt').write_text('cat\n')
    (tmp_path / 'Annotations' / '1.xml').write_text(
        '<annotation><size><width>9</width><height>9</height></size></annotation>'
    )
    (tmp_path / 'train.json').write_text(
        '{"images": [{"id": 7, "file_name": "1.png", "width": 9, "height": 9}], "annotations": [], '
        '"categories": [{"id": 1, "name": "cat"}]}'
    )
    for folder in (images, other):
        cv2.imwrite(str(folder / '1.png'), np.zeros((9, 9, 3), np.uint8))
    sets = [
        get_imdb(name)
        for name in (
            f'folder:{tmp_path}:train', f'coco:{tmp_path}/train.json:{images}', f'coco:{tmp_path}/train.json:{other}'
        )
    ]  # fmt: skip
    paths = [data.proposals_path('random') for data in sets]
    assert len(set(paths)) == 3
    # what an earlier version called the file of such a set serves still, if it is of its images
    earlier = tmp_path / 'proposals' / 'random_train.h5'
    write_proposals(str(earlier), ['7'], [np.array([[0, 0, 5, 5]])], 'random')
    assert sets[1].proposals_path('random') == str(earlier)
    write_proposals(str(earlier), ['1'], [np.array([[0, 0, 5, 5]])], 'random')  # the folder's
    assert [data.proposals_path('random') for data in sets] == paths == [str(earlier), *paths[1:]]
    earlier.write_bytes(b'damaged')
    assert sets[1].proposals_path('random') == paths[1]


def test_two_at_once_are_refused_before_the_second_has_worked(many):
    path = many.root / 'proposals' / 'random_many.h5'
    hold = f"""
import sys
sys.path.insert(0, {str(TOOL.parent)!r})
import _init_paths
from fast_rcnn.training_lock import ProposalsLock
lock = ProposalsLock({str(path)!r})
print('locked', flush=True)
sys.stdin.read()
"""
    command = ('--imdb', f'folder:{many.root}:many', '--method', 'random', '--max_boxes', 9, '--jobs', 1)
    with subprocess.Popen([sys.executable, '-c', hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b'locked\n'
        second = run(*command)
        first.kill()
    assert second.returncode == 1
    assert f'random_many.h5.lock: process {first.pid} on' in second.stderr
    assert 'makes these proposals already' in second.stderr and 'Traceback' not in second.stderr
    assert not (path.parent / 'random_many.h5.partial').exists()
    assert run(*command).returncode == 0
    assert [each.name for each in path.parent.iterdir()] == ['random_many.h5']
