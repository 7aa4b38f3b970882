"""From labels of any kind to a trained detector in three commands."""

import json
import re
import sys

import pytest
from commands import ROOT, run

sys.path.append(str(ROOT / 'tests' / 'projects'))
import twelve

from fast_rcnn.model_card import read_card


def new_project(folder, *flags, status=0):
    labels = next(name for name in ('labels', 'annotations', 'images') if (folder / name).is_dir())
    paths = ('--images', folder / 'images', '--labels', folder / labels)
    return run(ROOT / 'tools' / 'new_project.py', 'fruit', *paths, *flags, cwd=folder, status=status)


def content(folder):
    """What decides a training: classes, and of each split the images with their boxes."""
    splits = {}
    for split in ('train', 'val', 'test'):
        stored = json.loads((folder / 'projects' / 'fruit' / f'fruit_{split}.json').read_text())
        names = {i['id']: i['file_name'].rsplit('/', 1)[-1] for i in stored['images']}
        boxes = {name: [] for name in names.values()}
        for a in stored['annotations']:
            boxes[names[a['image_id']]].append((a['category_id'], *a['bbox']))
        splits[split] = [[c['name'] for c in stored['categories']], {k: sorted(v) for k, v in boxes.items()}]
    return splits


def before(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file() and 'projects' not in path.parts}


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp('voc')
    twelve.voc(folder)
    new_project(folder)
    return content(folder)


@pytest.mark.parametrize('layout', twelve.LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_kind_of_labels_makes_the_same_project(layout, expected, tmp_path):
    layout(tmp_path)
    files = before(tmp_path)
    new_project(tmp_path)
    assert content(tmp_path) == expected
    assert before(tmp_path) == files  # originals are never touched
    assert sum(len(images) for _, images in expected.values()) == 12
    assert all(classes == ['apple', 'pear'] for classes, _ in expected.values())


def three_commands(folder, capfd=None):
    settings = ('--set', 'ROOT_DIR', folder, 'TRAIN.SCALES', '(96,)', 'TEST.SCALES', '(96,)')
    trained = run(
        ROOT / 'tools' / 'train_net.py', '--project', 'fruit', '--gpu', 'cpu', '--iters', 6, *settings, cwd=folder
    )
    assert 'making them' in trained.stdout
    assert re.search(r'Iteration 6: mAP 0\.\d{4} \(AP50 0\.\d{4}\) on fruit_val, the best so far', trained.stdout)
    tested = run(ROOT / 'tools' / 'test_net.py', '--project', 'fruit', '--gpu', 'cpu', *settings, cwd=folder)
    assert 'ohem_best.caffemodel, the best on fruit_val, after iteration 6 (--net takes another)' in tested.stdout
    assert 'AP50' in tested.stdout
    output = folder / 'output' / 'fruit' / 'ohem'
    assert (output / 'fruit_train' / 'ohem_resume_iter_6.solverstate').is_file()
    photo = next((folder / 'images').rglob('photo 00.jpg'))
    shown = run(
        ROOT / 'tools' / 'demo.py', '--project', 'fruit', photo, '--gpu', 'cpu', *settings,
        cwd=folder,
    )  # fmt: skip
    assert '1 images' in shown.stdout
    assert (output / 'pictures' / 'photo 00.png').is_file()
    return {path.name: path.read_bytes() for path in (output / 'fruit_train').glob('*.caffemodel')}


def test_three_commands(tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    new_project(tmp_path)
    three_commands(tmp_path)
    readme = (tmp_path / 'projects' / 'fruit' / 'README.md').read_text()
    for tool in ('train_net.py', 'test_net.py', 'demo.py'):
        assert f'tools/{tool} --project fruit' in readme
    assert f'# coco:projects/fruit/fruit_val.json:{tmp_path}/images\n' in readme
    # the lines for the other tools, each continued line joined
    lines = re.findall(r'^\.venv/bin/python (tools/\S+) (?!--project)(.*)$', readme.replace('\\\n', ' '), re.MULTILINE)
    assert len(lines) == 4
    for tool, flags in lines:
        more = () if tool.endswith(('errors.py', 'dataset.py')) else ('--gpu', 'cpu', '--set', 'TRAIN.SCALES', '(96,)')
        run(ROOT / tool, *flags.split(), *more, cwd=tmp_path)


def test_three_commands_with_faster_rcnn(tmp_path):
    twelve.yolo_ultralytics(tmp_path)
    new_project(tmp_path)
    settings = ('--gpu', 'cpu', '--set', 'ROOT_DIR', tmp_path, 'TRAIN.SCALES', '(96,)', 'TEST.SCALES', '(96,)')

    def tool(name, *flags, method='faster', status=0):
        project = ('--project', 'fruit', '--method', method)
        return run(ROOT / 'tools' / f'{name}.py', *project, *flags, *settings, cwd=tmp_path, status=status)

    said = tool('train_net', '--iters', 2).stdout
    assert 'making them' not in said and not list(tmp_path.rglob('*.h5'))  # no proposals beforehand
    assert 'faster_iter_2.caffemodel' in said
    tested = tool('test_net').stdout
    assert 'faster_best.caffemodel, the best on fruit_val' in tested and 'AP50' in tested
    photo = next((tmp_path / 'images').rglob('photo 00.jpg'))
    assert '1 images' in tool('demo', photo, '--out', tmp_path / 'drawn').stdout
    assert not list(tmp_path.rglob('*.h5'))
    # what one method trained is not taken for another's
    assert 'no trained model of the method ohem yet' in tool('test_net', method='ohem', status=1).stderr
    assert '--method faster' in (tmp_path / 'projects' / 'fruit' / 'README.md').read_text()


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """What the three commands train on the twelve images in VOC's layout."""
    folder = tmp_path_factory.mktemp('trained')
    twelve.voc(folder)
    new_project(folder)
    return three_commands(folder)


@pytest.mark.slow
@pytest.mark.parametrize('layout', twelve.LAYOUTS, ids=lambda layout: layout.__name__)
def test_three_commands_from_every_kind_of_labels_end_with_the_same_model(layout, expected, models, tmp_path):
    """Same boxes, same split, classes in the same order: so the same weights, and the same names inside the file.

    The seed of an image's proposals is its id, which is the same too.
    """
    layout(tmp_path)
    new_project(tmp_path)
    assert content(tmp_path) == expected
    trained = three_commands(tmp_path)
    assert set(trained) == set(models) == {
        'ohem_best.caffemodel', 'ohem_iter_6.caffemodel', 'ohem_resume_iter_6.caffemodel'
    }  # fmt: skip
    assert trained == models
    assert read_card(str(tmp_path / 'output/fruit/ohem/fruit_train/ohem_best.caffemodel')).classes == (
        '__background__', 'apple', 'pear'
    )  # fmt: skip


def test_a_run_of_its_own_and_early_stop_and_no_validation(tmp_path):
    twelve.coco(tmp_path)
    new_project(tmp_path)
    settings = ('--set', 'ROOT_DIR', tmp_path, 'TRAIN.SCALES', '(96,)', 'TEST.SCALES', '(96,)')

    def train(*flags, more=()):
        command = (ROOT / 'tools' / 'train_net.py', '--project', 'fruit', '--gpu', 'cpu', *flags, *settings, *more)
        return run(*command, cwd=tmp_path).stdout

    said = train('--iters', 9, '--run', 'second', more=('TRAIN.VAL_ITERS', 1, 'TRAIN.EARLY_STOP_ITERS', 2))
    assert 'Validation on `fruit_val`' in said
    folder = tmp_path / 'output' / 'fruit' / 'ohem' / 'second' / 'fruit_train'
    assert (folder / 'ohem_best.caffemodel').is_file() and (folder.parent.parent / 'second').is_dir()
    assert not (tmp_path / 'output' / 'fruit' / 'ohem' / 'fruit_train').exists()
    said = train('--iters', 1, '--val', 'none')
    assert 'Validation' not in said
    assert [p.name for p in (tmp_path / 'output/fruit/ohem/fruit_train').glob('*best*')] == []
    odd = run(ROOT / 'tools' / 'train_net.py', '--project', 'fruit', '--run', '../x', cwd=tmp_path, status=1).stderr
    assert "--run takes a name for a folder: letters, digits, . _ + -; given '../x'" in odd


@pytest.mark.parametrize(
    'split, notes, tested',
    [
        ('100/0/0', ['no photograph to test: test_net.py tests on others'], False),
        ('80/20/0', ['no photograph to test: test_net.py tests on others'], True),
        ('80/0/20', [], True),
    ],
)
def test_a_split_that_leaves_some_out_says_what_that_means(split, notes, tested, tmp_path):
    twelve.voc(tmp_path)
    said = new_project(tmp_path, '--split', split).stdout
    assert [line for line in said.splitlines() if 'no photograph to' in line] == [
        line for line in said.splitlines() if any(line.startswith(f'Note: {note}') for note in notes)
    ]
    readme = (tmp_path / 'projects' / 'fruit' / 'README.md').read_text()
    assert all(note in said for note in notes)
    assert ('tools/test_net.py' in said) == ('tools/test_net.py' in readme) == ('visualize_errors' in readme) == tested
    assert ('Ten times in a' in readme) == (split == '80/20/0') != ('There is no validation set' in readme)


def test_a_dry_run_shows_all_and_writes_nothing(tmp_path):
    twelve.labelme(tmp_path)
    cut = min((tmp_path / 'images').rglob('*.jpg'))
    cut.write_bytes(cut.read_bytes()[:-20])
    shown = new_project(tmp_path, '--dry-run').stdout
    assert f'damaged, partly grey: {cut} (' in shown and shown.count('partly grey') == 1
    assert "12 of them labelled (LabelMe's JSON, a file an image)" in shown
    assert '---- projects/fruit/ohem/train.prototxt' in shown
    assert not (tmp_path / 'projects').exists()


def test_a_project_is_never_overwritten(tmp_path):
    twelve.voc(tmp_path)
    new_project(tmp_path)
    assert 'projects/fruit is there already' in new_project(tmp_path, status=1).stderr


def test_folders_of_a_split_are_kept(tmp_path):
    twelve.write_images(tmp_path / 'all')
    twelve.write_voc(tmp_path / 'all')
    for k, path in enumerate(sorted((tmp_path / 'all').glob('*.jpg'))):
        folder = tmp_path / 'images' / ('train' if k < 7 else 'valid' if k < 9 else 'test')
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
        path.with_suffix('.xml').rename(folder / path.with_suffix('.xml').name)
    assert 'The split is that of the folders' in new_project(tmp_path).stdout
    assert [len(images) for _, images in content(tmp_path).values()] == [7, 2, 3]


def test_flags_that_make_no_sense(tmp_path):
    twelve.voc(tmp_path)
    assert (
        '--net VGG19: there are small, VGG_CNN_M_1024, VGG16, ResNet-50, MobileNet-v2'
        in new_project(tmp_path, '--net', 'VGG19', status=1).stderr
    )
    assert '--split takes three shares' in new_project(tmp_path, '--split', '70', status=1).stderr
    error = run(ROOT / 'tools' / 'train_net.py', '--project', 'frut', cwd=tmp_path, status=1).stderr
    assert "there is no project 'frut' (looked for projects/frut/project.yml in " in error
    error = run(ROOT / 'tools' / 'train_net.py', '--gpu', 'cpu', cwd=tmp_path, status=1).stderr
    assert error.endswith('train_net.py: error: --solver: give it, or --project NAME\n')


def test_set_classes(tmp_path):
    out = tmp_path / 'train.prototxt'
    run('tools/set_classes.py', 'models/demo/small/fast_rcnn_ohem/train.prototxt', '--classes', 2, '--out', out)
    text = out.read_text()
    assert text.count('num_output: 12\n') == 2 and text.count("'num_classes': 3") == 2
