"""What happens to the processes of a command when a terminal, a disk, a reader or the command itself goes away."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import pytest
from commands import ROOT, SMALL

NET = SMALL / 'fast_rcnn_ohem' / 'test.prototxt'
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT / 'lib'), 'OMP_NUM_THREADS': '1'}


def training(tiny, tmp_path, *settings, iters=2):
    """The command of a small training."""
    return [
        sys.executable, 'tools/train_net.py', '--gpu', 'cpu', '--solver',
        str(SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'), '--imdb', f'folder:{tiny}:train', '--iters', str(iters),
        '--cfg', 'experiments/cfgs/demo_ohem.yml', '--set', 'ROOT_DIR', str(tmp_path), 'EXP_DIR', 'e',
        'TRAIN.SCALES', '(120,)', *settings,
    ]  # fmt: skip


_started: list[subprocess.Popen] = []


def start(command, **more):
    """The process, in a group of its own as a shell's jobs are."""
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, text=True, start_new_session=True, **more)
    _started.append(process)
    return process


@pytest.fixture(autouse=True)
def ended():
    """No test that fails leaves a training of a million iterations behind."""
    yield
    while _started:
        process = _started.pop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(process, text):
    """What a process says up to a line with `text`."""
    said = ''
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f'{text!r} was never said:\n{said}')


def members(group):
    """Processes of a group that are alive (Linux)."""
    found = []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError), open(f'/proc/{entry}/stat', encoding='ascii', errors='replace') as stream:
            state, _, of_group = stream.read().rpartition(')')[2].split()[:3]
            if int(of_group) == group and state != 'Z':
                found.append(int(entry))
    return found


def assert_all_end(group):
    """Waits until all processes of a group have ended; those that do not within two minutes are killed."""
    limit = time.monotonic() + 120
    while members(group) and time.monotonic() < limit:
        time.sleep(0.05)
    left = members(group)
    for each in left:
        os.kill(each, signal.SIGKILL)
    assert not left, 'processes live on'


# -- standard error and output


@pytest.mark.parametrize('redirection', ['2>&-', '>&- 2>&-', '2>/dev/full', '>/dev/full 2>&1', '2>&1 | head -c 1000'])
def test_training_goes_on_without_its_log(tiny, tmp_path, redirection):
    if '/dev/full' in redirection and not os.path.exists('/dev/full'):
        pytest.skip('no /dev/full')
    script = f'set -o pipefail; "$@" {redirection}'
    done = subprocess.run(
        ['bash', '-c', script, 'bash', *training(tiny, tmp_path)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob('output/e/*')
    assert (folder / 'small_fast_rcnn_ohem_iter_2.caffemodel').is_file()


# -- signals


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_snapshot_is_taken_when_a_terminal_closes_or_a_batch_system_stops_all(tiny, tmp_path, number):
    command = training(tiny, tmp_path, 'TRAIN.USE_PREFETCH', 'True', 'TRAIN.PREFETCH_WORKERS', '1', iters=10**6)
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(process, 'Iteration 0, loss')
    os.killpg(process.pid, number)  # as a terminal or a batch system does: to the workers too
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 130, said[-2000:]
    assert re.search(r'interrupted at iteration \d+; to go on, resume from \S+\.solverstate', said)
    assert 'Traceback' not in said
    assert_all_end(process.pid)


def test_a_hang_up_that_is_to_be_ignored_is_ignored(tiny, tmp_path):
    process = start(['nohup', *training(tiny, tmp_path, iters=5)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(process, 'Iteration 0, loss')
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=300)
    assert process.returncode == 0


@pytest.mark.parametrize('tool', ['train_net', 'test_net', 'make_proposals', 'caffe'])
def test_ctrl_c_while_a_tool_starts(tool, tiny, tmp_path):
    """At several places on the way, some of them within imports."""
    commands = {
        'train_net': training(tiny, tmp_path, iters=10**6),
        'test_net': [sys.executable, 'tools/test_net.py', '--gpu', 'cpu', '--def', str(NET), '--net', 'x', '--wait'],
        'caffe': [sys.executable, '-m', 'caffe', 'device'],
        'make_proposals': [sys.executable, 'tools/make_proposals.py', '--imdb', f'folder:{tiny}:train', '--help'],
    }
    # that a part of this package has been imported, or what is printed
    marks = {
        'train_net': [' argparse', ' numpy.', ' torch.', ' cv2.', ' detection_data.factory'],
        'test_net': ['Waiting for x'],
        'make_proposals': [' argparse'],
        'caffe': [' google.', ' numpy.', ' torch.', ' caffe.command.flags'],
    }
    for mark in marks[tool]:
        command = [sys.executable, '-u', '-X', 'importtime', *commands[tool][1:]]
        process = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        until(process, mark)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 130, said[-2000:]
        assert 'Traceback' not in said
        assert 'interrupted' in said or 'resume from' in said


def test_ctrl_c_twice_in_training(tiny, tmp_path):
    command = training(tiny, tmp_path, 'TRAIN.USE_PREFETCH', 'True', 'TRAIN.PREFETCH_WORKERS', '2', iters=10**6)
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(process, 'Iteration 0, loss')
    os.killpg(process.pid, signal.SIGINT)
    until(process, 'Finishing this step, then a snapshot')
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 130, said[-2000:]
    assert 'Traceback' not in said
    assert re.search(r'^train_net\.py: interrupted', said, re.M)
    assert_all_end(process.pid)


def processor_seconds(processes):
    """What these have had of the processor, all together."""
    ticks = 0
    for pid in processes:
        with contextlib.suppress(OSError), open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as stream:
            ticks += sum(map(int, stream.read().rpartition(')')[2].split()[11:13]))
    return ticks / os.sysconf('SC_CLK_TCK')


def proposing(data, jobs, **streams):
    """make_proposals, in the middle of making them all: itself, the resource tracker and a worker are there."""
    for path in (data / 'proposals').glob('*'):
        path.unlink()
    command = [
        sys.executable, 'tools/make_proposals.py', '--imdb', f'folder:{data}:train',
        '--method', 'selective_search_quality', '--jobs', str(jobs),
    ]  # fmt: skip
    process = start(command, **streams)
    limit = time.monotonic() + 120
    while len(members(process.pid)) < 3 and time.monotonic() < limit:
        time.sleep(0.02)
    assert len(members(process.pid)) >= 3
    return process


def test_ctrl_c_in_make_proposals_is_answered_at_once_and_a_second_one_ends_it(tiny_copy):
    for path in (tiny_copy / 'JPEGImages').glob('*'):  # of which each takes half a minute
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (1600, 1200)))
    process = proposing(tiny_copy, jobs=1, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    limit = time.monotonic() + 120
    while processor_seconds(set(members(process.pid)) - {process.pid}) < 4 and time.monotonic() < limit:
        time.sleep(0.05)  # longer than all imports take: the worker is within the first image
    os.killpg(process.pid, signal.SIGINT)
    until(process, 'finishing the images at work; Ctrl-C again to stop at once')
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert said.startswith('make_proposals.py: interrupted\n')
    assert 'Traceback' not in said  # Python's resource tracker may warn of semaphores, which the system takes back
    assert_all_end(process.pid)
    assert not list((tiny_copy / 'proposals').glob('*.h5'))


# -- killed


@pytest.mark.skipif(not os.path.exists('/proc/self/stat'), reason='reads /proc')
def test_workers_end_with_make_proposals_however_it_ends(tiny_copy):
    process = proposing(tiny_copy, jobs=2, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process.kill()
    process.wait()
    assert_all_end(process.pid)


# -- two of them


def test_a_second_training_in_one_folder_is_refused(tiny, tmp_path):
    first = start(training(tiny, tmp_path, iters=10**6), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(first, 'Iteration 0, loss')
    second = subprocess.run(
        training(tiny, tmp_path), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=300)
    assert second.returncode == 1
    assert f'process {first.pid} on' in second.stderr and 'trains here already' in second.stderr
    assert second.stderr.count('error:') == 1 and 'Traceback' not in second.stderr
    assert not list(tmp_path.glob('output/e/*/*.lock'))


# -- another Caffe


def test_the_sources_of_a_caffe_that_is_not_built_are_named(tmp_path):
    package = tmp_path / 'caffe' / 'python' / 'caffe'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text('from .pycaffe import Net\n')
    (package / 'pycaffe.py').write_text('from ._caffe import Net\n')  # as BVLC Caffe's does
    (tmp_path / 'x').write_text('')
    done = subprocess.run(
        [sys.executable, 'tools/train_net.py', '--gpu', 'cpu', '--solver', str(tmp_path / 'x')],
        cwd=ROOT, env={**ENVIRONMENT, 'PYTHONPATH': str(package.parent)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    assert f'caffe was found in {package.parent}, a Caffe that is not built' in done.stderr
    assert 'Traceback' not in done.stderr
