"""Which packages a checkout's tools run, and where these look for data and write: of several, and installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NO_CACHE = shutil.ignore_patterns('__pycache__', '*.egg-info')


def python(code, path, cwd):
    """What `code` prints, run in the folder `cwd` with the folders `path` as PYTHONPATH; and standard error."""
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, path)), 'GLOG_minloglevel': '2'}
    done = subprocess.run([sys.executable, '-c', code], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.split(), done.stderr


@pytest.fixture(scope='module')
def checkouts(tmp_path_factory):
    """Two checkouts, and a folder as pip makes it of the second."""
    folder = tmp_path_factory.mktemp('checkouts')
    for name in ('own', 'other'):
        shutil.copytree(ROOT / 'lib', folder / name / 'lib', ignore=NO_CACHE)
        shutil.copytree(ROOT / 'tools', folder / name / 'tools', ignore=NO_CACHE)
    shutil.copytree(ROOT / 'lib', folder / 'venv' / 'lib' / 'python3' / 'site-packages', ignore=NO_CACHE)
    return folder


def of_a_tool(folder):
    return f"""
import sys
sys.path.insert(0, {str(folder / 'tools')!r})
import _init_paths
import caffe, whole_file
from fast_rcnn.config import cfg
print(cfg.ROOT_DIR, whole_file.__file__, caffe.__file__)
"""


@pytest.mark.parametrize('other', ['other/lib', 'venv/lib/python3/site-packages'])
def test_a_tool_runs_the_packages_of_its_checkout_whatever_else_is_on_the_path(checkouts, other):
    own = checkouts / 'own'
    (root, package, caffe), said = python(of_a_tool(own), [checkouts / other], checkouts)
    assert root == str(own)
    assert package == str(own / 'lib' / 'whole_file' / '__init__.py')
    assert caffe == str(own / 'lib' / 'caffe' / '__init__.py')
    assert said == ''


@pytest.mark.parametrize('among_ours', [False, True])
def test_another_caffe_comes_first_all_the_same(checkouts, tmp_path, among_ours):
    (tmp_path / 'caffe').mkdir()
    (tmp_path / 'caffe' / '__init__.py').touch()
    own = checkouts / 'own'
    path = [own / 'lib', tmp_path] if among_ours else [tmp_path, checkouts / 'other' / 'lib']
    (root, _, caffe), _ = python(of_a_tool(own), path, checkouts)
    assert root == str(own)
    assert caffe == str((own / 'lib' if among_ours else tmp_path) / 'caffe' / '__init__.py')


def test_packages_that_were_imported_before_are_told(checkouts):
    code = f'import fast_rcnn.config\n{of_a_tool(checkouts / "own")}'
    (root, *_), said = python(code, [checkouts / 'other' / 'lib'], checkouts)
    assert root == str(checkouts / 'other')
    other, own = checkouts / 'other' / 'lib', checkouts / 'own' / 'lib'
    assert f'Note: the packages of {other} are used, not those of {own}\n' in said


def test_what_pip_installed_reads_and_writes_in_the_working_folder(checkouts, tmp_path):
    code = """
from detection_data.factory import get_imdb
from fast_rcnn.config import cfg, get_output_dir
from projects.project import ROOT
class Imdb: name = 'mine'
print(cfg.ROOT_DIR, cfg.DATA_DIR, cfg.MODELS_DIR, ROOT, get_output_dir(Imdb))
try:
    get_imdb('voc_2007_trainval')
except FileNotFoundError as error:
    print(str(error).replace(' ', '_'))
"""
    installed = checkouts / 'venv' / 'lib' / 'python3' / 'site-packages'
    (root, data, models, of_projects, output, missing), _ = python(code, [installed], tmp_path)
    assert root == of_projects == str(tmp_path)
    assert data == str(tmp_path / 'data') and models == str(tmp_path / 'models' / 'pascal_voc')
    assert output == str(tmp_path / 'output' / 'default' / 'mine') and os.path.isdir(output)
    assert str(tmp_path / 'data' / 'VOCdevkit2007') in missing
    assert not (checkouts / 'venv' / 'lib' / 'python3' / 'output').exists()


def test_a_folder_lib_into_which_pip_installs_is_no_checkout(tmp_path, monkeypatch):
    from project_root import root_of

    monkeypatch.chdir(tmp_path)
    lib = tmp_path / 'app' / 'lib'
    lib.mkdir(parents=True)
    assert root_of(str(lib)) == str(tmp_path / 'app')
    (lib / 'fast_rcnn_ohem-0.1.0.dist-info').mkdir()  # pip install --target app/lib
    assert root_of(str(lib)) == str(tmp_path)
