"""Detection: im_detect against the original's, and what test_net makes of it."""

import json

import cv2
import numpy as np
import pytest
from stand_in_data import GOLDEN, ListImdb

import caffe
from fast_rcnn.config import cfg
from fast_rcnn.detections_file import check_folder, data_set_of, load_detections, save_detections
from fast_rcnn.test import detections, im_detect, im_detect_batch, load_net
from fast_rcnn.test import test_net as run_test_net  # not collected as a test
from roi_data_layer.image_blob import read_image

PHOTO = GOLDEN / 'images' / 'BloodImage_00007.jpg'


@pytest.fixture
def net():
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE = (300,), 600
    caffe.set_mode_cpu()
    return load_net(str(GOLDEN / 'detect.prototxt'), str(GOLDEN / 'detect.caffemodel'))


@pytest.fixture(scope='module')
def recorded():
    return dict(np.load(GOLDEN / 'detect.npz'))


def test_scores_and_boxes_as_the_original_s(net, recorded):
    scores, boxes = im_detect(net, read_image(PHOTO), recorded['boxes'])
    np.testing.assert_allclose(scores, recorded['one/scores'], atol=1e-4)
    np.testing.assert_allclose(boxes, recorded['one/boxes'], atol=0.05)


def test_sharing_duplicates_changes_next_to_nothing(net, recorded):
    """The original shared them; here all are computed. Cells that round alike may pool differently."""
    cfg.DEDUP_BOXES = 0.0
    scores, _ = im_detect(net, read_image(PHOTO), recorded['boxes'])
    other = (np.abs(scores - recorded['one/scores']) > 1e-4).any(axis=1)
    assert other.sum() <= 2 and np.abs(scores - recorded['one/scores']).max() < 0.05


def test_raw_scores_and_plain_boxes(net, recorded):
    cfg.TEST.SVM, cfg.TEST.BBOX_REG = True, False
    scores, boxes = im_detect(net, read_image(PHOTO), recorded['boxes'][:5])
    assert np.abs(scores.sum(axis=1) - 1).max() > 0.01  # not probabilities
    inside = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(inside, recorded['one/scores'][:5], atol=1e-3)
    assert boxes.shape == (5, 16)


def test_no_proposals(net):
    scores, boxes = im_detect(net, read_image(PHOTO), np.zeros((0, 4), np.float32))
    assert scores.shape == (0, 4) and boxes.shape == (0, 16)


def test_an_image_pyramid_sends_rois_to_the_level_nearest_224():
    class Recorder:
        """A net that keeps what it is given."""

        def __init__(self):
            blob = type('Blob', (), {'data': np.zeros((1, 2)), 'reshape': lambda self, *shape: None})
            self.blobs = {name: blob() for name in ('data', 'rois', 'cls_prob')}

        def forward(self, data, rois):
            self.data, self.rois = data, rois
            return {
                'cls_prob': np.ones((len(rois), 2), np.float32),
                'bbox_pred': np.zeros((len(rois), 8), np.float32),
            }

    cfg.TEST.SCALES, cfg.DEDUP_BOXES = (480, 960), 0.0
    net = Recorder()
    im_detect(net, read_image(PHOTO), np.array([[0, 0, 223, 223], [10, 20, 121, 131]], np.float32))
    assert net.data.shape == (
        2,
        3,
        750,
        1000,
    )  # the larger level is bounded by MAX_SIZE 1000; the smaller is padded
    scale = 1000 / 640
    np.testing.assert_allclose(net.rois, [[0, 0, 0, 223, 223], [1, 10 * scale, 20 * scale, 121 * scale, 131 * scale]])


def test_detections_of_an_image():
    scores = np.array([[0, 0.9, 0.1], [0, 0.8, 0.06], [0, 0.05, 0.5], [0, 0.7, 0.4]], np.float32)
    boxes = np.tile(np.array([[0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 9], [50, 0, 59, 9]], np.float32), (1, 3))
    first, second = detections(scores, boxes, 100, 0.05)
    np.testing.assert_allclose(first, [[0, 0, 9, 9, 0.9], [50, 0, 59, 9, 0.7]])  # 0.05 is not above the threshold
    np.testing.assert_allclose(second, [[0, 0, 9, 9, 0.5], [50, 0, 59, 9, 0.4]])
    first, second = detections(scores, boxes, 3, 0.05)  # the best three of both classes together
    assert len(first) == 2 and len(second) == 1


def test_a_whole_data_set(net, recorded, tmp_path):
    image = {'path': PHOTO, 'size': (640, 480), 'boxes': [], 'classes': [], 'proposals': recorded['boxes']}
    empty = {**image, 'proposals': []}
    imdb = ListImdb([image, empty], ['__background__', 'RBC', 'WBC', 'Platelets'])
    all_boxes = run_test_net(net, imdb, output_dir=str(tmp_path / 'results'))
    assert imdb.evaluated is all_boxes
    assert sum(len(all_boxes[c][0]) for c in range(4)) == 100
    assert len(all_boxes[0][0]) == 0 and all(len(all_boxes[c][1]) == 0 for c in range(4))
    stored, classes, image_ids = load_detections(str(tmp_path / 'results/detections.npz'))
    assert classes == imdb.classes and image_ids == ['0', '1']
    for c in range(4):
        for i in range(2):
            np.testing.assert_array_equal(stored[c][i], all_boxes[c][i])


def test_a_folder_that_cannot_be_written_is_told_before_the_first_image(net, tmp_path):
    (tmp_path / 'output').write_text('a file in the way')

    class Unread:
        """A data set that must not be looked at."""

        num_images, num_classes, name = 1, 2, 'unread'

        def image_path_at(self, i):
            pytest.fail('it detects first')

    with pytest.raises(NotADirectoryError, match=r'output is a file, where a folder is needed'):
        run_test_net(net, Unread(), output_dir=str(tmp_path / 'output' / 'results'))


@pytest.mark.parametrize('choice', ['nearest', 'all'])
@pytest.mark.parametrize('iterations', [1, 2])
def test_images_that_share_a_pass_get_what_they_get_alone(net, recorded, choice, iterations):
    cfg.TEST.SCALES, cfg.TEST.SCALE_CHOICE = (200, 300), choice
    cfg.TEST.BBOX_ITERATIONS, cfg.TEST.BBOX_RESCORE_THRESH = iterations, 0.25
    photo, boxes = read_image(PHOTO), recorded['boxes']
    images, proposals = [photo, photo[:, ::-1], photo[::-1]], [boxes[:40], boxes[:0], boxes[20:]]
    together = im_detect_batch(net, images, proposals)
    assert len(together) == 3 and len(together[1][0]) == 0
    for image, own, (scores, predicted) in zip(images, proposals, together, strict=True):
        alone = im_detect(net, image, own)
        np.testing.assert_allclose(scores, alone[0], atol=1e-6)
        np.testing.assert_allclose(predicted, alone[1], atol=1e-3)


def test_a_data_set_of_several_sizes_in_batches(net, recorded, tmp_path):
    """Images are grouped by size, and each gets its own detections whatever the grouping."""
    photo = read_image(PHOTO)
    images = []
    for i in range(7):
        path = tmp_path / f'{i}.png'
        cv2.imwrite(str(path), np.roll(photo, 40 * i, axis=1)[: 480 if i % 3 else 400])
        boxes = np.minimum(recorded['boxes'], [639, 399, 639, 399])
        images.append({'path': path, 'size': (640, 480), 'boxes': [], 'classes': [], 'proposals': boxes})
    imdb = ListImdb(images, ['__background__', 'RBC', 'WBC', 'Platelets'])
    one_by_one = run_test_net(net, imdb, output_dir=str(tmp_path / 'one'))
    cfg.TEST.IMS_PER_BATCH = 3
    batched = run_test_net(net, imdb, output_dir=str(tmp_path / 'batched'))
    assert net.blobs['data'].data.shape[0] < 3  # the rest of a size comes last
    for c in range(1, 4):
        for i in range(7):
            np.testing.assert_allclose(batched[c][i], one_by_one[c][i], atol=1e-3)
    assert sum(len(batched[1][i]) for i in range(7)) > 7


def test_an_image_replaced_by_one_of_another_size_is_refused(net, tmp_path):
    class Sized(ListImdb):
        def image_size(self, i):
            return self._images[i]['size']

    image = {'path': tmp_path / 'a.png', 'size': (64, 48), 'boxes': [], 'classes': [], 'proposals': [[0, 0, 9, 9]]}
    imdb = Sized([image], ['__background__', 'RBC', 'WBC', 'Platelets'])
    cv2.imwrite(str(image['path']), np.zeros((48, 65, 3), np.uint8))
    with pytest.raises(ValueError, match=r'a\.png: the image is 65 x 48 pixels, but its annotation says 64 x 48'):
        run_test_net(net, imdb, output_dir=str(tmp_path / 'results'))
    cv2.imwrite(str(image['path']), np.zeros((1, 6000, 3), np.uint8))
    image['size'] = (6000, 1)
    with pytest.raises(ValueError, match=r'a\.png: an image of 6000 x 1 pixels, scaled .* has a side of 0 pixels'):
        run_test_net(net, imdb, output_dir=str(tmp_path / 'results'))


def test_the_wrong_net_is_named(net, tmp_path):
    image = {'path': PHOTO, 'size': (640, 480), 'boxes': [], 'classes': [], 'proposals': [[0, 0, 99, 99]]}
    with pytest.raises(ValueError, match='the net knows 4 classes, list_train has 2'):
        run_test_net(net, ListImdb([image], ['__background__', 'cat']), output_dir=str(tmp_path))


def test_the_data_set_of_results_is_known_or_asked_for(tmp_path):
    folder, known = str(tmp_path), ['voc_2007_test', 'voc_2012_test']
    with pytest.raises(FileNotFoundError, match=r'no such folder: .*nowhere; expected is the one in which test_net'):
        check_folder(str(tmp_path / 'nowhere'))
    check_folder(folder)
    with pytest.raises(ValueError, match=r'no results\.json there names the data set: give --imdb'):
        data_set_of(folder, known)
    for content, said in (('[]', 'no results'), ('{"imdb": "demo_test"}', 'has results of demo_test, .* give --imdb')):
        (tmp_path / 'results.json').write_text(content)
        with pytest.raises(ValueError, match=said):
            data_set_of(folder, known)
    for name in ('voc_2007_test', 'voc_2007_test+voc_2012_test'):
        (tmp_path / 'results.json').write_text(json.dumps({'imdb': name}))
        assert data_set_of(folder, known) == name


def test_detections_files(tmp_path):
    path = str(tmp_path / 'detections.npz')
    nothing = np.zeros((0, 5), np.float32)
    save_detections(path, [[nothing, nothing], [nothing, nothing]], ['__background__', 'cat'], ['a', 'b'])
    assert load_detections(path)[0][1][1].shape == (0, 5)
    (tmp_path / 'detections.npz').write_text(json.dumps({}))
    with pytest.raises(ValueError, match='not a detections file, or damaged'):
        load_detections(path)
    with pytest.raises(FileNotFoundError, match='test_net'):
        load_detections(str(tmp_path / 'none.npz'))
