"""The interface of a data set, joined sets, and the evaluation's files."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from voc_folder import Folder, annotation

from detection_data.curves import draw_curves, literal, shortened
from detection_data.factory import get_imdb
from detection_data.proposals import write_proposals


@pytest.fixture
def imdb(folder):
    return get_imdb(f'folder:{folder.root}:train')


def no_detections(imdb):
    return [[np.zeros((0, 5))] * imdb.num_images for _ in imdb.classes]


def test_nothing_is_read_before_it_is_asked_for(folder, imdb):
    (folder.root / 'Annotations' / 'a.xml').write_text('broken')
    (folder.root / 'JPEGImages' / 'a.jpg').unlink()
    assert imdb.annotation(1)['gt_classes'].tolist() == [2, 1]


def test_an_annotation_is_parsed_once(folder, imdb):
    first = imdb.annotation(0)
    (folder.root / 'Annotations' / 'a.xml').unlink()
    assert imdb.annotation(0) is first


def test_training_ground_truth_leaves_difficult_objects_out(imdb):
    a, b = imdb.gt_roidb()
    assert a['gt_classes'].tolist() == [1, 2] and not a['flipped']
    assert b['gt_classes'].tolist() == [1] and b['boxes'].tolist() == [[29, 9, 49, 29]]


def test_it_travels_to_other_processes(folder, imdb):
    write_proposals(imdb.proposals_path(), ['a', 'b'], [np.array([[0, 0, 9, 9]]), np.zeros((0, 4))], 'random')
    imdb.annotation(0)
    assert len(imdb.proposals_of(0)) == 1
    copy = pickle.loads(pickle.dumps(imdb))
    assert copy.annotation(0)['boxes'].tolist() == imdb.annotation(0)['boxes'].tolist()
    assert copy.proposals_of(0).tolist() == [[0, 0, 9, 9]]


def test_the_proposal_method_chooses_the_file(imdb):
    write_proposals(imdb.proposals_path('random'), ['a', 'b'], [np.array([[1, 2, 3, 4]])] * 2, 'random')
    imdb.set_proposal_method('random')
    assert imdb.proposals_of(1).tolist() == [[1, 2, 3, 4]]
    imdb.set_proposal_method('gt')
    assert imdb.proposals_of(1).shape == (0, 4)
    imdb.set_proposal_method('selective_search')
    with pytest.raises(ValueError, match=r'make_proposals\.py --imdb folder:.*:train --method selective_search'):
        imdb.proposals_of(1)


def test_published_boxes_are_converted_and_again_if_they_change(imdb):
    savemat = pytest.importorskip('scipy.io').savemat
    cells = np.empty((1, 2), object)
    cells[0, 0] = np.array([[2, 1, 20, 10]], np.uint16)  # y1, x1, y2, x2, 1-based
    cells[0, 1] = np.array([[5, 6, 7, 8], [1, 1, 40, 60]], np.uint16)
    h5 = imdb.proposals_path()
    imdb_dir = Path(h5).parent
    imdb_dir.mkdir(parents=True)
    savemat(imdb_dir / 'selective_search_train.mat', {'boxes': cells})
    assert imdb.proposals_of(0).tolist() == [[0, 1, 9, 19]]
    assert imdb.proposals_of(1).tolist() == [[5, 4, 7, 6], [0, 0, 59, 39]]
    written = Path(h5).stat().st_mtime_ns
    imdb.set_proposal_method('selective_search')
    imdb.proposals_of(0)
    assert Path(h5).stat().st_mtime_ns == written
    cells[0, 1] = np.array([[1, 1, 3, 3]], np.uint16)
    savemat(imdb_dir / 'selective_search_train.mat', {'boxes': cells})
    imdb.set_proposal_method('selective_search')
    assert imdb.proposals_of(1).tolist() == [[0, 0, 2, 2]]
    (imdb_dir / 'selective_search_train.mat').unlink()
    imdb.set_proposal_method('selective_search')
    assert imdb.proposals_of(0).tolist() == [[0, 1, 9, 19]]


def test_published_boxes_of_other_images_are_refused(imdb):
    savemat = pytest.importorskip('scipy.io').savemat
    path = Path(imdb.proposals_path()).with_suffix('.mat')
    path.parent.mkdir()
    cells = np.empty((1, 3), object)
    cells[:] = [[np.ones((1, 4))] * 3]
    savemat(path, {'boxes': cells})
    with pytest.raises(ValueError, match='has boxes of 3 images, not of the 2 of this set'):
        imdb.proposals_of(0)
    path.write_bytes(b'<html>not found</html>')
    with pytest.raises(ValueError, match='not a MATLAB file'):
        imdb.proposals_of(0)


def test_evaluation_writes_voc_files_and_results(imdb, tmp_path, capsys):
    all_boxes = no_detections(imdb)
    all_boxes[1] = [np.array([[0, 0, 19, 29, 0.75]]), []]  # the cat of image a; the family leaves [] for none
    all_boxes[2][1] = np.array([[4, 4, 24, 24, 0.5]])  # the difficult dog of image b
    out = tmp_path / 'out'
    results = imdb.evaluate_detections(all_boxes, str(out))

    # Cats: one of two found. Dogs: one to find, not found; the detection is ignored.
    assert results['classes']['cat']['ap'] == results['classes']['cat']['ap_area'] == 0.5
    assert results['classes']['cat']['ap_07'] == pytest.approx(6 / 11)
    assert results['classes']['dog'] == {
        'ap': 0.0, 'ap_07': 0.0, 'ap_area': 0.0, 'ground_truth': 1, 'difficult': 1, 'detections': 1,
    }  # fmt: skip
    assert results['mAP'] == 0.25 and results['metric'] == 'area'
    assert (out / 'comp4_det_test_cat.txt').read_text() == 'a 0.750000 1.00 1.00 20.00 30.00\n'
    assert (out / 'comp4_det_test_dog.txt').read_text() == 'b 0.500000 5.00 5.00 25.00 25.00\n'
    assert json.loads((out / 'results.json').read_text()) == results
    assert sorted(p.name for p in out.iterdir()) == [
        'comp4_det_test_cat.txt',
        'comp4_det_test_dog.txt',
        'precision_recall.png',
        'results.json',
    ]
    assert '0.2500' in capsys.readouterr().out
    assert imdb.evaluate_detections(all_boxes, str(out), use_07_metric=True)['mAP'] == pytest.approx(3 / 11)


def test_a_class_without_ground_truth_is_left_out_of_the_mean_and_named(folder, tmp_path, capsys):
    imdb = get_imdb(f'folder:{folder.root}:test')  # has no dog
    all_boxes = no_detections(imdb)
    all_boxes[1][0] = np.array([[1, 1, 29, 29, 0.9]])
    results = imdb.evaluate_detections(all_boxes, str(tmp_path / 'out'))
    assert results['mAP'] == 1.0 and np.isnan(results['classes']['dog']['ap'])
    assert results['without_ground_truth'] == ['dog']
    assert json.loads((tmp_path / 'out' / 'results.json').read_text())['classes']['dog']['ap'] is None
    assert 'no object to find: dog' in capsys.readouterr().out


def test_classes_of_which_nothing_is_detected(imdb, tmp_path, capsys):
    results = imdb.evaluate_detections(no_detections(imdb), str(tmp_path / 'out'))
    assert results['mAP'] == 0 and (tmp_path / 'out' / 'precision_recall.png').exists()
    assert 'cat    0.0000          2           0' in capsys.readouterr().out


def test_names_of_classes_are_no_mathematics(tmp_path):
    curve = np.array([0.5, 1.0]), np.array([1.0, 1.0]), 1.0
    draw_curves({'$x^$ bill': curve}, str(tmp_path / 'curves.png'), 'title')
    assert literal('$5 or $10') == r'\$5 or \$10'


def test_long_names_of_classes_do_not_run_into_one_another():
    assert shortened('diningtable') == 'diningtable'
    assert shortened('a rather long class name 17') == 'a rather lon…name 17'


def test_detections_that_do_not_fit_the_set_are_refused(imdb, tmp_path):
    for broken, words in (
        (no_detections(imdb)[:2], 'all_boxes has 2 classes but pets_train has 3'),
        ([[], [[]], [[], []]], r'all_boxes\[1\] \(cat\) has 1 images but pets_train has 2'),
        ([[], [[], []], [[], np.zeros((2, 4))]], r'\(dog, image b\) has shape \(2, 4\)'),
        ([[], [np.full((1, 5), np.nan), []], [[], []]], r'\(cat, image a\) has a number that is not finite'),
    ):
        with pytest.raises(ValueError, match=words):
            imdb.evaluate_detections(broken, str(tmp_path / 'out'))


def test_a_joined_set_is_its_parts_one_after_the_other(folder, tmp_path):
    joined = get_imdb(f'folder:{folder.root}:train+folder:{folder.root}:test')
    assert joined.name == 'pets_train+pets_test' and joined.num_images == 3
    assert joined.image_index == ['a', 'b', 'c']
    assert joined.image_path_at(2).endswith('c.jpg')
    assert joined.annotation(2)['boxes'].tolist() == [[1, 1, 29, 29]]
    assert joined.image_size(1) == (60, 40)
    assert len(joined.gt_roidb()) == 3
    with pytest.raises(IndexError):
        joined.annotation(3)

    for part in joined.parts:
        ids = part.image_index
        write_proposals(part.proposals_path('random'), ids, [np.full((1, 4), ord(i) - 90) for i in ids], 'random')
    joined.set_proposal_method('random')
    assert [joined.proposals_of(i)[0, 0] for i in range(3)] == [7, 8, 9]

    all_boxes = no_detections(joined)
    all_boxes[1][2] = np.array([[1, 1, 29, 29, 0.9]])
    results = joined.evaluate_detections(all_boxes, str(tmp_path / 'out'), quiet=True)
    assert results['classes']['cat']['ap_area'] == pytest.approx(1 / 3)
    assert (tmp_path / 'out' / 'pets_test' / 'comp4_det_test_cat.txt').read_text().startswith('c 0.9')
    assert pickle.loads(pickle.dumps(joined)).proposals_of(2)[0, 0] == 9


def test_sets_of_different_classes_do_not_join(folder, tmp_path):
    other = Folder(tmp_path / 'birds')
    other.add('x', annotation([('owl', 1, 1, 9, 9)]))
    other.split('train', 'x')
    with pytest.raises(ValueError, match=r"cannot join pets_train and birds_train: .*\['cat', 'dog'\] and \['owl'\]"):
        get_imdb(f'folder:{folder.root}:train+folder:{other.root}:train')
