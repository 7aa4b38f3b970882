"""tools/check_dataset.py: each kind of finding, alone, in a set that is right otherwise."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from voc_folder import annotation

from detection_data.findings import KINDS, format_report, look_at
from detection_data.image_file import read_image
from detection_data.proposals import write_proposals

TOOL = Path(__file__).parents[2] / 'tools' / 'check_dataset.py'
CAT, DOG = ('cat', 1, 1, 20, 30), ('dog', 11, 6, 60, 40)  # in images of 60 x 40


@pytest.fixture
def right(folder):
    """The folder of conftest.py with proposals: nothing to be found."""
    write_proposals(
        str(folder.root / 'proposals' / 'random_train.h5'),
        ['a', 'b'],
        [np.array([[0, 0, 59, 39]])] * 2,
        'random',
    )
    return folder


def found(folder, method='random'):
    report = look_at(f'folder:{folder.root}:train', method)
    return report, dict(report.counts)


def test_nothing_is_found_in_a_set_that_is_right(right):
    report, counts = found(right)
    assert counts == {} and not report.refused
    assert report.images == 2 and dict(report.objects) == {'cat': 2, 'dog': 2}
    assert format_report(report).endswith('2 images, 4 objects (cat 2, dog 2)\n  nothing found')


@pytest.mark.parametrize(
    'box, kind',
    [
        (('cat', 30, 20, 30, 35), 'zero size'),
        (('cat', 30, 20, 40, 20), 'zero size'),
        (('cat', 40, 20, 30, 35), 'swapped'),
        (('cat', 1, 1, 62, 40), 'out of frame'),
        (('cat', 1, 1, 61, 40), 'clipped'),
        (('cat', 0.1, 0.2, 0.5, 0.9), 'relative'),
        (('cat', -1, 1, 20, 30), 'out of frame'),
        (('cat', 0, 1, 20, 30), 'begins at 0'),
        (('cat', 'x', 1, 20, 30), 'no box'),
        (('cat', 'nan', 1, 20, 30), 'no box'),
    ],
)
def test_boxes(right, box, kind):
    right.add('a', annotation([DOG, box]))
    report, counts = found(right)
    assert counts == {kind: 1} and report.refused == (kind not in ('begins at 0', 'clipped', 'swapped'))
    assert 'a.xml: object 2 (cat)' in report.places[kind][0]


def test_a_set_that_counts_from_0_throughout_is_told_from_a_stray_0(right):
    right.add('a', annotation([('dog', 0, 5, 20, 30), ('cat', 4, 0, 20, 39)]))
    right.add('b', annotation([('cat', 1, 1, 59, 30)]))
    report, counts = found(right)
    assert counts == {'begins at 0': 2}
    assert 'count from pixel 0 throughout' in report.advice[0]
    right.add('b', annotation([('cat', 1, 1, 60, 30)]))  # one ends at pixel 60 of 60
    assert 'write 1 for 0' in found(right)[0].advice[0]


@pytest.mark.parametrize(
    'xml, kind, words',
    [
        ('<annotation><object>', 'annotation', 'malformed XML'),
        ('<html/>', 'annotation', 'expected <annotation>'),
        (None, 'annotation', 'no such annotation file'),
        (annotation([CAT, CAT, DOG]), 'twice', 'a.xml: object 2 (cat)'),
        (annotation([CAT, DOG], size=(60, 41)), 'size', 'a.jpg: 60x40, annotated 60x41'),
        (annotation([]), 'no objects', 'a'),
    ],
)
def test_annotations(right, xml, kind, words):
    path = right.root / 'Annotations' / 'a.xml'
    path.unlink() if xml is None else path.write_text(xml)
    report, counts = found(right)
    assert counts.pop(kind) == 1 and words in report.places[kind][0]
    # a malformed file among those that the classes are read from: the set cannot be opened either
    assert set(counts) <= {'set', 'all difficult'}  # the dog that is left is difficult
    assert report.refused == (KINDS[kind][1] == 'refuses') or 'set' in counts


def test_an_annotation_that_cannot_be_read_is_listed(right):
    path = right.root / 'Annotations' / 'a.xml'
    path.unlink()
    path.mkdir()
    report, _ = found(right)
    assert report.places['annotation'] == [f'{path}: cannot be read: Is a directory'] and report.images == 2


def test_a_size_that_is_not_stated_is_measured(right):
    right.add('a', annotation([DOG, ('cat', 1, 1, 61, 40)], size=None))
    assert found(right)[1] == {'clipped': 1, 'no size': 1}


def test_classes(right):
    (right.root / 'classes.txt').write_text('cat\nbird\n')
    report, counts = found(right)
    assert counts == {'class': 2, 'empty class': 1}
    assert report.places['empty class'] == ['bird'] and "'dog'" in report.places['class'][0]


def test_images(right):
    (right.root / 'JPEGImages' / 'a.jpg').write_bytes(b'no image')
    report, counts = found(right)
    assert counts == {'unreadable image': 1} and report.refused
    (right.root / 'JPEGImages' / 'a.jpg').unlink()
    assert found(right)[1] == {'no image': 1}


def test_an_image_cut_short(right):
    path = right.root / 'JPEGImages' / 'a.jpg'
    path.write_bytes(path.read_bytes()[:-400])
    report, counts = found(right)
    assert counts == {'damaged image': 1} and not report.refused
    assert 'truncated' in report.places['damaged image'][0]


def test_an_image_damaged_inside(right):
    """No decoder fails on it: the marker that ends the pixels stands amid them, the file's end is as it should be."""
    path = right.root / 'JPEGImages' / 'a.jpg'
    noise = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(path)
    assert found(right)[1] == {}
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3
    data[middle : middle + 2] = b'\xff\xd9'
    path.write_bytes(data)
    report, counts = found(right)
    assert counts == {'damaged image': 1} and not report.refused
    assert report.places['damaged image'] == [f'{path}: Corrupt JPEG data: premature end of data segment']


def exif(path, orientation, size):
    """Write a JPEG with these stored pixels and that EXIF orientation."""
    header = Image.Exif()
    header[0x0112] = orientation
    noise = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 3)).save(path, exif=header)


def test_images_that_exif_data_turn(right):
    path = right.root / 'JPEGImages' / 'a.jpg'
    exif(path, 3, (60, 40))
    report, counts = found(right)
    assert counts == {'turned': 1} and not report.refused
    # annotated as a viewer shows it: 60 x 40, but stored 40 x 60
    exif(path, 6, (40, 60))
    report, counts = found(right)
    assert counts == {'turned size': 1} and report.refused
    assert '40x60, annotated 60x40' in report.places['turned size'][0]


def test_turned_copies_put_the_set_right(right, tmp_path):
    path = right.root / 'JPEGImages' / 'a.jpg'
    exif(path, 6, (40, 60))
    name = f'folder:{right.root}:train'
    command = [sys.executable, str(TOOL), '--imdb', name, '--method', 'gt', '--fix']
    before = path.read_bytes()
    done = subprocess.run([*command, str(tmp_path / 'fixed')], capture_output=True, text=True)
    assert '1 turned copies are in' in done.stdout and path.read_bytes() == before
    shown = cv2.imread(str(path))  # OpenCV turns it as viewers do
    path.write_bytes((tmp_path / 'fixed' / 'a.jpg').read_bytes())
    assert np.abs(read_image(path).astype(int) - shown).mean() < 3
    assert found(right)[1] == {}
    exif(path, 6, (40, 60))
    done = subprocess.run([*command, str(path.parent)], capture_output=True, text=True)
    assert done.returncode == 1 and 'the copies would be written over the originals' in done.stderr


def test_images_of_other_pixels_and_too_narrow_ones(right):
    path = right.root / 'JPEGImages' / 'a.jpg'
    cv2.imwrite(str(path.with_suffix('.png')), np.zeros((40, 60), np.uint16))
    path.unlink()
    report, counts = found(right)
    assert counts == {'pixels': 1} and '16 bits or more a channel' in report.places['pixels'][0]
    right.add('a', annotation([('cat', 1, 1, 40, 3), DOG[:1] + (1, 1, 30, 3)], size=(3000, 3)), size=(3000, 3))
    path.with_suffix('.png').unlink()
    report = look_at(f'folder:{right.root}:train', 'gt', scales=(600,), max_size=400)
    assert report.counts['thin image'] == 1 and report.refused
    assert 'an image of 3000 x 3 pixels, scaled' in report.places['thin image'][0]


def test_an_image_listed_twice(right):
    right.split('train', 'a', 'b', 'a')
    report, counts = found(right)
    assert counts['listed twice'] == 1 and report.refused and report.images == 2


def test_proposals(right):
    path = right.root / 'proposals' / 'random_train.h5'
    write_proposals(str(path), ['a'], [np.array([[0, 0, 60, 39]])], 'random')
    report, counts = found(right)
    assert counts == {'not proposed': 1, 'far proposals': 1} and report.refused
    write_proposals(str(path), ['a', 'b'], [np.zeros((0, 4)), np.array([[0, 0, 9, 9]])], 'random')
    assert found(right)[1] == {'no proposals': 1}
    path.write_bytes(b'no proposals')
    assert found(right)[1] == {'proposals': 1}
    path.unlink()
    report, counts = found(right)
    assert counts == {'proposals': 1} and 'tools/make_proposals.py' in report.places['proposals'][0]
    assert found(right, 'gt')[1] == {}


def test_coco_files(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((40, 60, 3), np.uint8))
    boxes = [[0, 0, 60, 40], [5, 5, 0, 9], [50, 5, 20, 9], [20, 5, -9, 9], [0, 0, 60, 40]]
    tree = {
        'images': [{'id': 1, 'file_name': 'a.png', 'width': 60, 'height': 40},
                   {'id': 2, 'file_name': 'b.png', 'width': 9, 'height': 9}],
        'categories': [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}],
        'annotations': [{'id': k, 'image_id': 1, 'category_id': 1, 'bbox': b} for k, b in enumerate(boxes)],
    }  # fmt: skip
    (tmp_path / 'l.json').write_text(json.dumps(tree))
    report = look_at(f'coco:{tmp_path}/l.json:{tmp_path}', 'gt')
    assert dict(report.counts) == {
        'zero size': 2, 'out of frame': 1, 'twice': 1,
        'no image': 1, 'no objects': 1, 'empty class': 1,
    }  # fmt: skip
    place = report.places['out of frame'][0]
    assert place.endswith('image 1 (cat): box (50, 5, 20, 9) (x, y, width, height) lies outside its image (60x40)')


def test_the_tool_prints_a_table_and_its_status_tells(right):
    def run(*args):
        return subprocess.run([sys.executable, str(TOOL), *args], capture_output=True, text=True)

    right.split('test', 'c')
    name = f'folder:{right.root}:train'
    assert run('--imdb', name, '--method', 'random').returncode == 0
    for k in range(5):
        right.add(f'z{k}', annotation([('cat', 3, 3, 3, 3)]))
    right.split('bad', *(f'z{k}' for k in range(5)))
    done = run('--imdb', f'{name}+folder:{right.root}:bad', '--method', 'gt')
    assert done.returncode == 1 and done.stderr == ''
    assert '       5  refuses   box of zero width or height' in done.stdout and 'and 2 more' in done.stdout
    done = run('--imdb', f'folder:{right.root}:bad', '--method', 'gt', '--all')
    assert all(f'z{k}.xml: object 1' in done.stdout for k in range(5)) and 'more' not in done.stdout
    assert run('--imdb', f'folder:{right.root}:none').returncode == 1
    assert 'not found' in run('--imdb', f'folder:{right.root}:none').stderr


@pytest.mark.parametrize(
    'mode, words',
    [
        ('RGBA', 'with transparency, which is left out'),
        ('LA', 'with transparency, which is left out'),
        ('P', 'of a palette'),
        ('1', 'black and white'),
        ('CMYK', 'CMYK'),
        ('L', None),
    ],
)
def test_pixels_of_every_mode_are_said_unless_they_are_plain(right, mode, words):
    path = right.root / 'JPEGImages' / 'a.jpg'
    image = Image.new('RGB', (60, 40), (200, 90, 30)).convert(mode)
    path.unlink()
    image.save(path.with_suffix('.tif' if mode == 'CMYK' else '.png'))
    report, counts = found(right)
    assert counts == ({} if words is None else {'pixels': 1}) and not report.refused
    assert words is None or report.places['pixels'][0].endswith(f': {words}')


def coco_report(folder, *annotations):
    cv2.imwrite(str(folder / 'a.png'), np.zeros((40, 60, 3), np.uint8))
    tree = {
        'images': [{'id': 1, 'file_name': 'a.png', 'width': 60, 'height': 40}],
        'categories': [{'id': 1, 'name': 'cat'}],
        'annotations': [{'id': k, 'image_id': 1, 'category_id': 1, **a} for k, a in enumerate(annotations)],
    }
    (folder / 'l.json').write_text(json.dumps(tree))
    return look_at(f'coco:{folder}/l.json:{folder}', 'gt')


def test_polygons_are_counted_with_the_box_that_is_taken(tmp_path):
    report = coco_report(tmp_path, {'segmentation': [[10, 20, 40, 20, 30, 35]]}, {'bbox': [1, 2, 20, 20]})
    assert dict(report.counts) == {'outline': 1} and not report.refused
    assert report.places['outline'][0].endswith('its bounding box is (10, 20, 30, 15)')


def test_a_set_of_crowds_alone_has_nothing_to_learn(tmp_path):
    report = coco_report(tmp_path, {'bbox': [1, 2, 20, 20], 'iscrowd': 'yes'}, {'bbox': [30, 2, 20, 20], 'iscrowd': 1})
    assert dict(report.counts) == {'all difficult': 1, 'nothing to learn': 1} and report.refused
