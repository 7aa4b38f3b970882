"""The proposals file, and computing proposals."""

import os
import pickle
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from detection_data import hdf5_trial
from detection_data.factory import get_imdb
from detection_data.findings import look_at
from detection_data.proposals import (
    Proposals,
    ProposalsError,
    propose,
    random_boxes,
    selective_search,
    write_proposals,
)
from detection_data.voc_eval import iou_matrix

IDS = ['a', 'no boxes', 'ü/3']
BOXES = [np.array([[0, 1, 2, 3], [4, 5, 600, 700]]), np.zeros((0, 4)), np.array([[7, 8, 9, 10]])]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'deep' / 'p.h5'
    write_proposals(str(path), IDS, BOXES, 'random', {'seed': 3})
    return path


def test_what_was_written_is_read(path):
    p = Proposals(str(path))
    for image_id, boxes in zip(IDS, BOXES, strict=True):
        assert p.of(image_id).dtype == np.float32
        np.testing.assert_array_equal(p.of(image_id), boxes)
    assert len(p) == 3 and 'a' in p and 'b' not in p
    assert p.method == 'random' and p.parameters == {'seed': 3}


def test_whole_numbers_take_two_bytes_and_others_keep_their_digits(path, tmp_path):
    with h5py.File(path) as f:
        assert f['boxes'].dtype == np.uint16
    for box in ([0.5, 1, 2, 3], [0, 0, 70000, 10]):
        write_proposals(str(tmp_path / 'f.h5'), ['a'], [np.array([box])], 'random')
        assert Proposals(str(tmp_path / 'f.h5')).of('a').tolist() == [box]


def test_boxes_are_mapped_not_loaded_and_answers_are_copies(path):
    p = Proposals(str(path))
    assert isinstance(p._boxes, np.memmap)
    p.of('a')[:] = -1
    np.testing.assert_array_equal(p.of('a'), BOXES[0])


def test_a_file_cut_short_while_it_is_open(path):
    """By cp over it, say: reading on would end the process with SIGBUS."""
    p = Proposals(str(path))
    os.truncate(path, 100)
    with pytest.raises(ProposalsError, match=r'cut short since it was opened, has 100 bytes of .* make it anew'):
        p.of('a')


def test_it_is_sent_to_other_processes_as_its_path(path):
    data = pickle.dumps(Proposals(str(path)))
    assert len(data) < 500
    np.testing.assert_array_equal(pickle.loads(data).of('a'), BOXES[0])


def test_a_missing_file_is_told_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(ProposalsError, match=r'nowhere\.h5 does not exist; .*--imdb voc_2007_test --method random'):
        Proposals(str(tmp_path / 'nowhere.h5'), made_for='voc_2007_test', method='random')


def test_the_command_can_be_given_as_it_stands(tmp_path):
    nowhere = str(tmp_path / 'nowhere.h5')
    with pytest.raises(ProposalsError, match=r"make_proposals\.py --imdb 'folder:my fruit:train' --method random"):
        Proposals(nowhere, made_for='folder:my fruit:train', method='random')
    with pytest.raises(
        ProposalsError, match=r'import_proposals\.py --imdb coco_2014_minival --method mcg --source PATH'
    ):
        Proposals(nowhere, made_for='coco_2014_minival', method='mcg')


def test_a_missing_image_is_named(path):
    with pytest.raises(ProposalsError, match="no proposals for image 'z'"):
        Proposals(str(path)).of('z')


def test_damaged_files_are_told_from_whole_ones(path):
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ProposalsError, match='not a whole proposals file'):
            Proposals(str(path))
    path.write_bytes(b'<html>not found</html>')
    with pytest.raises(ProposalsError, match='not a whole proposals file'):
        Proposals(str(path))


@pytest.mark.parametrize(
    'change',
    [
        lambda f: f.attrs.__setitem__('format', 'else'),
        lambda f: f.attrs.__setitem__('format_version', 2),
        lambda f: f.__delitem__('offsets'),
        lambda f: f['offsets'].__setitem__(1, 99),
        lambda f: f['offsets'].__setitem__(3, 2),
        lambda f: (f.__delitem__('boxes'), f.create_dataset('boxes', data=np.zeros((3, 5), np.uint16))),
        lambda f: (f.__delitem__('boxes'), f.create_dataset('boxes', data=np.zeros((3, 4)))),
        lambda f: (
            f.__delitem__('boxes'),
            f.create_dataset('boxes', data=np.zeros((3, 4), np.uint16), compression='gzip'),
        ),
    ],
)
def test_hdf5_files_of_another_shape_are_refused(path, change):
    with h5py.File(path, 'r+') as f:
        change(f)
    with pytest.raises(ProposalsError, match='not a whole proposals file'):
        Proposals(str(path))


@pytest.mark.parametrize('box', [[-1, 0, 5, 5], [5, 0, 4, 5], [0, np.nan, 5, 5], [0, 0, np.inf, 5]])
def test_boxes_that_are_none_are_not_written(tmp_path, box):
    with pytest.raises(ValueError, match="proposals of image 'a'"):
        write_proposals(str(tmp_path / 'p.h5'), ['a'], [np.array([box])], 'random')
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_earlier_file_and_no_litter(path, monkeypatch):
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError('No space left on device')

    monkeypatch.setattr(h5py.Group, 'create_dataset', full)
    with pytest.raises(OSError, match='No space'):
        write_proposals(str(path), ['a'], [BOXES[0]], 'random')
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture(scope='module')
def picture():
    """A bright disc and a dark box on a plain ground."""
    image = np.full((90, 120, 3), 120, np.uint8)
    cv2.circle(image, (35, 45), 20, (40, 40, 230), -1)
    cv2.rectangle(image, (70, 20), (104, 69), (30, 20, 10), -1)
    noise = np.random.default_rng(0).integers(-6, 7, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def best_iou(boxes, box):
    from detection_data.voc_eval import iou_matrix

    return iou_matrix(np.array([box]), boxes).max()


def test_selective_search_finds_what_stands_out(picture):
    boxes = selective_search(picture)
    assert boxes.dtype == np.float32 and boxes.shape[1] == 4
    assert (boxes >= 0).all() and (boxes[:, 2] <= 119).all() and (boxes[:, 3] <= 89).all()
    assert (boxes[:, 2:] - boxes[:, :2] + 1 >= 8).all()
    assert best_iou(boxes, (15, 25, 55, 65)) > 0.85
    assert best_iou(boxes, (70, 20, 104, 69)) > 0.85


def test_the_same_seed_gives_the_same_boxes_in_the_same_order(picture):
    first = selective_search(picture, seed=1)
    np.testing.assert_array_equal(first, selective_search(picture, seed=1))
    other = selective_search(picture, seed=2)
    assert sorted(map(tuple, first)) == sorted(map(tuple, other))
    assert len(first) == len({tuple(b) for b in first})
    np.testing.assert_array_equal(selective_search(picture, seed=1, max_boxes=3), first[:3])


def test_boxes_found_in_a_scaled_image_are_of_the_image_given(picture):
    boxes = selective_search(picture, resize_to=200)
    assert (boxes[:, 2] <= 119).all() and (boxes[:, 3] <= 89).all()
    assert best_iou(boxes, (70, 20, 104, 69)) > 0.85


def test_what_is_wider_than_500_pixels_is_searched_at_that_width(picture):
    wide = cv2.resize(picture, (720, 540))
    for image, width in ((wide, 500), (picture, None)):  # the other has 120 pixels across
        found = propose(image, 'selective_search', 'a', resize_to='auto')
        np.testing.assert_array_equal(found, propose(image, 'selective_search', 'a', resize_to=width))
    assert best_iou(propose(wide, 'selective_search', 'a', resize_to='auto'), (420, 120, 629, 419)) > 0.85


@pytest.mark.parametrize('shape, dtype', [((20, 20), np.uint8), ((20, 20, 4), np.uint8), ((20, 20, 3), np.float32)])
def test_only_colour_images_are_searched(shape, dtype):
    with pytest.raises(ValueError, match='expected a BGR image'):
        selective_search(np.zeros(shape, dtype))


def test_random_boxes_lie_in_the_image():
    boxes = random_boxes(120, 90, 500, seed=0)
    assert 400 < len(boxes) <= 500
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 119).all() and (boxes[:, 3] <= 89).all()
    np.testing.assert_array_equal(boxes, random_boxes(120, 90, 500, seed=0))
    assert len(random_boxes(5, 3, 10)) >= 1  # smaller than the smallest box


def test_each_image_has_its_own_random_numbers(picture):
    a, b = (propose(picture, 'random', image_id, max_boxes=50) for image_id in 'ab')
    assert a.tolist() != b.tolist()
    np.testing.assert_array_equal(a, propose(picture, 'random', 'a', max_boxes=50))
    with pytest.raises(ValueError, match=r"unknown proposal method 'edges'; expected one of selective_search"):
        propose(picture, 'edges', 'a')


def write_edge_model(path):
    """A structured forest of one tree of three nodes, in the format of OpenCV's model: where the gradient at
    the middle of a patch is above 0.1 there is an edge."""
    side = 32 // 2  # of a patch, shrunk
    magnitude = 3 * side * side + (side // 2) * side + side // 2
    options = {
        'stride': 2, 'shrinkNumber': 2, 'patchSize': 32, 'patchInnerSize': 16,
        'numberOfGradientOrientations': 4, 'gradientSmoothingRadius': 0, 'regFeatureSmoothingRadius': 2,
        'ssFeatureSmoothingRadius': 8, 'gradientNormalizationRadius': 4, 'selfsimilarityGridSize': 5,
        'numberOfTrees': 1, 'numberOfTreesToEvaluate': 1,
    }  # fmt: skip
    middle = [8 * 16 + 8, 8 * 16 + 7, 7 * 16 + 8, 7 * 16 + 7] * 16
    lines = ['%YAML:1.0', '---', 'options:', *(f'   {k}: {v}' for k, v in options.items())]
    lines += ['childs: [2, 0, 0]', f'featureIds: [{magnitude}, 0, 0]', 'thresholds: [0.1, 0., 0.]']
    lines += [f'edgeBoundaries: [0, 0, 0, {len(middle)}]', f'edgeBins: {middle}']
    path.write_text('\n'.join(lines) + '\n')


def test_edge_boxes_find_a_rectangle_and_are_the_same_again(tmp_path):
    write_edge_model(tmp_path / 'model.yml')
    image = np.full((120, 160, 3), 60, np.uint8)
    image[30:91, 40:101] = (200, 220, 240)
    boxes = propose(image, 'edge_boxes', 'a', max_boxes=200, edge_model=str(tmp_path / 'model.yml'))
    assert 10 < len(boxes) <= 200 and boxes.dtype == np.float32
    assert iou_matrix([[40, 30, 100, 90]], boxes).max() > 0.7
    again = propose(image, 'edge_boxes', 'a', max_boxes=200, edge_model=str(tmp_path / 'model.yml'))
    np.testing.assert_array_equal(boxes, again)


def test_edge_boxes_need_their_model(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    with pytest.raises(FileNotFoundError, match=r'--edge_model FILE\): none was given. Get it with: curl'):
        propose(image, 'edge_boxes', 'a')
    (tmp_path / 'other.yml').write_text('%YAML:1.0\n---\na: 1\n')
    with pytest.raises(ValueError, match=r"other.yml: not OpenCV's model"):
        propose(image, 'edge_boxes', 'a', edge_model=str(tmp_path / 'other.yml'))
    (tmp_path / 'no.yml').write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"no.yml: not OpenCV's model"):
        propose(image, 'edge_boxes', 'a', edge_model=str(tmp_path / 'no.yml'))


# ---------------------------------------------------------------------- damaged files, and boxes that are none


def test_a_file_on_which_hdf5_never_ends_or_crashes():
    path = Path(__file__).parent / 'damaged' / 'h5prop_1398_SIGALRM.h5'
    with pytest.raises(ProposalsError, match=r'not a whole proposals file \(damaged: HDF5 never ends reading it\)'):
        Proposals(str(path))


def test_a_crash_of_the_trial_is_told(path, monkeypatch):
    monkeypatch.setattr(hdf5_trial, '_TRIAL', 'import os, signal; os.kill(os.getpid(), signal.SIGSEGV)')
    with pytest.raises(ProposalsError, match=r'\(damaged: HDF5 crashes on it, SIGSEGV\); remove it, then make it anew'):
        Proposals(str(path))


def spoilt(path, boxes):
    """The proposals file with other boxes in their place."""
    with h5py.File(path, 'r+') as f:
        del f['boxes']
        f.create_dataset('boxes', data=np.float32(boxes))
    return Proposals(str(path))


def test_boxes_that_are_none_are_told_where_they_are_asked_for(path):
    right = [0, 0, 9, 9]
    for wrong, said in (
        ([0, np.nan, 5, 5], 'box 1 has a coordinate that is no number, (0, nan, 5, 5)'),
        ([9, 0, 5, 5], 'box 1 ends before it begins, (9, 0, 5, 5) (x1, y1, x2, y2)'),
        ([-2064, 0, 5, 5], '1 boxes reach out of the image, of 60x40, the first (-2064, 0, 5, 5)'),
        ([0, 0, 2318, 5], '1 boxes reach out of the image, of 60x40, the first (0, 0, 2318, 5)'),
    ):
        proposals = spoilt(path, [right, wrong, right])
        with pytest.raises(ProposalsError) as e:
            proposals.of('a', (60, 40))
        assert f"proposals of image 'a': {said}. Damaged, or made of another image?" in str(e.value)
        assert proposals.of('ü/3', (60, 40)).tolist() == [right]
    assert len(spoilt(path, [right, [0, 0, 60, 40], right]).of('a', (60, 40))) == 2  # a pixel is rounding


def test_the_checker_finds_what_training_refuses(folder):
    name = f'folder:{folder.root}:train'
    path = folder.root / 'proposals' / 'random_train.h5'
    write_proposals(str(path), ['a', 'b'], [np.array([[0, 0, 9, 9]]), np.array([[0, 0, 160, 120]])], 'random')
    data = get_imdb(name)
    data.set_proposal_method('random')
    with pytest.raises(ProposalsError, match=r"image 'b': 1 boxes reach out of the image, of 60x40"):
        data.proposals_of(1)
    report = look_at(name, 'random')
    assert report.counts['wrong proposals'] == 1 and report.refused
    assert "image 'b': 1 boxes reach out of the image" in report.places['wrong proposals'][0]
