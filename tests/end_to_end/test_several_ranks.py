"""Several ranks do what one process does: training, byte for byte, and what happens when one of them is gone."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, SMALL, run

from detection_data.proposals import Proposals, write_proposals
from fast_rcnn.model_card import read_card

SOLVER = """train_net: "models/demo/small/%s/train.prototxt"
base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 12 momentum: 0.9 weight_decay: 0.0005
display: 1 average_loss: 5 iter_size: %d snapshot: 0 snapshot_prefix: "small"
"""


@pytest.fixture
def solver(tmp_path):
    """solver(iter_size): the demo's OHEM solver, or another net's, with so many passes an iteration."""

    def write(iter_size, net='fast_rcnn_ohem'):
        path = tmp_path / f'solver_{net}_{iter_size}.prototxt'
        path.write_text(SOLVER % (net, iter_size))
        return path

    return write


@pytest.fixture
def command(tiny, tmp_path):
    """command(gpu, iters, solver): tools/train_net.py on the tiny set, as a list of words; files go to `into`."""

    def words(gpu, iters, solver, *flags, into, settings=(), cfg='demo_ohem'):
        gpu = ('--gpu', gpu) if gpu else ()
        return [
            'tools/train_net.py', *gpu, '--solver', solver, '--imdb', f'folder:{tiny}:train', '--iters', iters,
            '--cfg', f'experiments/cfgs/{cfg}.yml', *flags,
            '--set', 'ROOT_DIR', tmp_path / into, 'EXP_DIR', 'e', 'TRAIN.SCALES', '(120,)', 'TRAIN.IMS_PER_BATCH', '1',
            'TRAIN.BATCH_SIZE', '16', 'TRAIN.USE_PREFETCH', 'False', *settings,
        ]  # fmt: skip

    words.folder = lambda into: tmp_path / into / 'output' / 'e' / 'tiny_train'
    return words


def files(folder):
    """What a training left, by name; its record without times and memory, which no two runs share."""
    found = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in ('.caffemodel', '.solverstate')
    }
    found['record'] = [
        {k: v for k, v in json.loads(line).items() if k not in ('seconds', 'memory', 'sent_mb', 'as_matrices_mb')}
        for line in (folder / 'small_record.jsonl').read_text().splitlines()
    ]
    return found


def in_state(folder, name):
    """The bytes of a .solverstate, without the folder that it names."""
    return files(folder)[name].replace(str(folder).encode(), b'')


def assert_same(a, b):
    one, two = files(a), files(b)
    assert set(one) == set(two)
    for name in one:
        if name.endswith('.solverstate'):
            assert in_state(a, name)[8:] == in_state(b, name)[8:], name
        else:
            assert one[name] == two[name], name


AUGMENT = (
    'TRAIN.AUGMENT.SCALE_JITTER', '(0.7, 1.3)', 'TRAIN.AUGMENT.CROP', '0.6', 'TRAIN.AUGMENT.TURN', 'True',
    'TRAIN.AUGMENT.COLOUR', '0.2', 'TRAIN.AUGMENT.HUE', '5', 'TRAIN.AUGMENT.BLUR', '0.8',
)  # fmt: skip


@pytest.mark.parametrize('settings', [(), AUGMENT], ids=['plain', 'augmented'])
def test_two_ranks_leave_the_files_of_one_process_byte_for_byte(settings, command, solver):
    one = run(*command('cpu', 4, solver(2), into='run1', settings=settings))
    two = run(*command('cpu:2', 4, solver(2), into='run2', settings=settings))
    assert_same(command.folder('run1'), command.folder('run2'))
    lines = [re.findall(r'Iteration \d+, (?:loss|lr) = .*', done.stderr) for done in (one, two)]
    assert lines[0] == lines[1] and len(lines[0]) == 8
    assert two.stdout.count('Wrote snapshot to') == 1 and '[rank 1' not in two.stderr


@pytest.mark.slow
def test_two_ranks_validate_as_one_process_does(command, solver, tiny):
    """The images are dealt, the best model is the same file; and the training ends as without a validation."""
    val = ('--val', f'folder:{tiny}:test', '--def', SMALL / 'fast_rcnn_ohem' / 'test.prototxt')
    every = ('TRAIN.VAL_ITERS', '2', 'TRAIN.SNAPSHOT_ITERS', '2')
    run(*command('cpu', 4, solver(4), *val, into='one', settings=every))
    run(*command('cpu:2', 4, solver(4), *val, into='two', settings=every))
    run(*command('cpu:2', 4, solver(4), into='non', settings=every))
    one, two, none = (files(command.folder(into)) for into in ('one', 'two', 'non'))

    def validated(found):
        return [
            {k: v for k, v in line.pop('val').items() if k != 'seconds'} for line in found['record'] if 'val' in line
        ]

    first, second = validated(one), validated(two)
    assert first == second and [each['iteration'] for each in first] == [2, 4]
    assert one.pop('small_best.caffemodel') == two.pop('small_best.caffemodel')
    assert none['record'] == one['record'] == two['record']
    models = [{name: content for name, content in each.items() if name.endswith('.caffemodel')} for each in (one, none)]
    assert models[0] == models[1] and len(models[0]) == 4


def test_twenty_iterations_of_the_demo_with_torchrun_and_two_passes_a_rank(command, solver):
    run(*command('cpu', 20, solver(4), into='run1'))
    run(
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc-per-node',
        2,
        *command('cpu', 20, solver(4), into='run2'),
    )
    assert_same(command.folder('run1'), command.folder('run2'))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('net', 'cfg', 'settings'),
    [
        ('faster_rcnn_end2end', 'demo_faster_rcnn', ()),
        ('faster_rcnn_end2end_ohem', 'demo_faster_rcnn_ohem', ()),
        ('fast_rcnn_adv', 'demo_adv', ()),
        ('fast_rcnn_ohem_adv', 'demo_ohem_adv', ()),
        ('fast_rcnn_ohem', 'demo_ohem', ('TRAIN.USE_PREFETCH', 'True')),
        (
            'fast_rcnn_ohem',
            'demo_ohem',
            ('TRAIN.AUGMENT.SCALE_JITTER', '[0.8, 1.25]', 'TRAIN.AUGMENT.COLOUR', '0.3', 'TRAIN.USE_PREFETCH', 'True'),
        ),
    ],
    ids=['faster', 'faster-ohem', 'adversary', 'ohem-adversary', 'loader-processes', 'augmentation'],
)
def test_twenty_iterations_of_every_kind_of_training(command, solver, net, cfg, settings):
    run(*command('cpu', 20, solver(2, net), into='run1', cfg=cfg, settings=settings))
    run(*command('cpu:2', 20, solver(2, net), into='run2', cfg=cfg, settings=settings))
    assert_same(command.folder('run1'), command.folder('run2'))
    assert len(files(command.folder('run1'))['record']) == 20


def test_passes_that_do_not_divide_are_refused_once(command, solver):
    done = run(*command('cpu:2', 2, solver(3), into='run'), status=1)
    (line,) = [line for line in done.stderr.splitlines() if 'error' in line]
    assert 'an iteration has 3 passes (iter_size), which cannot be dealt to 2 ranks: start 1 or 3' in line
    assert 'iter_size 2, 4' in line and '--scale_batch' in line


def test_scale_batch(command, solver):
    """Each rank makes a mini-batch of its own: half the iterations, twice the rate, the step at 6 instead of 12."""
    run(*command('cpu:2', 14, solver(1), '--scale_batch', into='run'))
    folder = command.folder('run')
    record = files(folder)['record']
    assert [line['iteration'] for line in record] == list(range(7))
    assert all(line['images'] == 2 and line['scale_batch'] == 2 for line in record)
    assert [line['lr'] for line in record] == pytest.approx([0.02] * 6 + [0.002])
    assert (folder / 'small_iter_7.caffemodel').exists()
    assert 'base_lr: 0.02' in (folder / 'small_solver.prototxt').read_text()
    assert read_card(str(folder / 'small_iter_7.caffemodel')).scale_batch == 2
    state = folder / 'small_resume_iter_7.solverstate'
    done = run(*command('cpu', 20, solver(1), '--snapshot', state, into='run'), status=1)
    (line,) = errors(done.stderr)
    assert 'trained with mini-batches of 2 ranks (--scale_batch); this run has mini-batches as the solver says' in line
    assert '--weights' in line and (folder / 'small_iter_7.caffemodel').exists()


class Job:
    """A command under way: its process, and its ranks' processes."""

    def __init__(self, words, env=None):
        self.process = subprocess.Popen(
            [sys.executable, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, 'PYTHONPATH': str(ROOT / 'lib'), 'GLOG_minloglevel': '0', 'RANKS_TEST': str(id(self)),
                 **(env or {})},
        )  # fmt: skip
        self.lines = []

    def wait_for(self, text):
        """Reads standard error up to the line that has this text."""
        for line in self.process.stderr:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError(f'{text!r} never came: {self.lines}')

    def rank(self, number):
        """The process id of a rank."""
        for pid in self.ranks():
            if f'\0RANK={number}\0' in '\0' + environment(pid):
                return pid
        raise AssertionError(f'no rank {number} among {self.ranks()}')

    def ranks(self):
        mine = f'\0RANKS_TEST={id(self)}\0'
        return [pid for pid in processes() if mine in '\0' + environment(pid) and '\0RANK=' in '\0' + environment(pid)]

    def end(self):
        """Waits for the end. Returns status and standard error."""
        _, rest = self.process.communicate(timeout=300)  # against hanging
        return self.process.returncode, ''.join(self.lines) + rest


def environment(pid):
    try:
        with open(f'/proc/{pid}/environ', encoding='utf-8', errors='replace') as file:
            return file.read()
    except OSError:
        return ''


def processes():
    return [int(name) for name in os.listdir('/proc') if name.isdigit()]


@pytest.fixture
def start(command, solver):
    """start(iters, *flags): a training by two ranks under way, past its third iteration."""
    if not os.path.isdir('/proc'):
        pytest.skip('finds ranks by /proc')
    jobs = []

    def begin(iters=100000, *flags, into='run', settings=()):
        job = Job(command('cpu:2', iters, solver(2), *flags, into=into, settings=settings))
        jobs.append(job)
        job.wait_for('Iteration 3, loss')
        return job

    yield begin
    for job in jobs:
        for pid in job.ranks():
            os.kill(pid, signal.SIGKILL)
        job.process.kill()


def errors(text):
    return [line for line in text.splitlines() if 'error' in line]


@pytest.mark.parametrize('number', [0, 1])
def test_a_rank_that_is_killed_ends_the_job_with_one_message(start, number):
    job = start()
    os.kill(job.rank(number), signal.SIGKILL)
    status, text = job.end()
    assert status == 1
    (line,) = errors(text)
    assert re.search(rf'rank {number} on \S+ was killed by signal 9 \(SIGKILL\), as the system does when memory', line)
    assert job.ranks() == []


def test_a_rank_that_stands_still_ends_the_job(start):
    job = start()
    os.kill(job.rank(1), signal.SIGSTOP)
    status, text = job.end()
    assert status == 1
    (line,) = errors(text)
    assert re.search(r'rank 1 on \S+ (has not answered for|gets on no more)', line)
    assert job.ranks() == []


@pytest.mark.parametrize('number', [0, 1])
def test_a_rank_without_memory_ends_the_job_with_one_message(start, command, number):
    """It may have no more than it has."""
    job = start()
    resource.prlimit(job.rank(number), resource.RLIMIT_AS, (2**20, 2**20))
    status, text = job.end()
    assert status not in (0, 130)
    (line,) = errors(text)
    assert re.search(rf'rank {number} on \S+', line) and re.search('(?i)memory|alloc|killed by signal', line), line
    assert job.ranks() == []
    assert not [path for path in command.folder('run').rglob('*') if 'half-written' in path.name]


def listening(pid):
    """The addresses, in hexadecimal, at which a process listens (proc(5): state 0A)."""
    sockets = set()
    for file in os.listdir(f'/proc/{pid}/fd'):
        with contextlib.suppress(OSError):  # closed meanwhile
            found = re.fullmatch(r'socket:\[(\d+)\]', os.readlink(f'/proc/{pid}/fd/{file}'))
            sockets |= {found[1]} if found else set()
    tables = [Path(f'/proc/{pid}/net/{name}').read_text().splitlines()[1:] for name in ('tcp', 'tcp6')]
    rows = [row.split() for table in tables for row in table]
    return [row[1].partition(':')[0] for row in rows if row[3] == '0A' and row[9] in sockets]


def test_on_one_machine_nobody_else_can_reach_the_ranks(start):
    """They listen at 127.0.0.1 alone, and that is 0100007F in /proc."""
    job = start()
    places = [listening(pid) for pid in job.ranks()]
    assert all(places) and {address for each in places for address in each} == {'0100007F'}


def test_ranks_end_with_their_launcher(start):
    job = start()
    job.process.kill()
    job.process.wait()
    until = time.monotonic() + 120
    while job.ranks() and time.monotonic() < until:
        time.sleep(0.1)
    assert job.ranks() == []


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_all_finish_the_same_iteration_and_one_snapshot_is_written(start, command, number):
    job = start()
    job.process.send_signal(number)
    status, text = job.end()
    assert status == 130
    (said,) = re.findall(r'interrupted at iteration (\d+); to go on', text)
    assert text.count('Finishing this step, then a snapshot') == 1 and not errors(text)
    assert [path.name for path in command.folder('run').glob('small_iter_*')] == [f'small_iter_{said}.caffemodel']
    assert job.ranks() == []


@pytest.mark.parametrize('what', ['setting', 'labels', 'proposals'])
def test_a_rank_that_starts_from_something_else_is_named(command, solver, tiny, tiny_copy, what):
    """What a launcher on another machine might do: the same command with another setting, or other files."""
    words = command(None, 4, solver(2), into='run')
    other = [*words, 'TRAIN.FG_THRESH', '0.625'] if what == 'setting' else [
        str(word).replace(str(tiny), str(tiny_copy)) for word in words
    ]  # fmt: skip
    if what == 'labels':
        first = (tiny_copy / 'ImageSets' / 'Main' / 'train.txt').read_text().split()[0]
        label = tiny_copy / 'Annotations' / f'{first}.xml'
        label.write_text(
            re.sub(r'<xmax>(\d+)<', lambda found: f'<xmax>{int(found[1]) - 1}<', label.read_text(), count=1)
        )
    if what == 'proposals':
        path = tiny_copy / 'proposals' / 'selective_search_train.h5'
        there = Proposals(str(path))
        boxes = [there.of(name) for name in there.image_ids]
        write_proposals(str(path), there.image_ids, [boxes[0][1:], *boxes[1:]], there.method, there.parameters)
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    jobs = [
        Job(said, {'RANK': str(rank), 'WORLD_SIZE': '2', 'LOCAL_RANK': str(rank), 'MASTER_PORT': str(port)})
        for rank, said in enumerate([words, other] if what == 'setting' else [other, words])
    ]
    ends = [job.end() for job in jobs]
    assert all(status for status, _ in ends)
    (line,) = errors(ends[0][1] + ends[1][1])
    named = r'TRAIN.FG_THRESH \(0.5; 0.625\)' if what == 'setting' else r'data set \([0-9a-f]{16}; [0-9a-f]{16}\)'
    assert re.search(f'do not start from the same: {named}. Give all ranks', line), line


@pytest.mark.slow
def test_three_kills_and_restarts_leave_what_an_undisturbed_run_leaves(command, solver, tmp_path):
    settings = ('TRAIN.SNAPSHOT_ITERS', '20')
    run(*command('cpu', 200, solver(2), into='run1', settings=settings))
    words = command('cpu', 200, solver(2), into='run2', settings=settings)
    torchrun = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '--max-restarts', '3')
    job = Job([*torchrun, *words])
    for iteration, victim in ((50, 1), (95, 0), (170, 1)):
        job.wait_for(f'Iteration {iteration}, loss')
        os.kill(job.rank(victim), signal.SIGKILL)
    status, text = job.end()
    assert status == 0, text[-3000:]
    a, b = files(command.folder('run1')), files(command.folder('run2'))
    assert set(a) == set(b) and {name for name in a if a[name] != b[name]} <= {
        n for n in a if n.endswith('.solverstate')
    }
    for name in a:
        if name.endswith('.solverstate'):
            one, two = (in_state(command.folder(f'run{k}'), name)[8:] for k in (1, 2))
            assert one == two, name


def test_testing_by_two_ranks_finds_the_same_byte_for_byte(command, solver, tiny, tmp_path):
    run(*command('cpu', 2, solver(2), into='run'))
    model = command.folder('run') / 'small_iter_2.caffemodel'
    found = {}
    for gpu in ('cpu', 'cpu:2'):
        folder = tmp_path / gpu.replace(':', '_')
        done = run(
            'tools/test_net.py', '--gpu', gpu, '--def', SMALL / 'fast_rcnn_ohem' / 'test.prototxt', '--net', model,
            '--imdb', f'folder:{tiny}:test', '--cfg', 'experiments/cfgs/demo_ohem.yml', '--det_thresh', '0.0',
            '--set', 'ROOT_DIR', folder, 'EXP_DIR', 'e', 'TEST.SCALES', '(120,)',
        )  # fmt: skip
        found[gpu] = {path.name: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
        assert len(re.findall('^im_detect: 3 images', done.stdout, re.M)) == 1
    assert {'detections.npz', 'results.json'} <= set(found['cpu'])
    assert found['cpu'] == found['cpu:2']


def test_proposals_and_their_recall_by_two_ranks_are_those_of_one(tiny, tmp_path):
    torchrun = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2)
    copy = shutil.copytree(tiny, tmp_path / 'copy', ignore=shutil.ignore_patterns('proposals'))
    run(*torchrun, 'tools/make_proposals.py', '--imdb', f'folder:{copy}:train', '--jobs', 1)
    name = 'proposals/selective_search_train.h5'
    one, two = Proposals(str(tiny / name)), Proposals(str(copy / name))
    assert one.image_ids == two.image_ids and one.parameters == two.parameters
    assert all(np.array_equal(one.of(name), two.of(name)) for name in one.image_ids)
    recall = ('tools/eval_recall.py', '--imdb', f'folder:{tiny}:train')
    assert run(*recall).stdout == run(*torchrun, *recall).stdout


@pytest.mark.slow
def test_two_machines_with_a_link_between_them(command, solver):
    """Two network namespaces, one rank in each, over an interface of theirs."""
    if os.geteuid() != 0 or not shutil.which('tc'):
        pytest.skip('network namespaces need root, ip and tc')
    sys.path.insert(0, str(ROOT / 'experiments'))
    from scaling import two_machines

    run(*command('cpu', 6, solver(2), into='run1'))
    words = command(None, 6, solver(2), into='run2')
    with two_machines(1000) as machines:
        running = [
            subprocess.Popen(
                [*machine, sys.executable, *map(str, words)], cwd=ROOT, stderr=subprocess.PIPE, text=True,
                env={**os.environ, 'PYTHONPATH': str(ROOT / 'lib'), 'RANK': str(rank), 'WORLD_SIZE': '2',
                     'LOCAL_RANK': '0', 'LOCAL_WORLD_SIZE': '1', 'MASTER_ADDR': '10.77.0.1', 'MASTER_PORT': '29600',
                     'GLOO_SOCKET_IFNAME': 'wire'},
            )
            for rank, machine in enumerate(machines)
        ]  # fmt: skip
        said = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert_same(command.folder('run1'), command.folder('run2'))
