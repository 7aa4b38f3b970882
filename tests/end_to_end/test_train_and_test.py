"""From a folder of images to AP and pictures, through the tools' command lines."""

import json
import re

import cv2
import numpy as np
import pytest
from commands import ROOT, SMALL, run

PREFIX = 'small_fast_rcnn_ohem'


def test_train_test_reval_and_pictures(tiny, train, tmp_path):
    log = train(2)
    weights = train.folder() / f'{PREFIX}_iter_2.caffemodel'
    assert f'Wrote snapshot to: {weights}' in log.stdout
    assert 'solver.cpp:229] Iteration 0, loss = ' in log.stderr
    assert 'Train net output #1: loss_cls = ' in log.stderr
    check_that_parse_log_reads(log.stderr)

    common = ['--gpu', 'cpu', '--def', SMALL / 'fast_rcnn_ohem' / 'test.prototxt', '--net', weights]
    settings = ['--cfg', 'experiments/cfgs/demo_ohem.yml', '--set', 'ROOT_DIR', tmp_path / 'run', 'EXP_DIR', 'e']
    tested = run('tools/test_net.py', *common, '--imdb', f'folder:{tiny}:test', '--det_thresh', 0.001, *settings)
    folder = tmp_path / 'run' / 'output' / 'e' / 'tiny_test' / f'{PREFIX}_iter_2'
    results = json.loads((folder / 'results.json').read_text())
    assert set(results['classes']) == {'button', 'ladybird', 'leaf', 'starfish'}
    assert (folder / 'comp4_det_test_leaf.txt').exists()
    table = [line for line in tested.stdout.splitlines() if line.startswith(('class', 'leaf', 'mean'))]

    again = run('tools/reval.py', folder, '--imdb', f'folder:{tiny}:test')
    assert [line for line in again.stdout.splitlines() if line.startswith(('class', 'leaf', 'mean'))] == table

    images = sorted((tiny / 'JPEGImages').glob('test_*'))[:2]
    pictures = tmp_path / 'pictures'
    run('tools/demo.py', *common, '--images', *images, '--classes', tiny / 'classes.txt', '--out', pictures,
        '--det_thresh', 0.01, *settings)  # fmt: skip
    found = json.loads((pictures / 'detections.json').read_text())
    assert set(found) == set(map(str, images))
    assert cv2.imread(str(pictures / f'{images[0].stem}.png')).shape[2] == 3

    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no photograph')
    said = run('tools/demo.py', *common, '--images', broken, images[0], '--classes', tiny / 'classes.txt',
               '--out', tmp_path / 'rest', *settings, status=1)  # fmt: skip
    assert f'left out: {broken}: cannot be read as an image: not an image of a known kind' in said.stderr
    assert '1 of 2 photographs was left out' in said.stderr
    assert (tmp_path / 'rest' / f'{images[0].stem}.png').exists()

    mined = tmp_path / 'mined'
    said = run('tools/inspect_rois.py', '--gpu', 'cpu', '--solver', SMALL / 'fast_rcnn_ohem' / 'solver.prototxt',
               '--weights', train.folder() / f'{PREFIX}_resume_iter_2.caffemodel', '--imdb', f'folder:{tiny}:train',
               '--batches', 1, '--out', mined, *settings)  # fmt: skip
    assert sorted(p.name for p in mined.iterdir()) == ['index.html', 'mined_000_0.png', 'mined_000_1.png']
    assert 'mined' in said.stdout


def check_that_parse_log_reads(log):
    """What BVLC's tools/extra/parse_log.py (9b89154) needs: a stamped start, no empty line among the iterations."""
    lines = log.splitlines()
    start = next(i for i, line in enumerate(lines) if 'Solving' in line)
    first = next(i for i, line in enumerate(lines) if 'Iteration ' in line)
    assert re.fullmatch(r'I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+\] Solving small', lines[start])
    assert start < first
    assert all(line.strip() for line in lines[first:])


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_loaders(train):
    train(3, into='a')
    train(3, into='b', settings={'TRAIN.USE_PREFETCH': True, 'TRAIN.PREFETCH_WORKERS': 1})
    train(3, into='c', settings={'TRAIN.USE_PREFETCH': True, 'TRAIN.PREFETCH_WORKERS': 3})
    train(3, into='d', settings={'RNG_SEED': 4})
    a, b, c, d = ((train.folder(f) / f'{PREFIX}_iter_3.caffemodel').read_bytes() for f in 'abcd')
    assert a == b == c
    assert a != d


def test_a_run_stopped_at_a_snapshot_and_resumed_ends_as_if_never_stopped(train):
    train(4, into='whole', settings={'TRAIN.SNAPSHOT_ITERS': 2})
    train(2, into='parts')
    state = train.folder('parts') / f'{PREFIX}_resume_iter_2.solverstate'
    train(4, '--snapshot', state, into='parts')
    for name in (f'{PREFIX}_iter_4.caffemodel', f'{PREFIX}_resume_iter_4.caffemodel'):
        whole, parts = ((train.folder(f) / name).read_bytes() for f in ('whole', 'parts'))
        assert whole == parts
    whole, parts = ((train.folder(f) / f'{PREFIX}_resume_iter_4.solverstate').read_bytes() for f in ('whole', 'parts'))
    # the states name their weights by the folder they were written to
    assert whole.replace(b'/whole/', b'/parts/') == parts


def test_the_snapshot_for_testing_predicts_plain_boxes(train):
    """bbox_pred of the tested model is that of training with means and deviations of the targets folded in."""
    from caffe.files.model_file import read_weights

    train(1)
    plain = {name: blobs for name, _, blobs in read_weights(train.folder() / f'{PREFIX}_iter_1.caffemodel')}
    trained = {name: blobs for name, _, blobs in read_weights(train.folder() / f'{PREFIX}_resume_iter_1.caffemodel')}
    np.testing.assert_array_equal(plain['conv1'][0].data, trained['conv1'][0].data)
    assert (plain['bbox_pred'][0].data[:4] == 0).all()  # the background has no boxes
    scale = plain['bbox_pred'][0].data[4:] / trained['bbox_pred'][0].data[4:]
    spread = np.ptp(scale, axis=1) / scale.mean(axis=1)
    assert (spread < 1e-4).all(), 'one factor, the deviation, for each output'
    assert 0.02 < scale.mean() < 1


def test_a_prototxt_as_published_with_ohem_trains(train, tmp_path):
    """The published nets name roi_data_layer.layer / OHEMDataLayer and give param_str as loose YAML."""
    text = (SMALL / 'fast_rcnn_ohem' / 'train.prototxt').read_text().replace('HardRoiMiningLayer', 'OHEMDataLayer')
    (tmp_path / 'train.prototxt').write_text(text)
    solver = tmp_path / 'solver.prototxt'
    solver.write_text(
        f'train_net: "{tmp_path}/train.prototxt"\nbase_lr: 0.001\nlr_policy: "step"\ngamma: 0.1\nstepsize: 30000\n'
        'display: 20\naverage_loss: 100\niter_size: 2\nmomentum: 0.9\nweight_decay: 0.0005\n'
        '# We disable standard caffe solver snapshotting and implement our own snapshot\nsnapshot: 0\n'
        'snapshot_prefix: "vgg16_fast_rcnn"\n#debug_info: true\n'
    )
    published_cfg = tmp_path / 'published.yml'
    published_cfg.write_text(
        'EXP_DIR: fast_rcnn_ohem\nMATLAB: /opt/matlab/8.1/bin/matlab\nTRAIN:\n  BG_THRESH_LO: 0.0\n  IMS_PER_BATCH: 1\n'
        '  BATCH_SIZE: 64\n  USE_OHEM: True\n  ASPECT_GROUPING: False\n'
    )
    train(1, '--cfg', published_cfg, solver=solver)
    assert (train.folder() / 'vgg16_fast_rcnn_iter_1.caffemodel').exists()


@pytest.mark.parametrize('net', ['VGG16', 'VGG_CNN_M_1024'])
@pytest.mark.parametrize('method', ['fast_rcnn', 'fast_rcnn_ohem'])
def test_the_scripts_say_what_is_missing(net, method, tmp_path):
    """On a machine without data, one message names the file looked for and the script that fetches it."""
    import os
    import shutil
    import subprocess
    import sys

    for name in ('lib', 'tools', 'models', 'experiments/scripts', 'experiments/cfgs'):
        shutil.copytree(ROOT / name, tmp_path / name)
    done = subprocess.run(
        ['bash', f'experiments/scripts/{method}.sh', 'cpu', net, 'pascal_voc', '--set', 'EXP_DIR', 'x'],
        cwd=tmp_path, env={**os.environ, 'PYTHON': sys.executable}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    errors = [line for line in done.stdout.splitlines() if 'error:' in line]
    assert len(errors) == 1
    assert f'data/imagenet_models/{net}.v2.caffemodel' in errors[0]
    assert 'fetch_imagenet_models.sh' in errors[0]
    assert 'Traceback' not in done.stdout
    assert list((tmp_path / 'experiments/logs').iterdir())


def test_the_baseline_trains_too(train):
    train(
        1, solver=SMALL / 'fast_rcnn' / 'solver.prototxt', settings={'TRAIN.USE_OHEM': False, 'TRAIN.BG_THRESH_LO': 0.1}
    )
    assert (train.folder() / 'small_fast_rcnn_iter_1.caffemodel').exists()
