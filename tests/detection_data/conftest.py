"""A small data set in VOC layout."""

import pytest
from voc_folder import Folder, annotation


@pytest.fixture
def folder(tmp_path) -> Folder:
    """Two training images and one test image; classes cat and dog; the second has a difficult dog."""
    f = Folder(tmp_path / 'pets')
    f.add('a', annotation([('cat', 1, 1, 20, 30), ('dog', 11, 6, 60, 40)]))
    f.add('b', annotation([('dog', 5, 5, 25, 25, True), ('cat', 30, 10, 50, 30)]))
    f.add('c', annotation([('cat', 2, 2, 30, 30)]))
    f.split('train', 'a', 'b')
    f.split('test', 'c')
    return f
