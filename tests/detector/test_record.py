"""The record of a training run: a line an iteration, with numbers that add up, whatever happens."""

import json
import os

import numpy as np
import pytest
from stand_in_data import Blob

from fast_rcnn.record import TrainingRecord, find_record, read_record, scalars
from inspection import curves
from inspection.curves import smoothed


class DataLayer:
    def forward(self, bottom, top):
        pass


class MiningLayer:
    """Finds what it is told to."""

    def __init__(self, **last):
        self.last = {name: np.array(value, dtype=None if name == 'kept' else float) for name, value in last.items()}

    def forward(self, bottom, top):
        pass


class Solver:
    """Of an older pycaffe: it has no lr, and its net no hooks."""

    def __init__(self, iteration=0):
        self.iter, self.net = iteration, object()


def tops(labels, images=1):
    return [Blob(np.zeros((images, 3, 2, 2))), Blob(np.zeros((len(labels), 5))), Blob(labels)]


MINED = MiningLayer(cls_loss=[1, 2, 3, 0], bbox_loss=[0, 1, 1, 0], loss=[1, 3, 4, 0], kept=[2, 1])
LABELS = [0, 1, 1, 0]


@pytest.fixture
def step(tmp_path):
    """step(record, sub-iterations): one iteration of a mini-batch of LABELS; returns its line."""

    def call(record, data, mining, times=1):
        record.start()
        for _ in range(times):
            data.forward([], tops(LABELS, 2))
            if mining is not None:
                mining.forward([Blob()] * 3 + [Blob(LABELS)], [])
        return record.finish({'loss_cls': 0.5, 'loss_bbox': 0.25})

    return call


def test_a_line_tells_of_all_rois_and_of_those_mined(tmp_path, step):
    data = DataLayer()
    record = TrainingRecord(str(tmp_path / 'r.jsonl'), Solver(), data, MINED, ('__background__', 'cat'))
    line = step(record, data, MINED, times=2)  # iter_size 2, the same twice
    record.close()
    assert read_record(str(tmp_path / 'r.jsonl')) == [line]
    assert line['all'] == {
        'rois': 8, 'fg': 4, 'loss': 2.0, 'cls': 1.5, 'bbox': 0.5,
        'by_class': {
            'background': {'rois': 4, 'cls': 0.5, 'bbox': 0.0}, 'cat': {'rois': 4, 'cls': 2.5, 'bbox': 1.0},
        },
    }  # fmt: skip
    assert line['mined'] == {'rois': 4, 'fg': 4, 'bg': 0, 'loss': 3.5, 'cls': 2.5, 'bbox': 1.0}
    assert (line['iteration'], line['images'], line['lr']) == (0, 4, None)
    assert line['loss'] == {'loss_cls': 0.5, 'loss_bbox': 0.25}
    assert set(line['seconds']) == {'step', 'data', 'mining'}  # without hooks, no more is known
    assert line['memory']['host_peak_mb'] > 1
    assert ('all/by_class/cat/cls', 2.5) in scalars(line)
    assert 'forward' not in vars(data), 'the layer is as it was'


def test_without_mining_the_sampled_rois_are_counted(tmp_path, step):
    data = DataLayer()
    record = TrainingRecord(str(tmp_path / 'r.jsonl'), Solver(), data)
    line = step(record, data, None)
    assert 'all' not in line and line['mined'] == {'rois': 4, 'fg': 2, 'bg': 2}


def test_a_loss_that_is_not_finite_is_told_at_once(tmp_path):
    called = []
    mining = MiningLayer(cls_loss=[1, np.nan], bbox_loss=[0, 0], loss=[1, np.nan], kept=[0])
    data = DataLayer()
    record = TrainingRecord(str(tmp_path / 'r.jsonl'), Solver(), data, mining, on_not_finite=lambda: called.append(1))
    record.start()
    mining.forward([Blob()] * 3 + [Blob([0, 1])], [])
    assert called == [1]


def test_a_resumed_run_keeps_the_lines_before_and_drops_what_it_does_again(tmp_path, step):
    path, data = tmp_path / 'r.jsonl', DataLayer()
    path.write_text(''.join(json.dumps({'iteration': i}) + '\n' for i in range(5)) + '{"iteration": 5, "lo')
    record = TrainingRecord(str(path), Solver(3), data, MINED)
    step(record, data, MINED)
    record.close()
    assert [line['iteration'] for line in read_record(str(path))] == [0, 1, 2, 3]
    TrainingRecord(str(path), Solver(0), data, MINED).close()  # from the start: anew
    assert path.read_text() == ''
    assert [line['iteration'] for line in read_record(str(tmp_path / 'r_of_earlier_run.jsonl'))] == [0, 1, 2, 3]


def test_a_record_that_is_none_is_refused(tmp_path):
    path = tmp_path / 'r.jsonl'
    with pytest.raises(FileNotFoundError, match=r'no training record .*r\.jsonl'):
        read_record(str(path))
    path.write_text('{"iteration": 0}\nnot json\n{"iteration": 2}\n')
    with pytest.raises(ValueError, match=r'r\.jsonl, line 2: not a line of a training record'):
        read_record(str(path))
    path.write_text('[1]\n{"iteration": 2}\n')
    with pytest.raises(ValueError, match='line 1'):
        read_record(str(path))


def test_a_record_that_is_another_file_is_not_read_whole(tmp_path):
    path = tmp_path / 'r.jsonl'
    path.touch()
    os.truncate(path, 2**36)  # more than memory holds, no more than a page on the disk
    with pytest.raises(ValueError, match=r'r\.jsonl, line 1: longer than 4194304 letters: not a training record'):
        read_record(str(path))


def test_a_folder_stands_for_its_record(tmp_path):
    (tmp_path / 'a_record.jsonl').touch()
    assert find_record(str(tmp_path)) == str(tmp_path / 'a_record.jsonl')
    (tmp_path / 'b_record.jsonl').touch()
    with pytest.raises(ValueError, match=r'holds 2 records, a_record\.jsonl, b_record\.jsonl: name one'):
        find_record(str(tmp_path))


def test_tensorboard_is_asked_for_by_name_if_it_is_missing(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'tensorboard.summary', None)
    with pytest.raises(ImportError, match='pip install tensorboard'):
        TrainingRecord(str(tmp_path / 'r.jsonl'), Solver(), DataLayer(), tensorboard=str(tmp_path))


def test_event_files_hold_the_numbers(tmp_path, step):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = DataLayer()
    record = TrainingRecord(str(tmp_path / 'r.jsonl'), Solver(7), data, MINED, ('bg', 'cat'), str(tmp_path / 'events'))
    step(record, data, MINED)
    record.close()
    events = EventAccumulator(str(tmp_path / 'events'))
    events.Reload()
    assert 'all/by_class/cat/cls' in events.Tags()['tensors']
    (event,) = events.Tensors('mined/loss')
    assert event.step == 7 and event.tensor_proto.float_val[0] == 3.5


def test_smoothing_is_the_mean_of_the_last_values():
    values = np.array([1.0, 3.0, 5.0, 7.0])
    assert smoothed(values, 1).tolist() == [1, 3, 5, 7]
    assert smoothed(values, 2).tolist() == [1, 2, 4, 6]
    assert smoothed(values, 9).tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(smoothed(np.array([np.nan, 2.0, np.nan]), 2), [np.nan, 2, 2])


WHOLE = {
    'iteration': 0, 'lr': 0.01, 'loss': {'loss_cls': 1.5}, 'seconds': {'step': 0.5}, 'memory': {'host_peak_mb': 9.0},
    'all': {'rois': 9, 'fg': 2, 'loss': 1.0, 'by_class': {'cat': {'rois': 2, 'cls': 1.0, 'bbox': 0.5}}},
    'mined': {'rois': 4, 'fg': 2, 'loss': None},
}  # fmt: skip


def test_a_log_is_told_from_a_record(tmp_path):
    path = tmp_path / 'train.log'
    for end in ('', '\n'):
        path.write_text('I0101 00:00:00.000000 1 solver.cpp:229] Iteration 0, loss = 3' + end)
        with pytest.raises(
            ValueError, match=r'train\.log, line 1: not a line of a training record, which .*Is it a log'
        ):
            read_record(str(path))


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'iteration': True}, 'no whole number "iteration"'),
        ({'lr': 'x'}, r'lr is "x", expected a number'),
        ({'lr': 1e308}, r'lr is 1e\+308, expected a number'),
        ({'loss': {'loss_cls': -1e200}}, r'loss\.loss_cls is -1e\+200, expected a number'),
        ({'iteration': 10**20}, r'iteration is 100000000000000000000, expected a number below 2\^63'),
        ({'loss': 3}, r'loss is 3, expected numbers by name'),
        ({'loss': {'loss_cls': '1'}}, r'loss\.loss_cls is "1", expected a number'),
        ({'loss': {'loss_cls': 10**400}}, r'loss\.loss_cls is 10*\.\.\., expected a number'),
        ({'seconds': {}}, 'seconds lacks step'),
        ({'mined': {'rois': 4}}, 'mined lacks fg'),
        ({'all': {'rois': 9, 'fg': 2, 'by_class': []}}, r'all\.by_class\. is \[\], expected numbers by name'),
        ({'all': {'rois': 9, 'fg': 2, 'by_class': {'cat': {'rois': 2, 'cls': 1.0}}}}, r'all\.by_class\.cat lacks bbox'),
        ({'proposals': [1]}, r'proposals is \[1\], expected numbers by name'),
        ({'memory': None}, 'memory is null, expected numbers by name'),
    ],
)
def test_a_line_of_another_kind_is_told_with_its_number(tmp_path, change, said):
    path = tmp_path / 'r.jsonl'
    path.write_text(json.dumps(WHOLE) + '\n' + json.dumps({**WHOLE, **change}) + '\n')
    with pytest.raises(ValueError, match=rf'r\.jsonl, line 2: not a line of a training record: {said}'):
        read_record(str(path))


def test_a_loss_that_is_not_known_leaves_a_gap_in_its_curve(tmp_path):
    entries = [{**WHOLE, 'iteration': 0}, {**WHOLE, 'iteration': 1, 'loss': {'loss_cls': None}}]
    curves.draw_curves(str(tmp_path / 'c.png'), {'x': entries}, 1, {})
    assert (tmp_path / 'c.png').is_file()


def test_seconds_and_memory_that_are_not_known_are_left_out(tmp_path):
    unknown = {'seconds': {'step': 0.5, 'forward': None}, 'memory': {'host_peak_mb': 9.0, 'gpu_peak_mb': None}}
    curves.draw_curves(str(tmp_path / 'c.png'), {'x': [WHOLE, {**WHOLE, **unknown, 'iteration': 1}]}, 1, {})
    assert (tmp_path / 'c.png').is_file()


def test_groups_that_are_needed_have_to_be_there(tmp_path):
    path = tmp_path / 'r.jsonl'
    path.write_text('{"iteration": 0}\n')
    assert read_record(str(path)) == [{'iteration': 0}]
    with pytest.raises(ValueError, match=r'line 1: .*seconds is null, expected numbers by name'):
        read_record(str(path), needed=('seconds',))


def test_a_line_that_nests_without_end(tmp_path):
    path = tmp_path / 'r.jsonl'
    path.write_text('{"iteration": 0, "loss": ' + '[' * 100_000 + '\n{"iteration": 1}\n')
    with pytest.raises(ValueError, match=r'r\.jsonl, line 1: not a line of a training record'):
        read_record(str(path))
