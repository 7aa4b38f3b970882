"""tools/check_dataset.py --show: images and objects as training sees them, changed by the settings."""

import re

import cv2
import pytest
from commands import run

from detection_data.palette import OKABE_ITO

CFG = 'experiments/cfgs/demo_ohem.yml'


def show(data, out, *settings, **options):
    flags = ('--imdb', f'folder:{data}:train', '--cfg', CFG, '--show', out, '--batches', 2)
    return run('tools/check_dataset.py', *flags, *(('--set', *settings) if settings else ()), **options)


@pytest.fixture(scope='module')
def plain(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp('plain')
    return out, show(tiny, out).stdout


def test_every_image_of_the_mini_batches_has_a_picture(plain):
    out, said = plain
    assert sorted(path.name for path in out.iterdir()) == [f'batch_00{n}_{k}.png' for n in (0, 1) for k in (0, 1)]
    lines = re.findall(r'(batch_\d+_\d)\.png: .*/(\w+)\.jpg( \(mirrored\))?, (\d+) x (\d+) pixels for the net', said)
    assert len(lines) == 4
    for name, _, _, width, height in lines:
        picture = cv2.imread(str(out / f'{name}.png'))
        scale = 480 / min(int(width), int(height))  # small images are enlarged; a legend is above
        assert abs(picture.shape[1] - scale * int(width)) <= 1 and picture.shape[0] > scale * int(height)
        colours = {tuple(colour) for colour in picture.reshape(-1, 3)[::7, ::-1].tolist()}
        assert colours & set(OKABE_ITO), 'boxes in the colours of classes'


def test_changes_are_said_drawn_and_the_same_again(plain, tiny, tmp_path):
    settings = ('TRAIN.AUGMENT.TURN', 'True', 'TRAIN.AUGMENT.SCALE_JITTER', '(0.5, 0.59)')
    said = [show(tiny, tmp_path / name, *settings).stdout for name in 'ab']
    assert said[0].count('size x 0.5') == 4 and re.search(r'turned by (90|180|270)', said[0])
    before, a, b = (
        [(folder / f'batch_00{n}_{k}.png').read_bytes() for n in (0, 1) for k in (0, 1)]
        for folder in (plain[0], tmp_path / 'a', tmp_path / 'b')
    )
    assert a == b and not set(a) & set(before)


def test_a_set_that_training_refuses_is_not_drawn(tiny_copy, tmp_path):
    next((tiny_copy / 'JPEGImages').glob('train*')).write_bytes(b'no image')
    done = show(tiny_copy, tmp_path / 'out', status=1)
    assert 'nothing is drawn of a set that training would refuse' in done.stderr and not (tmp_path / 'out').exists()


def test_settings_that_do_not_go_together_are_said(tiny, tmp_path):
    done = show(tiny, tmp_path / 'out', 'TRAIN.AUGMENT.CROP', '7', status=1)
    assert re.search(r'error: settings: TRAIN\.AUGMENT\.CROP expects finite numbers in \[0\.1, 1\]; got 7', done.stderr)
    assert 'Traceback' not in done.stderr
