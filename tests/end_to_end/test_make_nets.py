"""tools/make_nets.py, and projects that stand on what it makes."""

import re

import pytest
from commands import ROOT, run

import caffe
from fast_rcnn.config import cfg, cfg_from_file


def test_a_net_for_ones_own_classes(tmp_path):
    run(
        'tools/make_nets.py', '--method', 'rfcn_end2end_ohem', '--classes', 3, '--width', 0.0625,
        '--out', tmp_path / 'rfcn',
    )  # fmt: skip
    net = caffe.Net(str(tmp_path / 'rfcn' / 'test.prototxt'), caffe.TEST)
    assert net.blobs['cls_prob'].data.shape[1] == 4 and net.params['rfcn_cls'][0].data.shape[0] == 4 * 49
    assert f'train_net: "{tmp_path}/rfcn/train.prototxt"' in (tmp_path / 'rfcn' / 'solver.prototxt').read_text()


def test_resnet_in_either_form(tmp_path):
    for form, halving in (('published', 'branch2a'), ('torchvision', 'branch2b')):
        run('tools/make_nets.py', '--method', 'fast_rcnn', '--form', form, '--out', tmp_path / form)
        text = (tmp_path / form / 'test.prototxt').read_text()
        assert re.findall(r'name: "res3a_(branch2.)".* stride: 2', text) == [halving]
        assert ('BatchNorm' in text) == (form == 'published')


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--method', 'ssd', '--out', 'x'], '--method ssd: there are fast_rcnn, fast_rcnn_ohem'),
        (['--method', 'fast_rcnn'], '--method writes one net: say where, with --out FOLDER'),
        (['--out', 'x'], '--out is for one net: give its --method'),
        (['--method', 'fast_rcnn', '--classes', '0', '--out', 'x'], '--classes is 0; expected 1 or more'),
        (['--method', 'fast_rcnn', '--width', '0', '--out', 'x'], '--width is 0.0; expected a number above 0'),
        (['--method', 'fast_rcnn', '--out', 'docs'], '--out docs: there are files in this folder'),
        (['--method', 'rfcn_end2end', '--net', 'MobileNet-v2', '--out', 'x'], 'R-FCN stands on a ResNet here'),
        (['--method', 'fast_rcnn', '--net', 'MobileNet-v2', '--form', 'published', '--out', 'x'], 'one form alone'),
    ],
)
def test_flags_that_make_no_sense(flags, message):
    done = run('tools/make_nets.py', *flags, status=1)
    assert message in done.stderr and 'Traceback' not in done.stderr


def test_a_project_on_a_backbone(tmp_path):
    """Its nets are for the project's classes and anchors, and its README says where weights come from."""
    run('data/scripts/make_demo_data.py', '--out', tmp_path / 'few', '--train', 4, '--test', 2)
    for net in ('MobileNet-v2', 'ResNet-50'):
        flags = ['--images', tmp_path / 'few', '--net', net]
        run(ROOT / 'tools/new_project.py', f'on_{net}', *flags, cwd=tmp_path)
        project = tmp_path / 'projects' / f'on_{net}'
        assert "`tools/import_weights.py` makes them of torchvision's" in (project / 'README.md').read_text()
        cfg_from_file(str(project / 'faster' / 'settings.yml'))
        trained = caffe.Net(str(project / 'faster' / 'train.prototxt'), caffe.TRAIN)
        assert trained.params['bbox_pred'][0].data.shape[0] == 4 * 5
        assert trained.params['rpn_bbox_pred'][0].data.shape[0] % 12 == 0
    done = run(ROOT / 'tools/train_net.py', '--project', 'on_ResNet-50', '--iters', 1, cwd=tmp_path, status=1)
    assert 'ResNet-50-folded.caffemodel' in done.stderr


def test_rfcn_nets_are_made_not_changed(tmp_path):
    done = run(
        'tools/set_classes.py', 'models/pascal_voc/ResNet-50/rfcn_end2end/test.prototxt', '--classes', 3,
        '--out', tmp_path / 'x', status=1,
    )  # fmt: skip
    assert 'a net of R-FCN' in done.stderr and '--classes 3 --out FOLDER writes one' in done.stderr


@pytest.fixture(autouse=True)
def settings():
    import copy

    before = copy.deepcopy(dict(cfg))
    yield
    cfg.update(before)
