"""Names of data sets."""

import json
import shutil

import numpy as np
import pytest

from detection_data.factory import get_imdb, list_imdbs
from detection_data.pascal_voc import VOC_CLASSES


def test_the_voc_sets_are_listed():
    names = list_imdbs()
    assert len([name for name in names if name.startswith('voc_')]) == 6 * 4
    assert {'voc_2007_trainval', 'voc_2007_test', 'voc_2012_trainval'} <= set(names)


def test_a_near_miss_is_told_the_nearest_names():
    with pytest.raises(ValueError, match=r"unknown data set 'voc_2007_trianval'; nearest names: voc_2007_trainval"):
        get_imdb('voc_2007_trianval')


@pytest.mark.parametrize(
    'given, meant',
    [('fold:x:train', 'folder:x:train'), ('folders:x:train', 'folder:x:train'), ('cocoo:a.json:b', 'coco:a.json:b')],
)
def test_a_misspelt_kind_is_told_what_was_meant(given, meant):
    with pytest.raises(ValueError, match=f'unknown data set {given!r}; nearest names: {meant}; known are'):
        get_imdb(given)


@pytest.mark.parametrize('name', ['', 'coco', 'voc_2006_train', 'voc_2007_train+', 'folder:', 'folder:x', 'folder::s'])
def test_other_names_are_refused(name, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError)):
        get_imdb(name, data_dir=str(tmp_path))


def test_a_missing_devkit_says_where_it_was_looked_for_and_what_fetches_it(tmp_path):
    with pytest.raises(FileNotFoundError) as e:
        get_imdb('voc_2007_test', data_dir=str(tmp_path))
    message = str(e.value)
    assert str(tmp_path / 'VOCdevkit2007' / 'VOC2007') in message
    assert 'data/scripts/fetch_voc.sh 2007' in message
    with pytest.raises(FileNotFoundError) as e:
        get_imdb('voc_2008_trainval', data_dir=str(tmp_path))
    assert 'fetch_voc.sh' not in str(e.value)  # which has 2007 and 2012


@pytest.mark.parametrize('devkit', ['VOCdevkit2007', 'VOCdevkit'])
def test_voc_is_found_in_either_devkit_folder(folder, tmp_path, devkit):
    (tmp_path / 'data' / devkit).mkdir(parents=True)
    shutil.copytree(folder.root, tmp_path / 'data' / devkit / 'VOC2007')
    imdb = get_imdb('voc_2007_train', data_dir=str(tmp_path / 'data'))
    assert imdb.name == 'voc_2007_train' and imdb.num_images == 2
    assert imdb.classes == ('__background__', *VOC_CLASSES) and imdb.num_classes == 21
    assert imdb.use_07_metric
    assert imdb.proposals_path() == str(tmp_path / 'data' / 'selective_search_data' / 'voc_2007_train.h5')


def test_later_years_use_the_area(folder, tmp_path):
    shutil.copytree(folder.root, tmp_path / 'VOCdevkit2012' / 'VOC2012')
    assert not get_imdb('voc_2012_train', data_dir=str(tmp_path)).use_07_metric


def test_a_folder_set(folder):
    imdb = get_imdb(f'folder:{folder.root}:train')
    assert imdb.name == 'pets_train'
    assert imdb.classes == ('__background__', 'cat', 'dog')
    assert imdb.image_index == ['a', 'b']
    assert not imdb.use_07_metric
    assert imdb.proposals_path('random') == str(folder.root / 'proposals' / 'random_train.h5')


def test_a_folder_may_have_a_colon_a_space_or_braces_in_its_path(folder):
    odd = folder.root.parent / 'my {set}: no 1'
    folder.root.rename(odd)
    imdb = get_imdb(f'folder:{odd}:train')
    assert imdb.name == 'my__set___no_1_train'
    assert imdb.proposals_path() == str(odd / 'proposals' / 'selective_search_train.h5')


def test_a_plus_in_a_path_joins_nothing(folder):
    odd = folder.root.parent / 'cats+dogs'
    folder.root.rename(odd)
    assert get_imdb(f'folder:{odd}:train').num_images == 2
    joined = get_imdb(f'folder:{odd}:train + folder:{odd}:test')
    assert [part.spec for part in joined.parts] == [f'folder:{odd}:train', f'folder:{odd}:test']


def test_a_missing_folder_says_how_the_demo_set_is_made(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no folder .*/demo; .*make_demo_data\.py'):
        get_imdb(f'folder:{tmp_path}/demo:train')


def test_a_voc_test_set_without_ground_truth_is_written_for_the_server(folder, tmp_path):
    root = tmp_path / 'VOCdevkit2012' / 'VOC2012'
    shutil.copytree(folder.root, root)
    shutil.copy(root / 'ImageSets/Main/train.txt', root / 'ImageSets/Main/test.txt')
    shutil.rmtree(root / 'Annotations')
    voc = get_imdb('voc_2012_test', data_dir=str(tmp_path))
    nothing = [[np.zeros((0, 5))] * voc.num_images for _ in range(voc.num_classes)]
    results = voc.evaluate_detections(nothing, str(tmp_path / 'out'))
    assert voc.withheld and results['mAP'] is None
    assert json.loads((tmp_path / 'out/results.json').read_text()) == results
    assert (tmp_path / 'out/comp4_det_test_cat.txt').exists()


@pytest.mark.parametrize('labels, images', [('l.json', 'pic:tures'), ('la:bels.json', 'pictures'), ('l.json', 'a:b:c')])
def test_a_colon_in_either_path_of_a_coco_set(labels, images, tmp_path):
    (tmp_path / images).mkdir()
    (tmp_path / labels).write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], '
        '"annotations": [], "categories": [{"id": 1, "name": "cat"}]}'
    )
    data_set = get_imdb(f'coco:{tmp_path}/{labels}:{tmp_path}/{images}')
    assert data_set.num_images == 1 and data_set.proposals_path('random').endswith(f'_in_{images}.h5')
