"""What becomes of a box does not depend on the format that it is written in, nor on who reads it.

Each case is written in every format, as one object of one photograph of 160 x 120 pixels, and read as a project, as a
data set in place, and by the checker.
"""

import json
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image

from detection_data.factory import get_imdb
from detection_data.findings import look_at
from detection_data.labels import KINDS, AnnotationError
from projects.formats import read_labels
from projects.photographs import ImageFolder

WIDTH, HEIGHT = 160, 120


def write_voc(folder, box, size):
    x1, y1, x2, y2 = box
    corners = f'<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>'
    stated = f'<size><width>{size[0]}</width><height>{size[1]}</height></size>' if size else ''
    (folder / 'Annotations').mkdir()
    (folder / 'Annotations' / 'p.xml').write_text(
        f'<annotation>{stated}<object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>'
    )
    (folder / 'ImageSets' / 'Main').mkdir(parents=True)
    (folder / 'ImageSets' / 'Main' / 'train.txt').write_text('p\n')
    (folder / 'classes.txt').write_text('cat\n')
    return f'folder:{folder}:train', folder / 'Annotations'


def write_coco(folder, box, size):
    x1, y1, x2, y2 = box
    tree = {
        'images': [{'id': 1, 'file_name': 'p.jpg', **({'width': size[0], 'height': size[1]} if size else {})}],
        'annotations': [{'id': 5, 'image_id': 1, 'category_id': 1, 'bbox': [x1, y1, x2 - x1, y2 - y1]}],
        'categories': [{'id': 1, 'name': 'cat'}],
    }
    (folder / 'l.json').write_text(json.dumps(tree))
    return f'coco:{folder}/l.json:{folder}/JPEGImages', folder / 'l.json'


def write_labelme(folder, box, size):
    x1, y1, x2, y2 = box
    tree = {
        'imagePath': 'p.jpg',
        'shapes': [{'label': 'cat', 'points': [[x1, y1], [x2, y2]], 'shape_type': 'rectangle'}],
    }
    tree |= {'imageWidth': size[0], 'imageHeight': size[1]} if size else {}
    (folder / 'p.json').write_text(json.dumps(tree))
    return None, folder / 'p.json'


def write_csv(folder, box, size):
    (folder / 'l.csv').write_text('filename,class,xmin,ymin,xmax,ymax\np.jpg,cat,' + ','.join(map(str, box)) + '\n')
    return None, folder / 'l.csv'


def write_csv_with_widths(folder, box, size):
    x1, y1, x2, y2 = box
    line = ','.join(map(str, (x1, y1, x2 - x1, y2 - y1)))
    (folder / 'l.csv').write_text(f'filename,class,bbox_x,bbox_y,bbox_width,bbox_height\np.jpg,cat,{line}\n')
    return None, folder / 'l.csv'


def write_yolo(folder, box, size):
    x1, y1, x2, y2 = box
    width, height = size or (WIDTH, HEIGHT)
    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    (folder / 'yolo').mkdir()
    (folder / 'yolo' / 'p.txt').write_text('0 ' + ' '.join(f'{v:.6f}' for v in shares) + '\n')
    (folder / 'yolo' / 'classes.txt').write_text('cat\n')
    return None, folder / 'yolo'


WITH_CORNERS = [write_voc, write_csv]
WITH_WIDTHS = [write_coco, write_csv_with_widths, write_yolo]
EVERY = [*WITH_CORNERS, *WITH_WIDTHS, write_labelme]


def read(write, folder, box, size=(WIDTH, HEIGHT), exif=None):
    """(edges read as a project, what was put right; edges of the data set in place, or None, its checker's counts)."""
    (folder / 'JPEGImages').mkdir(exist_ok=True)
    if not list((folder / 'JPEGImages').iterdir()):
        cv2.imwrite(str(folder / 'JPEGImages' / 'p.jpg'), np.full((HEIGHT, WIDTH, 3), 99, np.uint8))
    name, labels = write(folder, box, size)
    said: Counter[str] = Counter()
    report = look_at(name, 'gt') if name else None
    try:
        images = ImageFolder(str(folder / 'JPEGImages'), exif)
        _, (photograph,) = read_labels(str(labels), images, said)
        (found,) = photograph.boxes
        edges = (found.left, found.top, found.right, found.bottom)
    except AnnotationError as error:
        if name:  # the other reader and the checker refuse it too
            with pytest.raises(AnnotationError):
                get_imdb(name).annotation(0)
            assert report.refused
        raise error
    if name:
        assert not report.refused
        assert {KINDS[kind][0] for kind in report.counts if KINDS[kind][1] == 'put right'} == set(said)
        data = get_imdb(name)
        (inclusive,) = data.annotation(0)['boxes'].tolist()
        np.testing.assert_allclose(inclusive, [edges[0], edges[1], edges[2] - 1, edges[3] - 1], atol=1e-4)
        assert len(data.put_right()) == len(said)
    return edges, said


@pytest.mark.parametrize('write', EVERY)
@pytest.mark.parametrize(
    'box', [(10, 20, 50, 60), (0, 0, 160, 120), (10.25, 20.5, 50.75, 60.5), (20, 20, 22, 22)], ids=str
)
def test_a_box_inside_its_image_is_taken_as_it_is(write, box, tmp_path):
    edges, said = read(write, tmp_path, box)
    assert edges == pytest.approx(box, abs=1e-3) and not said


@pytest.mark.parametrize('write', EVERY)
@pytest.mark.parametrize(
    'box, kept',
    [
        ((-1, 20, 50, 60), (0, 20, 50, 60)),
        ((10, -0.5, 50, 60), (10, 0, 50, 60)),
        ((10, 20, 161, 60), (10, 20, 160, 60)),
        ((100, 20, 160.5, 121), (100, 20, 160, 120)),
        ((-1, -1, 161, 121), (0, 0, 160, 120)),
    ],
    ids=str,
)
def test_a_box_past_the_border_by_a_pixel_at_most_is_cut_and_counted(write, box, kept, tmp_path):
    edges, said = read(write, tmp_path, box)
    assert edges == pytest.approx(kept, abs=1e-3)
    assert list(said.values()) == [1] and ': cut off' in next(iter(said))


@pytest.mark.parametrize('write', EVERY)
@pytest.mark.parametrize(
    'box',
    [
        (-2, 20, 50, 60),
        (10, -1.5, 50, 60),
        (10, 20, 162, 60),
        (10, 20, 50, 121.5),
        (170, 20, 190, 60),
    ],
    ids=str,
)
def test_a_box_past_the_border_by_more_is_an_error_with_file_object_and_numbers(write, box, tmp_path):
    with pytest.raises(AnnotationError, match=r'lies outside its image') as caught:
        read(write, tmp_path, box)
    named = {
        write_voc: f'p.xml: object 1 (cat): box ({box[0] + 1:g}, {box[1] + 1:g}, {box[2]:g}, {box[3]:g})',
        write_coco: f'annotation 5 of p.jpg (cat): box ({box[0]:g}, {box[1]:g}, {box[2] - box[0]:g}, ',
        write_labelme: f'p.json: shape 1 (cat): box ({box[0]:g}, {box[1]:g}, {box[2]:g}, {box[3]:g})',
        write_csv: f'l.csv, line 2 (cat): box ({box[0]:g}, {box[1]:g}, {box[2]:g}, {box[3]:g})',
        write_csv_with_widths: f'l.csv, line 2 (cat): box ({box[0]:g}, {box[1]:g}, {box[2] - box[0]:g}, ',
        write_yolo: 'p.txt, line 1 (cat): box (',
    }[write]
    assert named in str(caught.value) and '160x120' in str(caught.value)


@pytest.mark.parametrize('write', EVERY)
@pytest.mark.parametrize('box', [(30, 20, 30, 60), (30, 20, 60, 20)], ids=str)
def test_a_box_of_no_size_is_an_error(write, box, tmp_path):
    # tools that write VOC's corners write the same number twice, which VOC counts as one pixel
    width, height = (box[0] == box[2], box[1] == box[3]) if write is write_voc else (0, 0)
    with pytest.raises(AnnotationError, match='has zero or negative size'):
        read(write, tmp_path, (box[0], box[1], box[2] + width, box[3] + height))


@pytest.mark.parametrize('write', WITH_CORNERS)
def test_corners_in_another_order_are_put_in_order_and_counted(write, tmp_path):
    # VOC counts the corner that is written first from 1: 41, 61 and 10, 20 cover 9 to 41 and 19 to 61
    edges, said = read(write, tmp_path, (40, 60, 10, 20))
    assert edges == ((9, 19, 41, 61) if write is write_voc else (10, 20, 40, 60))
    assert said == {'box with swapped corners: put in order': 1}


def test_corners_in_any_order_are_the_same_to_labelme(tmp_path):
    assert read(write_labelme, tmp_path, (40, 60, 10, 20)) == ((10, 20, 40, 60), Counter())


@pytest.mark.parametrize('write', WITH_WIDTHS)
def test_a_width_below_zero_is_an_error(write, tmp_path):
    with pytest.raises(AnnotationError, match='has zero or negative size'):
        read(write, tmp_path, (40, 60, 10, 20))


# ---------------------------------------------------------------------- EXIF data


def write_turned(folder, orientation):
    """A dark photograph whose stored pixels (10, 20) to (50, 100) are bright; returns that box, shown and stored."""
    (folder / 'JPEGImages').mkdir()
    path = folder / 'JPEGImages' / 'p.jpg'
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[20:100, 10:50] = 255
    header = Image.Exif()
    header[0x0112] = orientation
    Image.fromarray(image).save(path, exif=header, quality=95)
    turned = cv2.imread(str(path), cv2.IMREAD_COLOR)  # as viewers show it
    rows, columns = np.nonzero(turned[:, :, 0] > 128)
    shown = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return tuple(map(int, shown)), turned.shape[1::-1]


@pytest.mark.parametrize('write', EVERY)
@pytest.mark.parametrize('orientation', range(2, 9))
def test_labels_of_the_image_as_shown_are_turned_to_its_stored_pixels(write, orientation, tmp_path):
    box, size = write_turned(tmp_path, orientation)
    _, labels = write(tmp_path, box, size)
    said: Counter[str] = Counter()
    _, (photograph,) = read_labels(str(labels), ImageFolder(str(tmp_path / 'JPEGImages'), 'shown'), said)
    (found,) = photograph.boxes
    assert (photograph.width, photograph.height) == (WIDTH, HEIGHT)
    assert (found.left, found.top, found.right, found.bottom) == pytest.approx((10, 20, 50, 100), abs=1e-3)
    assert said['image that EXIF data turn when shown, labelled as shown: its boxes turned back'] == 1


@pytest.mark.parametrize('write', [write_voc, write_coco, write_labelme])
def test_the_stated_size_tells_what_the_labels_are_for(write, tmp_path):
    box, size = write_turned(tmp_path, 6)
    for k, (labelled, of_size) in enumerate([(box, size), ((10, 20, 50, 100), (WIDTH, HEIGHT))]):
        folder = tmp_path / str(k)
        folder.mkdir()
        _, labels = write(folder, labelled, of_size)
        for wish in (None, 'stored', 'shown'):  # what can be told needs no wish
            _, (photograph,) = read_labels(str(labels), ImageFolder(str(tmp_path / 'JPEGImages'), wish), Counter())
            (found,) = photograph.boxes
            assert (found.left, found.top, found.right, found.bottom) == (10, 20, 50, 100)


@pytest.mark.parametrize('write, orientation', [(write_yolo, 6), (write_csv, 6), (write_voc, 3), (write_labelme, 2)])
def test_what_cannot_be_told_is_asked(write, orientation, tmp_path):
    box, size = write_turned(tmp_path, orientation)
    _, labels = write(tmp_path, box, size)
    with pytest.raises(
        AnnotationError, match=rf'p\.jpg when it is shown \(orientation {orientation}\).*say --exif shown'
    ):
        read_labels(str(labels), ImageFolder(str(tmp_path / 'JPEGImages')), Counter())
    stored = write_turned_labels(write, tmp_path)
    _, (photograph,) = read_labels(str(stored), ImageFolder(str(tmp_path / 'JPEGImages'), 'stored'), Counter())
    assert photograph.boxes[0].left == pytest.approx(10, abs=1e-3)


def write_turned_labels(write, folder):
    (folder / 'stored').mkdir()
    return write(folder / 'stored', (10, 20, 50, 100), (WIDTH, HEIGHT))[1]
