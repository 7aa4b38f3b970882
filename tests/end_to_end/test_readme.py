"""The commands of README.md are run as they stand there, on little data."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from commands import ROOT

README = (ROOT / 'README.md').read_text()


def blocks():
    """The shell commands of README.md, block by block; continued lines joined, comments dropped."""
    for block in re.findall(r'```bash\n(.*?)```', README, re.DOTALL):
        lines = block.replace('\\\n', ' ').splitlines()
        yield [re.sub(r'\s+#.*', '', line) for line in lines if line.strip() and not line.startswith('#')]


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """A copy of the project as a fresh clone has it, with a .venv whose python is this one."""
    folder = tmp_path_factory.mktemp('readme') / 'project'
    tracked = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in tracked.splitlines():
        if not name.startswith('tests/') and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / '.venv' / 'bin').mkdir(parents=True)
    python = folder / '.venv' / 'bin' / 'python'
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/lib exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / '.venv' / 'installed').touch()
    return folder


def shell(command, cwd, **env):
    done = subprocess.run(
        ['bash', '-c', command], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=600
    )
    return done


def test_every_block_is_known():
    """A command added to README.md has to be run here too."""
    assert [block[0].split()[0] for block in blocks()] == ['make', 'data/scripts/fetch_voc.sh', '.venv/bin/python']


def test_make_demo(clone):
    (demo, test), *_ = blocks()
    assert (demo, test) == ('make demo', 'make test')
    done = shell(demo, clone, ITERS='2', TRAIN_IMAGES='4', TEST_IMAGES='2')
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'^mean +\d\.\d{4}', done.stdout, re.MULTILINE)
    for line in re.findall(r'^  (output\S+|experiments\S+)', done.stdout, re.MULTILINE):
        assert list(clone.glob(line.rstrip('/'))), line
    # README quotes the demo's closing words
    quoted = re.search(r'```\nclass.*?```', README, re.DOTALL)[0].splitlines()[5:-1]
    for line in quoted:
        assert line in done.stdout


def test_make_demo_faster(clone):
    """The other demo needs no proposals, and leaves the same things."""
    assert '`make demo-faster`' in README
    done = shell('make demo-faster', clone, ITERS='2', TRAIN_IMAGES='4', TEST_IMAGES='2')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'proposals' not in done.stdout and '== 4/4 pictures' in done.stdout
    assert re.search(r'^mean +\d\.\d{4}', done.stdout, re.MULTILINE)
    left = re.findall(r'^  (output\S+|experiments\S+)', done.stdout, re.MULTILINE)
    assert len(left) == 7 and all('demo_faster_rcnn_ohem' in line for line in left)
    for line in left:
        assert list(clone.glob(line.rstrip('/'))), line


def test_pascal_voc_without_data_says_what_is_missing(clone):
    voc = list(blocks())[1]
    for script in voc[:3]:
        assert os.access(clone / script.split()[0], os.X_OK), script
        assert shell(f'bash -n {script.split()[0]}', clone).returncode == 0
    done = shell(voc[3].replace(' 0 ', ' cpu '), clone)
    assert done.returncode == 1
    assert 'fetch_imagenet_models.sh' in done.stdout


def test_your_own_images(clone, tiny):
    commands = ' && '.join(list(blocks())[2])
    for word, real in {
        'PATH': str(tiny),
        'train_net.py --project fruit': 'train_net.py --project fruit --gpu cpu --iters 2',
        'photo.jpg': f'{tiny}/JPEGImages/test_0000.jpg',
    }.items():
        assert word in commands
        commands = commands.replace(word, real)
    done = shell(commands, clone)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r'^mean', done.stdout, re.MULTILINE)
