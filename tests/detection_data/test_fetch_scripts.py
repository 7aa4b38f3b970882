"""data/scripts/fetch_*.sh on archives of our own: verification, resumption, what a failure leaves."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / 'data' / 'scripts'
pytestmark = pytest.mark.skipif(not (shutil.which('bash') and shutil.which('curl')), reason='needs bash and curl')


def archive(path: Path, files: dict[str, str]) -> str:
    """Write a tar file (.tgz: compressed) with these files; its MD5."""
    tree = path.parent / (path.name + '.tree')
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    with tarfile.open(path, 'w:gz' if path.suffix == '.tgz' else 'w') as f:
        for top in tree.iterdir():
            f.add(top, top.name)
    return hashlib.md5(path.read_bytes()).hexdigest()


class Project:
    """A copy of data/scripts in a project of its own, and a folder of archives as the remote site."""

    def __init__(self, root: Path):
        self.data = root / 'data'
        self.site = root / 'site'
        self.site.mkdir(parents=True)
        (self.data / 'scripts').mkdir(parents=True)
        for script in SCRIPTS.glob('*.sh'):
            shutil.copy(script, self.data / 'scripts')

    def trust(self, script: str, published: str, md5: str) -> None:
        path = self.data / 'scripts' / script
        text = path.read_text()
        assert published in text
        path.write_text(text.replace(published, md5))

    def run(self, script: str, *args: str, url: str | None = None):
        url = url or self.site.as_uri()
        names = ('VOC_URL', 'COCO_URL', 'IMAGENET_MODELS_URL', 'SELECTIVE_SEARCH_URL')
        env = {**os.environ, **dict.fromkeys(names, url)}
        command = ['bash', str(self.data / 'scripts' / script), *args]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    def left(self) -> list[str]:
        return sorted(p.name for p in self.data.iterdir() if p.name != 'scripts')


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def voc(project):
    for name, published, files in (
        (
            'VOCtrainval_06-Nov-2007.tar',
            'c52e279531787c972589f7e41ab4ae64',
            {'VOC2007/JPEGImages/1.jpg': 'one'},
        ),
        ('VOCtest_06-Nov-2007.tar', 'b6e924de25625d8de591ea690078ad9f', {'VOC2007/JPEGImages/2.jpg': 'two'}),
    ):
        md5 = archive(project.site / name, {f'VOCdevkit/{k}': v for k, v in files.items()})
        project.trust('fetch_voc.sh', published, md5)
    return project


def test_voc_goes_where_fast_rcnn_looks_for_it(voc):
    done = voc.run('fetch_voc.sh')
    assert done.returncode == 0, done.stderr
    images = voc.data / 'VOCdevkit2007' / 'VOC2007' / 'JPEGImages'
    assert [(images / name).read_text() for name in ('1.jpg', '2.jpg')] == ['one', 'two']
    assert voc.left() == ['VOCdevkit2007', 'VOCtest_06-Nov-2007.tar', 'VOCtrainval_06-Nov-2007.tar']
    again = voc.run('fetch_voc.sh', '2007')
    assert again.returncode == 0 and 'there already' in again.stdout


def test_an_archive_at_hand_is_used(voc):
    for path in voc.site.glob('*.tar'):
        path.rename(voc.data / path.name)
    assert voc.run('fetch_voc.sh', '2007').returncode == 0
    assert (voc.data / 'VOCdevkit2007' / 'VOC2007').is_dir()


def test_an_interrupted_download_goes_on(voc):
    name = 'VOCtrainval_06-Nov-2007.tar'
    whole = (voc.site / name).read_bytes()
    for kept in (whole[:1000], whole):
        (voc.data / f'{name}.part').write_bytes(kept)
        done = voc.run('fetch_voc.sh')
        assert done.returncode == 0, done.stderr
        assert (voc.data / name).read_bytes() == whole
        shutil.rmtree(voc.data / 'VOCdevkit2007')
        (voc.data / name).unlink()


def test_a_site_that_cannot_go_on_is_asked_for_the_whole(voc):
    """A server of Python's own: it knows no ranges of bytes."""
    handler = partial(SimpleHTTPRequestHandler, directory=voc.site)
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (voc.data / 'VOCtest_06-Nov-2007.tar.part').write_bytes(b'begun')
    try:
        done = voc.run('fetch_voc.sh', url=f'http://127.0.0.1:{server.server_port}')
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    assert (voc.data / 'VOCdevkit2007' / 'VOC2007').is_dir()


def test_a_download_with_another_checksum_is_not_unpacked(voc):
    (voc.site / 'VOCtest_06-Nov-2007.tar').write_text('<html>moved</html>')
    done = voc.run('fetch_voc.sh')
    assert done.returncode == 1
    assert 'not the published file' in done.stderr
    assert voc.left() == ['VOCtrainval_06-Nov-2007.tar']


def test_an_archive_at_hand_with_another_checksum_is_refused_and_kept(voc):
    (voc.data / 'VOCtrainval_06-Nov-2007.tar').write_text('half of it')
    done = voc.run('fetch_voc.sh')
    assert done.returncode == 1 and 'move it away' in done.stderr
    assert voc.left() == ['VOCtrainval_06-Nov-2007.tar']


def test_a_site_that_does_not_answer_is_named(project):
    done = project.run('fetch_imagenet_models.sh')
    assert done.returncode == 1
    assert f'could not download {project.site.as_uri()}/imagenet_models.tgz' in done.stderr


def test_only_years_that_are_published_openly_are_fetched(project):
    done = project.run('fetch_voc.sh', '2007', '2010')
    assert done.returncode == 1 and 'no year 2010' in done.stderr
    assert project.left() == []


def test_imagenet_models(project):
    md5 = archive(project.site / 'imagenet_models.tgz', {'imagenet_models/VGG16.v2.caffemodel': 'weights'})
    project.trust('fetch_imagenet_models.sh', '8b1d4b9da0593fc70ef403284f810adc', md5)
    assert project.run('fetch_imagenet_models.sh').returncode == 0
    assert (project.data / 'imagenet_models' / 'VGG16.v2.caffemodel').read_text() == 'weights'


def test_published_boxes_join_those_made_here(project):
    (project.data / 'selective_search_data').mkdir()
    (project.data / 'selective_search_data' / 'voc_2010_train.h5').write_text('mine')
    files = {f'selective_search_data/voc_2007_{split}.mat': split for split in ('trainval', 'test')}
    md5 = archive(project.site / 'selective_search_data.tgz', files)
    project.trust('fetch_selective_search_data.sh', '7078c1db87a7851b31966b96774cd9b9', md5)
    done = project.run('fetch_selective_search_data.sh')
    assert done.returncode == 0, done.stderr
    there = sorted(p.name for p in (project.data / 'selective_search_data').iterdir())
    assert there == ['voc_2007_test.mat', 'voc_2007_trainval.mat', 'voc_2010_train.h5']


def test_mirrors_are_tried_in_turn(tmp_path):
    """fetch_archive takes the first site that gives the published file."""
    good, bad = tmp_path / 'good', tmp_path / 'bad'
    good.mkdir()
    bad.mkdir()
    md5 = archive(good / 'a.tar', {'a/file': 'right'})
    (bad / 'a.tar').write_text('<html>moved</html>')
    sites = [(tmp_path / 'dead').as_uri(), bad.as_uri(), good.as_uri()]

    def fetch(*sites):
        command = f'source {SCRIPTS}/archive.sh; fetch_archive a.tar {md5} {" ".join(sites)}'
        return subprocess.run(['bash', '-c', command], cwd=tmp_path, capture_output=True, text=True)

    done = fetch(*sites)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'a.tar').read_bytes() == (good / 'a.tar').read_bytes()
    (tmp_path / 'a.tar').unlink()
    done = fetch(*sites[:2])
    assert done.returncode == 1 and not (tmp_path / 'a.tar').exists()
    assert f'could not download {sites[0]}/a.tar' in done.stderr and 'not the published file' in done.stderr


def zipped(path: Path, files: dict[str, str]) -> str:
    with zipfile.ZipFile(path, 'w') as f:
        for name, text in files.items():
            f.writestr(name, text)
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.skipif(not shutil.which('unzip'), reason='needs unzip')
def test_coco(project):
    for name, published, files in (
        ('annotations_trainval2014.zip', '0a379cfc70b0e71301e0f377548639bd',
         {'annotations/instances_train2014.json': 't'}),
        ('train2014.zip', '0da8c0bd3d6becc4dcb32757491aca88', {'train2014/1.jpg': 'one'}),
        ('val2014.zip', 'a3d79f5ed8d289b7a7554ce06a5782b3', {'val2014/2.jpg': 'two'}),
    ):  # fmt: skip
        project.trust('fetch_coco.sh', published, zipped(project.site / name, files))
    md5 = archive(project.site / 'coco_annotations_minival.tgz', {'annotations/instances_minival2014.json': 'm'})
    project.trust('fetch_coco.sh', '2d2b9d2283adb5e3b8d25eec88e65064', md5)
    done = project.run('fetch_coco.sh')
    assert done.returncode == 0, done.stderr
    there = sorted(str(p.relative_to(project.data / 'coco')) for p in (project.data / 'coco').rglob('*.*'))
    assert there == [
        'annotations/instances_minival2014.json', 'annotations/instances_train2014.json',
        'images/train2014/1.jpg', 'images/val2014/2.jpg',
    ]  # fmt: skip
    again = project.run('fetch_coco.sh')
    assert again.returncode == 0 and again.stdout.count('there already') == 4
    assert project.run('fetch_coco.sh', '2016').returncode == 1
