"""Two processes never write the files of one training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fast_rcnn.training_lock import TrainingLock

LIB = Path(__file__).parents[2] / 'lib'
HOLD = """
import sys
from fast_rcnn.training_lock import TrainingLock
lock = TrainingLock('x')
print('locked', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """Another process that holds the lock of the prefix x until its standard input ends."""
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': str(LIB)},
    )  # fmt: skip
    assert process.stdout.readline() == b'locked\n'
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_is_refused_and_told_who_trains(holder):
    with pytest.raises(RuntimeError, match=rf'x\.lock: process {holder.pid} on .* trains here already.*EXP_DIR'):
        TrainingLock('x')
    TrainingLock('y').release()  # other files


def test_a_killed_process_leaves_nothing_to_remove(holder):
    holder.kill()
    holder.wait()
    TrainingLock('x').release()
    assert os.listdir() == []


def test_released_by_its_process_the_lock_is_free(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = TrainingLock('x')
    second = TrainingLock('x')  # of the same process
    first.release()
    second.release()
    assert os.listdir() == []
