"""A tiny detection data set in VOC layout with proposals, and the tools run as users run them: as commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SMALL = ROOT / 'models' / 'demo' / 'small'


def run(*command, cwd=ROOT, env=None, status=0):
    """Runs a command of the project, checks its exit status, returns the finished process (text output)."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT / 'lib'), 'GLOG_minloglevel': '0', **(env or {})}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done


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
