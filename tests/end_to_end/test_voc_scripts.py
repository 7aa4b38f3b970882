"""The scripts of experiments/scripts run on data laid out as PASCAL VOC 2007, with published nets.

The images and the weights are made up; all else is as for the real ones: folders, net, settings.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, run

VOC_NAMES = {'button': 'bottle', 'ladybird': 'cat', 'leaf': 'pottedplant', 'starfish': 'person'}
FEW = ['--set', 'TRAIN.SCALES', '(200,)', 'TEST.SCALES', '(200,)', 'TRAIN.RPN_POST_NMS_TOP_N', '200']
# Losses of methods with an RPN
LOSSES = {'rpn_cls_loss', 'rpn_loss_bbox', 'loss_cls', 'loss_bbox'}


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A copy of the project with data/VOCdevkit2007, of 4 and 2 images, and weights for two nets."""
    folder = tmp_path_factory.mktemp('voc') / 'project'
    for name in ('lib', 'tools', 'models/pascal_voc', 'experiments/scripts', 'experiments/cfgs'):
        shutil.copytree(ROOT / name, folder / name)
    voc = folder / 'data' / 'VOCdevkit2007' / 'VOC2007'
    run('data/scripts/make_demo_data.py', '--out', voc, '--train', 4, '--test', 2)
    lists = voc / 'ImageSets' / 'Main'
    (lists / 'train.txt').rename(lists / 'trainval.txt')
    for path in (voc / 'Annotations').iterdir():
        path.write_text(re.sub(r'<name>(\w+)<', lambda found: f'<name>{VOC_NAMES[found[1]]}<', path.read_text()))
    (folder / 'data' / 'imagenet_models').mkdir()
    for name in ('VGG_CNN_M_1024', 'VGG16'):
        imagenet_model(folder, name)
    yield folder
    shutil.rmtree(folder)  # gigabytes of snapshots


def imagenet_model(project, net_name):
    """Random conv1 ... fc7 as a caffemodel: what the published models of ImageNet share with the detector."""
    import caffe

    prototxt = project / 'models' / 'pascal_voc' / net_name / 'fast_rcnn' / 'test.prototxt'
    path = project / 'data' / 'imagenet_models' / f'{net_name}.v2.caffemodel'
    net = caffe.Net(str(prototxt), caffe.TEST)
    rng = np.random.default_rng(0)
    for name, blobs in net.params.items():
        weights = blobs[0].data
        if not name.startswith(('cls_score', 'bbox_pred')):
            weights[...] = rng.standard_normal(weights.shape, np.float32) * np.sqrt(2 / weights[0].size)
            if name in ('conv1', 'conv1_1'):
                weights /= 64  # about the deviation of pixels: features are of order 1, as the RPN's fillers expect
    written = path.with_suffix('.all')
    net.save(str(written))
    model = caffe.proto.caffe_pb2.NetParameter.FromString(written.read_bytes())
    written.unlink()
    for layer in [layer for layer in model.layer if layer.name in ('cls_score', 'bbox_pred')]:
        model.layer.remove(layer)
    path.write_bytes(model.SerializeToString())


@pytest.mark.slow
@pytest.mark.parametrize('net', ['VGG_CNN_M_1024', 'VGG16'])
@pytest.mark.parametrize('method', ['faster_rcnn_end2end', 'faster_rcnn_end2end_ohem'])
def test_faster_rcnn_trains_and_tests_on_pascal_voc(project, method, net):
    done = subprocess.run(
        ['bash', f'experiments/scripts/{method}.sh', 'cpu', net, 'pascal_voc', *FEW],
        cwd=project, env={**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(project / 'lib'), 'ITERS': '3'},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert f'Loading pretrained model weights from data/imagenet_models/{net}.v2.caffemodel' in done.stdout
    (record,) = project.glob(f'output/{method}/voc_2007_trainval/{net.lower()}_*_record.jsonl')
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    lines = [line for line in lines if 'loss' in line]
    assert len(lines) == 3
    for line in lines:
        assert set(line['loss']) == LOSSES
        assert all(0 <= value < np.inf for value in line['loss'].values())
    if method.endswith('ohem'):  # 64 mined of an image, two images an iteration
        assert 0 < lines[-1]['mined']['rois'] <= 128 < lines[-1]['all']['rois']
    (results,) = project.glob(f'output/{method}/voc_2007_test/{net.lower()}_*/results.json')
    # the published metric, over the twenty classes
    assert len(json.loads(results.read_text())['classes']) == 20
    (log,) = project.glob(f'experiments/logs/{method}_07_{net}_*')
    assert f'tools/test_net.py --gpu cpu --def models/pascal_voc/{net}/{method}/test.prototxt' in log.read_text()


def narrow_vgg16(project):
    """VGG16_narrow: VGG16's nets, their fc layers with 32 outputs in place of 4096; and proposals."""
    narrow = project / 'models' / 'pascal_voc' / 'VGG16_narrow'
    if not narrow.exists():
        shutil.copytree(narrow.with_name('VGG16'), narrow)
        for path in [*narrow.glob('fast_rcnn*/*.prototxt'), *narrow.glob('fast_rcnn*/*.json')]:
            text = path.read_text().replace('num_output: 4096', 'num_output: 32')
            path.write_text(text.replace('pascal_voc/VGG16/', 'pascal_voc/VGG16_narrow/'))
        imagenet_model(project, 'VGG16_narrow')
    env = {'PYTHONPATH': str(project / 'lib')}  # whose data are looked for beside it
    run('tools/make_proposals.py', '--imdb', 'voc_2007_trainval+voc_2007_test', '--jobs', 1, cwd=project, env=env)


@pytest.mark.slow
def test_a_script_trains_and_tests_by_two_processes(project):
    """The same model and detections as by one, of as many threads, for sums go by their number.

    --scale_batch is of training alone: half the iterations, here 1 of 2.
    """
    narrow_vgg16(project)
    found = {}
    for gpu, more in (('cpu', ()), ('cpu:2', ()), ('cpu:2', ('--scale_batch', '--wire', 'bf16'))):
        shutil.rmtree(project / 'output' / 'fast_rcnn_ohem', ignore_errors=True)
        done = subprocess.run(
            ['bash', 'experiments/scripts/fast_rcnn_ohem.sh', gpu, 'VGG16_narrow', 'pascal_voc', *more, *FEW],
            cwd=project,
            env={
                **os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(project / 'lib'), 'ITERS': '2',
                'OMP_NUM_THREADS': '1',
            },
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        iterations = 1 if more else 2
        (model,) = project.glob(f'output/fast_rcnn_ohem/voc_2007_trainval/*ohem_iter_{iterations}.caffemodel')
        (detections,) = project.glob('output/fast_rcnn_ohem/voc_2007_test/*/detections.npz')
        found[gpu, more] = model.read_bytes(), detections.read_bytes()
    assert found['cpu', ()] == found['cpu:2', ()]


@pytest.mark.slow
@pytest.mark.parametrize('method', ['fast_rcnn_adv', 'fast_rcnn_ohem_adv'])
def test_a_fast_rcnn_trains_in_three_stages_and_tests_on_pascal_voc(project, method):
    narrow_vgg16(project)
    done = subprocess.run(
        ['bash', f'experiments/scripts/{method}.sh', 'cpu', 'VGG16_narrow', 'pascal_voc', *FEW],
        cwd=project, env={**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(project / 'lib'), 'ITERS': '4'},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    # a quarter of the iterations, five eighths, all: 1, 2 of 2.5, 4; stage 3 starts from what the surgery wrote
    for prefix, iterations in (('std', 1), ('adv_pretrain', 2), (method.removeprefix('fast_rcnn_'), 4)):
        assert f'vgg16_fast_rcnn_{prefix}_iter_{iterations}.caffemodel' in done.stdout
    assert (
        f'Loading pretrained model weights from {project}' in done.stdout and f'{method}_init.caffemodel' in done.stdout
    )
    (record,) = project.glob(f'output/{method}/voc_2007_trainval/vgg16_{method}_record.jsonl')
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(lines) == 4 and set(lines[0]['loss']) == {'loss_cls', 'loss_bbox', 'loss_asdn'}
    (results,) = project.glob(f'output/{method}/voc_2007_test/*/results.json')
    assert len(json.loads(results.read_text())['classes']) == 20
