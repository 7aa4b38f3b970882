"""Faster R-CNN by the commands of its users: no proposals beforehand, training by each way, testing, drawing."""

import json
import os
import re
import shutil
import subprocess
import sys

import cv2
import pytest
from commands import ROOT, SMALL, run

from detection_data.proposals import Proposals

# The small net on images of 120 pixels: a step takes a moment
SETTINGS = ['--set', 'TRAIN.SCALES', '(120,)', 'TEST.SCALES', '(120,)', 'TRAIN.RPN_POST_NMS_TOP_N', '100']


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A data set of 4 training and 2 test images, without proposals."""
    folder = tmp_path_factory.mktemp('data') / 'few'
    run('data/scripts/make_demo_data.py', '--out', folder, '--train', 4, '--test', 2)
    return folder


def after(name, *more):
    """The flags that every command of an experiment ends with."""
    return ['--cfg', f'experiments/cfgs/demo_faster_rcnn{name}.yml', *SETTINGS, *more]


@pytest.mark.parametrize('name', ['', '_ohem'])
def test_end_to_end(images, tmp_path, name):
    nets = SMALL / f'faster_rcnn_end2end{name}'
    here = ['ROOT_DIR', tmp_path]
    run(
        'tools/train_net.py', '--gpu', 'cpu', '--solver', nets / 'solver.prototxt', '--imdb', f'folder:{images}:train',
        '--iters', 2, *after(name, *here),
    )  # fmt: skip
    folder = tmp_path / 'output' / f'demo_faster_rcnn{name}' / 'few_train'
    model = folder / f'small_faster_rcnn{name}_iter_2.caffemodel'
    line = json.loads((folder / f'small_faster_rcnn{name}_record.jsonl').read_text().splitlines()[-1])
    assert set(line['loss']) == {'rpn_cls_loss', 'rpn_loss_bbox', 'loss_cls', 'loss_bbox'}
    assert 0 < line['mined']['rois'] <= 128
    if name:
        assert line['all']['rois'] == line['proposals']['rois'] + line['proposals']['objects']  # none sampled away
    test = ['--gpu', 'cpu', '--def', nets / 'test.prototxt', '--net', model]
    done = run('tools/test_net.py', *test, '--imdb', f'folder:{images}:test', *after(name, *here))
    assert re.search(r'^mean ', done.stdout, re.M)
    photographs = [images / 'JPEGImages' / f'{n}.jpg' for n in (images / 'ImageSets/Main/test.txt').read_text().split()]
    run('tools/demo.py', *test, '--images', *photographs, '--out', tmp_path / 'out', *after(name))
    assert len(list((tmp_path / 'out').glob('*.png'))) == 2


def test_proposals_and_their_scores_among_what_is_mined(images, tmp_path):
    nets = SMALL / 'faster_rcnn_end2end_ohem'
    common = ['--gpu', 'cpu', '--solver', nets / 'solver.prototxt', '--imdb', f'folder:{images}:train']
    run('tools/train_net.py', *common, '--iters', 1, *after('_ohem', 'ROOT_DIR', tmp_path))
    model = tmp_path / 'output' / 'demo_faster_rcnn_ohem' / 'few_train' / 'small_faster_rcnn_ohem_iter_1.caffemodel'
    out = tmp_path / 'mined'
    run('tools/inspect_rois.py', *common, '--weights', model, '--batches', 1, '--out', out, *after('_ohem'))
    # three panels of 480 pixels in height: proposals by score, RoIs by loss, those mined
    assert cv2.imread(str(out / 'mined_000_0.png')).shape[1] >= 3 * 480
    data = json.loads(re.search(r'id="data">(.*?)</script>', (out / 'index.html').read_text())[1])
    assert len(data['images']) == 2
    for image in data['images']:
        objects = [k for k, score in enumerate(image['score']) if score < 0]
        # only the objects themselves were not proposed
        assert objects and all(image['iou'][k] == 1 and image['label'][k] > 0 for k in objects)
        assert 0 < len(image['score']) - len(objects) <= 100
        assert all(0 < score <= 1 for score in image['score'] if score >= 0)


@pytest.mark.parametrize('name', ['', '_ohem'])
def test_killed_and_resumed_it_ends_byte_for_byte_like_a_run_never_stopped(images, tmp_path, name):
    nets, experiment = SMALL / f'faster_rcnn_end2end{name}', f'demo_faster_rcnn{name}'
    prefix = f'small_faster_rcnn{name}'

    def command(into, iters, *flags):
        settings = after(name, 'ROOT_DIR', tmp_path / into, 'TRAIN.SNAPSHOT_ITERS', '2')
        return [
            'tools/train_net.py', '--gpu', 'cpu', '--solver', nets / 'solver.prototxt',
            '--imdb', f'folder:{images}:train', '--iters', iters, *flags, *settings,
        ]  # fmt: skip

    def folder(into):
        return tmp_path / into / 'output' / experiment / 'few_train'

    run(*command('whole', 4))
    state = folder('parts') / f'{prefix}_resume_iter_2.solverstate'
    environment = {**os.environ, 'PYTHONPATH': str(ROOT / 'lib')}
    killed = subprocess.Popen(
        [sys.executable, *map(str, command('parts', 100000))], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    for line in killed.stdout:
        if 'Wrote snapshot to' in line:
            break
    killed.kill()
    killed.wait()
    killed.stdout.close()
    for later in folder('parts').glob('*_iter_*'):
        if '_iter_2.' not in later.name:  # of iterations between the snapshot and the kill
            later.unlink()
    run(*command('parts', 4, '--snapshot', state))
    for file in (f'{prefix}_iter_4.caffemodel', f'{prefix}_resume_iter_4.caffemodel'):
        assert (folder('parts') / file).read_bytes() == (folder('whole') / file).read_bytes()
    whole, parts = ((folder(into) / f'{prefix}_resume_iter_4.solverstate').read_bytes() for into in ('whole', 'parts'))
    # the states name their weights by the folder they were written to
    assert whole.replace(b'/whole/', b'/parts/') == parts


def test_a_stage_without_iterations_is_refused_before_the_first(tmp_path):
    done = run(
        'tools/train_faster_rcnn_alt_opt.py', '--gpu', 'cpu', '--net_name', 'small', '--weights', 'none',
        '--iters', 1, 1, 1, 0, *after('_alt_opt', 'ROOT_DIR', tmp_path), status=1,
    )  # fmt: skip
    assert '--iters 1 1 1 0: each stage needs an iteration at least' in done.stderr
    assert not list(tmp_path.iterdir())


def test_two_ranks_train_and_record_what_one_does(images, tmp_path):
    nets = tmp_path / 'nets'
    shutil.copytree(SMALL / 'faster_rcnn_end2end_ohem', nets)
    solver = nets / 'solver.prototxt'
    solver.write_text(solver.read_text() + '\niter_size: 2\n')
    found = {}
    for gpu in ('cpu', 'cpu:2'):
        settings = after('_ohem', 'ROOT_DIR', tmp_path / gpu, 'TRAIN.IMS_PER_BATCH', '1', 'TRAIN.BATCH_SIZE', '64')
        run(
            'tools/train_net.py', '--gpu', gpu, '--solver', solver, '--imdb', f'folder:{images}:train', '--iters', 2,
            *settings,
        )  # fmt: skip
        folder = tmp_path / gpu / 'output' / 'demo_faster_rcnn_ohem' / 'few_train'
        lines = (folder / 'small_faster_rcnn_ohem_record.jsonl').read_text().splitlines()
        model = (folder / 'small_faster_rcnn_ohem_iter_2.caffemodel').read_bytes()
        found[gpu] = model, [[json.loads(line)[key] for key in ('loss', 'mined', 'proposals')] for line in lines]
    assert found['cpu'] == found['cpu:2']


def test_four_stages_stopped_and_gone_on_with(images, tmp_path):
    def train(into, *flags, gpu='cpu', status=0):
        done = run(
            'tools/train_faster_rcnn_alt_opt.py', '--gpu', gpu, '--net_name', 'small',
            '--imdb', f'folder:{images}:train', '--iters', 2, 1, 2, 1, *flags,
            *after('_alt_opt', 'ROOT_DIR', tmp_path / into, 'TRAIN.SNAPSHOT_ITERS', '1'), status=status,
        )  # fmt: skip
        return done, tmp_path / into / 'output' / 'demo_faster_rcnn_alt_opt' / 'few_train'

    done, folder = train('whole')
    final = folder / 'small_faster_rcnn_final.caffemodel'
    assert f'Final model: {final}' in done.stdout
    proposals = Proposals(str(folder / 'small_rpn_stage1_iter_2_proposals.h5'))
    assert len(proposals) == 4 and 0 < proposals.num_boxes <= 4 * 2000

    # As after a kill in the third stage: its first snapshot is there, nothing that comes later
    rest = tmp_path / 'rest'
    shutil.copytree(tmp_path / 'whole', rest)
    stopped = rest / 'output' / 'demo_faster_rcnn_alt_opt' / 'few_train'
    for path in stopped.iterdir():
        later = 'fast_rcnn_stage2' in path.name or 'rpn_stage2_iter_2' in path.name or 'final' in path.name
        if (later and not path.name.startswith('small_rpn_stage2_iter_2.caffemodel.command')) or (
            path.name.startswith('small_rpn_stage2_resume_iter_2')
        ):
            path.unlink()
    for note in stopped.glob('*.command'):
        note.write_text(note.read_text().replace(str(tmp_path / 'whole'), str(rest)))
    done, _ = train('rest')
    assert 'small_rpn_stage2_resume_iter_1.solverstate' in done.stdout
    assert (stopped / final.name).read_bytes() == final.read_bytes()

    done, _ = train('several', gpu='cpu:2', status=1)  # each of its iterations has one pass
    assert 'cannot be dealt to 2 ranks' in done.stderr and 'this stage ended with status 1' in done.stderr

    done, _ = train('rest', '--weights', final, status=1)
    assert 'was made, or begun, by another command' in done.stderr


def test_an_rpn_s_proposals_as_a_method_of_their_own(images, tmp_path):
    folder = shutil.copytree(images, tmp_path / 'few')
    rpn = SMALL / 'faster_rcnn_alt_opt'
    settings = [*after('_alt_opt'), 'TRAIN.HAS_RPN', 'True', 'TRAIN.BBOX_REG', 'False', 'TRAIN.IMS_PER_BATCH', '1']
    run(
        'tools/train_net.py', '--gpu', 'cpu', '--solver', rpn / 'stage1_rpn_solver1k1k.pt',
        '--imdb', f'folder:{folder}:train', '--iters', 1, *settings, 'ROOT_DIR', tmp_path,
    )  # fmt: skip
    model = tmp_path / 'output' / 'demo_faster_rcnn_alt_opt' / 'few_train' / 'small_rpn_iter_1.caffemodel'
    command = [
        'tools/rpn_generate.py', '--gpu', 'cpu', '--def', rpn / 'rpn_test.pt', '--net', model,
        '--imdb', f'folder:{folder}:test', '--method', 'my_rpn', *after('_alt_opt'),
    ]  # fmt: skip
    assert 'Wrote RPN proposals' in run(*command).stdout
    assert 'is there already' in run(*command).stdout
    (path,) = folder.rglob('my_rpn_test.h5')
    alone = path.read_bytes()
    path.unlink()
    assert run(*command[:2], 'cpu:2', *command[3:]).stdout.count('Wrote RPN proposals') == 1
    assert path.read_bytes() == alone and not list(path.parent.glob('*.partial'))
    done = run(*command, 'TEST.RPN_POST_NMS_TOP_N', '20', status=1)
    assert 'remove it' in done.stderr
    elsewhere = ['../mine' if word == 'my_rpn' else word for word in command]
    assert "--method '../mine': expected a name of letters" in run(*elsewhere, status=1).stderr
    none = ['none' if word == 'my_rpn' else word for word in command]
    assert 'Note: there is no box in it' in run(*none, 'TEST.RPN_MIN_SIZE', '5000').stdout
    detector = SMALL / 'faster_rcnn_end2end' / 'test.prototxt'
    done = run(*[detector if word == rpn / 'rpn_test.pt' else word for word in command], status=1)
    assert 'has no output rois; give an RPN alone' in done.stderr
    assert 'recall' in run('tools/eval_recall.py', '--imdb', f'folder:{folder}:test', '--method', 'my_rpn').stdout
