"""R-FCN's script on data laid out as PASCAL VOC 2007 and 2012: its published net, but of a sixteenth of the width."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, run

sys.path.append(str(ROOT / 'tests' / 'detector'))
from seeded_net import save_seeded

from detection_nets.files import DATA_SETS, backbone_of, net_files

VOC_NAMES = {'button': 'bottle', 'ladybird': 'cat', 'leaf': 'pottedplant', 'starfish': 'person'}
METHOD = 'rfcn_end2end_ohem'


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / 'project'
    for name in ('lib', 'tools', 'experiments/scripts', 'experiments/cfgs'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    models = folder / 'models' / 'pascal_voc' / 'ResNet-50' / METHOD
    models.mkdir(parents=True)
    backbone, below = backbone_of('ResNet-50', METHOD, 1 / 16), f'models/pascal_voc/ResNet-50/{METHOD}'
    for name, text in net_files(below, backbone, METHOD, DATA_SETS['pascal_voc'], learned=32).items():
        (models / name).write_text(text)
    (folder / 'data' / 'imagenet_models').mkdir(parents=True)
    save_seeded(models / 'test.prototxt', folder / 'data' / 'imagenet_models' / 'ResNet-50-model.caffemodel')
    for year in ('2007', '2012'):
        voc = folder / 'data' / f'VOCdevkit{year}' / f'VOC{year}'
        run('data/scripts/make_demo_data.py', '--out', voc, '--train', 2, '--test', 2)
        (voc / 'ImageSets' / 'Main' / 'train.txt').rename(voc / 'ImageSets' / 'Main' / 'trainval.txt')
        for path in (voc / 'Annotations').iterdir():
            path.write_text(re.sub(r'<name>(\w+)<', lambda found: f'<name>{VOC_NAMES[found[1]]}<', path.read_text()))
    return folder


def test_rfcn_trains_and_is_tested_on_pascal_voc(project):
    done = subprocess.run(
        ['bash', f'experiments/scripts/{METHOD}.sh', 'cpu', 'ResNet-50', 'pascal_voc',
         '--set', 'TRAIN.SCALES', '(160,)', 'TEST.SCALES', '(160,)'],
        cwd=project, env={**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(project / 'lib'), 'ITERS': '2'},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert 'Loading pretrained model weights from data/imagenet_models/ResNet-50-model.caffemodel' in done.stdout
    (record,) = project.glob(f'output/{METHOD}/voc_2007_trainval+voc_2012_trainval/resnet50_rfcn_ohem_record.jsonl')
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert set(line['loss']) == {'rpn_cls_loss', 'rpn_loss_bbox', 'loss_cls', 'loss_bbox'}
        assert all(0 <= value < np.inf for value in line['loss'].values())
        assert 0 < line['mined']['rois'] <= 2 * 32 < line['all']['rois']
    (results,) = project.glob(f'output/{METHOD}/voc_2007_test/*/results.json')
    assert len(json.loads(results.read_text())['classes']) == 20
