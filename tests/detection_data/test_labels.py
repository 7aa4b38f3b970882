"""What labels are accepted, put right or refused, in every format alike, and that the checker and training agree."""

import json

import cv2
import numpy as np
import pytest
from voc_folder import annotation

from detection_data.factory import get_imdb
from detection_data.findings import look_at
from detection_data.labels import AnnotationError, flag_value
from detection_data.proposals import write_proposals
from fast_rcnn.config import cfg
from roi_data_layer.roidb import Roidb


def with_flags(**flags):
    """A VOC annotation of a cat with these elements, a line each from line 5 on."""
    lines = ['<annotation>', '<size><width>60</width><height>40</height></size>', '<object>', '<name>cat</name>']
    lines += [f'<{tag}>{text}</{tag}>' for tag, text in flags.items()]
    box = '<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>'
    return '\n'.join([*lines, box, '</object>', '</annotation>'])


def voc(folder, xml, **kwargs):
    folder.add('a', xml, **kwargs)
    folder.split('train', 'a')
    (folder.root / 'classes.txt').write_text('cat\ndog\n')
    return get_imdb(f'folder:{folder.root}:train')


def checked(folder):
    report = look_at(f'folder:{folder.root}:train', 'gt')
    return report, dict(report.counts)


@pytest.fixture
def coco_set(tmp_path):
    """coco_set(boxes, images={}, categories=[...]): a set in COCO's format of one image of 200 x 100."""

    def make(*annotations, image=(), categories=({'id': 7, 'name': 'cat'}, {'id': 3, 'name': 'dog'}), check=False):
        cv2.imwrite(str(tmp_path / 'p.png'), np.zeros((100, 200, 3), np.uint8))
        tree = {
            'images': [{'id': 1, 'file_name': 'p.png', 'width': 200, 'height': 100, **dict(image)}],
            'categories': list(categories),
            'annotations': [{'id': k, 'image_id': 1, 'category_id': 7, **a} for k, a in enumerate(annotations, 1)],
        }
        tree['images'][0] = {key: value for key, value in tree['images'][0].items() if value is not None}
        (tmp_path / 'l.json').write_text(json.dumps(tree))
        name = f'coco:{tmp_path}/l.json:{tmp_path}'
        return look_at(name, 'gt') if check else get_imdb(name)

    return make


# ---------------------------------------------------------------------- flags


@pytest.mark.parametrize('value', [None, '', ' ', '0', 0, 0.0, '0.0', False, 'False', 'no', 'N', 'Unspecified', 'none'])
def test_what_means_no(value):
    assert flag_value(value) is False


@pytest.mark.parametrize('value', ['1', 1, 1.0, '1.0', True, 'True', 'yes', 'Y', 't'])
def test_what_means_yes(value):
    assert flag_value(value) is True


@pytest.mark.parametrize('value', ['maybe', '2', -1, 'nan', '0.5', [], 'inf'])
def test_what_means_nothing(value):
    assert flag_value(value) is None


def test_truncated_and_occluded_may_be_shares_or_levels():
    assert flag_value('0.35', share=True) is True and flag_value('3', share=True) is True
    assert flag_value('-1', share=True) is None


@pytest.mark.parametrize('text', ['False', 'no', '0.0', 'Unspecified', ''])
def test_an_object_that_is_not_difficult_is_trained_on(folder, text):
    data = voc(folder, with_flags(truncated='Unspecified', difficult=text))
    assert data.annotation(0)['difficult'].tolist() == [False]
    assert checked(folder)[1] == {'empty class': 1}  # the dog


@pytest.mark.parametrize('tag, text', [('difficult', 'perhaps'), ('truncated', 'left'), ('occluded', '-1')])
def test_a_flag_that_means_nothing_is_named_with_file_and_line(folder, tag, text):
    flags = {'pose': 'x', 'difficult': '0', tag: text}
    data = voc(folder, with_flags(**flags))
    line = 5 + list(flags).index(tag)
    said = rf"a\.xml, line {line}: object 1: {tag} is '{text}', which means neither yes nor no; expected 0 or 1"
    with pytest.raises(AnnotationError, match=said):
        data.annotation(0)
    report, counts = checked(folder)
    assert counts['flag'] == 1 and report.refused and f'line {line}' in report.places['flag'][0]


@pytest.mark.parametrize('value, crowd', [('0', False), ('False', False), (None, False), ('1', True), (True, True)])
def test_iscrowd_is_read_for_what_it_means(coco_set, value, crowd):
    assert coco_set({'bbox': [1, 2, 30, 40], 'iscrowd': value}).annotation(0)['crowd'].tolist() == [crowd]


def test_iscrowd_that_means_nothing(coco_set):
    broken = {'bbox': [1, 2, 30, 40], 'iscrowd': 'maybe'}
    with pytest.raises(AnnotationError, match=r"annotation 1 of image 1: iscrowd is 'maybe'"):
        coco_set(broken).annotation(0)
    assert coco_set(broken, check=True).counts['flag'] == 1


# ---------------------------------------------------------------------- nothing to learn


@pytest.fixture
def trained_on(monkeypatch):
    """trained_on(data): its training set, of the objects alone."""

    def call(data):
        data.set_proposal_method('gt')
        monkeypatch.setattr(cfg.TRAIN, 'USE_FLIPPED', False)
        monkeypatch.setattr(cfg.TRAIN, 'BG_THRESH_LO', 0.0)
        return Roidb(data)

    return call


def test_a_class_whose_objects_are_all_difficult_is_said(folder, trained_on, capsys):
    voc(folder, annotation([('cat', 1, 1, 20, 30), ('dog', 11, 6, 60, 40, True), ('dog', 5, 5, 9, 9, True)]))
    trained_on(get_imdb(f'folder:{folder.root}:train'))
    assert 'all 2 objects of class dog are difficult, or crowds: it is not learned' in capsys.readouterr().out
    report, counts = checked(folder)
    assert counts == {'all difficult': 1} and report.places['all difficult'] == ['dog: 2 objects']
    assert not report.refused


def test_a_class_without_objects_is_said(folder, trained_on, capsys):
    voc(folder, annotation([('cat', 1, 1, 20, 30)]))
    trained_on(get_imdb(f'folder:{folder.root}:train'))
    assert 'no object of class dog: not learned' in capsys.readouterr().out
    assert checked(folder)[1] == {'empty class': 1}


def test_a_set_without_objects_is_refused(folder, monkeypatch):
    data = voc(folder, annotation([]))
    write_proposals(str(folder.root / 'proposals' / 'random_train.h5'), ['a'], [np.array([[0, 0, 30, 30]])], 'random')
    data.set_proposal_method('random')
    monkeypatch.setattr(cfg.TRAIN, 'BG_THRESH_LO', 0.0)
    with pytest.raises(ValueError, match='no object in any of its images: there is nothing to learn but background'):
        Roidb(data)
    report, counts = checked(folder)
    assert counts['nothing to learn'] == 1 and report.refused


def test_a_set_whose_objects_are_all_difficult_is_refused(folder, trained_on):
    voc(folder, annotation([('dog', 11, 6, 60, 40, True)]))
    with pytest.raises(ValueError, match='all of its 1 objects are difficult, or crowds: there is nothing to learn'):
        trained_on(get_imdb(f'folder:{folder.root}:train'))
    report, counts = checked(folder)
    assert counts['nothing to learn'] == 1 and report.refused


# ---------------------------------------------------------------------- boxes


@pytest.mark.parametrize('box, kept', [((0, 0, 20, 30), [0, 0, 19, 29]), ((5, 5, 61, 41), [4, 4, 59, 39])])
def test_a_box_past_the_border_by_a_pixel_is_cut_and_said_once(folder, box, kept):
    data = voc(folder, annotation([('cat', *box), ('cat', 2, 2, 9, 9)]))
    assert data.annotation(0)['boxes'][0].tolist() == kept
    (line,) = data.put_right()
    assert f'box {box} (xmin, ymin, xmax, ymax) lies outside its image (60x40' in line and 'in 1 of its images' in line
    data.annotation(0)
    assert data.put_right() == []
    report, counts = checked(folder)
    assert sum(counts.get(kind, 0) for kind in ('clipped', 'begins at 0')) == 1 and not report.refused


def test_a_coco_box_past_the_border_by_a_pixel_is_cut_and_said(coco_set):
    data = coco_set({'bbox': [150, 50, 51, 50.5]})
    assert data.annotation(0)['boxes'].tolist() == [[150, 50, 199, 99]]
    assert 'box (150, 50, 51, 50.5) (x, y, width, height) lies outside its image (200x100)' in data.put_right()[0]
    with pytest.raises(AnnotationError, match=r'box \(150, 50, 51\.5, 50\)'):
        coco_set({'bbox': [150, 50, 51.5, 50]}).annotation(0)


def test_boxes_from_0_to_1_are_told_from_pixels(coco_set, folder):
    relative = {'bbox': [0.25, 0.5, 0.5, 0.25]}
    with pytest.raises(
        AnnotationError, match=r'lies between 0 and 1: in shares of the image\? Expected pixels, of 200x100'
    ):
        coco_set(relative).annotation(0)
    assert coco_set(relative, check=True).counts['relative'] == 1
    with pytest.raises(AnnotationError, match=r'shares of the image\? Expected pixels, of 60x40'):
        voc(folder, annotation([('cat', 0.1, 0.2, 0.5, 0.9)])).annotation(0)


def test_the_box_around_a_polygon_or_a_rotated_box_is_taken_and_said(coco_set, folder):
    data = coco_set({'segmentation': [[10, 20, 40, 20, 30, 60]]}, {'bbox': [], 'segmentation': [[1, 1, 9, 1, 9, 9]]})
    assert data.annotation(0)['boxes'].tolist() == [[10, 20, 39, 59], [1, 1, 8, 8]]
    assert 'its bounding box is (10, 20, 30, 40)' in data.put_right()[0]
    # a quarter turn: 20 wide and 10 high becomes 10 wide and 20 high about (30, 20)
    rotated = '<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle></robndbox>'
    polygon = '<polygon><x1>5</x1><y1>6</y1><x2>9</x2><y2>6</y2><x3>9</x3><y3>30</y3></polygon>'
    points = '<polygon><pt><x>5</x><y>6</y></pt><pt><x>9</x><y>6</y></pt><pt><x>9</x><y>30</y></pt></polygon>'
    objects = ''.join(f'<object><name>cat</name>{box}</object>' for box in (rotated, polygon, points))
    data = voc(folder, f'<annotation><size><width>60</width><height>40</height></size>{objects}</annotation>')
    expected = [[24, 9, 34, 29], [4, 5, 8, 29], [4, 5, 8, 29]]
    np.testing.assert_allclose(data.annotation(0)['boxes'], expected, atol=1e-5)
    assert 'bounding box' in data.put_right()[0]


# ---------------------------------------------------------------------- classes


def test_class_names_that_differ_in_case_or_blanks_alone_are_asked_about(folder, coco_set):
    folder.add('a', annotation([('Traffic Light', 1, 1, 20, 30), ('traffic light', 11, 6, 60, 40)]))
    folder.split('train', 'a')
    said = "the classes 'Traffic Light' and 'traffic light' differ in case or blanks alone. Are they one?"
    with pytest.raises(ValueError, match=said):
        get_imdb(f'folder:{folder.root}:train')
    report, _ = checked(folder)
    assert said in report.places['set'][0]
    (folder.root / 'classes.txt').write_text('Traffic Light\ntraffic light\n')  # they are two
    assert get_imdb(f'folder:{folder.root}:train').annotation(0)['gt_classes'].tolist() == [1, 2]
    with pytest.raises(ValueError, match="'cat' and 'Cat' differ in case"):
        coco_set(categories=[{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'Cat'}])


def test_an_unlisted_class_that_is_nearly_a_listed_one(folder):
    with pytest.raises(AnnotationError, match="of class 'Cat', which differs from 'cat' in case or blanks alone"):
        voc(folder, annotation([('Cat', 1, 1, 20, 30)])).annotation(0)


def test_the_background_is_no_category(coco_set):
    categories = [{'id': 0, 'name': '__background__'}, {'id': 7, 'name': ' cat '}]
    assert coco_set({'bbox': [1, 1, 9, 9]}, categories=categories).classes == ('__background__', 'cat')
    with pytest.raises(ValueError, match=r'1 annotations are of the category __background__, which is no class'):
        coco_set({'bbox': [1, 1, 9, 9], 'category_id': 0}, categories=categories)


# ---------------------------------------------------------------------- ids, sizes and files


def test_ids_may_be_texts_and_come_back_as_they_were(coco_set, tmp_path):
    data = coco_set(
        {'image_id': 'img-α', 'category_id': 'c', 'bbox': [1, 2, 30, 40]},
        {'image_id': 'img-α', 'category_id': '12', 'bbox': [1, 2, 30, 40]},
        image={'id': 'img-α'},
        categories=[{'id': 'c', 'name': 'cat'}, {'id': '12', 'name': 'dog'}],
    )
    assert data.image_index == ['img-α'] and data.annotation(0)['gt_classes'].tolist() == [1, 2]
    found = [[], [np.array([[1, 2, 30, 41, 0.9]])], [np.array([[1, 2, 30, 41, 0.8]])]]
    assert data.evaluate_detections(found, str(tmp_path / 'out'), quiet=True)['AP'] == pytest.approx(1)
    written = json.loads((tmp_path / 'out' / 'detections_l_results.json').read_text())
    assert [(row['image_id'], row['category_id']) for row in written] == [('img-α', 'c'), ('img-α', 12)]


def test_a_size_that_the_file_does_not_state_is_measured_and_said(coco_set):
    data = coco_set({'bbox': [150, 50, 50, 50]}, image={'width': None, 'height': None})
    assert data.image_size(0) == (200, 100) and data.annotation(0)['boxes'].tolist() == [[150, 50, 199, 99]]
    assert 'states no size: measured' in data.put_right()[0]
    report = coco_set({'bbox': [150, 50, 60, 50]}, image={'width': None, 'height': None}, check=True)
    assert report.counts['no size'] == 1 and report.counts['out of frame'] == 1


def test_separators_of_windows_and_the_case_of_a_name(coco_set, tmp_path):
    (tmp_path / 'Sub').mkdir()
    cv2.imwrite(str(tmp_path / 'Sub' / 'q.PNG'), np.zeros((100, 200, 3), np.uint8))
    assert coco_set(image={'file_name': 'Sub\\q.png'}).image_path_at(0) == str(tmp_path / 'Sub' / 'q.PNG')
    with pytest.raises(AnnotationError, match=r'there is no .*/none\.png'):
        coco_set(image={'file_name': 'none.png'}).image_path_at(0)


@pytest.mark.parametrize('extension', ['.Jpg', '.tif', '.TIFF', '.webp', '.Png', '.gif'])
def test_images_of_any_usual_kind_in_any_case(folder, extension):
    folder.split('train', 'sub/a')
    (folder.root / 'JPEGImages' / 'sub').mkdir()
    (folder.root / 'Annotations' / 'sub').mkdir()
    image = np.full((40, 60, 3), (10, 120, 230), np.uint8)
    kind = '.png' if extension == '.gif' else extension.lower()
    (folder.root / 'JPEGImages' / 'sub' / f'a{extension}').write_bytes(cv2.imencode(kind, image)[1].tobytes())
    (folder.root / 'Annotations' / 'sub' / 'a.xml').write_text(annotation([('bird', 1, 1, 20, 30)]))
    data = get_imdb(f'folder:{folder.root}:train')
    assert data.image_path_at(0).endswith('a' + extension)
    assert data.classes[1:] == ('bird', 'cat', 'dog')  # annotations in folders count too
    assert data.annotation(0)['gt_classes'].tolist() == [1]


def test_a_missing_image_is_told_with_the_path_that_was_tried(folder):
    data = voc(folder, annotation())
    (folder.root / 'JPEGImages' / 'a.jpg').unlink()
    with pytest.raises(AnnotationError, match=r'there is no .*/JPEGImages/a with any of \.jpg, .*\.webp'):
        data.image_path_at(0)
    report, counts = checked(folder)
    assert counts['no image'] == 1 and '/JPEGImages/a with any of .jpg' in report.places['no image'][0]


def test_what_a_system_leaves_about_is_passed_over(folder):
    (folder.root / 'Annotations' / '._a.xml').write_bytes(b'\x00\x05\x16\x07')
    (folder.root / 'Annotations' / '.DS_Store').write_bytes(b'\x00')
    (folder.root / 'Annotations' / '.hidden').mkdir()
    (folder.root / 'Annotations' / '.hidden' / 'x.xml').write_text('no annotation')
    folder.split('train', '._a', 'a', '.DS_Store', 'b', 'Thumbs.db')
    data = get_imdb(f'folder:{folder.root}:train')
    assert data.image_index == ['a', 'b'] and data.classes[1:] == ('cat', 'dog')
    assert not look_at(f'folder:{folder.root}:train', 'gt').counts


@pytest.mark.parametrize('content', [b'\x89PNG\r\n\x1a\n\xff\xfe', b'a\0b\n' * 9])
@pytest.mark.parametrize('name', ['classes.txt', 'ImageSets/Main/train.txt'])
def test_a_binary_file_where_a_list_is_expected(folder, name, content):
    (folder.root / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'{name}: not a text'):
        get_imdb(f'folder:{folder.root}:train')
