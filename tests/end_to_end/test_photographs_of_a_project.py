"""tools/new_project.py: what --images and --labels may name, and where labels are looked for."""

import json
import sys

import pytest
from commands import ROOT, run

sys.path.append(str(ROOT / 'tests' / 'projects'))
import twelve


def new_project(folder, *flags, status=0):
    done = run(ROOT / 'tools' / 'new_project.py', *flags, cwd=folder, status=status)
    return done.stdout if status == 0 else done.stderr


def files_of(folder, name):
    """What the project's labels call its photographs."""
    stored = [json.loads(path.read_text()) for path in (folder / 'projects' / name).glob('*.json')]
    return sorted(image['file_name'] for part in stored for image in part['images'])


def stems(*numbers):
    return [f'photo {k:02d}.jpg' for k in numbers]


def test_folders_files_patterns_and_lists(tmp_path):
    twelve.voc(tmp_path)
    (tmp_path / 'some.txt').write_text('images/photo 03.jpg\n# not this: photo 04\nimages/photo 0[78].jpg\n')
    cases = {
        'a': (['images/photo 00.jpg', 'images/photo 01.jpg'], stems(0, 1)),
        'b': (['images/photo 1?.jpg'], stems(10, 11)),
        'c': (['some.txt'], stems(3, 7, 8)),
        'd': (['images/', 'images'], stems(*range(12))),
    }
    for name, (words, expected) in cases.items():
        said = new_project(tmp_path, name, '--images', *words, '--labels', 'labels')
        assert f'Found {len(expected)} photographs, {len(expected)} of them labelled' in said
        assert files_of(tmp_path, name) == expected


def test_several_folders_may_be_labelled_by_several_tools(tmp_path):
    twelve.voc(tmp_path / 'first')
    twelve.yolo_segments(tmp_path / 'second')
    said = new_project(tmp_path, 'both', '--images', 'first', 'second')
    assert 'Found 24 photographs, 24 of them labelled (PASCAL VOC XML' in said and '; YOLO text files' in said
    of_first, of_second = ([f'{part}/images/{name}' for name in stems(*range(12))] for part in ('first', 'second'))
    assert files_of(tmp_path, 'both') == of_first + of_second


def test_folders_of_a_split_named_one_by_one_are_kept(tmp_path):
    for split in ('train', 'valid', 'test'):
        twelve.write_images(tmp_path / split)
        twelve.write_coco(tmp_path / split, '_annotations.coco.json')
    said = new_project(tmp_path, 'fruit', '--images', 'train', 'valid', 'test')
    assert 'The split is that of the folders train, val and test' in said


@pytest.mark.parametrize('layout, images', [(twelve.voc, 'images'), (twelve.voc_kit, 'images/JPEGImages')])
def test_labels_in_the_folder_beside_are_found_and_said(layout, images, tmp_path):
    layout(tmp_path)
    beside = {'images': 'labels', 'images/JPEGImages': 'images/Annotations'}[images]
    said = new_project(tmp_path, 'fruit', '--images', images)
    assert f'The labels are looked for in {beside} (--labels says otherwise)' in said
    assert 'Found 12 photographs, 12 of them labelled' in said


def test_one_photograph_and_one_without_labels_are_counted_in_words(tmp_path):
    twelve.voc(tmp_path)
    for path in list((tmp_path / 'labels').glob('*.xml'))[2:]:
        path.unlink()
    left = sorted(path.stem for path in (tmp_path / 'labels').glob('*.xml'))
    alone = f'images/{left[0]}.jpg'
    bare = next(name for name in stems(*range(12)) if name[:-4] not in left)
    said = new_project(tmp_path, 'fruit', '--images', alone, f'images/{bare}')
    assert 'Found 2 photographs, 1 of them labelled' in said
    assert f'1 photograph without labels is left out, which is {bare}\n' in said
    readme = (tmp_path / 'projects' / 'fruit' / 'README.md').read_text()
    assert '\n1 photograph (1 to train on), labelled in' in readme


def test_what_is_not_there_is_named(tmp_path):
    twelve.voc(tmp_path)
    twelve.write_images(tmp_path / 'bare')
    for flags, words in (
        (['x', '--images', 'nowhere'], 'there is no folder and no file nowhere (--images)'),
        (['x', '--images', 'images/*.png'], 'no image is called images/*.png'),
        (['--images', 'images', 'x'], 'the name of the project is missing: it goes first, as in new_project.py fruit'),
        (['x', '--images', 'bare', '--labels', 'labels', 'nowhere'], 'nowhere: there is no such file or folder'),
        (['x', '--images', 'bare', '--labels', 'bare'], 'bare: no labels found; looked for: PASCAL VOC XML'),
    ):
        said = new_project(tmp_path, *flags, status=1)
        assert said.startswith('new_project.py: error: ') and words in said and said.count('\n') == 1
    assert not (tmp_path / 'projects').exists()


def test_all_label_files_that_cannot_be_used_are_counted(tmp_path):
    twelve.voc(tmp_path)
    for k in (1, 3, 5, 7):
        (tmp_path / 'images' / f'photo 0{k}.jpg').unlink()
    wrong = tmp_path / 'labels' / 'photo 09.xml'
    wrong.write_text(wrong.read_text().replace('<difficult>0', '<difficult>perhaps'))
    said = new_project(tmp_path, 'x', '--images', 'images', status=1)
    assert '5 label files cannot be used: labels/photo 01.xml: there is no image' in said
    assert '; labels/photo 05.xml: there is no image' in said and said.endswith('; and 2 more\n')


def test_many_classes_are_counted_not_listed(tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    names = [f'kind {k:03d}' for k in range(300)]
    (tmp_path / 'data.yaml').write_text(f'names: {json.dumps(names)}\n')
    for k, path in enumerate(sorted((tmp_path / 'labels').glob('*.txt'))):
        path.write_text(''.join(f'{25 * k + j} .5 .5 .2 .2\n' for j in range(25)))
    said = new_project(tmp_path, 'fruit', '--images', '.')
    assert '  kind 029: 1 object\n  and 270 classes more\n' in said and 'kind 030' not in said
    text = (tmp_path / 'projects' / 'fruit' / 'ohem' / 'train.prototxt').read_text()
    assert text.count('num_output: 301') == 2


def test_what_is_missing_without_photographs_to_validate_and_test_on_is_said(tmp_path):
    twelve.voc(tmp_path)
    for path in list(tmp_path.rglob('photo *')):
        if path.stem not in ('photo 00', 'photo 01'):
            path.unlink()
    said = new_project(tmp_path, 'fruit', '--images', 'images')
    assert 'Note: no photograph to val: the last model is taken' in said
    assert 'Note: no photograph to test: test_net.py tests on others' in said
    said = new_project(tmp_path, 'asked', '--images', 'images', '--split', '100/0/0')
    assert 'Note: no photograph to val' not in said and 'Note: no photograph to test' in said


@pytest.mark.parametrize('locale', [{}, {'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}], ids=['C', 'ascii'])
def test_names_that_the_locale_s_encoding_lacks(locale, tmp_path):
    twelve.yolo_segments(tmp_path)
    (tmp_path / 'labels' / 'classes.txt').write_text('Äpfel\nBirnen\n', encoding='utf-8')
    command = (ROOT / 'tools' / 'new_project.py', 'obst', '--images', 'images')
    said = run(*command, cwd=tmp_path, env={'LC_ALL': 'C', 'PYTHONIOENCODING': '', **locale}).stdout
    assert ('  Äpfel: 13 objects' if not locale else r'  \xc4pfel: 13 objects') in said
    stored = json.loads((tmp_path / 'projects' / 'obst' / 'obst_train.json').read_text(encoding='utf-8'))
    assert [category['name'] for category in stored['categories']] == ['Birnen', 'Äpfel']
