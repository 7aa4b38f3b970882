"""docs/your-own-data.md, word for word, on a folder of pictures made here; only the iterations are fewer."""

import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
from commands import ROOT, SMALL, run

PAGE = (ROOT / 'docs' / 'your-own-data.md').read_text()
ITERS = '4'


def commands() -> list[str]:
    """The commands of the page: the lines of its bash blocks, continued ones joined."""
    blocks = re.findall(r'^```bash\n(.*?)^```', PAGE, re.M | re.S)
    return ''.join(blocks).replace('\\\n', ' ').splitlines()


def draw_fruit(folder) -> None:
    """Ten pictures of red discs (apple) and green ellipses (pear) on a textured ground, in VOC layout."""
    rng = np.random.default_rng(7)
    for sub in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (folder / sub).mkdir(parents=True)
    names = [f'{k:04d}' for k in range(1, 11)]
    for name in names:
        image = rng.integers(90, 160, (120, 160, 3)).astype(np.uint8)
        objects = []
        for left, kind in ((0, 'apple'), (80, 'pear')):
            x, y = left + int(rng.integers(25, 55)), int(rng.integers(30, 90))
            a, b = (20, 20) if kind == 'apple' else (14, 24)
            cv2.ellipse(image, (x, y), (a, b), 0, 0, 360, (40, 40, 200) if kind == 'apple' else (60, 190, 120), -1)
            corners = x - a + 1, y - b + 1, x + a + 1, y + b + 1  # counted from 1
            box = ''.join(f'<{c}>{v}</{c}>' for c, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), corners, strict=True))
            objects.append(f'<object><name>{kind}</name><bndbox>{box}</bndbox></object>')
        cv2.imwrite(str(folder / 'JPEGImages' / f'{name}.jpg'), cv2.GaussianBlur(image, (0, 0), 1))
        size = '<size><width>160</width><height>120</height><depth>3</depth></size>'
        (folder / 'Annotations' / f'{name}.xml').write_text(f'<annotation>{size}{"".join(objects)}</annotation>')
    for split, part in (('train', names[:7]), ('test', names[7:])):
        (folder / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(part) + '\n')
    (folder / 'classes.txt').write_text('apple\npear\n')


def test_the_page(tmp_path):
    """A project of links, so that what the commands make stays out of the checkout."""
    project = tmp_path / 'project'
    for part in ('tools', 'lib', 'models/demo', 'models/pascal_voc', 'experiments/cfgs'):
        (project / part).parent.mkdir(parents=True, exist_ok=True)
        (project / part).symlink_to(ROOT / part)
    (project / '.venv' / 'bin').mkdir(parents=True)
    python = project / '.venv' / 'bin' / 'python'
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    draw_fruit(project / 'data' / 'fruit')

    said = {}
    env = {**os.environ, 'PYTHONPATH': str(project / 'lib'), 'OMP_NUM_THREADS': '1', 'GLOG_minloglevel': '1'}
    for command in commands():
        short = command.replace('1400', ITERS).replace(
            'train_net.py --project fruit', f'train_net.py --project fruit --iters {ITERS}'
        )
        done = subprocess.run(['bash', '-c', short], cwd=project, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f'{short}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}'
        said[command] = done.stdout

    tools = [re.search(r'tools/(\w+).py', command).group(1) for command in said if 'tools/' in command]
    assert tools == [
        'new_project', 'train_net', 'test_net', 'demo', 'check_dataset', 'make_proposals', 'eval_recall', 'set_classes',
        'set_classes', 'train_net', 'test_net', 'demo', 'inspect_rois',
    ]  # fmt: skip
    assert next(text for command, text in said.items() if 'check_dataset' in command).count('nothing found') == 2
    output = project / 'output' / 'fruit'
    folder = output / 'fruit_test' / f'small_fast_rcnn_ohem_iter_{ITERS}'
    assert set(json.loads((folder / 'results.json').read_text())['classes']) == {'apple', 'pear'}
    made = {p.name for p in folder.iterdir()}
    assert {'precision_recall.png', 'comp4_det_test_apple.txt', 'detections.npz'} <= made
    assert len(list((output / 'pictures').glob('*.png'))) == 10
    assert list((output / 'mined').glob('*.png'))


def test_the_files_that_the_page_names_are_there():
    for path in set(
        re.findall(r'(?:tools|data/scripts|experiments|models/demo|models/pascal_voc|tests)/[\w./-]+\w', PAGE)
    ):
        assert (ROOT / path).exists(), path
    assert re.search(r'xmin>31<.*xmax>70<', PAGE)  # an example as VOC counts: 40 pixels wide


def test_an_annotation_file_in_cocos_format(tiny, tmp_path):
    """The same way with a set called coco:FILE:IMAGES, to COCO's AP."""
    from detection_data.factory import get_imdb

    for split in ('train', 'test'):
        voc = get_imdb(f'folder:{tiny}:{split}')
        tree = {'images': [], 'annotations': [], 'categories': []}
        tree['categories'] = [{'id': 10 * c, 'name': name} for c, name in enumerate(voc.classes) if c]
        for i in range(voc.num_images):
            a = voc.annotation(i)
            file_name = os.path.basename(voc.image_path_at(i))
            tree['images'].append({'id': i, 'file_name': file_name, 'width': a['width'], 'height': a['height']})
            for (x1, y1, x2, y2), c in zip(a['boxes'].tolist(), a['gt_classes'].tolist(), strict=True):
                box = [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
                number = len(tree['annotations'])
                tree['annotations'].append({'id': number, 'image_id': i, 'category_id': 10 * c, 'bbox': box})
        (tmp_path / f'{split}.json').write_text(json.dumps(tree))
        again = get_imdb(f'coco:{tmp_path}/{split}.json:{tiny}/JPEGImages')
        assert all((again.annotation(i)['boxes'] == voc.annotation(i)['boxes']).all() for i in range(3))
    names = {split: f'coco:{tmp_path}/{split}.json:{tiny}/JPEGImages' for split in ('train', 'test')}
    run('tools/make_proposals.py', '--imdb', '+'.join(names.values()), '--method', 'random', '--jobs', 1)
    run('tools/check_dataset.py', '--imdb', '+'.join(names.values()), '--method', 'random')
    small = SMALL / 'fast_rcnn_ohem'
    settings = ['--cfg', 'experiments/cfgs/demo_ohem.yml', '--set', 'ROOT_DIR', tmp_path, 'EXP_DIR', 'e']
    settings += [
        'TRAIN.SCALES',
        '(120,)',
        'TRAIN.PROPOSAL_METHOD',
        'random',
        'TEST.PROPOSAL_METHOD',
        'random',
    ]
    run('tools/train_net.py', '--gpu', 'cpu', '--solver', small / 'solver.prototxt', '--imdb', names['train'],
        '--iters', 2, *settings)  # fmt: skip
    weights = tmp_path / 'output' / 'e' / 'train' / 'small_fast_rcnn_ohem_iter_2.caffemodel'
    tested = run('tools/test_net.py', '--gpu', 'cpu', '--def', small / 'test.prototxt', '--net', weights,
                 '--imdb', names['test'], '--det_thresh', 0.001, *settings)  # fmt: skip
    assert 'AP50' in tested.stdout
    folder = tmp_path / 'output' / 'e' / 'test' / 'small_fast_rcnn_ohem_iter_2'
    assert 0 <= json.loads((folder / 'results.json').read_text())['AP'] <= 1
    assert json.loads((folder / 'detections_test_results.json').read_text())


def test_class_names_travel_with_the_model(tiny_copy, train):
    """classes.txt changed after training: another order is put right, other names stop with both lists."""
    listed = tiny_copy / 'classes.txt'
    names = listed.read_text().split()
    train(4, data=tiny_copy)
    model = train.folder() / 'small_fast_rcnn_ohem_iter_4.caffemodel'
    test = [
        'tools/test_net.py', '--gpu', 'cpu', '--def', SMALL / 'fast_rcnn_ohem' / 'test.prototxt', '--net', model,
        '--imdb', f'folder:{tiny_copy}:test', '--cfg', 'experiments/cfgs/demo_ohem.yml', '--det_thresh', 0,
        '--set', 'ROOT_DIR', train.folder().parents[2], 'TEST.SCALES', '(120,)',
    ]  # fmt: skip

    def result():
        run(*test)
        return next(train.folder().parent.parent.rglob('results.json')).read_text()

    as_trained = json.loads(result())
    listed.write_text('\n'.join(reversed(names)))
    assert 'lists its classes in another order than' in run(*test).stdout
    assert json.loads(result())['classes'] == as_trained['classes']
    assert (
        'lists its classes in another order than'
        in train(
            6, '--snapshot', train.folder() / 'small_fast_rcnn_ohem_resume_iter_4.solverstate', data=tiny_copy
        ).stdout
    )
    listed.write_text('\n'.join([*names[:-1], 'unicorn']))
    for name in tiny_copy.glob('Annotations/*.xml'):
        name.write_text(name.read_text().replace(f'>{names[-1]}<', '>unicorn<'))
    error = run(*test, status=1).stderr
    assert f'Only the model has: {names[-1]}. Only the data set has: unicorn' in error
    assert (
        'Only the model has'
        in train(
            8, '--snapshot', train.folder() / 'small_fast_rcnn_ohem_resume_iter_6.solverstate', data=tiny_copy, status=1
        ).stderr
    )
