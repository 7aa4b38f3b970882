"""What a user gets wrong ends in one clear line and exit status 1: no traceback, and nothing damaged."""

import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from commands import ROOT, SMALL, run

PREFIX = 'small_fast_rcnn_ohem'


def complaint(done):
    """The one line of complaint."""
    assert 'Traceback' not in done.stderr
    lines = [line for line in done.stderr.splitlines() if 'error:' in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        ({'TRAIN.SCALE': '(120,)'}, r'TRAIN\.SCALE\b.*TRAIN\.SCALES'),
        ({'TRAIN.BATCH_SIZE': 'many'}, r'TRAIN\.BATCH_SIZE.*many'),
        ({'TRAIN.USE_OHEM': '1'}, r'TRAIN\.USE_OHEM'),
    ],
)
def test_wrong_settings(train, settings, said):
    assert re.search(said, complaint(train(1, settings=settings, status=1)))


def test_a_flag_after_set_is_told_where_it_belongs(train):
    said = complaint(train(1, settings={'RNG_SEED': 4, '--snapshot': 'x.solverstate'}, status=1))
    assert said.endswith('--set takes all that follows it as settings, --snapshot too: put --snapshot before --set')
    said = complaint(run('tools/train_net.py', '--set', 'RNG_SEED', 4, '--solver', 'x', status=1))
    assert said.endswith('--set takes all that follows it as settings, --solver too: put --solver before --set')


@pytest.mark.parametrize(
    'name, said',
    [
        ('VGG_CNN_M_1024.v2.caffemodel', '; data/scripts/fetch_imagenet_models.sh fetches them'),
        ('ResNet-50-model.caffemodel', 'its authors publish them .*import_weights.py makes them of Keras.s file'),
        ('MobileNet-v2-folded.caffemodel', "; tools/import_weights.py makes them of torchvision's or timm's file"),
        ('mine.caffemodel', 'those of CaffeNet, VGG_CNN_M_1024, VGG16; docs/backbones.md'),
    ],
)
def test_weights_that_are_not_there_are_told_where_they_come_from(name, said, tmp_path):
    flags = ['--solver', SMALL / 'fast_rcnn_ohem' / 'solver.prototxt', '--weights', tmp_path / name]
    assert re.search(said, complaint(run('tools/train_net.py', *flags, status=1)))


def test_wrong_settings_in_a_file(train, tmp_path):
    (tmp_path / 'my.yml').write_text('TRAIN:\n  OHEM_NMS_TRESH: 0.7\n')
    said = complaint(train(1, '--cfg', tmp_path / 'my.yml', status=1))
    assert 'my.yml' in said and 'OHEM_NMS_THRESH' in said


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('type: "ROIPooling"', 'type: "RoiPooling"', r"train\.prototxt:\d+.*roi_pool4_readonly.*'ROIPooling'"),
        ('num_output: 128', 'num_outputs: 128', r'train\.prototxt:\d+.*num_outputs.*num_output'),
        ('bottom: "conv4" bottom: "rois"', 'bottom: "conv5" bottom: "rois"', r"train\.prototxt:\d+.*conv5.*'conv4'"),
        (
            "'num_classes': 5",
            "'num_classes': 21",
            r'train\.prototxt:\d+.*loss_bbox.*bbox_pred \(1, 20\), bbox_targets_hard \(1, 84\)',
        ),
        ('num_output: 20', 'num_output: 24', r'train\.prototxt:\d+.*bbox_pred \(1, 24\), bbox_targets_hard \(1, 20\)'),
        ('roi_data_layer.layer', 'roi_data_layer.layers', r"train\.prototxt:\d+.*'roi_data_layer\.layers'"),
    ],
)
def test_wrong_prototxts(train, tmp_path, old, new, said):
    text = (SMALL / 'fast_rcnn_ohem' / 'train.prototxt').read_text()
    assert old in text
    (tmp_path / 'train.prototxt').write_text(text.replace(old, new))
    solver = (SMALL / 'fast_rcnn_ohem' / 'solver.prototxt').read_text()
    solver = re.sub('train_net: ".*"', f'train_net: "{tmp_path}/train.prototxt"', solver)
    (tmp_path / 'solver.prototxt').write_text(solver)
    assert re.search(said, complaint(train(1, solver=tmp_path / 'solver.prototxt', status=1)))


@pytest.mark.parametrize('content', [b'', b'<!DOCTYPE html><html>moved</html>', b'cut'])
def test_corrupt_weights(train, tmp_path, content):
    weights = tmp_path / 'w.caffemodel'
    if content == b'cut':
        train(1)
        content = (train.folder() / f'{PREFIX}_iter_1.caffemodel').read_bytes()[:-1000]
    weights.write_bytes(content)
    assert 'w.caffemodel' in complaint(train(1, '--weights', weights, into='second', status=1))


def test_missing_files(train, tmp_path):
    assert 'nothing.caffemodel' in complaint(train(1, '--weights', tmp_path / 'nothing.caffemodel', status=1))
    assert 'no.solverstate' in complaint(train(1, '--snapshot', tmp_path / 'no.solverstate', status=1))
    assert 'nowhere' in complaint(train(1, data=tmp_path / 'nowhere', status=1))
    said = complaint(run('tools/train_net.py', '--gpu', 'cpu', '--solver', 'x.prototxt', status=1))
    assert 'x.prototxt' in said


def test_missing_proposals_name_the_command_that_makes_them(train, tiny_copy):
    (tiny_copy / 'proposals' / 'selective_search_train.h5').unlink()
    assert 'make_proposals.py' in complaint(train(1, data=tiny_copy, status=1))


def test_an_unreadable_image_is_named(train, tiny_copy):
    victim = sorted((tiny_copy / 'JPEGImages').glob('train_*'))[0]
    victim.write_bytes(b'not an image')
    assert victim.name in complaint(train(12, data=tiny_copy, status=1))
    said = complaint(train(12, data=tiny_copy, into='b', status=1, settings={'TRAIN.USE_PREFETCH': True}))
    assert victim.name in said


@pytest.mark.parametrize(
    ('pattern', 'value'), [(r'<xmax>\d+', '<xmax>5000'), (r'<xmin>\d+', '<xmin>-9'), (r'<ymax>\d+', '<ymax>-40')]
)
def test_a_bad_annotation_is_named(train, tiny_copy, pattern, value):
    victim = sorted((tiny_copy / 'Annotations').glob('train_*'))[0]
    victim.write_text(re.sub(pattern, value, victim.read_text(), count=1))
    said = complaint(train(1, data=tiny_copy, status=1))
    assert victim.name in said and 'object' in said


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_no_gpu(train):
    said = complaint(train(1, '--gpu', '0', status=1))
    assert 'no CUDA GPU' in said and said.endswith('Here that is --gpu cpu')


def test_debug_shows_the_traceback(train, tmp_path):
    done = train(1, '--weights', tmp_path / 'nothing.caffemodel', '--debug', status=1)
    assert 'Traceback' in done.stderr


def test_a_full_disk_damages_no_earlier_snapshot(train, tmp_path, tiny):
    train(1)
    folder = train.folder()
    before = {p.name: p.read_bytes() for p in folder.glob('*iter_1*')}
    assert len(before) == 3
    limited = f'ulimit -f 100; exec "{sys.executable}" "$@"'  # blocks of 1024 bytes: less than a snapshot
    done = subprocess.run(
        ['bash', '-c', limited, 'bash', 'tools/train_net.py', '--gpu', 'cpu',
         '--solver', str(SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'), '--imdb', f'folder:{tiny}:train',
         '--iters', '1', '--cfg', 'experiments/cfgs/demo_ohem.yml',
         '--set', 'ROOT_DIR', str(tmp_path / 'run'), 'EXP_DIR', 'e'],
        cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT / 'lib')}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert 'iter_1' in complaint(done)
    assert {p.name: p.read_bytes() for p in folder.glob('*iter_1*')} == before


def test_ctrl_c_snapshots_and_says_how_to_resume(tiny, tmp_path):
    begin = [sys.executable, 'tools/train_net.py', '--gpu', 'cpu', '--solver',
             str(SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'), '--imdb', f'folder:{tiny}:train',
             '--cfg', 'experiments/cfgs/demo_ohem.yml']  # fmt: skip
    settings = ['--set', 'ROOT_DIR', str(tmp_path), 'EXP_DIR', 'e', 'TRAIN.USE_PREFETCH', 'True',
                'TRAIN.PREFETCH_WORKERS', '1']  # fmt: skip
    surroundings = {'cwd': ROOT, 'env': {**os.environ, 'PYTHONPATH': str(ROOT / 'lib')}}
    process = subprocess.Popen(
        [*begin, '--iters', '100000', *settings], **surroundings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    said = ''
    while 'Iteration 0, loss' not in said:
        said += process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    said += process.communicate(timeout=300)[0]
    assert process.returncode == 130, said[-2000:]
    state = re.search(r'resume from (\S+\.solverstate)', said)
    assert state and os.path.exists(state[1])
    assert 'Traceback' not in said
    done = int(re.search(r'interrupted at iteration (\d+)', said)[1])
    assert 'with --snapshot and this file in place of --weights, before --set' in said
    command = [*begin, '--iters', str(done + 1), '--snapshot', state[1], *settings]
    resumed = subprocess.run(command, **surroundings, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert f'_iter_{done + 1}.caffemodel' in resumed.stdout


@pytest.mark.parametrize('iters', ['0', '-5'])
def test_a_number_of_iterations_that_is_none(iters):
    command = [sys.executable, 'tools/train_net.py', '--gpu', 'cpu', '--solver', 'x', '--iters', iters]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f'train_net.py: error: --iters is {iters}; expected 1 or more\n'
