"""A detector as one ONNX file finds what `im_detect` and `detections` find."""

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('onnx', reason='export needs the package onnx: pip install onnx onnxruntime')
pytest.importorskip('onnxruntime', reason='what is exported is run by onnxruntime: pip install onnxruntime')

import cv2
import onnx
import onnxruntime

import caffe
from caffe.onnx_export.model import export
from fast_rcnn import test as detector
from fast_rcnn.config import ConfigError, cfg
from fast_rcnn.model_card import ModelCard, add_card
from fast_rcnn.onnx_detector import detector_model

ROOT = Path(__file__).parent.parent.parent
PROTOTXT = ROOT / 'models' / 'demo' / 'small' / 'fast_rcnn_ohem' / 'test.prototxt'
RPN_PROTOTXT = PROTOTXT.parents[1] / 'faster_rcnn_end2end_ohem' / 'test.prototxt'
CLASSES = ['__background__', 'button', 'ladybird', 'leaf', 'starfish']


@pytest.fixture(scope='module')
def net():
    """The demo's net with weights that tell boxes apart: scores from 0 to 1, boxes that move a little."""
    net = caffe.Net(str(PROTOTXT), caffe.TEST)
    rng = np.random.default_rng(0)
    for name, blobs in net.params.items():
        for blob in blobs:
            if len(blob.shape) > 1:
                blob.data[...] = rng.standard_normal(blob.shape) * np.sqrt(2 / np.prod(blob.shape[1:]))
        blobs[0].data[...] *= {'bbox_pred': 0.1, 'cls_score': 2}.get(name, 1)
    return net


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Twenty pictures of the demo."""
    folder = tmp_path_factory.mktemp('demo')
    script = ROOT / 'data' / 'scripts' / 'make_demo_data.py'
    command = [sys.executable, script, '--out', folder / 'data', '--train', 1, '--test', 20]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    return [cv2.imread(str(path)) for path in sorted((folder / 'data' / 'JPEGImages').glob('test_*'))]


@pytest.fixture
def settings(monkeypatch):
    """As experiments/cfgs/demo_ohem.yml has them."""
    monkeypatch.setattr(cfg.TEST, 'SCALES', (192,))
    monkeypatch.setattr(cfg.TEST, 'MAX_SIZE', 320)
    monkeypatch.setattr(cfg, 'DEDUP_BOXES', 0.125)
    return monkeypatch


def proposals(image, seed, count=300):
    """Boxes in an image, float32, some of them twice."""
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.uniform(0, width - 1, (count, 2))), np.sort(rng.uniform(0, height - 1, (count, 2)))
    boxes = np.column_stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]]).round().astype(np.float32)
    boxes[: count // 10] = boxes[-(count // 10) :]
    return boxes


def session(net, thresh=0.05, most=100):
    model = detector_model(export(net), CLASSES, thresh, most, {'dataset': 'demo'})
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString())


def assert_the_same(net, running, image, boxes, thresh, most):
    per_class = detector.detections(*detector.im_detect(net, image, boxes), most, thresh)
    want = np.concatenate(per_class)
    found, scores, classes = running.run(None, {'image': image, 'proposals': boxes})
    assert classes.tolist() == [k for k, dets in enumerate(per_class, start=1) for _ in dets]
    np.testing.assert_allclose(found, want[:, :4], atol=1e-3)
    np.testing.assert_allclose(scores, want[:, 4], atol=1e-5)
    return len(want)


@pytest.mark.parametrize(('thresh', 'most'), [(0.05, 100), (0.001, 20), (0.3, 0)])
def test_the_same_detections_on_twenty_images(net, images, settings, thresh, most):
    running = session(net, thresh, most)
    total = sum(
        assert_the_same(net, running, image, proposals(image, i), thresh, most) for i, image in enumerate(images)
    )
    assert len(images) == 20
    assert total > 100


@pytest.mark.parametrize(
    'change', [('TEST.BBOX_REG', False), ('DEDUP_BOXES', 0.0), ('TEST.NMS', 0.5), ('TEST.BBOX_VOTE', True)]
)
def test_settings_are_followed(net, images, settings, change):
    group, key = (cfg.TEST, change[0][5:]) if change[0].startswith('TEST.') else (cfg, change[0])
    settings.setattr(group, key, change[1])
    assert assert_the_same(net, session(net), images[0], proposals(images[0], 0), 0.05, 100) > 5


def test_an_image_that_max_size_bounds(net, images, settings):
    wide = np.concatenate([images[0]] * 3, axis=1)
    assert wide.shape[1] / wide.shape[0] > 320 / 192
    assert assert_the_same(net, session(net), wide, proposals(wide, 1), 0.05, 100) > 5


def test_no_proposals_and_no_detections(net, images, settings):
    none = session(net).run(None, {'image': images[0], 'proposals': np.zeros((0, 4), np.float32)})
    assert [value.shape for value in none] == [(0, 4), (0,), (0,)]
    none = session(net, thresh=1.0).run(None, {'image': images[0], 'proposals': proposals(images[0], 0)})
    assert [value.shape for value in none] == [(0, 4), (0,), (0,)]


def test_the_file_says_what_it_is(net, settings):
    about = session(net).get_modelmeta().custom_metadata_map
    assert json.loads(about['classes']) == CLASSES
    assert json.loads(about['scale']) == 192
    assert json.loads(about['max_size']) == 320
    np.testing.assert_allclose(json.loads(about['pixel_means']), [102.9801, 115.9465, 122.7717])
    assert about['dataset'] == 'demo'


def test_settings_that_a_file_cannot_follow_are_named(net, settings):
    settings.setattr(cfg.TEST, 'SCALES', (192, 300))
    settings.setattr(cfg.TEST, 'SVM', True)
    with pytest.raises(ConfigError, match=r'TEST.SCALES \(it takes one scale\), TEST.SVM'):
        session(net)


def tool(*words, status=0, prototxt=PROTOTXT):
    command = [sys.executable, ROOT / 'tools' / 'export_onnx.py', '--gpu', 'cpu', '--def', prototxt, *words]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == status, done.stderr
    return done


def script_of_the_page():
    (script,) = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'export.md').read_text(), re.DOTALL)
    assert len(script.strip().split('\n')) <= 15
    return script


NOTHING_OF_OURS = """import importlib.abc, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("caffe", "fast_rcnn", "roi_data_layer", "torch"): raise ImportError(name)
sys.meta_path.insert(0, Nothing())
"""


@pytest.fixture
def exported_detector(net, settings, tmp_path):
    """The folder of detector.onnx, which the tool wrote."""
    weights = tmp_path / 'net.caffemodel'
    net.save(str(weights))
    add_card(str(weights), ModelCard.of_training(CLASSES, 'demo'))
    tool('--net', weights, '--out', tmp_path / 'detector.onnx', '--cfg', 'experiments/cfgs/demo_ohem.yml')
    return tmp_path


def assert_the_script_finds_the_same(net, python, folder, image, boxes):
    cv2.imwrite(str(folder / 'image.png'), image)
    np.save(folder / 'boxes.npy', boxes)
    command = [*map(str, python), 'detect.py', 'detector.onnx', 'image.png', 'boxes.npy']
    done = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    per_class = detector.detections(*detector.im_detect(net, image, boxes), 100, 0.05)
    want = [(CLASSES[k], *det) for k, dets in enumerate(per_class, start=1) for det in dets]
    said = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in said] == [row[0] for row in want]
    assert want
    for line, (_, *box, score) in zip(said, want, strict=True):
        np.testing.assert_allclose([float(v) for v in line[1:]], [score, *box], atol=0.006)


def test_the_script_of_the_page_needs_nothing_of_this_project(net, images, exported_detector):
    (exported_detector / 'detect.py').write_text(NOTHING_OF_OURS + script_of_the_page())
    boxes = proposals(images[0], 0)
    assert_the_script_finds_the_same(net, [sys.executable, '-I'], exported_detector, images[0], boxes)


@pytest.mark.slow
def test_the_script_in_an_environment_without_this_project(net, images, exported_detector, tmp_path):
    """A virtual environment with onnxruntime, NumPy and OpenCV alone."""
    venv.create(tmp_path / 'venv', with_pip=True)
    python = tmp_path / 'venv' / 'bin' / 'python'
    packages = ['onnxruntime', 'numpy', 'opencv-python-headless']
    done = subprocess.run([str(python), '-m', 'pip', 'install', '-q', *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'pip installs nothing here: {done.stderr.strip().splitlines()[-1]}')
    there = subprocess.run([str(python), '-m', 'pip', 'list'], capture_output=True, text=True, env={}).stdout
    assert 'torch' not in there and 'fast-rcnn-ohem' not in there
    (exported_detector / 'detect.py').write_text(script_of_the_page())
    for i, image in enumerate(images):
        assert_the_script_finds_the_same(net, [python], exported_detector, image, proposals(image, i))


@pytest.fixture
def with_rpn(tmp_path, settings):
    """Weights of the demo's net with an RPN, that tell boxes apart."""
    net = caffe.Net(str(RPN_PROTOTXT), caffe.TEST)
    rng = np.random.default_rng(0)
    for name, blobs in net.params.items():
        shape = blobs[0].data.shape
        blobs[0].data[...] = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        blobs[0].data[...] *= {'bbox_pred': 0.1, 'rpn_bbox_pred': 0.1, 'cls_score': 2}.get(name, 1)
    weights = tmp_path / 'rpn.caffemodel'
    net.save(str(weights))
    for key, value in (('HAS_RPN', True), ('RPN_MIN_SIZE', 8), ('RPN_POST_NMS_TOP_N', 120)):
        settings.setattr(cfg.TEST, key, value)
    add_card(str(weights), ModelCard.of_training(CLASSES, 'demo'))
    return net, weights


@pytest.mark.parametrize('more', [[], ['TEST.RPN_PRE_NMS_TOP_N', '50', 'TEST.RPN_NMS_THRESH', '0.5']])
def test_a_net_that_proposes_by_itself_needs_the_image_alone(with_rpn, images, settings, tmp_path, more):
    net, weights = with_rpn
    for key, value in zip(more[::2], more[1::2], strict=True):
        settings.setattr(cfg.TEST, key.removeprefix('TEST.'), type(cfg.TEST[key.removeprefix('TEST.')])(value))
    more = ['--set', *more] if more else []
    done = tool('--net', weights, '--out', tmp_path / 'detector.onnx', '--det_thresh', 0.3, *more,
                prototxt=RPN_PROTOTXT)  # fmt: skip
    assert '4 classes' in done.stdout
    onnx.checker.check_model(str(tmp_path / 'detector.onnx'), full_check=True)
    running = onnxruntime.InferenceSession(str(tmp_path / 'detector.onnx'))
    assert [value.name for value in running.get_inputs()] == ['image']
    total = 0
    for image in images:
        per_class = detector.detections(*detector.im_detect(net, image), 100, 0.3)
        found, scores, classes = running.run(None, {'image': image})
        assert classes.tolist() == [k for k, dets in enumerate(per_class, start=1) for _ in dets]
        want = np.concatenate(per_class)
        np.testing.assert_allclose(found, want[:, :4], atol=1e-3)
        np.testing.assert_allclose(scores, want[:, 4], atol=1e-5)
        total += len(want)
    assert total > 100


def test_settings_and_net_that_disagree_on_who_proposes(with_rpn, tmp_path):
    off = ['--set', 'TEST.HAS_RPN', False]
    done = tool('--net', with_rpn[1], '--out', tmp_path / 'x.onnx', *off, prototxt=RPN_PROTOTXT, status=1)
    assert 'has a ProposalLayer, but TEST.HAS_RPN is False: give the --cfg of its training' in done.stderr


def test_weights_that_name_no_classes(net, tmp_path):
    net.save(str(tmp_path / 'net.caffemodel'))
    done = tool('--net', tmp_path / 'net.caffemodel', '--out', tmp_path / 'x.onnx', status=1)
    assert 'does not name its classes: give their names as --classes FILE' in done.stderr
