"""The commands on a full disk: one line that names the file and the room, status 1, and earlier files as they were."""

import re
import shutil

import pytest
from commands import SMALL, run

SOLVER = SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'
SETTINGS = [
    '--gpu', 'cpu', '--cfg', 'experiments/cfgs/demo_ohem.yml',
    '--set', 'TRAIN.SCALES', '(120,)', 'TEST.SCALES', '(120,)', 'EXP_DIR', 'e',
]  # fmt: skip


@pytest.fixture(scope='module')
def trained(tiny, tmp_path_factory):
    """{what: path} of a short training and of its detections, and the flags that name its net."""
    root = tmp_path_factory.mktemp('trained')
    settings = [*SETTINGS, 'ROOT_DIR', root]
    run('tools/train_net.py', '--solver', SOLVER, '--imdb', f'folder:{tiny}:train', '--iters', 2, *settings)
    (weights,) = root.glob('output/e/*/*fast_rcnn_ohem_iter_2.caffemodel')
    net = ['--def', SMALL / 'fast_rcnn_ohem' / 'test.prototxt', '--net', weights]
    run('tools/test_net.py', *net, '--imdb', f'folder:{tiny}:test', *settings)
    (record,) = root.glob('output/e/*/*_record.jsonl')
    (detections,) = root.glob('output/e/*/*/detections.npz')
    (root / 'net.prototxt').write_text("""
        layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: [2, 3] } } }
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 4 } }
        layer { name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 1 }""")
    return {'root': root, 'weights': weights, 'net': net, 'record': record, 'detections': detections}


# Each gives a command that writes to the folder `out`, and the file there that it writes first.


def train_net(tiny, trained, out):
    command = ['tools/train_net.py', '--solver', SOLVER, '--imdb', f'folder:{tiny}:train', '--iters', 2, *SETTINGS]
    return [*command, 'ROOT_DIR', out], 'output/e/tiny_train/small_fast_rcnn_ohem_solver.prototxt'


def evaluate(tiny, trained, out):
    command = ['tools/test_net.py', *trained['net'], '--imdb', f'folder:{tiny}:test', *SETTINGS, 'ROOT_DIR', out]
    return command, f'output/e/tiny_test/{trained["weights"].stem}/detections.npz'


def reval(tiny, trained, out):
    shutil.copy(trained['detections'], out)
    return ['tools/reval.py', out, '--imdb', f'folder:{tiny}:test'], 'comp4_det_test_button.txt'


def visualize_errors(tiny, trained, out):
    folder = trained['detections'].parent
    return ['tools/visualize_errors.py', folder, '--imdb', f'folder:{tiny}:test', '--out', out], 'errors.json'


def demo(tiny, trained, out):
    photo = min((tiny / 'JPEGImages').iterdir())
    images = ['--classes', tiny / 'classes.txt', '--images', photo, '--proposals', 'random']
    return ['tools/demo.py', *trained['net'], *images, '--out', out, *SETTINGS], f'{photo.stem}.png'


def inspect_rois(tiny, trained, out):
    what = ['--solver', SOLVER, '--weights', trained['weights'], '--imdb', f'folder:{tiny}:train', '--batches', 1]
    return ['tools/inspect_rois.py', *what, '--out', out, *SETTINGS], 'mined_000_0.png'


def plot_training(tiny, trained, out):
    return ['tools/plot_training.py', trained['record'], '--out', out / 'curves.png'], 'curves.png'


def eval_recall(tiny, trained, out):
    return ['tools/eval_recall.py', '--imdb', f'folder:{tiny}:test', '--json', out / 'recall.json'], 'recall.json'


def make_proposals(tiny, trained, out):
    data = shutil.copytree(tiny, out.parent.parent / 'data', ignore=shutil.ignore_patterns('proposals'))
    (data / 'proposals').symlink_to(out)
    command = ['tools/make_proposals.py', '--imdb', f'folder:{data}:test', '--method', 'random', '--jobs', 1]
    return command, 'random_test.h5.partial/0000000.npz'


def make_demo_data(tiny, trained, out):
    return ['data/scripts/make_demo_data.py', '--out', out / 'set', '--train', 1, '--test', 1], 'set/classes.txt'


def set_classes(tiny, trained, out):
    net = SMALL / 'fast_rcnn_ohem' / 'train.prototxt'
    return ['tools/set_classes.py', net, '--classes', 2, '--out', out / 'train.prototxt'], 'train.prototxt'


def caffe_train(tiny, trained, out):
    solver = trained['root'] / 'solver.prototxt'
    solver.write_text(
        f'net: "{trained["root"]}/net.prototxt" base_lr: 0 lr_policy: "fixed" max_iter: 1 solver_mode: CPU '
        f'snapshot_prefix: "{out}/s"'
    )
    return ['-m', 'caffe', 'train', '--solver', solver], 's_iter_1.caffemodel'


COMMANDS = [
    train_net, evaluate, reval, visualize_errors, demo, inspect_rois, plot_training, eval_recall, make_proposals,
    make_demo_data, set_classes, caffe_train,
]  # fmt: skip


@pytest.mark.parametrize('command_of', COMMANDS, ids=lambda f: f.__name__)
def test_a_full_disk(command_of, tiny, trained, disk):
    out = disk.path / 'out'
    out.mkdir()
    command, name = command_of(tiny, trained, out)
    if command_of not in (make_proposals, make_demo_data):  # what they find there is a reason to do nothing
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b'earlier')
    before = disk.files()
    disk.fill()
    done = run(*command, status=1)
    room = rf'\d+ bytes are needed in {(out / name).parent}, where 0 bytes of disk space are free'
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"error: .*No space left on device; {room}\. .*{name}'", last), last
    assert 'Traceback' not in done.stderr
    assert disk.files() == before
