"""A-Fast-RCNN by its commands: stages, net surgery, pictures."""

import cv2
import numpy as np
import pytest
from commands import SMALL, run

FEW = ['--set', 'TRAIN.SCALES', '(120,)']


@pytest.fixture(scope='module')
def stages(tiny, tmp_path_factory):
    """Stages 1 and 2 of one iteration each: (folder, the detector, the adversary)."""
    root = tmp_path_factory.mktemp('adversary')
    settings = [*FEW, 'ROOT_DIR', root, 'EXP_DIR', 'e']
    common = ('--gpu', 'cpu', '--imdb', f'folder:{tiny}:train', '--iters', 1)
    out = root / 'output' / 'e' / 'tiny_train'
    detector = out / 'small_fast_rcnn_std_iter_1.caffemodel'
    adversary = out / 'small_fast_rcnn_adv_pretrain_iter_1.caffemodel'
    run('tools/train_net.py', *common, '--solver', SMALL / 'fast_rcnn_std/solver.prototxt',
        '--cfg', 'experiments/cfgs/demo_adv.yml', *settings)  # fmt: skip
    done = run('tools/train_net.py', *common, '--solver', SMALL / 'fast_rcnn_adv_pretrain/solver.prototxt',
               '--weights', detector, '--cfg', 'experiments/cfgs/demo_adv_pretrain.yml', *settings)  # fmt: skip
    assert 'RuntimeWarning' not in done.stderr
    return root, detector, adversary


def surgery(stages, net='fast_rcnn_adv', status=0, **changes):
    """Runs tools/do_net_surgery.py; keywords are its flags."""
    root, detector, adversary = stages
    flags = {
        'out_net_def': SMALL / net / 'train.prototxt',
        'net_surgery_json': SMALL / net / 'init_weights.json',
        'out_net_file': root / f'{net}_init.caffemodel',
        'cfg': f'experiments/cfgs/demo_{net.removeprefix("fast_rcnn_")}.yml',
    } | changes
    models = [
        *('--model', f'models/demo/small/fast_rcnn_adv_pretrain/train.prototxt={adversary}'),
        *('--model', f'models/demo/small/fast_rcnn/test.prototxt={detector}'),
    ]
    words = [word for key, value in flags.items() for word in (f'--{key}', value)]
    return run('tools/do_net_surgery.py', '--gpu', 'cpu', *words, *models, status=status), flags['out_net_file']


def weights(path):
    from caffe.proto import caffe_pb2

    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    return {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in net.layer if layer.blobs}


@pytest.mark.parametrize('net', ['fast_rcnn_adv', 'fast_rcnn_ohem_adv'])
def test_surgery_joins_detector_and_adversary(stages, net):
    _, detector, adversary = stages
    done, path = surgery(stages, net)
    made, of_detector, of_adversary = map(weights, (path, detector, adversary))
    for name in ('conv1', 'conv4', 'fc5', 'cls_score'):
        for ours, theirs in zip(made[name], of_detector[name], strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    for name in ('conv5_mask', 'conv7_mask'):
        np.testing.assert_array_equal(made[name][0], of_adversary[name][0], err_msg=name)
    # bbox_pred starts anew, since the detector's file predicts plain regressions
    assert 'as filled: ' in done.stdout and 'bbox_pred' in done.stdout.split('as filled: ')[1]
    assert (made['bbox_pred'][0] != of_detector['bbox_pred'][0]).any() and made['bbox_pred'][0].any()


def test_surgery_makes_the_same_file_again(stages):
    _, path = surgery(stages)
    before = path.read_bytes()
    surgery(stages)
    assert path.read_bytes() == before


def test_what_is_wrong_with_a_surgery_is_one_line(stages, tmp_path):
    path = tmp_path / 'surgery.json'
    path.write_text('[{}]')
    done, _ = surgery(stages, status=1, net_surgery_json=path)
    assert done.stderr == (
        f'do_net_surgery.py: error: {path}, entry 1: expected "prototxt" and "model", the names of two files, and '
        '"copy_ops"; see tools/do_net_surgery.py --help\n'
    )
    done, _ = surgery(stages, status=1, net_surgery_json=SMALL / 'fast_rcnn_adv/init_weights.json', out_net_def='no')
    assert done.stderr == 'do_net_surgery.py: error: there is no prototxt no (--out_net_def)\n'


@pytest.mark.parametrize('net', ['fast_rcnn_adv', 'fast_rcnn_ohem_adv'])
def test_dropped_cells_are_drawn(stages, tiny, tmp_path, net):
    _, init = surgery(stages, net)
    done = run(
        'tools/inspect_rois.py', '--gpu', 'cpu', '--solver', SMALL / net / 'solver.prototxt', '--weights', init,
        '--imdb', f'folder:{tiny}:train', '--cfg', f'experiments/cfgs/demo_{net.removeprefix("fast_rcnn_")}.yml',
        '--batches', 2, '--out', tmp_path, *FEW,
    )  # fmt: skip
    assert 'mini-batch 1: the adversary drops nothing in this pass' in done.stdout
    assert 'without 11 of 36 cells' in done.stdout
    assert [path.name for path in tmp_path.glob('dropped_*')] == ['dropped_000_0.png']
    picture = cv2.imread(str(tmp_path / 'dropped_000_0.png'))
    assert picture.shape[1] >= 3 * 180 and picture.std() > 10
    assert (tmp_path / 'index.html').exists() == (net == 'fast_rcnn_ohem_adv')


def test_a_net_that_neither_mines_nor_drops_is_refused(tiny, stages, tmp_path):
    done = run(
        'tools/inspect_rois.py', '--gpu', 'cpu', '--solver', SMALL / 'fast_rcnn/solver.prototxt',
        '--weights', stages[1], '--imdb', f'folder:{tiny}:train', '--cfg', 'experiments/cfgs/demo_adv.yml',
        '--out', tmp_path, *FEW, status=1,
    )  # fmt: skip
    assert 'has no RoIDataLayer with a HardRoiMiningLayer, and no adversary' in done.stderr
