"""How torch's threads wait, and how many there are, after `import caffe`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from caffe.process import threads

LIB = Path(__file__).parents[2] / 'lib'


def _openmp_after_import(**settings: str) -> tuple[str, str]:
    """What OpenMP says of its settings when a new process imports caffe, and what that prints."""
    mine = ('OMP_', 'GOMP_', 'KMP_')
    env = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    env |= {'PYTHONPATH': str(LIB), 'OMP_DISPLAY_ENV': 'verbose', **settings}
    code = 'import os, caffe; print(os.environ.get("GOMP_SPINCOUNT"))'
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True)
    if 'OPENMP DISPLAY ENVIRONMENT' not in done.stderr.upper():
        pytest.skip('this torch is not linked with an OpenMP that says what its settings are')
    return done.stderr.upper(), done.stdout.strip()


def test_threads_spin_briefly_and_programs_started_later_are_not_told():
    said, left = _openmp_after_import()
    assert "GOMP_SPINCOUNT = '2000'" in said
    assert left == 'None'


def test_what_the_user_has_set_stays():
    said, left = _openmp_after_import(GOMP_SPINCOUNT='77')
    assert "GOMP_SPINCOUNT = '77'" in said
    assert left == '77'
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in _openmp_after_import(OMP_WAIT_POLICY='active')[0]


@pytest.mark.parametrize(
    'files, cores',
    [
        ({'cpu.max': '150000 100000\n'}, 1.5),
        ({'cpu.max': 'max 100000\n'}, float('inf')),
        ({'cpu.max': ''}, float('inf')),
        ({'cpu/cpu.cfs_quota_us': '400000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 4),
        ({'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, float('inf')),
        ({}, float('inf')),
    ],
    ids=[
        'version 2',
        'version 2 without a limit',
        'an empty file',
        'version 1',
        'version 1 without a limit',
        'no files',
    ],
)
def test_a_control_group_says_how_many_cores_it_allows(tmp_path, files, cores):
    folder = tmp_path / 'sys' / 'fs' / 'cgroup'
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert threads.cores_allowed(str(tmp_path)) == cores


@pytest.fixture
def four_threads(monkeypatch):
    before = torch.get_num_threads()
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize('allowed, expected', [(1.5, 2), (0.5, 1), (float('inf'), 4), (8, 4)])
def test_there_are_no_more_threads_than_cores_allowed(monkeypatch, four_threads, allowed, expected):
    monkeypatch.setattr(threads, 'cores_allowed', lambda: allowed)
    threads.use_no_more_threads_than_allowed()
    assert torch.get_num_threads() == expected


@pytest.mark.parametrize('value', ['abc', '', '0', '-2', '1x'])
def test_a_number_of_threads_that_is_none_is_told_and_passed_over(monkeypatch, four_threads, capfd, value):
    monkeypatch.setenv('OMP_NUM_THREADS', value)
    monkeypatch.setattr(threads, 'cores_allowed', lambda: 1)
    threads.use_no_more_threads_than_allowed()
    assert torch.get_num_threads() == 1
    assert f'OMP_NUM_THREADS is {value!r}; expected a number of threads' in capfd.readouterr().err


def test_a_number_of_threads_that_the_user_has_set_stays(monkeypatch, four_threads):
    monkeypatch.setenv('OMP_NUM_THREADS', '4')
    monkeypatch.setattr(threads, 'cores_allowed', lambda: 1)
    threads.use_no_more_threads_than_allowed()
    assert torch.get_num_threads() == 4
