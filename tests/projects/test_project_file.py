"""project.yml as it may be found, and which of the trained models is tested."""

import os

import pytest
import yaml

from projects.photographs import Box, Photograph
from projects.project import ProjectError, iterations_for, load_project, too_thin

RIGHT = {
    'name': 'fruit', 'net': 'small', 'classes': ['apple', 7], 'images': 'x', 'labels': 'y', 'seed': 3,
    'iterations': 100, 'photographs': {'train': 3},
}  # fmt: skip


def project_in(folder, content=RIGHT):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / 'project.yml').write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_project(str(folder))


def test_a_project_as_it_should_be(tmp_path):
    project = project_in(tmp_path)
    assert project.classes == ('apple', '7') and project.splits == ['train']
    (tmp_path / 'fruit_train.json').touch()
    assert project.imdb('train') == f'coco:{tmp_path}/fruit_train.json:x'


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('net', ['apple'], r"net is \['apple'\]; expected the name of a net"),
        ('net', 'VGG19', "there is no net 'VGG19'; there are: small"),
        ('seed', 'apple ' * 999, r"seed is 'apple .{10,60}\.\.\.; expected a whole number"),
        ('seed', True, 'seed is True'),
        ('iterations', '100', "iterations is '100'; expected a whole number above 0"),
        ('iterations', 0, 'iterations is 0'),
        ('photographs', 'small', "photographs is 'small'; expected a whole number for each split"),
        ('photographs', {'train': 'x'}, 'photographs is {'),
        ('photographs', {3: 3}, 'photographs is {'),
        ('classes', 'small', "classes is 'small'; expected a list of names"),
        ('classes', [None], r'classes is \[None\]'),
        ('images', None, 'images is None; expected a folder'),
        ('name', {}, 'name is {}; expected a text'),
        ('more', 1, "unknown key 'more'; there are: name, net"),
        (3, 1, 'unknown key 3'),
    ],
)
def test_a_value_that_cannot_be_used_is_named(key, value, message, tmp_path):
    with pytest.raises(ProjectError, match=rf'project\.yml: {message}'):
        project_in(tmp_path, {**RIGHT, key: value})


@pytest.mark.parametrize('key', RIGHT)
def test_a_missing_key_is_named(key, tmp_path):
    with pytest.raises(ProjectError, match=rf'project\.yml: {key} missing: correct it, or make the project anew'):
        project_in(tmp_path, {k: v for k, v in RIGHT.items() if k != key})


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'it is empty; expected the keys name, net'),
        ('- a', r"it holds \['a'\]; expected"),
        ('a: [', 'not the description'),
        ('a: 2001-99-99', 'not the description'),
        ('a: !!int ""', 'not the description'),
        ('a: !!timestamp x', 'not the description'),
        ('? [a]\n: 3', 'not the description'),
    ],
)
def test_a_text_that_describes_no_project(text, message, tmp_path):
    with pytest.raises(ProjectError, match=rf'project\.yml: {message}'):
        project_in(tmp_path, text)


def test_missing_labels_of_a_split(tmp_path):
    with pytest.raises(ProjectError, match=r'there is no .*fruit_train\.json, .* split train: make the project anew'):
        project_in(tmp_path).imdb('train')


@pytest.mark.parametrize('count, iterations', [(1, 1400), (175, 1400), (253, 2000), (5011, 40000), (10**6, 40000)])
def test_the_first_number_of_iterations_grows_with_the_photographs(count, iterations):
    assert iterations_for(count) == iterations


def test_photographs_too_thin_to_scale_are_found():
    box = Box('apple', 10, 0, 60, 1, False, '')
    whole, thin = (Photograph(f'{w}x{h}.jpg', w, h, (box,)) for w, h in ((400, 300), (4000, 1)))
    assert too_thin([whole, whole, thin], 'small') == ['4000x1.jpg (4000x1)']
    assert too_thin([whole, whole], 'small') == []


def trained(folder, *names):
    """Models of these names, each a second newer than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        (folder / name).touch()
        os.utime(folder / name, (1000 + k, 1000 + k))


@pytest.mark.parametrize(
    'there, expected',
    [
        (['ohem_iter_5000.caffemodel', 'ohem_iter_100.caffemodel'], 'ohem_iter_100.caffemodel'),
        (
            ['ohem_best_of_earlier_run.caffemodel', 'ohem_iter_5000.caffemodel', 'ohem_iter_100.caffemodel'],
            'ohem_iter_100.caffemodel',
        ),
        (['ohem_best.caffemodel', 'ohem_iter_100.caffemodel'], 'ohem_best.caffemodel'),
        (['ohem_x_best.caffemodel', 'ohem_x_iter_9.caffemodel', 'ohem_iter_1.caffemodel'], 'ohem_iter_1.caffemodel'),
        (['ohem_best.caffemodel'], 'ohem_best.caffemodel'),
        (['ohem_iter_100.caffemodel', 'ohem_resume_iter_200.caffemodel'], 'ohem_iter_100.caffemodel'),
    ],
)
def test_the_model_to_test_is_of_the_last_run(there, expected, tmp_path):
    project = project_in(tmp_path / 'fruit')
    (tmp_path / 'fruit' / 'ohem').mkdir()
    (tmp_path / 'fruit' / 'ohem' / 'solver.prototxt').write_text('snapshot_prefix: "ohem"\n')
    trained(tmp_path / 'out', *there)
    assert project.model_to_test(str(tmp_path / 'out'), 'ohem') == str(tmp_path / 'out' / expected)


def test_a_model_of_another_method_is_named(tmp_path):
    project = project_in(tmp_path / 'fruit')
    for method in ('ohem', 'faster'):
        (tmp_path / 'fruit' / method).mkdir()
        (tmp_path / 'fruit' / method / 'solver.prototxt').write_text(f'snapshot_prefix: "{method}"\n')
    output = str(tmp_path / 'output' / 'fruit' / 'ohem' / 'fruit_train')
    with pytest.raises(ProjectError, match=r'the method ohem yet: tools/train_net\.py --project'):
        project.model_to_test(output, 'ohem')
    with pytest.raises(ProjectError, match=r'train_net\.py --project \w+ --method ohem --run c makes one'):
        project.model_to_test(output, 'ohem', 'c')
    trained(tmp_path / 'output' / 'fruit' / 'faster' / 'fruit_train', 'faster_iter_2.caffemodel')
    with pytest.raises(ProjectError, match=r'ohem yet: there is one of: faster \(--method faster\); tools/train_net'):
        project.model_to_test(output, 'ohem')
