"""In one environment with another package called `datasets`, such as Hugging Face's: from checkout and wheel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIB = ROOT / 'lib'


def python(*arguments, path, cwd):
    """Runs Python with the folders `path` first on its search path, in the folder `cwd`."""
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, path))}
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    """A folder with the project installed as from PyPI, without what it depends on."""
    source, target = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('installed')
    for name in ('pyproject.toml', 'README.md'):
        shutil.copy(ROOT / name, source)
    shutil.copytree(LIB, source / 'lib', ignore=shutil.ignore_patterns('__pycache__', '*.egg-info'))
    pip = ('-m', 'pip', '-q', '--disable-pip-version-check')
    python(*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', source / 'dist', source, path=[], cwd=source)
    (built,) = (source / 'dist').glob('*.whl')
    python(*pip, 'install', '--no-deps', '--no-index', '--target', target, built, path=[], cwd=source)
    return target


def put_theirs(folder):
    (folder / 'datasets').mkdir(exist_ok=True)
    (folder / 'datasets' / '__init__.py').write_text('def load_dataset():\n    return "theirs"\n')
    (folder / 'datasets' / 'arrow_dataset.py').write_text('')
    return folder


@pytest.fixture
def theirs(tmp_path):
    """A folder with a package `datasets` that is not ours."""
    (tmp_path / 'site').mkdir()
    return put_theirs(tmp_path / 'site')


@pytest.fixture(params=['checkout', 'wheel'])
def ours(request):
    return LIB if request.param == 'checkout' else request.getfixturevalue('wheel')


THEIRS = """
import datasets, datasets.arrow_dataset
assert datasets.load_dataset() == 'theirs'
"""
OURS = """
from fast_rcnn.config import cfg
from datasets.factory import get_imdb
import datasets.imdb, datasets.pascal_voc, datasets.coco, datasets.voc_eval
import detection_data.factory, detection_data.imdb
assert get_imdb is detection_data.factory.get_imdb
assert datasets.imdb is detection_data.imdb
"""


@pytest.mark.parametrize('first', ['ours', 'theirs'])
@pytest.mark.parametrize('code', [OURS + THEIRS, THEIRS + OURS], ids=['ours imported first', 'theirs imported first'])
def test_both_can_be_imported(ours, theirs, first, code, tmp_path):
    path = [ours, theirs] if first == 'ours' else [theirs, ours]
    where = python('-c', code + 'print(detection_data.__file__)', path=path, cwd=tmp_path)
    assert Path(where.strip()) == ours / 'detection_data' / '__init__.py'


def test_both_installed_into_one_folder(wheel, tmp_path):
    """As pip does it: then the family's names are found with nothing of ours imported before."""
    site = put_theirs(Path(shutil.copytree(wheel, tmp_path / 'site')))
    python('-c', 'from datasets.factory import get_imdb' + THEIRS, path=[site], cwd=tmp_path)


def test_without_theirs_the_family_s_names_are_ours(ours, tmp_path):
    python('-c', 'from datasets.factory import get_imdb' + OURS, path=[ours], cwd=tmp_path)


def test_what_theirs_does_not_have_is_still_missing(ours, theirs, tmp_path):
    code = 'import fast_rcnn\ntry:\n    import datasets.nothing\nexcept ModuleNotFoundError as error:\n    print(error)'
    assert 'datasets.nothing' in python('-c', code, path=[theirs, ours], cwd=tmp_path)


def test_a_tool_runs(ours, theirs, tmp_path):
    python(ROOT / 'data/scripts/make_demo_data.py', '--out', 'demo', '--train', 2, '--test', 1, path=[], cwd=tmp_path)
    boxes = ('--resize_to', 100, '--jobs', 1)
    for path in ([theirs, ours], [ours, theirs], [theirs]):  # the last: tools find lib by themselves
        python(ROOT / 'tools/make_proposals.py', '--imdb', 'folder:demo:train', *boxes, path=path, cwd=tmp_path)
        out = python(ROOT / 'tools/check_dataset.py', '--imdb', 'folder:demo:train', path=path, cwd=tmp_path)
        assert '2 images' in out


def test_the_command_caffe_is_installed(wheel, theirs, tmp_path):
    script = wheel / 'bin' / 'caffe'
    prototxt = ROOT / 'models/demo/small/fast_rcnn/test.prototxt'
    assert 'cls_prob' in python(script, 'summary', prototxt, path=[theirs, wheel], cwd=tmp_path)


@pytest.mark.parametrize('folder', ['lib', 'tools', 'experiments', 'data', 'docs'])
def test_nothing_of_ours_uses_the_alias(folder):
    use = re.compile(r'^[\s">]*(from|import) datasets\b', re.MULTILINE)
    found = [path for ext in ('py', 'ipynb', 'md') for path in (ROOT / folder).rglob(f'*.{ext}')]
    assert [path for path in found if use.search(path.read_text())] == []
