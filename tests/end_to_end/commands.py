"""The project's commands, run as users run them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SMALL = ROOT / 'models' / 'demo' / 'small'


def run(*command, cwd=ROOT, env=None, status=0):
    """Runs a command of the project, checks its exit status, returns the finished process (text output)."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT / 'lib'), 'GLOG_minloglevel': '0', **(env or {})}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done
