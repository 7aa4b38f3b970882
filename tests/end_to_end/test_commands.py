"""What all commands have in common: what they print, what they name, what they leave behind."""

import os
import shutil

import pytest
from commands import ROOT, SMALL, run

SOLVER = SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'
CFG = ROOT / 'experiments' / 'cfgs' / 'demo_ohem.yml'


def test_settings_that_differ_are_printed_and_all_if_asked_for(train):
    few = train(1).stdout
    assert 'Called with: --gpu cpu --solver' in few
    block = few.split('Settings that differ from the defaults (--verbose prints all):\n')[1]
    lines = [
        line.strip()
        for line in block.splitlines()[: block.splitlines().index('Preparing training data: tiny_train ...')]
    ]
    keys = [line.split(': ')[0] for line in lines if line.count(': ')]
    assert 'TRAIN.USE_OHEM' in keys and 'TRAIN.SCALES' in keys
    assert 'TRAIN.SCALES: (120,)' in lines and 'EXP_DIR: e' in lines
    assert 'TRAIN.FG_FRACTION' not in keys  # as ever
    every = train(1, '--verbose').stdout
    assert "'FG_FRACTION': 0.25" in every and 'Settings that differ' not in every


def test_a_copied_cfg_with_the_demo_s_folder_is_warned_of(tiny, tmp_path):
    copied = tmp_path / 'mine.yml'
    shutil.copy(CFG, copied)

    def said(cfg, *more):
        return run(
            'tools/train_net.py', '--gpu', 'cpu', '--solver', SOLVER, '--imdb', f'folder:{tiny}:train', '--iters', 1,
            '--cfg', cfg, '--set', 'ROOT_DIR', tmp_path, 'TRAIN.SCALES', '(60,)', *more,
        ).stdout  # fmt: skip

    note = f'Note: {copied} says EXP_DIR: demo_ohem, as experiments/cfgs/demo_ohem.yml, of which it seems a copy'
    assert note in said(copied)
    assert 'of which it seems a copy' not in said(CFG)
    assert 'of which it seems a copy' not in said(copied, 'EXP_DIR', 'mine')


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (('--val', 'folder:{data}:nowhere'), 'nowhere.txt'),
        (('--val', 'folder:{data}:test', '--def', 'x.prototxt'), 'there is no test prototxt x.prototxt'),
        (
            ('--val', 'folder:{data}:test', '--def', 'models/bccd/VGG16/fast_rcnn/test.prototxt'),
            'tests another net',
        ),
        (('--def', 'models/demo/small/fast_rcnn_ohem/test.prototxt'), '--def names the net for testing on --val'),
        (('--val', 'voc_2007_tset'), 'nearest names: voc_2007_test'),
        (('--weights', '{data}/classes.txt'), 'classes.txt'),
    ],
)
def test_a_refused_run_leaves_no_folder(train, tiny, tmp_path, flags, said):
    flags = [flag.format(data=tiny) for flag in flags]
    done = train(1, *flags, status=1)
    assert said in done.stderr and done.stderr.count('error:') == 1, done.stderr
    assert not (tmp_path / 'run').exists()


def test_testing_that_is_refused_leaves_no_folder(train, tiny, tmp_path):
    train(1)
    model = next(train.folder().glob('*_iter_1.caffemodel'))
    before = sorted(tmp_path.rglob('*'))
    other = SMALL / 'faster_rcnn_end2end_ohem' / 'test.prototxt'
    done = run(
        'tools/test_net.py', '--gpu', 'cpu', '--def', other, '--net', model,
        '--imdb', f'folder:{tiny}:test', '--cfg', CFG, '--set', 'ROOT_DIR', tmp_path / 'run', 'EXP_DIR', 'f', status=1,
    )  # fmt: skip
    assert 'error:' in done.stderr
    assert sorted(tmp_path.rglob('*')) == before


def test_mAP_of_a_best_model_is_what_test_net_prints(train, tiny, tmp_path):
    done = train(3, '--val', f'folder:{tiny}:test', settings={'TRAIN.VAL_ITERS': 1})
    best = next(train.folder().glob('*_best.caffemodel'))
    stated = done.stdout.split('Best on tiny_test: mAP ')[1].split(',')[0]
    tested = run(
        'tools/test_net.py', '--gpu', 'cpu', '--def', SMALL / 'fast_rcnn_ohem' / 'test.prototxt', '--net', best,
        '--imdb', f'folder:{tiny}:test', '--cfg', CFG, '--set', 'ROOT_DIR', tmp_path, 'TRAIN.SCALES', '(120,)',
    ).stdout  # fmt: skip
    assert f'mAP = {stated}' in tested or f'mAP {stated}' in tested or stated in tested.split('mean')[-1], tested
    curves = tmp_path / 'curves.png'
    run('tools/plot_training.py', train.folder(), '--out', curves)
    assert curves.stat().st_size > 10000


def test_without_gpu_the_device_that_is_used_is_said(tmp_path):
    done = run('tools/train_net.py', '--solver', SOLVER, '--cfg', CFG, '--imdb', f'folder:{tmp_path}:x', status=1)
    used = 'GPU 0' if os.path.exists('/dev/nvidia0') else 'the CPU'
    assert f'--gpu is not given: {used} is used\n' in done.stdout
