"""Which images the words after --images mean."""

import os

import pytest

from detection_data.image_list import listed_images


@pytest.fixture
def photos(tmp_path):
    for name in ('a.jpg', 'b.PNG', 'notes.md', '._a.jpg', 'sub/c.jpeg', 'sub/Thumbs.db', '.hidden/d.jpg', 'odd[1].jpg'):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')
    return tmp_path / 'photos'


def names(photos, *words):
    return [os.path.relpath(path, photos) for path in listed_images([str(word) for word in words])]


def test_a_folder_is_all_images_in_it_and_below(photos):
    assert names(photos, photos) == ['a.jpg', 'b.PNG', 'odd[1].jpg', 'sub/c.jpeg']


def test_a_pattern_that_the_shell_has_left_alone(photos):
    assert names(photos, photos / '*.jpg') == ['a.jpg', 'odd[1].jpg']
    assert names(photos, photos / '**' / '*.jp*g') == ['a.jpg', 'odd[1].jpg', 'sub/c.jpeg']


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos):
    assert names(photos, photos / 'odd[1].jpg') == ['odd[1].jpg']


def test_a_list_is_relative_to_its_own_folder(photos):
    text = photos / 'mine.txt'
    text.write_text('\ufeff# the good ones\nsub\n\na.jpg \n' + str(photos / 'b.PNG') + '\n')
    assert names(photos, text) == ['sub/c.jpeg', 'a.jpg', 'b.PNG']


def test_an_image_named_twice_is_taken_once(photos):
    assert names(photos, photos / 'b.PNG', photos, photos / 'sub' / '..' / 'a.jpg') == [
        'b.PNG', 'a.jpg', 'odd[1].jpg', 'sub/c.jpeg'
    ]  # fmt: skip


def test_what_is_not_there_is_named(photos, tmp_path):
    (tmp_path / 'empty').mkdir()
    text = photos / 'list.txt'
    for word, said in (
        ('nowhere.jpg', r'there is no file nowhere\.jpg'),
        (photos / '*.tif', r'no image is called .*\*\.tif$'),
        (photos / '*.md', r'no image is called .*\*\.md: 1 other files are'),
        (tmp_path / 'empty', r'empty: no image in this folder or below it'),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=said):
            names(photos, word)
    for content, said in (
        (b'a.jpg\n\nx.jpg\n', r'list\.txt, line 3: there is no file .*x\.jpg'),
        (b'# nothing\n', r'list\.txt: it lists no image'),
        (b'list.txt\n', r'list\.txt, line 1: list\.txt is a list itself'),
        (b'\xff\xfe\x00', r'list\.txt: a list of images is a text in UTF-8'),
        (b'a\x00b.jpg\n', r'list\.txt, line 1: '),
    ):
        text.write_bytes(content)
        with pytest.raises((FileNotFoundError, ValueError), match=said):
            names(photos, text)
