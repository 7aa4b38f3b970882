"""Sets in COCO's format: what is read, what is refused, and COCO's evaluation."""

import json
import pickle

import cv2
import numpy as np
import pytest

from detection_data.coco import coco, corners
from detection_data.factory import get_imdb, list_imdbs
from detection_data.pascal_voc import AnnotationError
from roi_data_layer.roidb import outside

CATEGORIES = [{'id': 7, 'name': 'cat'}, {'id': 3, 'name': 'hot dog'}]


def content(*annotations, images=2):
    """A COCO file; an annotation is (image, category, box[, extra keys])."""
    return {
        'images': [{'id': 40 + k, 'file_name': f'p{k}.png', 'width': 200, 'height': 100} for k in range(images)],
        'categories': CATEGORIES,
        'annotations': [
            {'id': k, 'image_id': image, 'category_id': category, 'bbox': box, 'iscrowd': 0, **dict(*extra)}
            for k, (image, category, box, *extra) in enumerate(annotations)
        ],
    }


@pytest.fixture
def made(tmp_path):
    """Writes the images and an annotation file, and returns the set."""
    (tmp_path / 'pictures').mkdir()

    def make(tree, images=2):
        for k in range(images):
            cv2.imwrite(str(tmp_path / 'pictures' / f'p{k}.png'), np.zeros((100, 200, 3), np.uint8))
        (tmp_path / 'labels.json').write_text(tree if isinstance(tree, str) else json.dumps(tree))
        return get_imdb(f'coco:{tmp_path}/labels.json:{tmp_path}/pictures')

    return make


def test_boxes_become_inclusive_corners_cut_to_the_image():
    # x2 = x1 + max(0, w - 1): the family's rule (py-faster-rcnn, lib/datasets/coco.py)
    boxes = corners([[10, 20, 30, 40], [5.5, 6.25, 0.5, 1], [190, 90, 10.4, 10.2]], 200, 100)
    np.testing.assert_array_equal(boxes, np.float32([[10, 20, 39, 59], [5.5, 6.25, 5.5, 6.25], [190, 90, 199, 99]]))


def test_a_set_of_ones_own(made, tmp_path):
    data = made(
        content((41, 3, [10, 20, 30, 40]), (40, 7, [0, 0, 200, 100]), (41, 7, [50, 50, 20, 20], {'iscrowd': 1}))
    )
    assert data.classes == ('__background__', 'cat', 'hot dog')  # in the order of the file, not of the ids
    assert data.name == 'labels' and data.image_index == ['40', '41']
    assert data.image_path_at(1) == str(tmp_path / 'pictures' / 'p1.png')
    second = data.annotation(1)
    np.testing.assert_array_equal(second['boxes'], [[10, 20, 39, 59], [50, 50, 69, 69]])
    assert second['gt_classes'].tolist() == [2, 1]
    assert second['difficult'].tolist() == second['crowd'].tolist() == [False, True]
    assert (second['width'], second['height']) == (200, 100)
    assert data.gt_roidb()[1]['boxes'].tolist() == [[10, 20, 39, 59]]
    assert data.proposals_path('random') == str(tmp_path / 'proposals' / 'random_coco_labels_in_pictures.h5')
    copy = pickle.loads(pickle.dumps(data))  # as it goes to a loader process
    np.testing.assert_array_equal(copy.annotation(0)['boxes'], [[0, 0, 199, 99]])


def test_an_image_without_objects_has_none(made):
    assert made(content((41, 3, [1, 1, 5, 5]))).annotation(0)['boxes'].shape == (0, 4)


def test_memory_is_that_of_arrays(made):
    segmented = {'segmentation': [[float(v) for v in range(500)]]}
    data = made(content(*[(40, 3, [1, 1, 5, 5], segmented)] * 2000))
    assert len(pickle.dumps(data)) < 250_000  # 73 bytes an object and what is shared


@pytest.mark.parametrize(
    'box, words',
    [
        ([10, 20, 0, 40], 'zero or negative size'),
        ([10, 20, 30, -4], 'zero or negative size'),
        ([180, 20, 30, 40], r'outside its image \(200x100'),
        ([-3, 20, 30, 40], 'outside its image'),
    ],
)
def test_a_box_that_is_none_is_refused_where_it_is_asked_for(made, box, words):
    data = made(content((41, 3, [1, 1, 5, 5]), (40, 3, box)))
    data.annotation(1)
    with pytest.raises(AnnotationError, match=rf'annotation 1 of image 40 \(hot dog\): box .*{words}'):
        data.annotation(0)


@pytest.mark.parametrize(
    'tree, words',
    [
        ('{"images": [', 'not a JSON file'),
        ('[]', "not in COCO's format"),
        ({'images': [], 'categories': CATEGORIES, 'annotations': []}, 'describes no image'),
        ({**content(), 'categories': []}, 'categories of different ids'),
        (
            {**content(), 'images': [{'id': [], 'file_name': 'x'}]},
            r'images\[0\] has id \[\]; expected a whole number',
        ),
        (content((99, 3, [1, 1, 5, 5])), r'image_id that the file does not describe \(99\)'),
        (content((40, 4, [1, 1, 5, 5])), r'category_id that the file does not describe \(4\)'),
        (content((40, 3, [1, 1, 5])), r'annotations\[0\] is'),
        (content((2**70, 3, [1, 1, 5, 5])), r'annotations\[0\] is'),
        ({**content(), 'annotations': None}, 'annotations is None, expected a list'),
        ({**content(), 'images': [{**content()['images'][0], 'id': 2**70}]}, r'images\[0\] has id 118059'),
        ({**content(), 'images': [{**content()['images'][0], 'width': 0}]}, r'images\[0\], p0.png, has width 0 and'),
    ],
)
def test_a_file_of_another_kind_is_told(made, tree, words):
    with pytest.raises(ValueError, match=words):
        made(tree)


def test_a_byte_order_mark_is_skipped(made):
    assert made('\ufeff' + json.dumps(content())).num_images == 2


def test_classes_of_a_joined_set_may_have_names_that_no_file_has(made, tmp_path):
    tree = content((40, 7, [1, 1, 5, 5]))
    made({**tree, 'categories': [{'id': 7, 'name': 'cup/mug'}]})
    data = get_imdb('+'.join([f'coco:{tmp_path}/labels.json:{tmp_path}/pictures'] * 2))
    data.evaluate_detections([[np.zeros((0, 5))] * 4] * 2, str(tmp_path / 'out'), quiet=True)
    assert (tmp_path / 'out/labels/comp4_det_test_cup_mug.txt').exists()


def test_paths_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r'expected coco:ANNOTATIONS.json:IMAGES'):
        get_imdb('coco:labels.json')
    with pytest.raises(FileNotFoundError, match='no folder'):
        get_imdb(f'coco:{tmp_path}/l.json:{tmp_path}/none')
    with pytest.raises(FileNotFoundError, match='no annotation file'):
        get_imdb(f'coco:{tmp_path}/l.json:{tmp_path}')


def test_the_published_sets(tmp_path):
    splits = '2014_train', '2014_val', '2014_minival', '2014_valminusminival', '2017_train', '2017_val'
    assert {f'coco_{split}' for split in splits} <= set(list_imdbs())
    with pytest.raises(FileNotFoundError, match=r'data/scripts/fetch_coco.sh 2014'):
        get_imdb('coco_2014_minival', str(tmp_path))
    root = tmp_path / 'coco'
    (root / 'images' / 'val2014').mkdir(parents=True)
    (root / 'annotations').mkdir()
    # an object without area is left out of a published set, and the set says so
    tree = content((40, 7, [10, 10, 20, 20]), (40, 7, [10, 10, 20, 0]))
    (root / 'annotations' / 'instances_minival2014.json').write_text(json.dumps(tree))
    data = get_imdb('coco_2014_minival', str(tmp_path))
    assert len(data.annotation(0)['boxes']) == 1
    assert data.proposals_path() == str(tmp_path / 'selective_search_data' / 'coco_2014_minival.h5')


def test_proposals_in_a_crowd_are_no_background():
    crowds = np.float32([[0, 0, 99, 99]])
    boxes = np.float32([[10, 10, 19, 19], [93, 0, 102, 9], [92, 0, 101, 9], [150, 0, 159, 9]])
    # inside: 100, 70, 80 and 0 per cent of their areas; up to 70 stay
    np.testing.assert_array_equal(outside(boxes, crowds), boxes[[1, 3]])
    np.testing.assert_array_equal(outside(boxes, crowds[:0]), boxes)


# ---------------------------------------------------------------------- evaluation


def detections(data, *rows):
    """all_boxes from rows of (class, image, x1, y1, x2, y2, score)."""
    all_boxes = [[np.zeros((0, 5))] * data.num_images for _ in data.classes]
    for c, i, *det in rows:
        all_boxes[c][i] = np.vstack([all_boxes[c][i], det])
    return all_boxes


def test_perfect_detections_have_ap_1_even_of_an_object_with_id_0(made, tmp_path):
    data = made(content((40, 7, [10, 20, 30, 40]), (41, 3, [50, 50, 40, 20])))
    out = tmp_path / 'out'
    results = data.evaluate_detections(
        detections(data, (1, 0, 10, 20, 39, 59, 0.9), (2, 1, 50, 50, 89, 69, 0.8)), str(out)
    )
    assert [results[k] for k in ('AP', 'mAP', 'AP50', 'AR100')] == pytest.approx([1, 1, 1, 1])
    assert results['classes']['hot dog'] == {
        'ap': pytest.approx(1), 'ap_50': pytest.approx(1), 'ground_truth': 1, 'crowds': 0, 'detections': 1,
    }  # fmt: skip
    written = json.loads((out / 'detections_labels_results.json').read_text())
    assert written[0] == {'image_id': 40, 'category_id': 7, 'bbox': [10, 20, 30, 40], 'score': 0.9}
    assert json.loads((out / 'results.json').read_text())['APl'] is None  # there are no large objects
    assert cv2.imread(str(out / 'precision_recall.png')) is not None


def test_the_thresholds_are_averaged(made, tmp_path):
    # A detection of 40 x 80 pixels of an object of 40 x 100: IoU 0.8, right at 7 of 10 thresholds, to 0.80.
    data = made(content((40, 7, [10, 0, 40, 100])))
    results = data.evaluate_detections(detections(data, (1, 0, 10, 0, 49, 79, 0.5)), str(tmp_path), quiet=True)
    assert results['AP'] == pytest.approx(0.7) and results['AP75'] == pytest.approx(1)


def test_a_detection_in_a_crowd_counts_neither_way(made, tmp_path):
    data = made(content((40, 7, [10, 10, 20, 20]), (40, 7, [100, 0, 100, 100], {'iscrowd': 1})))
    found = detections(data, (1, 0, 110, 10, 129, 29, 0.9), (1, 0, 10, 10, 29, 29, 0.8))
    results = data.evaluate_detections(found, str(tmp_path), quiet=True)
    assert results['AP'] == pytest.approx(1) and results['classes']['cat']['crowds'] == 1
    # The same as a plain object it would have been a false positive before the right one: precision 1/2.
    plain = made(content((40, 7, [10, 10, 20, 20])))
    assert plain.evaluate_detections(found, str(tmp_path), quiet=True)['AP'] == pytest.approx(0.5)


def test_no_detections_at_all(made, tmp_path):
    data = made(content((40, 7, [10, 10, 20, 20])))
    results = data.evaluate_detections(detections(data), str(tmp_path), quiet=True)
    assert results['AP'] == 0 and np.isnan(results['classes']['hot dog']['ap'])
    assert results['without_ground_truth'] == ['hot dog']
    assert json.loads((tmp_path / 'detections_labels_results.json').read_text()) == []


def test_withheld_ground_truth_leaves_the_file_for_the_server(made, tmp_path):
    data = made({**content(), 'annotations': []})
    data.withheld = True
    results = data.evaluate_detections(detections(data, (1, 0, 1, 1, 9, 9, 0.9)), str(tmp_path))
    assert results['AP'] is None
    assert len(json.loads((tmp_path / 'detections_labels_results.json').read_text())) == 1


def test_the_measure_is_pycocotools_own(made, tmp_path):
    """The whole way through arrays agrees with pycocotools on the files themselves."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(5)
    truth, rows = [], []
    for _ in range(120):
        image, c = int(rng.integers(6)), int(rng.integers(2))
        x, y, w, h = (*rng.uniform(0, [120, 60]), *rng.uniform(4, [80, 40]))
        truth.append(
            (
                40 + image,
                CATEGORIES[c]['id'],
                [x, y, w, h],
                {'iscrowd': int(rng.random() < 0.1), 'area': w * h / 2},
            )
        )
        for _ in range(rng.integers(3)):
            dx, dy = rng.normal(0, 4, 2)
            box = np.clip([x + dx, y + dy, x + dx + w - 1, y + dy + h - 1], 0, [199, 99, 199, 99])
            rows.append((c + 1, image, *box, float(rng.integers(1, 9)) / 10))  # many equal scores
    tree = content(*truth, images=6)
    for annotation in tree['annotations']:
        annotation['id'] += 1
    data = made(tree, images=6)
    results = data.evaluate_detections(detections(data, *rows), str(tmp_path), quiet=True)

    reference = COCO(str(tmp_path / 'labels.json'))
    found = reference.loadRes(str(tmp_path / 'detections_labels_results.json'))
    evaluation = COCOeval(reference, found, 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = [
        results[k] for k in ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl')
    ]
    assert 0.1 < results['AP'] < 0.9
    np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), evaluation.stats, atol=1e-6)


def test_coco_is_an_imdb_of_its_file(made):
    assert isinstance(made(content()), coco)
