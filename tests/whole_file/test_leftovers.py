"""What a killed process left half-written is removed by the next; what somebody is writing is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import whole_file
from whole_file.leftovers import begin, begin_folder, remove_leftovers

LIB = Path(__file__).parents[2] / 'lib'

# It says so when half of it is written, and then waits to be killed, or told to go on.
WRITER = """
import os, sys
import whole_file

def pieces():
    yield b'half'
    print('writing', flush=True)
    sys.stdin.readline()
    yield b' and the rest'

if sys.argv[2] == 'file':
    whole_file.write(sys.argv[1], pieces())
else:
    with whole_file.beside(sys.argv[1]) as made, open(made, 'wb') as file:
        file.writelines(pieces())
"""


@pytest.fixture
def writer(tmp_path):
    """writer(path, way): a process that has written half of a file."""
    started = []

    def call(path, way):
        process = subprocess.Popen(
            [sys.executable, '-c', WRITER, path, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': str(LIB)},
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == b'writing\n'
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize('way', ['file', 'beside'])
def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there(writer, way, tmp_path):
    killed = writer(tmp_path / 'weights', way)
    killed.kill()
    killed.wait()
    (left,) = os.listdir(tmp_path)
    assert left.startswith('.weights.') and left.endswith('.half-written')
    whole_file.write(tmp_path / 'other', b'new')
    assert os.listdir(tmp_path) == ['other']


@pytest.mark.parametrize('way', ['file', 'beside'])
def test_what_another_process_is_writing_stays(writer, way, tmp_path):
    other = writer(tmp_path / 'weights', way)
    whole_file.write(tmp_path / 'mine', b'new')
    assert remove_leftovers(tmp_path) == []
    other.communicate(b'go on\n')
    assert other.returncode == 0
    assert (tmp_path / 'weights').read_bytes() == b'half and the rest'
    assert sorted(os.listdir(tmp_path)) == ['mine', 'weights']


def test_what_this_process_is_writing_stays_too(tmp_path):
    file, name = begin(str(tmp_path / 'a'))
    descriptor, folder = begin_folder(str(tmp_path / 'b'))
    assert remove_leftovers(tmp_path) == []
    file.close()
    os.close(descriptor)
    assert remove_leftovers(tmp_path) == [name, folder]


def test_files_of_others_stay(tmp_path):
    names = ['.a.12345678.tmp', 'a.part', 'a.half-written', '.hidden', 'half-written']
    for name in names:
        (tmp_path / name).write_text('of somebody else')
    (tmp_path / '.link.half-written').symlink_to('.hidden')
    whole_file.write(tmp_path / 'new', b'')
    assert sorted(os.listdir(tmp_path)) == sorted([*names, '.link.half-written', 'new'])


def test_a_writer_whose_new_file_was_taken_for_a_leftover_makes_another(tmp_path, monkeypatch):
    """Between making a file and locking it, another process may come by."""
    import fcntl

    flock, taken = fcntl.flock, []

    def late(descriptor, operation):
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, 'flock', late)
    whole_file.write(tmp_path / 'file', b'new')
    assert len(taken) == 1 and (tmp_path / 'file').read_bytes() == b'new'
    assert os.listdir(tmp_path) == ['file']


EARLIER = [
    '.vgg16_iter_9.caffemodel.0123abcd.tmp', 'proposals.h5.4711.tmp', 'proposals.h5.4711.boxes', 'results.json.12.tmp',
    'detections.npz.part', 'train.prototxt.part', 'loss.part.png',
]  # fmt: skip
OTHERS = ['VOC2007.tgz.part', 'weights.caffemodel.part', 'notes.tmp', '.x.tmp', 'a.0123abcd.tmp', 'clip.mp4.12.tmp']


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells who has a file open')
def test_what_earlier_versions_left_is_removed_unless_somebody_has_it_open(tmp_path):
    for name in [*EARLIER, *OTHERS]:
        (tmp_path / name).write_bytes(b'half')
    reading = 'import sys; f = open(sys.argv[1], "r+b"); print("open", flush=True); sys.stdin.readline()'
    command = [sys.executable, '-c', reading, str(tmp_path / EARLIER[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b'open\n'
        whole_file.write(tmp_path / 'new', b'new')
        assert sorted(os.listdir(tmp_path)) == sorted([*OTHERS, EARLIER[0], 'new'])
        other.communicate(b'\n')
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*OTHERS, 'new'])
