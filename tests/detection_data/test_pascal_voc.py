"""Reading folders in VOC layout: what is accepted, what is refused, and in which words."""

import cv2
import numpy as np
import pytest
from voc_folder import annotation

from detection_data.factory import get_imdb
from detection_data.pascal_voc import AnnotationError, class_names, read_annotation, read_image_set

CLASSES = {'__background__': 0, 'cat': 1, 'dog': 2}


def read(tmp_path, xml):
    path = tmp_path / 'x.xml'
    path.write_bytes(xml if isinstance(xml, bytes) else xml.encode())
    return read_annotation(str(path), CLASSES)


def test_boxes_become_0_based_and_stay_inclusive(tmp_path):
    a = read(tmp_path, annotation([('cat', 1, 1, 60, 40), ('dog', 11, 6, 20, 30, True)], size=(60, 40)))
    assert a['boxes'].dtype == np.float32 and a['boxes'].tolist() == [[0, 0, 59, 39], [10, 5, 19, 29]]
    assert a['gt_classes'].dtype == np.int32 and a['gt_classes'].tolist() == [1, 2]
    assert a['difficult'].tolist() == [False, True]
    assert (a['width'], a['height']) == (60, 40)


def test_fractional_coordinates_are_kept(tmp_path):
    assert read(tmp_path, annotation([('cat', 1.5, 2, 10.25, 20)]))['boxes'].tolist() == [[0.5, 1, 9.25, 19]]


def test_an_image_without_objects_is_fine(tmp_path):
    a = read(tmp_path, annotation([]))
    assert a['boxes'].shape == (0, 4) and a['gt_classes'].shape == (0,) and a['difficult'].shape == (0,)


@pytest.mark.parametrize(
    'box, words',
    [
        ((5, 5, 5, 20), 'zero or negative size'),  # VOC counts a single column as width 1; we refuse it
        ((5, 20, 15, 20), 'zero or negative size'),
        ((-1, 5, 10, 20), 'outside its image (60x40'),
        ((5, 5, 61.5, 20), 'outside its image (60x40'),
        ((5, 5, 10, 42), 'outside its image (60x40'),
        ((-3, 5, 10, 20), 'outside its image (60x40'),
        (('nan', 5, 10, 20), "<xmin> is 'nan', expected a number"),
        (('inf', 5, 10, 20), "<xmin> is 'inf', expected a number"),
        (('wide', 5, 10, 20), "<xmin> is 'wide', expected a number"),
        (('', 5, 10, 20), "<xmin> is '', expected a number"),
    ],
)
def test_a_box_that_is_none_is_refused_with_file_object_and_values(tmp_path, box, words):
    with pytest.raises(AnnotationError) as e:
        read(tmp_path, annotation([('dog', 1, 1, 9, 9), ('cat', *box)]))
    assert words in str(e.value)
    assert 'x.xml: object 2 (cat)' in str(e.value)
    assert 'take the image out of ImageSets/Main' in str(e.value)


def test_an_unknown_class_is_refused_and_the_known_ones_are_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"object 1 is of class 'cow'; .*: cat, dog;"):
        read(tmp_path, annotation([('cow', 1, 1, 9, 9)]))


def test_the_background_is_no_class_of_an_object(tmp_path):
    with pytest.raises(AnnotationError, match='__background__'):
        read(tmp_path, annotation([('__background__', 1, 1, 9, 9)]))


@pytest.mark.parametrize(
    'xml, words',
    [
        ('<annotation><object>', 'malformed XML'),
        ('', 'malformed XML'),
        ('<html></html>', 'expected <annotation>'),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', 'DOCTYPE'),
        ('<annotation/>'.encode('utf-16'), 'DOCTYPE or is not plain'),
        (b'\x89PNG\r\n\x1a\n\xff\xff', 'malformed XML'),
        ('<annotation><object><name>cat</name></object></annotation>', 'no <bndbox>'),
    ],
)
def test_a_file_that_is_no_annotation_is_refused(tmp_path, xml, words):
    with pytest.raises(AnnotationError, match=words):
        read(tmp_path, xml)


def test_a_missing_annotation_is_named(folder):
    folder.split('train', 'a', 'ghost')
    with pytest.raises(AnnotationError, match=r'ghost\.xml: no such annotation file'):
        get_imdb(f'folder:{folder.root}:train').annotation(1)


@pytest.mark.parametrize('size', [None, (0, 0), ('x', 'y')])
def test_the_size_is_measured_where_the_annotation_does_not_say(folder, size):
    folder.add('n', annotation([('cat', 1, 1, 9, 9)], size=size), size=(33, 22))
    folder.split('train', 'n')
    assert get_imdb(f'folder:{folder.root}:train').image_size(0) == (33, 22)


def test_an_unreadable_image_is_named_when_its_size_is_needed(folder):
    folder.add('n', annotation([], size=None))
    (folder.root / 'JPEGImages' / 'n.jpg').write_bytes(b'no picture')
    folder.split('train', 'n')
    with pytest.raises(ValueError, match=r'n\.jpg: cannot be read as an image: not an image of a known kind'):
        get_imdb(f'folder:{folder.root}:train').image_size(0)


@pytest.mark.parametrize('extension', ['.jpg', '.jpeg', '.png', '.bmp', '.JPG'])
def test_images_are_found_by_any_usual_extension(folder, extension):
    (folder.root / 'JPEGImages' / 'a.jpg').unlink()
    folder.add('a', extension=extension)
    path = get_imdb(f'folder:{folder.root}:train').image_path_at(0)
    assert path.endswith('a' + extension) and cv2.imread(path) is not None


def test_a_missing_image_is_named_with_what_to_do(folder):
    (folder.root / 'JPEGImages' / 'b.jpg').unlink()
    with pytest.raises(AnnotationError, match=r"image 'b' not found: .*ImageSets/Main/train\.txt"):
        get_imdb(f'folder:{folder.root}:train').image_path_at(1)


def test_image_sets(folder):
    assert read_image_set(str(folder.root), 'train') == ['a', 'b']
    (folder.root / 'ImageSets/Main/kit.txt').write_text('a  1\n\nb -1\n')  # the kit's own files have a flag
    assert read_image_set(str(folder.root), 'kit') == ['a', 'b']
    with pytest.raises(FileNotFoundError, match=r"image set 'val' not found: .*splits there: kit, test, train"):
        read_image_set(str(folder.root), 'val')
    folder.split('twice', 'a', 'b', 'a')
    with pytest.raises(ValueError, match="'a' is given twice"):
        read_image_set(str(folder.root), 'twice')
    folder.split('none')
    with pytest.raises(ValueError, match='names no image'):
        read_image_set(str(folder.root), 'none')


def test_names_of_images_may_have_spaces(folder):
    for name in ('my photo 1', 'my photo 2', 'photo 1', 'photo 0'):
        folder.add(name)
    folder.split('own', 'my photo 1', 'my photo 2', 'photo 1', 'photo 0')
    assert read_image_set(str(folder.root), 'own') == ['my photo 1', 'my photo 2', 'photo 1', 'photo 0']


def test_lists_may_begin_with_a_byte_order_mark_and_are_utf_8(folder):
    split = folder.root / 'ImageSets/Main/own.txt'
    split.write_bytes('\ufeffa\nb\n'.encode())
    assert read_image_set(str(folder.root), 'own') == ['a', 'b']
    (folder.root / 'classes.txt').write_bytes('\ufeffcat\ndog\n'.encode())
    assert class_names(str(folder.root)) == ['cat', 'dog']
    for path, read in ((split, lambda root: read_image_set(root, 'own')), (folder.root / 'classes.txt', class_names)):
        path.write_bytes('cät\n'.encode('latin-1'))
        with pytest.raises(ValueError, match=rf'{path.name}: not a text in UTF-8 .*save it as UTF-8'):
            read(str(folder.root))


def test_classes_come_from_classes_txt_or_from_all_annotations_sorted(folder):
    folder.add('d', annotation([('ant', 1, 1, 9, 9)]))  # in no split, but in the folder
    assert class_names(str(folder.root)) == ['ant', 'cat', 'dog']
    (folder.root / 'classes.txt').write_text('dog\ncat\n\n')
    assert class_names(str(folder.root)) == ['dog', 'cat']
    (folder.root / 'classes.txt').write_text('__background__\ndog\ncat\n')
    assert class_names(str(folder.root)) == ['dog', 'cat']


@pytest.mark.parametrize('text', ['', 'cat\ncat\n', 'cat\n../dog\n'])
def test_a_class_list_that_cannot_be_used_is_refused(folder, text):
    (folder.root / 'classes.txt').write_text(text)
    with pytest.raises(ValueError, match=r'classes\.txt|cannot be used in a file name'):
        class_names(str(folder.root))
