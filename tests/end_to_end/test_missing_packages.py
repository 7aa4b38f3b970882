"""Every command under a Python that lacks the project's packages: one line that says which environment it needs."""

import os
import re
import subprocess
import sys

import pytest
from commands import ROOT

# -S: no site-packages, so the standard library alone
BARE = [sys.executable, '-S']
COMMANDS = sorted(
    str(path.relative_to(ROOT))
    for folder in ('tools', 'experiments', 'data/scripts')
    for path in (ROOT / folder).glob('*.py')
    if "if __name__ == '__main__':" in path.read_text()
)
# A command that gets past reading its flags needs these to come to its packages
NEEDED = {
    'tools/demo.py': ['x.jpg', '--net', 'README.md'],
    'tools/serve.py': ['--net', 'README.md'],
    'tools/test_net.py': ['--net', 'README.md', '--def', 'README.md'],
    'tools/train_net.py': ['--solver', 'README.md'],
}


@pytest.mark.parametrize('command', COMMANDS)
def test_no_command_ends_in_a_traceback(command):
    done = subprocess.run([*BARE, command, '--help'], cwd=ROOT, capture_output=True, text=True, env=bare())
    if done.returncode:
        assert done.returncode == 1
        assert is_advice(os.path.basename(command), done.stderr)


@pytest.mark.parametrize('command', NEEDED)
def test_a_command_that_reads_its_flags_first_says_the_same(command):
    done = subprocess.run([*BARE, command, *NEEDED[command]], cwd=ROOT, capture_output=True, text=True, env=bare())
    assert done.returncode == 1
    assert is_advice(os.path.basename(command), done.stderr)


def test_from_another_folder_it_names_the_way_there(tmp_path):
    done = subprocess.run(
        [*BARE, ROOT / 'tools/make_proposals.py'], cwd=tmp_path, capture_output=True, text=True, env=bare()
    )
    way = os.path.relpath(ROOT, tmp_path)
    assert f'source {way}/.venv/bin/activate' in done.stderr or f'-r {way}/requirements.txt' in done.stderr


def bare():
    return {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}


def is_advice(prog, said):
    """One line: 'X.py: error: No module named Y: what to do'."""
    todo = (
        "(this needs the project's environment: .*source .*activate|the project's environment lacks it: pip install .*)"
    )
    return re.fullmatch(rf"{prog}: error: No module named '[\w.]+': {todo}\n", said)
