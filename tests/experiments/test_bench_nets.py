"""experiments/bench_nets.py: that it measures and reports; no test asserts a time."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / 'experiments' / 'bench_nets.py'


def _run(*flags: str) -> subprocess.CompletedProcess:
    net = [] if '--start-up' in flags else ['--net', 'CIFAR-quick']
    command = [sys.executable, str(SCRIPT), *net, '--rounds', '1', '--seconds', '0.01', *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_line_for_each_part_with_others_at_work():
    done = _run('--busy', '1', '--processor')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [['CIFAR-quick', part] for part in ('forward', 'backward', 'step')]
    assert all(re.fullmatch(r' +\d+\.\d\d \( *\d+\.\d\)', line[22:]) for line in lines), lines


def test_the_time_to_load_a_net_of_1000_layers_and_its_weights():
    done = _run('--net', 'residual', '--loading', '--processor')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[1:]
    assert [line[:22].strip().split(maxsplit=1) for line in lines] == [['residual', 'the net'], ['residual', 'weights']]


def test_what_starting_takes_beside_importing_torch():
    done = _run('--start-up')
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()[1:]
    assert first.startswith('import torch') and first.endswith(' 1.00')
    assert [line[:20].strip() for line in others] == ['import caffe', 'train_net.py --help']


def test_a_python_whose_caffe_is_ours_is_no_original():
    done = _run('--original', sys.executable)
    assert done.returncode == 1
    assert 'an original Caffe was wanted; `import caffe` found' in done.stderr


def test_a_command_that_is_not_there_is_named():
    done = _run('--original', 'no-such-python')
    assert done.returncode == 1
    assert done.stderr == "bench_nets.py: error: --original: there is no command 'no-such-python'\n"


def test_flags_that_do_not_go_together_are_refused():
    done = _run('--start-up', '--busy', '2')
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == 'bench_nets.py: error: --start-up goes with --rounds alone'
    assert '--rounds is 0; expected 1 or more' in _run('--rounds', '0').stderr
