"""`from fast_rcnn import Detector`: what a program that uses a trained detector sees.

The net without an RPN is the original's recorded one; that with an RPN is the demo's, on random weights.
"""

import copy
import dataclasses
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from stand_in_data import GOLDEN

import caffe
from detection_data.image_file import DamagedImage, ImageError
from fast_rcnn import Detector
from fast_rcnn.config import ConfigError, cfg
from fast_rcnn.model_card import ModelCard, ModelCardError, add_card
from fast_rcnn.test import detections, im_detect, load_net
from roi_data_layer.image_blob import read_image

PHOTO = GOLDEN / 'images' / 'BloodImage_00007.jpg'
RPN_NET = Path(__file__).parents[2] / 'models' / 'demo' / 'small' / 'faster_rcnn_end2end_ohem' / 'test.prototxt'
CLASSES = ('__background__', 'RBC', 'WBC', 'Platelets')
SETTINGS = {'TEST': {'SCALES': [300], 'MAX_SIZE': 600, 'NMS': 0.4}}


@pytest.fixture(autouse=True)
def cpu():
    caffe.set_mode_cpu()


@pytest.fixture
def model(tmp_path):
    """Weights that say their classes and settings, the test net beside them."""
    path = tmp_path / 'cells_iter_5.caffemodel'
    shutil.copy(GOLDEN / 'detect.caffemodel', path)
    shutil.copy(GOLDEN / 'detect.prototxt', tmp_path / 'test.prototxt')
    add_card(str(path), ModelCard(CLASSES, 'cells', SETTINGS))
    return path


@pytest.fixture
def bare(tmp_path):
    """Weights of another program, which say nothing of themselves."""
    return shutil.copy(GOLDEN / 'detect.caffemodel', tmp_path / 'bare.caffemodel')


@pytest.fixture
def boxes():
    return np.load(GOLDEN / 'detect.npz')['boxes'].astype(np.float32)


@pytest.fixture
def rpn_model(tmp_path):
    folder = tmp_path / 'rpn'
    folder.mkdir()
    shutil.copy(RPN_NET, folder / 'rpn.prototxt')
    net = caffe.Net(str(RPN_NET), caffe.TEST)
    random = np.random.default_rng(1)
    for name, blobs in net.params.items():
        scale = 0.01 if name.startswith(('rpn_bbox', 'bbox')) else 0.1
        blobs[0].data[...] = random.normal(0, scale, blobs[0].data.shape)
    net.save(str(folder / 'rpn.caffemodel'))
    names = ('__background__', 'button', 'ladybird', 'leaf', 'starfish')
    settings = {'TEST': {'HAS_RPN': True, 'SCALES': [120], 'MAX_SIZE': 200, 'RPN_POST_NMS_TOP_N': 40}}
    add_card(str(folder / 'rpn.caffemodel'), ModelCard(names, 'demo', settings))
    return folder / 'rpn.caffemodel'


def expected(prototxt, weights, settings, boxes, thresh, most=100, image=PHOTO):
    """Class number -> (n, 5), by im_detect and NMS under cfg."""
    before = copy.deepcopy(cfg.TEST)
    cfg.TEST.update(settings)
    found = detections(*im_detect(load_net(str(prototxt), str(weights)), read_image(image), boxes), most, thresh)
    cfg.TEST = before
    return dict(enumerate(found, 1))


def assert_same(found, wanted):
    """To the byte, class by class."""
    assert len(found) == sum(map(len, wanted.values())) > 3
    rows = np.column_stack((found.boxes, found.scores))
    assert rows.dtype == np.float32
    for number, dets in wanted.items():
        np.testing.assert_array_equal(rows[found.classes == number], dets)


def test_five_lines(model, boxes):
    detector = Detector.load(model, thresh=0.3)
    found = list(detector(PHOTO, proposals=boxes))
    assert detector.classes == ('RBC', 'WBC', 'Platelets')
    assert found and [box.score for box in found] == sorted((box.score for box in found), reverse=True)
    box = found[0]
    assert box.name in detector.classes and 0.3 < box.score <= 1
    assert 0 <= box.x1 < box.x2 <= 639 and 0 <= box.y1 < box.y2 <= 479 and type(box.x1) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        box.score = 1.0


def test_byte_for_byte_those_of_im_detect_and_nms(model, boxes):
    for thresh, most in ((0.05, 100), (0.2, 0), (0.05, 7)):
        found = Detector.load(model, thresh=thresh, max_per_image=most)(PHOTO, boxes)
        settings = {'SCALES': (300,), 'MAX_SIZE': 600, 'NMS': 0.4}
        assert_same(found, expected(model.parent / 'test.prototxt', model, settings, boxes, thresh, most))


def test_voting_iterations_and_scales_by_settings(model, boxes):
    more = {'SCALES': (200, 300), 'SCALE_CHOICE': 'all', 'BBOX_ITERATIONS': 2, 'BBOX_VOTE': True}
    found = Detector.load(model, settings={'TEST': more}, thresh=0.05)(PHOTO, boxes)
    wanted = {'MAX_SIZE': 600, 'NMS': 0.4, **more}
    assert_same(found, expected(model.parent / 'test.prototxt', model, wanted, boxes, 0.05))


def test_a_net_that_proposes_by_itself(rpn_model):
    detector = Detector.load(rpn_model, thresh=0.05)
    assert detector.proposes
    settings = {'HAS_RPN': True, 'SCALES': (120,), 'MAX_SIZE': 200, 'RPN_POST_NMS_TOP_N': 40}
    assert_same(detector(PHOTO), expected(RPN_NET, rpn_model, settings, None, 0.05))
    with pytest.raises(ValueError, match='this net proposes boxes by itself: give no proposals='):
        detector(PHOTO, np.zeros((1, 4)))


def test_cfg_is_neither_read_nor_changed(model, rpn_model, boxes):
    before = copy.deepcopy(dict(cfg))
    first, second = Detector.load(model, thresh=0.05), Detector.load(rpn_model, thresh=0.05)
    of_first, of_second = first(PHOTO, boxes), second(PHOTO)
    assert all(np.array_equal(before[key], cfg[key]) for key in before)
    cfg.TEST.SCALES, cfg.TEST.NMS, cfg.TEST.HAS_RPN, cfg.DEDUP_BOXES = (77,), 0.9, True, 0.5
    cfg.TEST.RPN_POST_NMS_TOP_N, cfg.PIXEL_MEANS = 3, np.zeros((1, 1, 3))
    assert np.array_equal(first(PHOTO, boxes).boxes, of_first.boxes)
    assert np.array_equal(second(PHOTO).boxes, of_second.boxes)


def test_two_of_different_settings_live_side_by_side(rpn_model):
    few = Detector.load(rpn_model, settings={'TEST': {'RPN_POST_NMS_TOP_N': 2}}, thresh=0.0)
    many = Detector.load(rpn_model, settings={'TEST': {'NMS': 1.0}}, thresh=0.0, max_per_image=0)
    assert len(few(PHOTO)) <= 2 * 4 < len(many(PHOTO)) and len(few(PHOTO)) <= 2 * 4


def test_settings_given_to_a_detector_stay_the_caller_s(model):
    net = load_net(str(model.parent / 'test.prototxt'), str(model))
    cfg.TEST.HAS_RPN = True
    detector = Detector(net, CLASSES[1:], cfg)
    assert cfg.TEST.HAS_RPN and not detector.settings.TEST.HAS_RPN


def test_settings_of_a_file_go_on_top_of_those_of_the_weights(model, tmp_path):
    (tmp_path / 'my.yml').write_text('TRAIN:\n  SCALES: [999]\nTEST:\n  NMS: 0.55\n')
    settings = Detector.load(model, settings=tmp_path / 'my.yml').settings
    assert (settings.TEST.NMS, settings.TEST.SCALES, settings.TEST.MAX_SIZE) == (0.55, (300,), 600)
    assert cfg.TEST.NMS == 0.3


def test_arrays_are_bgr_as_opencv_reads_them(model, boxes):
    detector = Detector.load(model, thresh=0.05)
    of_path, of_array = detector(PHOTO, boxes), detector(cv2.imread(str(PHOTO)), boxes)
    assert np.array_equal(of_path.boxes, of_array.boxes) and np.array_equal(of_path.scores, of_array.scores)
    assert of_path.image == str(PHOTO) and of_array.image is None
    assert (of_path.width, of_path.height) == (640, 480)
    turned = detector(cv2.imread(str(PHOTO))[:, :, ::-1], boxes)  # RGB is another picture
    assert not np.array_equal(turned.scores, of_path.scores)


def test_lists_folders_and_batches_in_the_order_given(model, boxes, tmp_path):
    photo = read_image(PHOTO)
    folder = tmp_path / 'photographs'
    folder.mkdir()
    small = np.minimum(boxes, [299, 199, 299, 199])
    for i, image in enumerate((photo, photo[:200, :300], photo[:, ::-1], photo[::-1])):
        cv2.imwrite(str(folder / f'{i}.png'), image)
    (folder / 'notes.txt').write_text('no photograph')
    proposals = [boxes, small, boxes, boxes]
    detector = Detector.load(model, thresh=0.05)
    alone = [detector(folder / f'{i}.png', proposals[i]) for i in range(4)]
    for batch in (1, 3, 8):
        detector.batch = batch
        found = detector(folder, proposals)
        assert [each.image for each in found] == [str(folder / f'{i}.png') for i in range(4)]
        assert [each.width for each in found] == [640, 300, 640, 640]
        for one, other in zip(found, alone, strict=True):
            assert one.names == other.names
            np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
            if batch == 1:
                assert np.array_equal(one.boxes, other.boxes)
    in_list = detector([folder / '1.png', photo], [small, boxes])
    assert [each.image for each in in_list] == [str(folder / '1.png'), None]
    assert detector([]) == []


def test_the_project_s_proposals_are_those_without_any(model):
    """Whatever the method, the same image has the same boxes; a method can be named."""
    photo = read_image(PHOTO)[:120, :160]
    detector = Detector.load(model, thresh=0.05, proposals='random')
    assert len(detector(photo)) > 0
    assert np.array_equal(detector(photo).boxes, detector(photo).boxes)
    detector.proposals = 'auto'
    assert isinstance(detector(photo).boxes, np.ndarray)


def test_threads_get_what_one_after_another_gets(model, rpn_model, boxes):
    fast, other = Detector.load(model, thresh=0.05), Detector.load(rpn_model, thresh=0.05)
    photo = read_image(PHOTO)
    images = [np.roll(photo, 50 * i, axis=1)[:, : 640 - 40 * (i % 3)] for i in range(6)]
    proposals = [np.minimum(boxes, [image.shape[1] - 1, 479] * 2) for image in images]
    wanted = [(fast(i, p).boxes, other(i).boxes) for i, p in zip(images, proposals, strict=True)]
    found = [None] * len(images)

    def work(k):
        found[k] = fast(images[k], proposals[k]).boxes, other(images[k]).boxes

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, wanted, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_sequence_of_boxes(model, boxes):
    found = Detector.load(model, thresh=0.3)(PHOTO, boxes)
    assert found[0] == next(iter(found)) and found[-1] == found[len(found) - 1] and len(found[:2]) == 2
    first = found[0]
    assert found.as_dicts()[0] == {'class': first.name, 'score': first.score, 'box': [*dataclasses.astuple(first)[2:]]}
    assert found.boxes[0].tolist() == [first.x1, first.y1, first.x2, first.y2]
    assert repr(found).startswith(f'<{len(found)} detections in {PHOTO}: {first.name} {first.score:.2f}')
    nothing = Detector.load(model)(PHOTO, np.zeros((0, 4)))
    assert len(nothing) == 0 and nothing.boxes.shape == (0, 4) and nothing.names == []


def test_images_that_cannot_be_read(model, boxes, tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(PHOTO.read_bytes()[:300])
    images = [PHOTO, tmp_path / 'broken.jpg', PHOTO]
    detector = Detector.load(model, thresh=0.05)
    with pytest.raises(ImageError, match=r'broken\.jpg: cannot be read as an image'):
        detector(images, [boxes] * 3)
    left_out = []
    found = list(detector.each(images, [boxes] * 3, broken=lambda image, error: left_out.append((image, str(error)))))
    assert [each.image for each in found] == [str(PHOTO)] * 2
    assert left_out[0][0] == images[1] and str(images[1]) in left_out[0][1]
    with pytest.raises(ImageError, match=r'^the image: an image of 6000 x 1 pixels'):
        detector(np.zeros((1, 6000, 3), np.uint8), boxes)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='empty: no image in this folder or below it'):
        detector(tmp_path / 'empty')


def test_an_image_that_is_cut_off_is_named(model, boxes, tmp_path):
    (tmp_path / 'cut.jpg').write_bytes(PHOTO.read_bytes()[:9000])
    with pytest.warns(DamagedImage, match=r'damaged, partly grey: .*cut\.jpg \('):
        assert Detector.load(model)(tmp_path / 'cut.jpg', boxes).width == 640


@pytest.mark.parametrize(
    ('image', 'kind', 'words'),
    [
        (None, TypeError, 'got NoneType'),
        (np.zeros((9, 9), np.uint8), ValueError, r'got uint8 \(9, 9\): of a grey one, cv2.cvtColor'),
        (np.zeros((9, 9, 3), np.float32), ValueError, r'uint8, BGR as cv2.imread gives it; got float32 \(9, 9, 3\)'),
        (np.zeros((0, 9, 3), np.uint8), ValueError, r'got uint8 \(0, 9, 3\)'),
        ([3], TypeError, 'got int'),
    ],
)
def test_what_is_no_image(model, image, kind, words):
    with pytest.raises(kind, match=words):
        Detector.load(model)(image)


def test_an_image_of_pillow_s_is_told_how_to_become_one(model):
    from PIL import Image

    with pytest.raises(TypeError, match=r'got Image: of a PIL image, numpy.asarray\(image.convert\("RGB"\)\)'):
        Detector.load(model)(Image.new('RGB', (9, 9)))


def test_an_image_of_which_the_net_leaves_no_pixel(model):
    detector = Detector.load(model, settings={'TEST': {'SCALES': [120], 'MAX_SIZE': 200}}, proposals='random')
    with pytest.raises(
        ImageError, match=r'^the image: 80 x 16000 pixels, scaled to 1 x 200, are too narrow for the net$'
    ):
        detector(np.zeros((16000, 80, 3), np.uint8))


def test_proposals_that_do_not_fit(model, boxes):
    detector = Detector.load(model)
    with pytest.raises(ValueError, match=r'proposals= has shape \(4,\); expected \(R, 4\)'):
        detector(PHOTO, [1, 2, 3, 4])
    with pytest.raises(ValueError, match='finite'):
        detector(PHOTO, [[1, 2, np.nan, 4]])
    for images in (PHOTO, [PHOTO]):
        with pytest.raises(ValueError, match="proposals='random': the boxes themselves are expected here"):
            detector(images, proposals='random')
    with pytest.raises(ValueError, match='more images than proposals='):
        detector([PHOTO, PHOTO], [boxes])
    with pytest.raises(ValueError, match='more proposals= than images'):
        detector([PHOTO], [boxes, boxes])


def test_files_that_do_not_fit(model, bare, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there are no trained weights .*nothing\.caffemodel'):
        Detector.load(tmp_path / 'nothing.caffemodel')
    with pytest.raises(ValueError, match=r'bare\.caffemodel does not name its classes: give their names, classes='):
        Detector.load(bare)
    for name, content, said in (
        ('README.md', b'# A net\n', ', but text'),
        ('net.prototxt', b'name: "no model"', ', but text'),
        ('empty.caffemodel', b'', ': the file is empty'),
        ('cut.caffemodel', Path(bare).read_bytes()[:40], ', or one that is cut short: copy it again'),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'{name}: not a .caffemodel{said}$'):
            Detector.load(tmp_path / name)
    assert Detector.load(bare, classes=CLASSES[1:]).classes == CLASSES[1:]
    with pytest.raises(ValueError, match='the net scores 4 classes with the background, but there are 1 names: cat'):
        Detector.load(bare, classes=['cat'])
    with pytest.raises(ModelCardError, match='knows the classes RBC, WBC, Platelets; the names given are others: cat'):
        Detector.load(model, classes=['cat'])
    with pytest.raises(ConfigError, match=r'settings=: there is no setting TEST\.NMSS; did you mean TEST\.NMS'):
        Detector.load(model, settings={'TEST': {'NMSS': 0.3}})
    with pytest.raises(ValueError, match="there is no proposal method 'edges'; there are: auto, selective_search"):
        Detector.load(model, proposals='edges')
    bad = {'thresh': (2, 'x', float('nan')), 'max_per_image': (-1, 'x', 2.5), 'batch': (0, 'x')}
    for option, value in ((option, value) for option, values in bad.items() for value in values):
        with pytest.raises(ValueError, match=f'^{option} is {value!r}; expected a'):
            Detector.load(model, **{option: value})
    (tmp_path / 'test.prototxt').unlink()
    with pytest.raises(FileNotFoundError, match=r'brings no test net .*looked for .*iter_5\.prototxt.*test\.proto'):
        Detector.load(model)
    with pytest.raises(FileNotFoundError, match=r'there is no file .*nowhere'):
        list(Detector.load(model, GOLDEN / 'detect.prototxt').each(tmp_path / 'nowhere'))


def with_net(weights, path, net):
    """A copy of weights that bring this test net along."""
    shutil.copy(weights, path)
    add_card(str(path), ModelCard(CLASSES, 'cells', SETTINGS, net=net))
    return path


def test_weights_bring_their_net_along(model, bare, boxes, tmp_path):
    """So there is one file to hand on; a prototxt beside it or given comes first."""
    (tmp_path / 'alone').mkdir()
    alone = with_net(bare, tmp_path / 'alone' / 'cells.caffemodel', (GOLDEN / 'detect.prototxt').read_text())
    found = Detector.load(alone, thresh=0.05)(PHOTO, boxes)
    assert np.array_equal(found.boxes, Detector.load(model, thresh=0.05)(PHOTO, boxes).boxes)
    (alone.parent / 'test.prototxt').write_text('layer { name: "other" type: "NoSuchType" }')
    with pytest.raises(Exception, match='NoSuchType'):
        Detector.load(alone)
    assert Detector.load(alone, GOLDEN / 'detect.prototxt').classes == CLASSES[1:]


@pytest.mark.parametrize(
    ('layer', 'words'),
    [
        (
            'type: "Python" python_param { module: "os" layer: "system" }',
            r'of type Python os\.system, which is not run',
        ),
        ('type: "Python" python_param { module: \'o\' "s" layer: "x" }', r'of type Python os\.x, which is not run'),
        ('type: "HDF5Output" hdf5_output_param { file_name: "gone" }', 'of type HDF5Output, which is not run unasked'),
        ('type: "ImageData" image_data_param { source: "/etc/passwd" }', 'of type ImageData'),
        ('type: "Pooling', r'is no prototxt \('),
    ],
)
def test_a_net_within_weights_runs_no_foreign_code_and_touches_no_file(bare, tmp_path, layer, words):
    """Who loads weights expects numbers."""
    (tmp_path / 'alone').mkdir()
    text = (GOLDEN / 'detect.prototxt').read_text() + f'\nlayer {{ name: "more" {layer} }}'
    alone = with_net(bare, tmp_path / 'alone' / 'cells.caffemodel', text)
    with pytest.raises(ModelCardError, match=words) as caught:
        Detector.load(alone)
    assert str(alone) in str(caught.value) and 'prototxt=' in str(caught.value)


def test_a_net_within_weights_in_the_old_form_is_refused(bare, tmp_path):
    (tmp_path / 'alone').mkdir()
    alone = with_net(bare, tmp_path / 'alone' / 'cells.caffemodel', 'layers { name: "d" type: HDF5_OUTPUT }')
    with pytest.raises(ModelCardError, match='has layers of the old form'):
        Detector.load(alone)


def test_a_net_that_detects_nothing_is_refused(bare, tmp_path):
    (tmp_path / 'other.prototxt').write_text(
        'layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 } } }'
    )
    with pytest.raises(ValueError, match='the net has no blob cls_prob: it is no test net of a detector'):
        Detector.load(bare, tmp_path / 'other.prototxt', classes=['cat'])


def test_importing_the_settings_does_not_bring_caffe_along():
    """The detector's class is imported when it is asked for."""
    import subprocess
    import sys

    code = "import sys; import fast_rcnn.config; assert 'caffe' not in sys.modules; from fast_rcnn import Box"
    lib = Path(__file__).parents[2] / 'lib'
    subprocess.run([sys.executable, '-c', code], check=True, env={'PYTHONPATH': str(lib), 'PATH': '/usr/bin:/bin'})
    with pytest.raises(ImportError, match='Nothing'):
        from fast_rcnn import Nothing  # noqa: F401
