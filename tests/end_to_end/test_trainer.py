"""`from fast_rcnn import Trainer`: training from a program, stopped and gone on with, then a detector of it."""

import copy
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL

import caffe
from fast_rcnn import Trainer
from fast_rcnn.config import ConfigError, cfg

SETTINGS = {
    'TRAIN': {'SCALES': [96], 'USE_OHEM': True, 'BG_THRESH_LO': 0.0, 'BATCH_SIZE': 32},
    'TEST': {'SCALES': [96]},
    'DEDUP_BOXES': 0.125,
}


@pytest.fixture
def trainer(tiny, tmp_path):
    """trainer(name): one on the tiny set, which writes to the folder of that name."""
    caffe.set_mode_cpu()
    solver = SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'
    return lambda name: Trainer(solver, f'folder:{tiny}:train', SETTINGS, output=tmp_path / name)


def test_stopping_and_going_on_changes_nothing(trainer, tiny, monkeypatch):
    monkeypatch.chdir(SMALL.parents[2])  # the solver names its net from there
    before = copy.deepcopy(dict(cfg))
    whole, parts = trainer('whole'), trainer('parts')
    whole.train(4)
    heard = []

    def stop_at_two(iteration, losses):
        heard.append((iteration, sorted(losses)))
        return iteration == 2

    def interrupt(iteration, losses):
        signal.raise_signal(signal.SIGINT)  # what Ctrl-C and a notebook's square send

    assert Path(parts.train(100, after=stop_at_two)).name == 'small_fast_rcnn_ohem_iter_2.caffemodel'
    assert heard == [(1, ['loss_bbox', 'loss_cls']), (2, ['loss_bbox', 'loss_cls'])] and parts.iteration == 2
    parts.train(100, after=interrupt)
    assert parts.iteration == 3
    with pytest.raises(ValueError, match=r'3 iterations are done already, and train\(2\) asks for 2 in all: give more'):
        parts.train(2)
    assert parts.train(4) == parts.models[-1] and len(parts.models) == 3
    assert Path(parts.models[-1]).read_bytes() == Path(whole.models[-1]).read_bytes()
    assert all(np.array_equal(before[key], cfg[key]) for key in before)

    detector = parts.detector(thresh=0.0)
    assert detector.classes == ('button', 'ladybird', 'leaf', 'starfish')
    assert detector.settings.TEST.SCALES == (96,) and detector.settings.DEDUP_BOXES == 0.125
    assert len(detector(tiny / 'JPEGImages' / 'test_0000.jpg')) > 0


def test_precision_is_the_trainer_s_while_it_trains(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(SMALL.parents[2])
    solver, settings = SMALL / 'fast_rcnn_ohem' / 'solver.prototxt', {**SETTINGS, 'PRECISION': 'bf16-ranking'}
    trainer, heard = Trainer(solver, f'folder:{tiny}:train', settings, output=tmp_path / 'ranking'), []
    trainer.train(1, after=lambda *_: heard.append(caffe.get_precision()))
    assert (heard, caffe.get_precision()) == (['bf16-ranking'], 'fp32')


def test_what_cannot_be_trained(trainer, tiny, tmp_path):
    solver = SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'
    with pytest.raises(RuntimeError, match='nothing is trained yet'):
        trainer('none').detector()
    with pytest.raises(FileNotFoundError, match=r'there is no file no\.prototxt \(solver prototxt\)'):
        Trainer('no.prototxt', 'voc_2007_trainval')
    with pytest.raises(FileNotFoundError, match='weights to start from'):
        Trainer(solver, 'voc_2007_trainval', weights=tmp_path / 'no.caffemodel')
    with pytest.raises(ValueError, match=r'text\.caffemodel: not a \.caffemodel, but text'):
        (tmp_path / 'text.caffemodel').write_text('# no weights')
        Trainer(solver, f'folder:{tiny}:train', weights=tmp_path / 'text.caffemodel')
    with pytest.raises(ValueError, match='not a solver prototxt'):
        (tmp_path / 'no_solver.prototxt').write_text('no: solver')
        Trainer(tmp_path / 'no_solver.prototxt', 'nope')
    with pytest.raises(ValueError, match="unknown data set 'nope'"):
        Trainer(solver, 'nope')
    with pytest.raises(TypeError, match='imdb is 3; expected the name of a data set'):
        Trainer(solver, 3)
    with pytest.raises(ValueError, match="iterations is 'x'; expected a whole number"):
        trainer('bad').train('x')
    with pytest.raises(TypeError, match=r'after is 3; expected a function, called as after\(iteration, losses\)'):
        trainer('bad').train(6, after=3)
    with pytest.raises(ConfigError, match=r'settings=: there is no setting TRAIN\.SCALE'):
        Trainer(solver, 'voc_2007_trainval', {'TRAIN': {'SCALE': 3}})
