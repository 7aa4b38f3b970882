"""data/scripts/make_demo_data.py paints a data set that the program can read."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from detection_data.factory import get_imdb

SCRIPT = Path(__file__).parents[2] / 'data' / 'scripts' / 'make_demo_data.py'


def run(*args):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, args)], capture_output=True, text=True)


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp('made') / 'demo'
    done = run('--out', out, '--train', 6, '--test', 2)
    assert done.returncode == 0, done.stderr
    return out


def test_it_is_a_data_set(demo):
    imdb = get_imdb(f'folder:{demo}:train+folder:{demo}:test')
    assert imdb.name == 'demo_train+demo_test' and imdb.num_images == 8
    assert imdb.classes == ('__background__', 'button', 'ladybird', 'leaf', 'starfish')
    for i in range(imdb.num_images):
        height, width, _ = cv2.imread(imdb.image_path_at(i)).shape
        assert (width, height) == imdb.image_size(i)
        assert min(width, height) >= 150 and max(width, height) <= 240
        objects = imdb.annotation(i)['boxes']  # reading checks that they lie in the image
        assert 1 <= len(objects) <= 5
        assert (objects[:, 2:] - objects[:, :2] >= 8).all()


def test_a_seed_gives_the_same_files_and_pictures_do_not_depend_on_their_number(demo, tmp_path):
    assert run('--out', tmp_path / 'again', '--train', 3, '--test', 1).returncode == 0
    for name in ('Annotations/train_0002.xml', 'JPEGImages/train_0002.jpg', 'JPEGImages/test_0000.jpg'):
        assert (tmp_path / 'again' / name).read_bytes() == (demo / name).read_bytes()
    assert run('--out', tmp_path / 'other', '--train', 1, '--test', 1, '--seed', 4).returncode == 0
    name = 'JPEGImages/train_0000.jpg'
    assert (tmp_path / 'other' / name).read_bytes() != (demo / name).read_bytes()


def test_train_and_test_pictures_differ(demo):
    first, second = (cv2.imread(str(demo / 'JPEGImages' / f'{split}_0000.jpg')) for split in ('train', 'test'))
    assert first.shape != second.shape or not np.array_equal(first, second)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('dear')
    done = run('--out', tmp_path, '--train', 1, '--test', 1)
    assert done.returncode == 1 and 'holds something else' in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']
