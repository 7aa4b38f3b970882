"""Labels of every kind: the same twelve photographs give the same boxes, and mistakes are named with their place."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest
import twelve

from detection_data.coco import coco
from projects.formats import find_format, read_labels
from projects.photographs import ImageFolder, LabelError
from projects.project import check_classes


def labels_of(root, said=None):
    folder = next(name for name in ('labels', 'annotations', 'images') if (root / name).is_dir())
    images = ImageFolder(str(root / 'images'))
    return read_labels(str(root / folder), images, Counter() if said is None else said)


@pytest.mark.parametrize('layout', twelve.LAYOUTS, ids=lambda layout: layout.__name__)
def test_the_boxes_are_the_same(layout, tmp_path):
    layout(tmp_path)
    _, photographs = labels_of(tmp_path)
    found = {
        p.path.rsplit('/', 1)[1]: sorted((b.name, b.left, b.top, b.right, b.bottom) for b in p.boxes)
        for p in photographs
    }
    assert found == {f'{stem}.jpg': sorted(boxes) for stem, boxes in twelve.objects().items()}
    assert all((p.width, p.height) == (twelve.WIDTH, twelve.HEIGHT) for p in photographs)


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    twelve.voc(tmp_path)
    for name in ('labels/._photo 00.xml', 'labels/.DS_Store', 'images/._photo 00.jpg', 'images/Thumbs.db'):
        (tmp_path / name).write_bytes(b'\0\5\x16\7')
    (tmp_path / 'images' / '__MACOSX').mkdir()
    (tmp_path / 'images' / '__MACOSX' / 'photo 00.jpg').write_bytes(b'')
    assert len(labels_of(tmp_path)[1]) == 12


@pytest.mark.parametrize('extension', ['.JPG', '.jpeg', '.png', '.bmp', '.tif', '.TIFF', '.webp', '.gif'])
def test_images_are_found_by_the_file_that_exists(extension, tmp_path):
    twelve.voc(tmp_path)
    picture = tmp_path / 'images' / 'photo 00.jpg'
    image = cv2.imread(str(picture))
    picture.unlink()
    encoded = cv2.imencode(extension.lower(), image)[1] if extension.lower() != '.gif' else None
    if encoded is None:
        from PIL import Image

        Image.fromarray(image).save(picture.with_suffix(extension))
    else:
        picture.with_suffix(extension).write_bytes(encoded.tobytes())
    assert any(p.path.endswith(extension) for p in labels_of(tmp_path)[1])


def voc_file(tmp_path, change):
    twelve.voc(tmp_path)
    path = tmp_path / 'labels' / 'photo 00.xml'
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize(
    'text, ignored',
    [('False', False), ('no', False), ('0.0', False), ('Unspecified', False), ('', False), ('1', True), ('True', True)],
)
def test_difficult_is_read_for_what_it_means(text, ignored, tmp_path):
    voc_file(tmp_path, lambda xml: xml.replace('<difficult>0<', f'<difficult>{text}<'))
    first = labels_of(tmp_path)[1][0]
    assert [box.ignored for box in first.boxes] == [ignored]


def test_difficult_that_means_nothing_is_named(tmp_path):
    path = voc_file(tmp_path, lambda xml: xml.replace('<difficult>0<', '<difficult>perhaps<'))
    with pytest.raises(
        LabelError, match="line 1: object 1: difficult is 'perhaps', which means neither yes nor no; expected 0 or 1"
    ) as caught:
        labels_of(tmp_path)
    assert str(path) in str(caught.value)


EDGES = '<xmin>%s</xmin><ymin>%s</ymin><xmax>%s</xmax><ymax>%s</ymax>'


@pytest.mark.parametrize(
    'edges, message',
    [
        (
            (10, 10, 300, 40),
            r'box \(10, 10, 300, 40\) \(xmin, ymin, xmax, ymax\) lies outside its image \(160x120; VOC',
        ),
        (('nan', 10, 30, 40), "<xmin> is 'nan', expected a number"),
        (('ten', 10, 30, 40), "<xmin> is 'ten', expected a number"),
        ((0.1, 0.1, 0.4, 0.4), r'box .* lies between 0 and 1: in shares of the image\? Expected pixels'),
    ],
)
def test_boxes_that_make_no_sense_are_named(edges, message, tmp_path):
    import re

    box = re.compile(r'<xmin>.*?</ymax>')
    path = voc_file(tmp_path, lambda xml: box.sub(EDGES % edges, xml, count=1))
    with pytest.raises(LabelError, match=message) as caught:
        labels_of(tmp_path)
    assert f'{path}: object 1' in str(caught.value)


def test_what_is_put_right_is_counted(tmp_path):
    import re

    box = re.compile(r'<xmin>.*?</ymax>')
    said = Counter()
    voc_file(tmp_path, lambda xml: box.sub(EDGES % (40.5, 30, 0, 121), xml, count=1))
    first = labels_of(tmp_path, said)[1][0].boxes[0]
    assert (first.left, first.top, first.right, first.bottom) == (0, 29, 40.5, 120)
    assert said == {
        'box with swapped corners: put in order': 1,
        'box that begins at pixel 0, where VOC counts from 1: cut off': 1,
    }


def test_parts_of_the_image_where_pixels_are_expected(tmp_path):
    twelve.coco(tmp_path)
    path = tmp_path / 'annotations' / 'instances_default.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = [0.2, 0.3, 0.4, 0.5]
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=r'lies between 0 and 1: in shares of the image\? Expected pixels, of 160x120'):
        labels_of(tmp_path)


def test_an_image_of_another_size_than_its_labels_say(tmp_path):
    twelve.voc(tmp_path)
    cv2.imwrite(str(tmp_path / 'images' / 'photo 03.jpg'), np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(LabelError, match=r'says that its image is 160x120; .*photo 03\.jpg is 80x60'):
        labels_of(tmp_path)


def test_a_file_that_is_no_image(tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    (tmp_path / 'images' / 'photo 04.jpg').write_bytes(b'no image')
    with pytest.raises(LabelError, match=r'photo 04\.jpg: cannot be read as an image'):
        labels_of(tmp_path)


def test_a_missing_image_is_named_with_its_label_file(tmp_path):
    twelve.labelme(tmp_path)
    (tmp_path / 'images' / 'photo 05.jpg').unlink()
    with pytest.raises(LabelError, match=r"photo 05\.json: there is no image .*photo 05\.jpg' in .*images"):
        labels_of(tmp_path)


def test_labels_of_several_kinds_want_a_choice(tmp_path):
    twelve.voc(tmp_path)
    twelve.write_csv(tmp_path / 'labels')
    with pytest.raises(LabelError, match=r'labels of several kinds: 12 of voc \(photo 00\.xml\), 1 of csv'):
        find_format(str(tmp_path / 'labels'))
    assert find_format(str(tmp_path / 'labels'), 'csv')[0] == 'csv'


def test_no_labels_at_all(tmp_path):
    twelve.write_images(tmp_path / 'images')
    with pytest.raises(LabelError, match='no labels found; looked for: PASCAL VOC XML, a file an image; COCO'):
        find_format(str(tmp_path / 'images'))


@pytest.mark.parametrize(
    'file, text, message',
    [
        ('a.json', '{"images": [{"id": 1, "file_na', r'\. Not taken: .*a\.json: not a JSON file \(Unterminated'),
        (
            'a.json',
            '{"annotations": [], "categories": []}',
            r"a\.json: has no images, as COCO's JSON has; .*a\.json: has no shapes, as LabelMe",
        ),
        ('a.json', '[]', r'a\.json: has no images, annotations, categories'),
        ('a.xml', '<html/>', r'a\.xml: its root is not <annotation>'),
        ('a.txt', '0,0.5,0.5,0.1,0.1', r'a\.txt: line 1 is not a class number, centre x'),
        ('a.csv', 'file,class\n', r'a\.csv: its first line has no column for left, top'),
    ],
)
def test_files_that_fell_out_are_named(file, text, message, tmp_path):
    twelve.write_images(tmp_path / 'images')
    (tmp_path / 'images' / file).write_text(text)
    with pytest.raises(LabelError, match=f'no labels found; looked for: .*{message}'):
        labels_of(tmp_path)


def test_no_more_than_three_files_that_fell_out(tmp_path):
    for k in range(5):
        (tmp_path / f'{k}.json').write_text('{')
    with pytest.raises(LabelError, match=r'2\.json: not a JSON file .*; and 2 more$'):
        find_format(str(tmp_path))


@pytest.mark.parametrize('layout', [twelve.coco, twelve.labelme])
def test_a_broken_file_among_whole_ones_is_never_passed_over(layout, tmp_path):
    layout(tmp_path)
    folder = tmp_path / ('annotations' if layout is twelve.coco else 'labels')
    (folder / 'photo 02.json').write_text('{"shapes": [')
    with pytest.raises(LabelError, match=r'photo 02\.json: not a JSON file'):
        labels_of(tmp_path)


def test_yolo_without_names_says_where_to_write_them(tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    (tmp_path / 'data.yaml').unlink()
    with pytest.raises(LabelError, match=r'no data\.yaml, .* names them: write the names into classes\.txt'):
        labels_of(tmp_path)


def test_yolo_names_are_never_those_of_a_neighbouring_folder(tmp_path):
    twelve.yolo_ultralytics(tmp_path / 'fruit')
    (tmp_path / 'fruit' / 'data.yaml').unlink()
    (tmp_path / 'fruit' / 'other').mkdir()
    (tmp_path / 'fruit' / 'other' / 'classes.txt').write_text('cat\ndog\n')
    with pytest.raises(LabelError, match=r'write the names into classes\.txt, one a line, and put it into that folder'):
        labels_of(tmp_path / 'fruit')


def test_the_file_of_yolo_names_is_said(tmp_path, capsys, monkeypatch):
    twelve.yolo_ultralytics(tmp_path)
    monkeypatch.chdir(tmp_path)
    photographs = read_labels('labels', ImageFolder('images'), Counter())[1]
    assert {box.name for p in photographs for box in p.boxes} == {'apple', 'pear'}
    assert capsys.readouterr().out == f'The class names are those of {tmp_path}/data.yaml\n'


@pytest.mark.parametrize(
    'line, message',
    [
        ('1 nan 0.5 0.1 0.1', "'1 nan 0.5 0.1 0.1' is not a class number, centre x, .*; correct it, or, if"),
        ('apple 0.5 0.5 0.1 0.1', "'apple 0.5 0.5 0.1 0.1' is not a class number"),
        ('0,0.5,0.5,0.1,0.1', 'with blanks between them'),
        ('0 0.5 0.5 0.1', '4 numbers; expected a class number, centre x'),
        ('<html><body>not found</body></html>', r'take it away or give the folder of the labels alone \(--labels\)'),
    ],
)
def test_a_photograph_s_text_that_is_not_yolo_is_never_passed_over(line, message, tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    (tmp_path / 'labels' / 'notes.txt').write_text('taken in May\n')  # of no photograph
    assert len(labels_of(tmp_path)[1]) == 12
    (tmp_path / 'labels' / 'photo 02.txt').write_text(f'0 .5 .5 .1 .1\n{line}\n')
    with pytest.raises(LabelError, match=rf'photo 02\.txt, line 2: .*{message}'):
        labels_of(tmp_path)


@pytest.mark.parametrize(
    'file, text, message',
    [
        ('classes.txt', 'apple\npear\n apple\n', "the classes 0 and 2 are both called 'apple'"),
        ('classes.txt', '\n', 'no names in it; expected the names of the classes, one a line'),
        ('data.yaml', 'nc: 3\nnames: [apple, pear]', 'nc is 3, but there are 2 names'),
        ('data.yaml', 'names: [apple, null]', 'the name of class 1 is None; expected a text: put it between quotes'),
        ('data.yaml', 'names: [apple, yes]', 'the name of class 1 is True'),
        ('data.yaml', 'names: {0: apple, 2: pear}', r'names are numbered \[0, 2\]; expected 0, 1, 2'),
        ('data.yaml', 'names: {0: apple, b: pear}', r"names are numbered \[0, 'b'\]; expected 0, 1, 2"),
        ('data.yaml', 'names: [apple, apple]', "the classes 0 and 1 are both called 'apple'"),
    ],
)
def test_yolo_names_that_cannot_be_used(file, text, message, tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    (tmp_path / 'data.yaml').unlink()
    (tmp_path / file).write_text(text)
    with pytest.raises(LabelError, match=rf'{file}: {message}'):
        labels_of(tmp_path)


@pytest.mark.parametrize(
    'category, message',
    [
        (
            {'id': 7, 'name': 'apple '},
            r"categories \d and 7 are both called 'apple' \(\d+ and 1 annotations\): give them",
        ),
        ({'id': 7, 'name': None}, 'category 7 has name None; expected a text'),
        ({'id': 1, 'name': 'plum'}, 'two categories have the same id, 1'),
    ],
)
def test_coco_categories_that_cannot_be_used(category, message, tmp_path):
    twelve.coco(tmp_path)
    path = tmp_path / 'annotations' / 'instances_default.json'
    content = json.loads(path.read_text())
    content['categories'].append(category)
    content['annotations'].append({**content['annotations'][0], 'id': 999, 'category_id': category['id']})
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=rf'instances_default\.json: .*{message}'):
        labels_of(tmp_path)
    with pytest.raises(
        ValueError, match=r'instances_default\.json: (expected categories of different|categories\[2\])'
    ):
        coco('x', str(path), str(tmp_path / 'images'), '{method}')  # read in place the same is refused


def test_a_category_of_which_nothing_is_may_have_the_name_of_another(tmp_path):
    """Roboflow's first category is called as the data set."""
    twelve.coco(tmp_path)
    before = labels_of(tmp_path)
    path = tmp_path / 'annotations' / 'instances_default.json'
    content = json.loads(path.read_text())
    content['categories'].insert(0, {'id': 0, 'name': content['categories'][0]['name'], 'supercategory': 'none'})
    path.write_text(json.dumps(content))
    assert labels_of(tmp_path) == before


def test_a_yolo_class_that_has_no_name(tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    (tmp_path / 'labels' / 'photo 02.txt').write_text('0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n')
    with pytest.raises(LabelError, match=r'photo 02\.txt, line 2: class 7; there are 2 classes, numbered from 0'):
        labels_of(tmp_path)


def test_names_that_differ_in_case_alone_are_asked_about(tmp_path):
    voc_file(
        tmp_path, lambda xml: xml.replace('<name>', '<name>A', 1).replace('Apear', 'Pear').replace('Aapple', 'APPLE')
    )
    with pytest.raises(LabelError, match=r'differ in case or blanks alone: .*--rename OLD=NEW'):
        check_classes(labels_of(tmp_path)[1])


def test_a_class_whose_objects_are_all_difficult(tmp_path):
    twelve.voc(tmp_path)
    for path in (tmp_path / 'labels').glob('*.xml'):
        parts = path.read_text().split('<object>')
        path.write_text('<object>'.join(p.replace('<difficult>0', '<difficult>1') if 'pear' in p else p for p in parts))
    with pytest.raises(
        LabelError, match='all objects of these classes are difficult, which training passes over: pear'
    ):
        check_classes(labels_of(tmp_path)[1])


@pytest.mark.parametrize('content', [b'<annotation', b'\xff\xfe\x00', b'<!DOCTYPE x [<!ENTITY a "b">]><annotation/>'])
def test_a_file_that_is_no_xml(content, tmp_path):
    path = voc_file(tmp_path, lambda xml: xml)
    path.write_bytes(content)
    with pytest.raises(LabelError, match=r'photo 00\.xml: (not an XML file|not a text in UTF-8|an XML file with def)'):
        labels_of(tmp_path)


def test_a_blank_line_among_yolo_names_would_shift_the_numbers(tmp_path):
    twelve.yolo_segments(tmp_path)
    names = tmp_path / 'labels' / 'classes.txt'
    names.write_text('apple\n\npear\n')
    with pytest.raises(LabelError, match=r'classes\.txt, line 2: blank, and names follow it: the number of a class'):
        labels_of(tmp_path)
    names.write_text('apple\npear\n\n \n')  # behind the last name it shifts nothing
    assert len(labels_of(tmp_path)[1]) == 12


def test_a_text_in_another_encoding_is_passed_over_unless_it_is_a_photograph_s(tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    (tmp_path / 'labels' / 'notes.txt').write_bytes('März: Äpfel\n'.encode('latin-1'))
    assert len(labels_of(tmp_path)[1]) == 12
    (tmp_path / 'labels' / 'photo 02.txt').write_bytes('März\n'.encode('latin-1'))
    with pytest.raises(LabelError, match=r'photo 02\.txt: not a text in UTF-8 .*: save it as UTF-8'):
        labels_of(tmp_path)


@pytest.mark.parametrize('write', [twelve.write_voc, twelve.write_yolo, twelve.write_labelme, twelve.write_coco])
def test_photographs_of_one_name_belong_to_the_labels_of_their_folder(write, tmp_path):
    """As exports with a folder for each split have them, where names are counted anew in each."""
    for split in ('train', 'valid'):
        twelve.write_images(tmp_path / 'images' / split)
        write(tmp_path / 'images' / split)
    (tmp_path / 'images' / 'classes.txt').write_text('apple\npear\n')
    photographs = labels_of(tmp_path)[1]
    assert [p.split for p in photographs] == ['train'] * 12 + ['val'] * 12
    assert [p.boxes for p in photographs[:12]] != [p.boxes for p in photographs[1:13]]
    each = [[[(b.name, b.left, b.top) for b in p.boxes] for p in part] for part in (photographs[:12], photographs[12:])]
    assert each[0] == each[1]


def test_nothing_tells_two_photographs_of_one_name_apart(tmp_path):
    twelve.voc(tmp_path)
    for name in ('a', 'b'):
        twelve.write_images(tmp_path / 'images' / name)
    for path in (tmp_path / 'images').glob('*.jpg'):
        path.unlink()
    with pytest.raises(LabelError, match=r"'photo 00\.jpg' may be a/photo 00\.jpg or b/photo 00\.jpg: give --images"):
        labels_of(tmp_path)


def test_links_to_folders_are_followed_and_circles_have_an_end(tmp_path):
    twelve.voc(tmp_path / 'elsewhere')
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'round').symlink_to(tmp_path / 'images')
    assert len(labels_of(tmp_path)[1]) == 12
