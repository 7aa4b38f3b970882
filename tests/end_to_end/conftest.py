"""A tiny detection data set in VOC layout with proposals, and training on it."""

import shutil
from pathlib import Path

import pytest
from commands import SMALL, run


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
    """Folder of a data set of 6 training and 3 test images, with selective-search proposals."""
    folder = tmp_path_factory.mktemp('data') / 'tiny'
    run('data/scripts/make_demo_data.py', '--out', folder, '--train', 6, '--test', 3)
    run('tools/make_proposals.py', '--imdb', f'folder:{folder}:train+folder:{folder}:test', '--jobs', 1)
    return folder


@pytest.fixture
def tiny_copy(tiny, tmp_path):
    """The tiny data set, to be spoilt."""
    return Path(shutil.copytree(tiny, tmp_path / 'tiny'))


@pytest.fixture
def train(tiny, tmp_path):
    """train(iters, *flags, into=FOLDER, settings={KEY: VALUE}): runs tools/train_net.py on the tiny set with OHEM.

    Returns the process; its output folder is train.folder(into).
    """

    def call(
        iters,
        *flags,
        into='run',
        settings=None,
        solver=SMALL / 'fast_rcnn_ohem' / 'solver.prototxt',
        status=0,
        data=tiny,
    ):
        options = {'ROOT_DIR': tmp_path / into, 'EXP_DIR': 'e', 'TRAIN.SCALES': '(120,)', **(settings or {})}
        return run(
            'tools/train_net.py', '--gpu', 'cpu', '--solver', solver, '--imdb', f'folder:{data}:train',
            '--iters', iters, '--cfg', 'experiments/cfgs/demo_ohem.yml', *flags,
            '--set', *(word for pair in options.items() for word in pair), status=status,
        )  # fmt: skip

    call.folder = lambda into='run': tmp_path / into / 'output' / 'e' / 'tiny_train'
    return call
