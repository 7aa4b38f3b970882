"""Validation while a net is trained: it changes nothing, keeps the best model, ends a training that gains nothing."""

import json
import os
import signal

import cv2
import numpy as np
import pytest
from stand_in_data import ListImdb
from test_training import BRANCH, LOSSES, MINING, SOLVER, TRAIN

import caffe
from fast_rcnn.config import ConfigError, cfg, cfg_from_list
from fast_rcnn.model_card import read_card
from fast_rcnn.record import read_record, scalars
from fast_rcnn.test import load_net
from fast_rcnn.test import test_net as run_test_net
from fast_rcnn.train import SolverWrapper, TrainingInterrupted, get_training_roidb, train_net
from fast_rcnn.validation import Validation
from inspection.curves import draw_curves

CLASSES = ['__background__', 'RBC', 'WBC', 'Platelets']
TEST = """
input: "data" input_shape { dim: 1 dim: 3 dim: 96 dim: 128 }
input: "rois" input_shape { dim: 1 dim: 5 }
"""
PROB = 'layer { name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }'


class Scripted(ListImdb):
    """A set whose mAPs are said beforehand."""

    def __init__(self, images, classes, answers=()):
        super().__init__(images, classes, 'cells_val')
        self.answers = list(answers)
        self.found = []

    def evaluate_detections(self, all_boxes, output_dir, quiet=False):
        self.found.append(all_boxes)
        value = self.answers.pop(0) if self.answers else 0.5
        return {'mAP': value, 'classes': {name: {'ap': value} for name in self.classes[1:]}}


@pytest.fixture
def solver(tmp_path):
    """The solver of test_training, its test net beside it."""
    readonly = {'r': '_readonly', 'h': '', 'stop': 'propagate_down: [false, false]', 'box': 'bbox_pred'}
    learning = {**readonly, 'r': '', 'h': '_hard', 'stop': ''}
    _, convolution = TRAIN.split('layer { name: "conv"')
    net = tmp_path / 'train.prototxt'
    net.write_text(TRAIN + BRANCH % readonly + MINING + BRANCH % learning + LOSSES)
    test = TEST + 'layer { name: "conv"' + convolution + BRANCH % {**learning, 'h': ''} + PROB
    (tmp_path / 'test.prototxt').write_text(test)
    path = tmp_path / 'solver.prototxt'
    path.write_text(SOLVER % (net, '0.001'))
    return str(path)


@pytest.fixture
def cells(blood_cells):
    """cells(answers): the three photographs to validate on."""
    cfg.TRAIN.USE_OHEM, cfg.TRAIN.BG_THRESH_LO = True, 0.0
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE = (96,), 200
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE = (96,), 200
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BATCH_SIZE = 1, 32
    caffe.set_mode_cpu()
    return lambda answers=(): Scripted(blood_cells._images, CLASSES, answers)


@pytest.fixture
def run(solver, cells, blood_cells, tmp_path):
    """run(folder, iterations, answers): trains; None as answers is without validation. Returns the set validated on."""

    def call(folder, iterations, answers=(), snapshot=None):
        val = None if answers is None else cells(answers)
        validation = None if val is None else Validation(str(tmp_path / 'test.prototxt'), val)
        state = None if snapshot is None else str(tmp_path / folder / f'tiny_resume_iter_{snapshot}.solverstate')
        roidb = get_training_roidb(blood_cells)
        train_net(solver, roidb, str(tmp_path / folder), max_iters=iterations, snapshot=state, validation=validation)
        return val

    return call


def snapshots(folder):
    return {path.name: path.read_bytes() for path in folder.glob('*_iter_*')}


def validations(folder):
    return {
        e['val']['iteration']: e['val']['mAP'] for e in read_record(str(folder / 'tiny_record.jsonl')) if 'val' in e
    }


def test_training_ends_with_the_same_bytes_with_and_without(run, tmp_path):
    cfg.TRAIN.SNAPSHOT_ITERS, cfg.TRAIN.VAL_ITERS = 2, 1
    run('out0', 5, None)
    run('out1', 5)
    left = {name: content.replace(b'/out0/', b'/out1/') for name, content in snapshots(tmp_path / 'out0').items()}
    assert snapshots(tmp_path / 'out1') == left  # but for a state's word on where its weights are
    assert len(left) == 9  # after 2, 4 and 5 iterations
    assert list(validations(tmp_path / 'out1')) == [1, 2, 3, 4, 5]
    lines = [
        [{k: v for k, v in e.items() if k not in ('seconds', 'memory', 'val')}
         for e in read_record(str(tmp_path / name / 'tiny_record.jsonl'))]
        for name in ('out1', 'out0')
    ]  # fmt: skip
    assert lines[0] == lines[1]


def test_what_is_tested_is_the_model_as_it_is_saved(run, cells, tmp_path):
    """Its detections are those of tools/test_net.py on the snapshot: bbox_pred predicts plain regressions."""
    val = run('out', 3)
    other = cells()
    other.evaluate_detections = lambda all_boxes, folder: other.found.append(all_boxes)
    net = load_net(str(tmp_path / 'test.prototxt'), str(tmp_path / 'out' / 'tiny_iter_3.caffemodel'))
    run_test_net(net, other, output_dir=str(tmp_path / 'tested'))
    (during,), (after,) = val.found, other.found
    assert sum(len(dets) for of_class in after for dets in of_class)
    for of_class in zip(during, after, strict=True):
        for one, two in zip(*of_class, strict=True):
            np.testing.assert_array_equal(one, two)


def test_the_best_model_is_kept_and_says_so(run, tmp_path, capsys):
    cfg.TRAIN.VAL_ITERS = 1
    run('out', 4, [0.25, 0.75, 0.5, float('nan')])
    folder = tmp_path / 'out'
    assert validations(folder) == {1: 0.25, 2: 0.75, 3: 0.5, 4: None}
    card = read_card(str(folder / 'tiny_best.caffemodel'))
    assert card.validation == {'imdb': 'cells_val', 'iteration': 2, 'mAP': 0.75}
    assert card.classes == tuple(CLASSES)
    assert read_card(str(folder / 'tiny_iter_4.caffemodel')).validation == {}
    said = capsys.readouterr().out
    assert 'Iteration 2: mAP 0.7500 on cells_val, the best so far\n' in said
    assert 'Iteration 3: mAP 0.5000 on cells_val, best 0.7500 at 2\n' in said
    assert 'Iteration 4: mAP no number on cells_val, best 0.7500 at 2\n' in said
    assert f'Best on cells_val: mAP 0.7500, after iteration 2: {folder}/tiny_best.caffemodel\n' in said
    # its weights are those of a snapshot after two iterations
    run('two', 2, None)
    best, two = (
        caffe.Net(str(tmp_path / 'test.prototxt'), str(path), caffe.TEST)
        for path in (folder / 'tiny_best.caffemodel', tmp_path / 'two' / 'tiny_iter_2.caffemodel')
    )
    for name, blobs in best.params.items():
        np.testing.assert_array_equal(blobs[0].data, two.params[name][0].data)


def test_a_resumed_run_knows_the_best_of_the_part_before(run, tmp_path):
    cfg.TRAIN.VAL_ITERS = 1
    run('whole', 4, [0.5, 0.2, 0.3, 0.4])
    run('parts', 2, [0.5, 0.2])
    run('parts', 4, [0.3, 0.4], snapshot=2)
    whole, parts = (tmp_path / name for name in ('whole', 'parts'))
    assert (whole / 'tiny_best.caffemodel').read_bytes() == (parts / 'tiny_best.caffemodel').read_bytes()
    assert validations(parts) == validations(whole) == {1: 0.5, 2: 0.2, 3: 0.3, 4: 0.4}


def test_a_new_run_in_the_same_folder_does_not_pass_off_the_old_best(run, tmp_path, capsys):
    run('out', 1, [0.9])
    old = (tmp_path / 'out' / 'tiny_best.caffemodel').read_bytes()
    run('out', 1, [0.1])
    assert read_card(str(tmp_path / 'out' / 'tiny_best.caffemodel')).validation['mAP'] == 0.1
    assert (tmp_path / 'out' / 'tiny_best_of_earlier_run.caffemodel').read_bytes() == old
    assert 'tiny_best.caffemodel is of an earlier run; it is' in capsys.readouterr().out
    second = (tmp_path / 'out' / 'tiny_best.caffemodel').read_bytes()
    run('out', 1, [0.2])
    assert (tmp_path / 'out' / 'tiny_best_of_earlier_run.caffemodel').read_bytes() == old
    assert (tmp_path / 'out' / 'tiny_best_of_earlier_run_2.caffemodel').read_bytes() == second


@pytest.mark.parametrize(('patience', 'ends'), [(2, 4), (3, 5), (0, 6)])
def test_early_stop(run, tmp_path, capsys, patience, ends):
    cfg.TRAIN.VAL_ITERS, cfg.TRAIN.EARLY_STOP_ITERS = 1, patience
    run('out', 6, [0.1, 0.4, 0.3, 0.4, 0.2, 0.1])
    assert list(validations(tmp_path / 'out'))[-1] == ends
    assert (tmp_path / 'out' / f'tiny_resume_iter_{ends}.solverstate').exists()
    said = f'mAP has not risen for {patience} iterations (TRAIN.EARLY_STOP_ITERS is {patience}): training ends at'
    assert (said in capsys.readouterr().out) == (ends < 6)


def test_a_resumed_run_goes_on_counting_towards_its_early_stop(run, tmp_path):
    cfg.TRAIN.VAL_ITERS, cfg.TRAIN.EARLY_STOP_ITERS = 1, 3
    run('out', 2, [0.4, 0.3])
    run('out', 9, [0.3, 0.2, 0.1], snapshot=2)
    assert list(validations(tmp_path / 'out'))[-1] == 4  # three after the first


def test_early_stop_without_a_set_to_validate_on_is_noted(run, capsys):
    cfg.TRAIN.EARLY_STOP_ITERS = 5
    run('out', 1, None)
    assert (
        'Note: TRAIN.EARLY_STOP_ITERS has no effect without a data set to validate on (--val)'
        in capsys.readouterr().out
    )


def test_ctrl_c_breaks_a_validation_off_and_it_is_made_up_for_when_resumed(run, solver, cells, blood_cells, tmp_path):
    cfg.TRAIN.VAL_ITERS = 2
    val = cells([0.5])
    proposals_of = val.proposals_of
    validation = Validation(str(tmp_path / 'test.prototxt'), val)
    wrapper = SolverWrapper(solver, get_training_roidb(blood_cells), str(tmp_path / 'out'), validation=validation)

    def press_ctrl_c(i):
        if i == 0:  # the next image is read while the net works on this one: a second Ctrl-C would end it at once
            os.kill(os.getpid(), signal.SIGINT)
        return proposals_of(i)

    val.proposals_of = press_ctrl_c
    with pytest.raises(TrainingInterrupted, match=r'interrupted at iteration 2; .*tiny_resume_iter_2\.solverstate'):
        wrapper.train_model(5)
    wrapper.close()
    assert not val.found and not (tmp_path / 'out' / 'tiny_best.caffemodel').exists()
    run('out', 3, [0.25, 0.125], snapshot=2)
    assert validations(tmp_path / 'out') == {2: 0.25, 3: 0.125}
    assert read_card(str(tmp_path / 'out' / 'tiny_best.caffemodel')).validation['iteration'] == 2


@pytest.mark.parametrize(('kept', 'left'), [(0, [1, 2, 3, 4, 5]), (1, [5]), (2, [4, 5]), (9, [1, 2, 3, 4, 5])])
def test_old_snapshots_are_thinned_out(run, tmp_path, kept, left):
    cfg.TRAIN.SNAPSHOT_ITERS, cfg.TRAIN.SNAPSHOTS_KEPT = 1, kept
    folder = tmp_path / 'out'
    folder.mkdir()
    (folder / 'tiny_iter_2.5.caffemodel').write_text('not ours')
    (folder / 'tiny_iter_100.caffemodel').write_text('of another run')
    run('out', 3, None)
    run('out', 5, None, snapshot=3)
    assert sorted(snapshots(folder)) == sorted(
        ['tiny_iter_2.5.caffemodel', 'tiny_iter_100.caffemodel']
        + [f'tiny{kind}' for n in left for kind in
           (f'_iter_{n}.caffemodel', f'_resume_iter_{n}.caffemodel', f'_resume_iter_{n}.solverstate')]
    )  # fmt: skip


def test_what_was_written_by_another_run_in_the_folder_is_never_thinned_out(run, tmp_path):
    cfg.TRAIN.SNAPSHOT_ITERS = 1
    run('out', 2, None)
    cfg.TRAIN.SNAPSHOT_ITERS, cfg.TRAIN.SNAPSHOTS_KEPT = 10, 1
    run('out', 3, None)
    assert (tmp_path / 'out' / 'tiny_iter_1.caffemodel').exists()


def test_nothing_to_validate_on_is_told_at_once(cells, tmp_path, solver, blood_cells):
    test = str(tmp_path / 'test.prototxt')
    val = cells()
    val._images = [{**image, 'boxes': [], 'classes': []} for image in val._images]
    with pytest.raises(ValueError, match=r'cells_val has no objects to be found .* give another set as --val'):
        Validation(test, val)
    val = cells()
    val.withheld = True
    with pytest.raises(ValueError, match='cells_val: its ground truth is withheld'):
        Validation(test, val)
    with pytest.raises(FileNotFoundError, match=r'there is no test prototxt nowhere, .* name it by --def'):
        Validation('nowhere', cells())


def test_a_test_net_that_does_not_fit_is_told_at_once(cells, tmp_path, solver, blood_cells):
    def begin(val):
        roidb = get_training_roidb(blood_cells)
        SolverWrapper(solver, roidb, str(tmp_path / 'out'), validation=Validation(str(tmp_path / 'test.prototxt'), val))

    other = cells()
    other.classes = ['__background__', 'RBC', 'WBC', 'platelets']
    with pytest.raises(ValueError, match=r"cells_val, to validate on, has the classes .*'platelets'"):
        begin(other)
    assert not (tmp_path / 'out').exists()
    test = tmp_path / 'test.prototxt'
    test.write_text(test.read_text().replace('num_output: 8', 'num_output: 9'))
    with pytest.raises(ValueError, match=r'tests another net than is trained: its layer fc .*\[9, 16\].*\[8, 16\]'):
        begin(cells())
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('key', ['VAL_ITERS', 'EARLY_STOP_ITERS', 'SNAPSHOTS_KEPT'])
def test_numbers_that_are_none(key):
    with pytest.raises(ConfigError, match=rf'TRAIN.{key} expects finite numbers in \[0, inf\]; got -1'):
        cfg_from_list([f'TRAIN.{key}', '-1'])


@pytest.mark.parametrize(
    ('val', 'said'),
    [
        ('x', r'val is "x", expected numbers by name'),
        ({'mAP': 1.0}, 'val lacks iteration'),
        ({'iteration': 1, 'mAP': 'x'}, r'val.mAP is "x", expected a number'),
        ({'iteration': 1, 'ap': {'a': []}}, r'val\.ap\.a is \[\], expected a number'),
        ({'iteration': 1, 'ap': 3}, r'val\.ap is 3, expected numbers by name'),
    ],
)
def test_a_damaged_line_is_told(tmp_path, val, said):
    path = tmp_path / 'x_record.jsonl'
    line = {'iteration': 0, 'lr': 0.1, 'val': val}
    path.write_text(json.dumps(line) + '\n' + json.dumps({**line, 'val': {'iteration': 1, 'mAP': None}}) + '\n')
    with pytest.raises(ValueError, match=said):
        read_record(str(path))


def test_tensorboard_s_names_of_it():
    entry = {'iteration': 9, 'val': {'iteration': 10, 'mAP': 0.5, 'AP50': None, 'seconds': 1.5, 'ap': {'cat': 0.25}}}
    assert scalars(entry) == [('val/mAP', 0.5), ('val/seconds', 1.5), ('val/ap/cat', 0.25)]


def test_curves_show_it(tmp_path):
    """The panel is there if a run was validated, whatever the others are; values that are none are left out."""
    line = {'iteration': 0, 'lr': 0.1, 'loss': {'loss': 1.0}, 'seconds': {'step': 1.0}, 'memory': {'host_peak_mb': 1}}
    plain = [{**line, 'iteration': i} for i in range(4)]
    tested = [{**each, 'val': {'iteration': each['iteration'] + 1, 'mAP': None}} for each in plain]
    sizes = []
    for name, runs in {'without': {'a': plain}, 'with': {'a': plain, 'b': tested}}.items():
        draw_curves(str(tmp_path / f'{name}.png'), runs, 1, {})
        sizes.append(cv2.imread(str(tmp_path / f'{name}.png')).shape)
    assert sizes[0] == sizes[1]  # nine places, of which eight were taken
    tested[1]['val']['mAP'] = 0.5
    draw_curves(str(tmp_path / 'more.png'), {'a': plain, 'b': tested}, 1, {})
    panel = [cv2.imread(str(tmp_path / f'{name}.png'))[60:380, :540] for name in ('with', 'more')]
    assert (panel[0] != panel[1]).any()
