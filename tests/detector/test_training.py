"""Training: snapshots, resuming, stopping, and warnings, on a net small enough to train in a test."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.files import model_file
from fast_rcnn.config import ConfigError, cfg
from fast_rcnn.diagnosis import Explosion
from fast_rcnn.frozen_cache import keep_frozen
from fast_rcnn.model_card import read_card
from fast_rcnn.output_folder import output_folder
from fast_rcnn.record import find_record, read_record
from fast_rcnn.solver_file import read_solver
from fast_rcnn.start_checks import note_sampling
from fast_rcnn.test import load_net
from fast_rcnn.train import SolverWrapper, TrainingInterrupted, get_training_roidb, train_net

TRAIN = """
name: "tiny"
layer { name: "data" type: "Python" top: "data" top: "rois" top: "labels" top: "bbox_targets"
  top: "bbox_inside_weights" top: "bbox_outside_weights"
  python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 4" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 5 stride: 8 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
"""
BRANCH = """
layer { name: "pool%(r)s" type: "ROIPooling" bottom: "conv" bottom: "rois%(h)s" top: "pool%(r)s"
  roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 0.125 } %(stop)s }
layer { name: "fc%(r)s" type: "InnerProduct" bottom: "pool%(r)s" top: "fc%(r)s"
  param { name: "fc_w" } param { name: "fc_b" }
  inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "drop%(r)s" type: "Dropout" bottom: "fc%(r)s" top: "fc%(r)s" }
layer { name: "cls_score%(r)s" type: "InnerProduct" bottom: "fc%(r)s" top: "cls_score%(r)s"
  param { name: "cls_w" } param { name: "cls_b" }
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "%(box)s%(r)s" type: "InnerProduct" bottom: "fc%(r)s" top: "bbox_pred%(r)s"
  param { name: "box_w" } param { name: "box_b" }
  inner_product_param { num_output: 16 weight_filler { type: "gaussian" std: 0.001 } } }
"""
MINING = """
layer { name: "cls_prob_readonly" type: "Softmax" bottom: "cls_score_readonly" top: "cls_prob_readonly" }
layer { name: "mining" type: "Python" bottom: "cls_prob_readonly" bottom: "bbox_pred_readonly" bottom: "rois"
  bottom: "labels" bottom: "bbox_targets" bottom: "bbox_inside_weights" bottom: "bbox_outside_weights"
  top: "rois_hard" top: "labels_hard" top: "bbox_targets_hard" top: "bbox_inside_weights_hard"
  top: "bbox_outside_weights_hard" propagate_down: [false, false, false, false, false, false, false]
  python_param { module: "roi_data_layer.layer" layer: "OHEMDataLayer" param_str: "'num_classes': 4" } }
"""
LOSSES = """
layer { name: "loss_cls" type: "SoftmaxWithLoss" bottom: "cls_score" bottom: "labels_hard" top: "loss_cls"
  loss_weight: 1 }
layer { name: "loss_bbox" type: "SmoothL1Loss" bottom: "bbox_pred" bottom: "bbox_targets_hard"
  bottom: "bbox_inside_weights_hard" bottom: "bbox_outside_weights_hard" top: "loss_bbox" loss_weight: 1 }
"""
SOLVER = """
train_net: "%s" base_lr: %s lr_policy: "step" gamma: 0.1 stepsize: 100 momentum: 0.9 weight_decay: 0.0005
iter_size: 2 average_loss: 10 display: 0 snapshot: 0 snapshot_prefix: "models/somewhere/tiny"
"""


@pytest.fixture
def solver(tmp_path):
    """Write a solver and its net; returns the solver's path."""

    def write(base_lr='0.0001', box='bbox_pred'):
        readonly = {'r': '_readonly', 'h': '', 'stop': 'propagate_down: [false, false]', 'box': box}
        learning = {'r': '', 'h': '_hard', 'stop': '', 'box': box}
        net = tmp_path / 'train.prototxt'
        net.write_text(TRAIN + BRANCH % readonly + MINING + BRANCH % learning + LOSSES)
        path = tmp_path / 'solver.prototxt'
        path.write_text(SOLVER % (net, base_lr))
        return str(path)

    return write


@pytest.fixture
def roidb(blood_cells):
    cfg.TRAIN.USE_OHEM, cfg.TRAIN.BG_THRESH_LO = True, 0.0
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (96,), 200
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BATCH_SIZE = 1, 32
    caffe.set_mode_cpu()
    return get_training_roidb(blood_cells)


def weights(path, solver_file):
    """All parameters in a model file, by way of a fresh net."""
    net = caffe.Net(str(Path(solver_file).with_name('train.prototxt')), str(path), caffe.TRAIN)
    return {f'{name}/{i}': blob.data.copy() for name, blobs in net.params.items() for i, blob in enumerate(blobs)}


def test_the_deployed_model_predicts_plain_regressions(solver, roidb, tmp_path):
    cfg.TRAIN.SNAPSHOT_INFIX = 'ohem'
    out = tmp_path / 'out'
    paths = train_net(solver(), roidb, str(out), max_iters=3)
    assert paths == [str(out / 'tiny_ohem_iter_3.caffemodel')]
    deployed, trained = (weights(out / f'tiny_ohem{kind}_iter_3.caffemodel', solver()) for kind in ('', '_resume'))
    means, stds = roidb.bbox_means.ravel(), roidb.bbox_stds.ravel()
    for name, value in trained.items():
        if name.startswith('bbox_pred') and name.endswith('/0'):
            value = (value * stds[:, None]).astype(np.float32)
        elif name.startswith('bbox_pred'):
            value = (value * stds + means).astype(np.float32)
        np.testing.assert_array_equal(deployed[name], value, err_msg=name)
    assert deployed['bbox_pred/1'][4:].any()


@pytest.mark.parametrize('rule', ['mine_hard_rois', 'sample_by_loss_rank'])
def test_a_resumed_run_ends_byte_for_byte_like_an_unbroken_one(solver, roidb, tmp_path, rule):
    """Momentum, mini-batches, mining (a random rule, too) and dropout all go on; taking a snapshot does not disturb
    the run."""
    cfg.TRAIN.SNAPSHOT_ITERS, cfg.TRAIN.OHEM_RULE = 2, rule
    train_net(solver(), roidb, str(tmp_path / 'whole'), max_iters=5)
    assert sorted(p.name for p in (tmp_path / 'whole').glob('*.solverstate')) == [
        f'tiny_resume_iter_{n}.solverstate' for n in (2, 4, 5)
    ]
    train_net(
        solver(), roidb, str(tmp_path / 'rest'), max_iters=5,
        snapshot=str(tmp_path / 'whole/tiny_resume_iter_2.solverstate'),
    )  # fmt: skip
    for kind in ('', '_resume'):
        name = f'tiny{kind}_iter_5.caffemodel'
        assert (tmp_path / 'whole' / name).read_bytes() == (tmp_path / 'rest' / name).read_bytes()


def test_augmented_images_are_the_same_however_they_are_made(solver, roidb, tmp_path):
    """By a run that goes on from a snapshot, in other processes; and they are others than without."""
    name = 'tiny_iter_4.caffemodel'
    train_net(solver(), roidb, str(tmp_path / 'plain'), max_iters=4)
    cfg.TRAIN.AUGMENT.update(SCALE_JITTER=(0.7, 1.3), CROP=0.6, TURN=True, COLOUR=0.3, HUE=10.0, BLUR=1.0)
    cfg.TRAIN.SNAPSHOT_ITERS = 2
    train_net(solver(), roidb, str(tmp_path / 'whole'), max_iters=4)
    cfg.TRAIN.USE_PREFETCH = True
    state = tmp_path / 'whole' / 'tiny_resume_iter_2.solverstate'
    train_net(solver(), roidb, str(tmp_path / 'rest'), max_iters=4, snapshot=str(state))
    plain, whole, rest = ((tmp_path / kind / name).read_bytes() for kind in ('plain', 'whole', 'rest'))
    assert whole == rest != plain


def test_a_run_that_is_further_on_already_is_left_alone(solver, roidb, tmp_path):
    train_net(solver(), roidb, str(tmp_path), max_iters=2)
    before = {path.name: path.read_bytes() for path in tmp_path.glob('tiny_*')}
    assert {'tiny_solver.prototxt', 'tiny_record.jsonl'} < set(before)
    other, state = solver(base_lr='0.002'), str(tmp_path / 'tiny_resume_iter_2.solverstate')
    with pytest.raises(ValueError, match=r'at iteration 2 already, beyond the 1 asked for \(--iters\)'):
        train_net(other, roidb, str(tmp_path), max_iters=1, snapshot=state)
    assert {path.name: path.read_bytes() for path in tmp_path.glob('tiny_*')} == before


def test_a_run_with_a_damaged_record_is_refused_and_leaves_all_as_it_was(solver, roidb, tmp_path):
    train_net(solver(), roidb, str(tmp_path), max_iters=2)
    (tmp_path / 'tiny_record.jsonl').write_text('{}\n{}\n')
    before = {path.name: path.read_bytes() for path in tmp_path.glob('tiny_*')}
    other, state = solver(base_lr='0.002'), str(tmp_path / 'tiny_resume_iter_2.solverstate')
    with pytest.raises(ValueError, match=r'tiny_record\.jsonl, line 1: not a line of a training record'):
        train_net(other, roidb, str(tmp_path), max_iters=4, snapshot=state)
    assert {path.name: path.read_bytes() for path in tmp_path.glob('tiny_*')} == before


def iterations_in(path):
    return [line['iteration'] for line in read_record(str(path))]


def test_a_new_run_sets_the_record_of_the_old_one_aside_and_says_what_it_could_go_on_from(
    solver, roidb, tmp_path, capsys
):
    record = tmp_path / 'tiny_record.jsonl'
    train_net(solver(), roidb, str(tmp_path), max_iters=3)
    assert 'there is a snapshot' not in capsys.readouterr().out
    first = record.read_bytes()
    for n in (1, 2):  # --snapshot is forgotten
        train_net(solver(), roidb, str(tmp_path), max_iters=n)
        said = capsys.readouterr().out
        assert (
            f'there is a snapshot of iteration 3: --snapshot {tmp_path}/tiny_resume_iter_3.solverstate goes on' in said
        )
        assert said.count(f'{record} is of an earlier run; it is') == 1
    assert iterations_in(record) == [0, 1]
    assert (tmp_path / 'tiny_record_of_earlier_run.jsonl').read_bytes() == first
    assert iterations_in(tmp_path / 'tiny_record_of_earlier_run_2.jsonl') == [0]
    assert find_record(str(tmp_path)) == str(record)
    # and then it is remembered: the record is that of the run that is gone on from, without a hole
    train_net(solver(), roidb, str(tmp_path), max_iters=4, snapshot=str(tmp_path / 'tiny_resume_iter_3.solverstate'))
    assert iterations_in(record) == [0, 1, 2, 3]
    assert record.read_bytes().startswith(first)
    assert iterations_in(tmp_path / 'tiny_record_of_earlier_run_3.jsonl') == [0, 1]
    said = capsys.readouterr().out
    assert 'begins with the lines of' in said and 'there is a snapshot' not in said


def test_a_run_that_comes_from_another_folder_joins_no_record_there(solver, roidb, tmp_path):
    train_net(solver(), roidb, str(tmp_path / 'one'), max_iters=2)
    train_net(solver(), roidb, str(tmp_path / 'two'), max_iters=2)
    state = str(tmp_path / 'one' / 'tiny_resume_iter_2.solverstate')
    train_net(solver(), roidb, str(tmp_path / 'two'), max_iters=3, snapshot=state)
    assert iterations_in(tmp_path / 'two' / 'tiny_record.jsonl') == [2]
    assert iterations_in(tmp_path / 'two' / 'tiny_record_of_earlier_run.jsonl') == [0, 1]


@pytest.mark.parametrize('workers', [False, True])
def test_a_photograph_that_ends_early_is_named_once_by_training_and_by_testing(
    solver, blood_cells, tmp_path, capfd, workers
):
    cut = tmp_path / 'cut.jpg'
    whole = Path(blood_cells.image_path_at(1)).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    blood_cells._images[1]['path'] = cut
    cfg.TRAIN.USE_PREFETCH = workers
    train_net(solver(), get_training_roidb(blood_cells), str(tmp_path / 'out'), max_iters=4)  # two epochs
    said = capfd.readouterr().err
    assert said.count('damaged, partly grey') == said.count(f'damaged, partly grey: {cut} (') == 1


def test_a_field_given_twice_in_a_solver_is_refused_as_by_caffe(solver, roidb, tmp_path):
    path = Path(solver())
    path.write_text('base_lr: 0.5\n' + path.read_text())
    with pytest.raises(ValueError, match=r'\.prototxt: not a solver prototxt: \d+:.*multiple "base_lr" fields'):
        train_net(str(path), roidb, str(tmp_path), max_iters=1)


def test_a_resumed_run_says_what_is_other_than_in_the_run_it_resumes(solver, roidb, tmp_path, capsys):
    train_net(solver(), roidb, str(tmp_path), max_iters=2)
    state = str(tmp_path / 'tiny_resume_iter_2.solverstate')
    cfg.TRAIN.SNAPSHOT_ITERS, cfg.TRAIN.USE_PREFETCH = 7, True  # of no effect on the result
    train_net(solver(), roidb, str(tmp_path), max_iters=3, snapshot=state)
    assert 'not the training of' not in capsys.readouterr().out
    cfg.RNG_SEED, cfg.TRAIN.BATCH_SIZE = 4, 64
    roidb.name, was = 'others', roidb.name
    train_net(solver(), roidb, str(tmp_path), max_iters=3, snapshot=state)
    said = [line for line in capsys.readouterr().out.splitlines() if 'not the training of' in line]
    assert len(said) == 1
    assert f'this is not the training of {state} any more: the data set is others, not {was}; ' in said[0]
    assert 'TRAIN.BATCH_SIZE is 64, not 32; ' in said[0] and 'RNG_SEED is 4, not 3' in said[0]
    # the model for testing says nothing of it
    assert read_card(str(tmp_path / 'tiny_iter_2.caffemodel')).training == {}


def test_a_rule_for_mining_without_a_net_that_mines_is_noted(solver, roidb, tmp_path, capsys):
    cfg.TRAIN.OHEM_RULE = 'mine_stratified'
    train_net(solver(), roidb, str(tmp_path / 'mines'), max_iters=1)
    assert 'it has no effect' not in capsys.readouterr().out
    path = solver()
    note_sampling(False, path)
    assert f'TRAIN.OHEM_RULE is mine_stratified, and the net of {path} has no' in capsys.readouterr().out


def test_worker_processes_do_not_change_the_result(solver, roidb, tmp_path):
    train_net(solver(), roidb, str(tmp_path / 'one'), max_iters=2)
    cfg.TRAIN.USE_PREFETCH = True
    train_net(solver(), roidb, str(tmp_path / 'many'), max_iters=2)
    name = 'tiny_iter_2.caffemodel'
    assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'many' / name).read_bytes()


@pytest.fixture
def frozen_solver(solver):
    """The same solver, the first convolution of whose net is frozen."""
    path = solver()
    net = Path(path).with_name('train.prototxt')
    frozen = 'type: "Convolution" param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }'
    net.write_text(net.read_text().replace('type: "Convolution"', frozen, 1))
    return path


def test_what_frozen_layers_make_may_be_kept_without_another_result(frozen_solver, roidb, tmp_path, capsys):
    """Six images, mirrored ones included, in ten passes: the last four show what was shown before."""
    train_net(frozen_solver, roidb, str(tmp_path / 'plain'), max_iters=5)
    cfg.TRAIN.FROZEN_CACHE_GIB, cfg.TRAIN.USE_PREFETCH = 0.5, True
    train_net(frozen_solver, roidb, str(tmp_path / 'kept'), max_iters=5)
    cfg.TRAIN.FROZEN_CACHE_DIR = str(tmp_path / 'cache')
    for run in ('to_folder', 'from_folder'):
        train_net(frozen_solver, roidb, str(tmp_path / run), max_iters=5)
    for name in ('tiny_iter_5.caffemodel', 'tiny_resume_iter_5.caffemodel'):
        assert len({(tmp_path / run / name).read_bytes() for run in ('plain', 'kept', 'to_folder', 'from_folder')}) == 1
    out = capsys.readouterr().out
    assert 'Frozen layers conv to relu: what they make of each image is kept in up to 0.5 GiB of memory' in out
    assert f'is kept in up to 0.5 GiB of {tmp_path}/cache' in out
    said = [line.partition(';')[0] for line in out.splitlines() if 'earlier ones' in line]
    assert said == [
        'Frozen layers conv to relu: computed in 6 passes, kept from earlier ones in 4',
        'Frozen layers conv to relu: computed in 6 passes, kept from earlier ones in 4',
        'Frozen layers conv to relu: computed in 0 passes, kept from earlier ones in 10',
    ]


def test_what_keeps_frozen_layers_from_serving_is_said_before_training(frozen_solver, solver, roidb, tmp_path):
    cfg.TRAIN.FROZEN_CACHE_GIB = 0.5
    cfg.TRAIN.IMS_PER_BATCH = 2
    with pytest.raises(ConfigError, match=r'GIB is 0.5: TRAIN.IMS_PER_BATCH is 2, .* take 1, .*set it to 0'):
        SolverWrapper(frozen_solver, roidb, str(tmp_path / 'out'))
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.AUGMENT.CROP = 1, 0.5
    with pytest.raises(ConfigError, match='changes images each time they are shown'):
        SolverWrapper(frozen_solver, roidb, str(tmp_path / 'out'))
    cfg.TRAIN.AUGMENT.CROP = 1.0
    cfg.TRAIN.FROZEN_CACHE_DIR = frozen_solver  # a file
    with pytest.raises(ConfigError, match=r'solver\.prototxt: no files can be kept there \(File exists\)'):
        SolverWrapper(frozen_solver, roidb, str(tmp_path / 'out'))
    cfg.TRAIN.FROZEN_CACHE_DIR = ''
    with pytest.raises(ConfigError, match='no frozen layers to begin with: the first with parameters, conv, learns'):
        SolverWrapper(solver(), roidb, str(tmp_path / 'out'))
    cfg.TRAIN.FROZEN_CACHE_GIB, cfg.TRAIN.FROZEN_CACHE_DIR = 0, str(tmp_path / 'cache')
    with pytest.raises(ConfigError, match=r'cache: say how much may be there, by TRAIN\.FROZEN_CACHE_GIB'):
        SolverWrapper(frozen_solver, roidb, str(tmp_path / 'out'))
    assert not (tmp_path / 'out').exists() and not (tmp_path / 'cache').exists()


def test_another_caffe_is_told_that_it_keeps_nothing_of_frozen_layers():
    cfg.TRAIN.FROZEN_CACHE_GIB = 0.5
    with pytest.raises(ConfigError, match='needs the Caffe that comes with this detector'):
        keep_frozen(object())


def test_training_starts_from_given_weights(solver, roidb, tmp_path):
    first = train_net(solver(), roidb, str(tmp_path / 'a'), max_iters=1)[0]
    wrapper = SolverWrapper(solver(), roidb, str(tmp_path / 'b'), pretrained_model=first)
    np.testing.assert_array_equal(wrapper.solver.net.params['conv'][0].data, weights(first, solver())['conv/0'])


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_a_snapshot_and_says_how_to_go_on(solver, roidb, tmp_path, number):
    wrapper = SolverWrapper(solver(), roidb, str(tmp_path))
    step = wrapper.solver.step

    def step_and_press_ctrl_c(n):
        step(n)
        if wrapper.solver.iter == 2:
            os.kill(os.getpid(), number)

    wrapper.solver.step = step_and_press_ctrl_c
    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match=r'iteration 2; .* resume from .*tiny_resume_iter_2.solverstate'):
        wrapper.train_model(10)
    assert (tmp_path / 'tiny_iter_2.caffemodel').exists()
    assert (tmp_path / 'tiny_resume_iter_2.solverstate').exists()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ('every', 'said'),
    [
        (10, r'^interrupted in iteration 3; no snapshot was written$'),
        (2, r'^interrupted in iteration 3; to go on, resume from .*/tiny_resume_iter_2\.solverstate \(--snapshot\)$'),
    ],
)
def test_a_second_ctrl_c_stops_at_once_and_names_the_last_snapshot(solver, roidb, tmp_path, every, said):
    cfg.TRAIN.SNAPSHOT_ITERS = every
    wrapper = SolverWrapper(solver(), roidb, str(tmp_path))
    step = wrapper.solver.step

    def step_and_press_ctrl_c_twice(n):
        step(n)
        if wrapper.solver.iter == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    wrapper.solver.step = step_and_press_ctrl_c_twice
    with pytest.raises(KeyboardInterrupt, match=said) as stopped:
        wrapper.train_model(10)
    assert not isinstance(stopped.value, TrainingInterrupted)
    assert not (tmp_path / 'tiny_iter_3.caffemodel').exists()


def test_a_folder_removed_while_training_is_made_again(solver, roidb, tmp_path):
    out = tmp_path / 'out'

    def remove(iteration, losses):
        if iteration == 1:
            shutil.rmtree(out)

    wrapper = SolverWrapper(solver(), roidb, str(out))
    wrapper.train_model(2, after=remove)
    wrapper.close()
    names = {'tiny_iter_2.caffemodel', 'tiny_resume_iter_2.caffemodel', 'tiny_resume_iter_2.solverstate'}
    assert names <= {path.name for path in out.iterdir()}


def test_an_image_that_is_gone_costs_no_iteration(solver, roidb, tmp_path):
    """Mini-batches 4 and 5 are those of iteration 2: the second cannot be read, amid the iteration."""
    train_net(solver(), roidb, str(tmp_path / 'whole'), max_iters=4)
    out = tmp_path / 'out'
    wrapper = SolverWrapper(solver(), roidb, str(out))
    read, calls = wrapper.data_layer.forward, []

    def fails(bottom, top):
        calls.append(1)
        if len(calls) == 6:
            raise ValueError('photo.jpg: there is no such file')
        read(bottom, top)

    wrapper.data_layer.forward = fails
    state = str(out / 'tiny_resume_iter_2.solverstate')
    with pytest.raises(ValueError, match='no such file') as caught:
        wrapper.train_model(4)
    wrapper.close()
    assert f'iteration 2 is saved: to go on, resume from {state} (--snapshot)' in caught.value.__notes__
    train_net(solver(), roidb, str(out), max_iters=4, snapshot=state)
    for name in ('tiny_iter_4.caffemodel', 'tiny_resume_iter_4.caffemodel'):
        assert (out / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_a_loss_that_is_not_a_number_stops_training(solver, roidb, tmp_path):
    wrapper = SolverWrapper(solver(), roidb, str(tmp_path))
    wrapper.solver.net.params['fc'][0].data[0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r'iteration 0: .*BloodImage_.*No update of this run .*of the fillers'):
        wrapper.train_model(10)
    assert not list(tmp_path.glob('*.caffemodel'))


def test_only_after_an_update_of_this_run_the_learning_rate_is_blamed(solver, roidb, tmp_path):
    wrapper = SolverWrapper(solver(base_lr='1e30'), roidb, str(tmp_path))
    with pytest.raises(FloatingPointError, match=r'iteration 1: .*base_lr is too high'):
        wrapper.train_model(10)


def test_weights_that_were_spoilt_before_a_resume_are_named(solver, roidb, tmp_path):
    wrapper = SolverWrapper(solver(), roidb, str(tmp_path))
    wrapper.solver.net.params['fc'][0].data[0, 0] = np.nan
    wrapper.solver.snapshot()
    state = str(tmp_path / 'tiny_resume_iter_0.solverstate')
    wrapper = SolverWrapper(solver(), roidb, str(tmp_path), snapshot=state)
    with pytest.raises(
        FloatingPointError, match=r'base_lr is not the cause: look at .* \(.*tiny_resume_iter_0\.solver'
    ):
        wrapper.train_model(10)


def test_a_history_that_spoils_a_resumed_run_is_blamed_and_not_the_learning_rate(solver, roidb, tmp_path, monkeypatch):
    """The history of iteration 2 has numbers that are finite and far too large; that of iteration 1 is whole."""
    monkeypatch.setattr(cfg.TRAIN, 'SNAPSHOT_ITERS', 1)
    train_net(solver(), roidb, str(tmp_path), max_iters=2)
    first, second = (str(tmp_path / f'tiny_resume_iter_{n}.solverstate') for n in (1, 2))
    state = model_file.read_state(second)
    spoilt = [np.full_like(blob.data, 1e30) for blob in state.history]
    model_file.write_state(second, 2, state.learned_net, spoilt, state.current_step, state.solver_type)
    with pytest.raises(FloatingPointError) as caught:
        train_net(solver(), roidb, str(tmp_path), max_iters=9, snapshot=second)
    assert str(caught.value).endswith(
        'The run was resumed 1 update before, with a learning rate no higher than it had then, 0.0001: so base_lr is '
        f'not the likely cause, but {second}, whose history moves the weights. Resume from an earlier snapshot '
        f'({first}), or start anew from its weights (--weights).'
    )


def test_a_regression_that_is_never_trained_is_noticed(solver, roidb, tmp_path):
    cfg.TRAIN.BBOX_INSIDE_WEIGHTS = (0.0, 0.0, 0.0, 0.0)
    wrapper = SolverWrapper(solver(), roidb, str(tmp_path))
    with pytest.warns(RuntimeWarning, match='loss_bbox is exactly 0') as caught:
        wrapper.train_model(3)
    assert len(caught) == 1


def test_a_net_without_bbox_pred_is_noticed(solver, roidb, tmp_path):
    path = solver(box='boxes')
    net = tmp_path / 'train.prototxt'
    net.write_text(net.read_text().replace('"bbox_pred', '"deltas'))
    with pytest.warns(RuntimeWarning, match=r'no layer with weights that makes bbox_pred'):
        SolverWrapper(path, roidb, str(tmp_path))


def test_a_renamed_layer_is_known_by_its_top(solver, roidb, tmp_path):
    """Caffe's advice for weights of another shape is to rename the layer; its regressions are folded all the same."""
    train_net(solver(box='new_boxes'), roidb, str(tmp_path), max_iters=1)
    deployed, trained = (
        weights(tmp_path / f'tiny{kind}_iter_1.caffemodel', solver(box='new_boxes')) for kind in ('', '_resume')
    )
    stds = roidb.bbox_stds.ravel()
    np.testing.assert_array_equal(deployed['new_boxes/0'], (trained['new_boxes/0'] * stds[:, None]).astype(np.float32))


def test_weights_of_another_shape_may_be_left_out_by_renaming_the_layer(solver, roidb, tmp_path):
    first = train_net(solver(), roidb, str(tmp_path), max_iters=1)[0]
    path = solver()
    net = tmp_path / 'train.prototxt'
    net.write_text(net.read_text().replace('num_output: 8', 'num_output: 9'))
    with pytest.raises(ValueError, match=r"layer 'fc.*shape mismatch.* rename the layer\. Its top keeps its name"):
        SolverWrapper(path, roidb, str(tmp_path), pretrained_model=first)


def test_net_and_settings_that_differ_on_mining_are_noted(solver, roidb, tmp_path, capsys):
    SolverWrapper(solver(), roidb, str(tmp_path))
    assert 'Note' not in capsys.readouterr().out
    cfg.TRAIN.USE_OHEM = False
    SolverWrapper(solver(), roidb, str(tmp_path))
    assert 'mines, but TRAIN.USE_OHEM is False' in capsys.readouterr().out
    cfg.TRAIN.USE_OHEM = True
    net = tmp_path / 'train.prototxt'
    text = TRAIN + (BRANCH % {'r': '', 'h': '', 'stop': '', 'box': 'bbox_pred'}) + LOSSES.replace('_hard', '')
    path = solver()
    net.write_text(text)
    SolverWrapper(path, roidb, str(tmp_path))
    assert 'does not mine: it learns from all RoIs' in capsys.readouterr().out


def test_files_that_do_not_fit(solver, roidb, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no solver prototxt nowhere\.prototxt'):
        SolverWrapper('nowhere.prototxt', roidb, str(tmp_path))
    with pytest.raises(ValueError, match=r'x\.caffemodel: training resumes from a \.solverstate'):
        SolverWrapper(solver(), roidb, str(tmp_path), snapshot='x.caffemodel')
    (tmp_path / 'odd.prototxt').write_text('bass_lr: 1')
    with pytest.raises(ValueError, match=r'odd\.prototxt: not a solver prototxt.*bass_lr'):
        SolverWrapper(str(tmp_path / 'odd.prototxt'), roidb, str(tmp_path))


@pytest.mark.parametrize('rate', ['-1', 'nan', 'inf'])
def test_a_rate_that_cannot_train_is_refused(solver, roidb, tmp_path, rate):
    with pytest.raises(ValueError, match=rf'solver\.prototxt: base_lr is {rate}; expected a number above 0'):
        SolverWrapper(solver(base_lr=rate), roidb, str(tmp_path))


def test_a_solver_that_is_a_file_of_weights_is_told_in_a_short_line(tmp_path):
    path = tmp_path / 'x.caffemodel'
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(ValueError, match=r'x\.caffemodel: not a solver prototxt') as caught:
        read_solver(str(path))
    assert len(str(caught.value)) < 400 + len(str(path)) and str(caught.value).isprintable()
    os.truncate(path, 2**36)  # more than memory holds, no more than a page on the disk
    with pytest.raises(ValueError, match=r'x\.caffemodel: longer than 1048576 bytes: not a solver prototxt'):
        read_solver(str(path))


def test_a_misspelt_field_of_a_solver_is_told_with_the_right_one(tmp_path):
    (tmp_path / 'odd.prototxt').write_text('base_ler: 1')
    with pytest.raises(ValueError, match=r'no field named "base_ler"\. Did you mean "base_lr"\?$'):
        read_solver(str(tmp_path / 'odd.prototxt'))


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('"step"', '"stepp"', 'unknown learning rate policy'),
        ('stepsize: 100', 'stepsize: 0', 'needs a positive stepsize'),
        ('train.prototxt', 'nowhere.prototxt', 'names the net'),
    ],
)
def test_a_refused_run_names_the_solver_given_and_leaves_a_finished_run_as_it_is(
    solver, roidb, tmp_path, old, new, said
):
    out = tmp_path / 'out'
    train_net(solver(), roidb, str(out), max_iters=1)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert 'tiny_solver.prototxt' in before
    path = Path(solver())
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises((ValueError, OSError), match=said) as caught:
        SolverWrapper(str(path), roidb, str(out))
    assert str(caught.value).startswith(str(path))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_net_without_the_data_layer_is_named_itself(solver, roidb, tmp_path):
    path = solver()
    (tmp_path / 'train.prototxt').write_text(
        'layer { name: "in" type: "Input" top: "x" } layer { name: "s" type: "Silence" bottom: "x" }'
    )
    message = (
        r'train\.prototxt: the train net has 0 layers .*\(RoIDataLayer\).* its 2 layers are of type Input, Silence'
    )
    with pytest.raises(ValueError, match=message):
        SolverWrapper(path, roidb, str(tmp_path))


@pytest.mark.parametrize('comment', ['# Größe\n'.encode('latin-1'), b'\xef\xbb\xbf# BOM\n'])
def test_a_solver_with_a_comment_in_another_encoding(solver, roidb, tmp_path, comment):
    path = solver()
    Path(path).write_bytes(comment + Path(path).read_bytes())
    assert SolverWrapper(path, roidb, str(tmp_path)).solver_param.iter_size == 2


def test_a_solver_whose_text_is_not_utf8_says_which_field(solver, roidb, tmp_path):
    path = Path(solver())
    path.write_bytes(path.read_bytes().replace(b'somewhere', 'Größe'.encode('latin-1')))
    with pytest.raises(
        ValueError, match=r'solver\.prototxt: snapshot_prefix is not UTF-8 text; save the file as UTF-8'
    ):
        SolverWrapper(str(path), roidb, str(tmp_path))
    path.write_bytes('net: "x"'.encode('utf-16'))
    with pytest.raises(ValueError, match=r'solver\.prototxt: UTF-16 text; save the file as UTF-8'):
        SolverWrapper(str(path), roidb, str(tmp_path))


def test_scores_must_fit_the_classes(solver, roidb, tmp_path):
    path = solver()
    net = tmp_path / 'train.prototxt'
    net.write_text(
        net.read_text().replace(
            'num_output: 4 weight_filler { type: "gaussian"', 'num_output: 3 weight_filler { type: "gaussian"'
        )
    )
    with pytest.raises(ValueError, match=r'cls_score has 3 outputs, but the data set has 4 classes .* needs 4'):
        SolverWrapper(path, roidb, str(tmp_path))


def test_a_net_that_cannot_be_made_for_a_wrong_num_classes_says_so(solver, roidb, tmp_path):
    path = solver()
    net = tmp_path / 'train.prototxt'
    assert "'num_classes': 4" in net.read_text()
    net.write_text(net.read_text().replace("'num_classes': 4", "'num_classes': 21"))
    with pytest.raises(ValueError, match='must have the shape of bottom 0') as caught:
        SolverWrapper(path, roidb, str(tmp_path))
    assert [note for note in caught.value.__notes__ if 'says num_classes 21, the data set has 4 classes' in note]


def test_weights_for_resuming_are_not_tested(solver, roidb, tmp_path):
    train_net(solver(), roidb, str(tmp_path), max_iters=1)
    with pytest.raises(
        ValueError, match=r'tiny_resume_iter_1\.caffemodel is for resuming .* Test .*/tiny_iter_1\.caffemodel$'
    ):
        load_net(str(tmp_path / 'train.prototxt'), str(tmp_path / 'tiny_resume_iter_1.caffemodel'))
    with pytest.raises(ValueError, match=r'state of a solver, .* not weights\. Test .*/tiny_iter_1\.caffemodel$'):
        load_net(str(tmp_path / 'train.prototxt'), str(tmp_path / 'tiny_resume_iter_1.solverstate'))
    with pytest.raises(ValueError, match=r'Test x_iter_2\.caffemodel \(which is not there\)'):
        load_net('test.prototxt', 'x_resume_iter_2.caffemodel.h5')


def test_outputs_must_fit_the_classes(solver, roidb, tmp_path):
    roidb.bbox_means = roidb.bbox_stds = np.zeros((5, 4))
    with pytest.raises(ValueError, match='bbox_pred has 16 outputs, but the data set has 5 classes'):
        SolverWrapper(solver(), roidb, str(tmp_path))


def unfilled(path):
    """The net of a solver, its first layers without fillers, as published prototxts have them."""
    net = Path(path).with_name('train.prototxt')
    net.write_text(net.read_text().replace('stride: 8 weight_filler { type: "xavier" }', 'stride: 8'))


def test_a_net_without_weights_to_start_from_is_refused_and_leaves_no_folder(solver, roidb, tmp_path):
    first = train_net(solver(), roidb, str(tmp_path / 'first'), max_iters=1)[0]
    path = solver()
    unfilled(path)
    out = tmp_path / 'output' / 'run'
    said = (
        r'1 layers \(conv\) have only zeros .* no weight_filler in .*train\.prototxt, and no weights are given\. Give '
    )
    with pytest.raises(ValueError, match=said):
        SolverWrapper(path, roidb, str(out))
    assert not out.parent.exists()
    SolverWrapper(path, roidb, str(out), pretrained_model=first).close()
    assert out.is_dir()
    wrapper = SolverWrapper(path, roidb, str(out), pretrained_model='none')
    assert not wrapper.solver.net.params['conv'][0].data.any()
    wrapper.close()


def test_weights_that_lack_a_layer_are_no_weights_for_it(solver, roidb, tmp_path):
    path = solver()
    unfilled(path)
    (tmp_path / 'other.prototxt').write_text(
        'input: "x" input_shape { dim: 1 dim: 16 } layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" '
        'inner_product_param { num_output: 8 } }'
    )
    other = str(tmp_path / 'other.caffemodel')
    caffe.Net(str(tmp_path / 'other.prototxt'), caffe.TEST).save(other)
    with pytest.raises(ValueError, match=r'and .*other\.caffemodel has none for them'):
        SolverWrapper(path, roidb, str(tmp_path / 'out'), pretrained_model=other)
    assert not (tmp_path / 'out').exists()


def test_a_folder_that_cannot_be_made_leaves_none_of_those_above_it(tmp_path):
    with pytest.raises(OSError, match='File name too long'), output_folder(str(tmp_path / 'a' / 'b' / ('c' * 300))):
        pass
    assert not list(tmp_path.iterdir())


def test_a_refused_run_leaves_a_folder_as_it_was(solver, roidb, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'mine.txt').write_text('x')
    path = solver()
    unfilled(path)
    with pytest.raises(ValueError, match='have only zeros'):
        SolverWrapper(path, roidb, str(out))
    assert [file.name for file in out.iterdir()] == ['mine.txt']


def test_a_loss_that_explodes_is_told_once_with_what_to_try(solver, roidb, tmp_path, monkeypatch):
    """20 times the mean of the first: 1, 1, 1, then 19 is no explosion, 25 is, and the next is not told again."""
    losses = iter([1.0, 1.0, 1.0, 19.0, 25.0, 1e6])
    monkeypatch.setattr('fast_rcnn.train._losses', lambda net: {'loss_cls': next(losses)})
    path = solver(base_lr='0.0001')
    with pytest.warns(RuntimeWarning) as caught:
        train_net(path, roidb, str(tmp_path / 'out'), max_iters=6)
    (said,) = [str(warning.message) for warning in caught]
    # the mean of the first four, 1, 1, 1 and 19, is 5.5: 25 is not 20 times that
    assert said.startswith('iteration 5: the loss is 1e+06, ')
    assert f'base_lr is too high: it is 0.0001 in {path}; try 1e-05, or clip_gradients: 10 beside it, and start' in said


@pytest.mark.parametrize(
    ('losses', 'told'),
    [
        ([2.0] * 10 + [39.9], None),
        ([2.0] * 10 + [40.0], 'the loss is 40, 20 times the 2 of the first iterations'),
        # a run that has learned: one hard mini-batch is no explosion; ln 2 is what chance makes of two classes
        ([0.01] * 10 + [13.8], None),
        ([0.01] * 10 + [13.9], 'the loss is 13.9, 20 times the 0.693 of the first iterations'),
        ([3.0, 100.0], 'the loss is 100, 33 times the 3 of the first iterations'),
        ([500.0], None),  # nothing to compare it with
    ],
)
def test_what_counts_as_an_explosion(losses, told):
    watch = Explosion()
    assert [watch.told(loss) for loss in losses] == [None] * (len(losses) - 1) + [told]


def test_a_state_to_go_back_to_is_named(solver, roidb, tmp_path):
    train_net(solver(), roidb, str(tmp_path), max_iters=2)
    state = str(tmp_path / 'tiny_resume_iter_2.solverstate')
    wrapper = SolverWrapper(solver(base_lr='1e30'), roidb, str(tmp_path), snapshot=state)
    with pytest.raises(
        FloatingPointError, match=r'base_lr is too high: .* snapshot \(.*tiny_resume_iter_2\.solverstate'
    ):
        wrapper.train_model(9)


def test_a_net_of_the_first_release_learns_the_same(solver, roidb, tmp_path):
    """Its data layer has five tops, bbox_loss_weights in the place of two weights, and SmoothL1Loss three bottoms."""
    cfg.TRAIN.USE_OHEM = False
    losses = LOSSES.replace('_hard', '')
    branch = BRANCH % {'r': '', 'h': '', 'stop': '', 'box': 'bbox_pred'}
    file = Path(solver())
    for name in ('six', 'five'):
        text = TRAIN + branch + losses
        if name == 'five':
            text = text.replace('top: "bbox_inside_weights" top: "bbox_outside_weights"', 'top: "bbox_loss_weights"')
            text = text.replace('"bbox_inside_weights" bottom: "bbox_outside_weights"', '"bbox_loss_weights"')
            assert text.count('bbox_loss_weights') == 2
        file.with_name('train.prototxt').write_text(text)
        train_net(str(file), roidb, str(tmp_path / name), max_iters=3)
    weights_of = [weights(tmp_path / name / 'tiny_iter_3.caffemodel', str(file)) for name in ('six', 'five')]
    assert weights_of[0]['bbox_pred/0'].any()
    for key, value in weights_of[0].items():
        np.testing.assert_array_equal(value, weights_of[1][key], err_msg=key)
