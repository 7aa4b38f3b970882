"""No raw exception, crash, hang or gigabyte over damaged files, nothing lost by signals, and a server that stands."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def ends_well(*command):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_damaged_files_of_every_kind():
    ends_well(HERE / 'reading.py', '--inputs', 20000)


@pytest.mark.slow
def test_a_training_stopped_at_each_of_its_writes():
    ends_well(HERE / 'killing.py')


@pytest.mark.parametrize('kind', ['binaryproto', 'settings_yml', 'labels_coco'])
def test_some_damaged_files(kind):
    ends_well(HERE / 'reading.py', '--kinds', kind, '--inputs', 60)


@pytest.mark.slow
def test_bad_requests_of_every_kind():
    pytest.importorskip('uvicorn')
    ends_well(HERE / 'bad_requests.py')


def test_some_bad_requests():
    pytest.importorskip('uvicorn')
    kinds = ['truncated', 'flipped_bits', 'wrong_type', 'huge_body', 'form', 'bad_http']
    ends_well(HERE / 'bad_requests.py', '--count', 30, '--kinds', *kinds)
