"""The threads that torch computes with: how they wait for each other, and how many there are.

A thread of GNU's OpenMP that waits spins first, for milliseconds: none of them is lost on an idle machine. Where
another program has work too, the thread that is waited for does not run while the others spin in its place: a layer of
a tenth of a millisecond takes tens of them (docs/performance.md). So ours spin briefly, and sleep then.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import re
import sys
from pathlib import Path

from caffe.glog import warn_once

# What a user may have set: OpenMP's own word for it, GNU's, and LLVM's and Intel's
_HOW_TO_WAIT = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME', 'KMP_LIBRARY')
_HOW_MANY = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')
_SPINS = '2000'  # some microseconds: about as long as threads of one layer wait for each other on an idle machine
_QUOTA_FILES = ('/sys/fs/cgroup/cpu.max', '/sys/fs/cgroup/cpu/cpu.cfs_quota_us', '/sys/fs/cgroup/cpu/cpu.cfs_period_us')


def how_to_wait_is_open() -> bool:
    """Whether torch is not loaded yet, and the user has not set how its threads are to wait."""
    return 'torch' not in sys.modules and not any(name in os.environ for name in _HOW_TO_WAIT)


def load_torch_with_threads_that_spin_briefly() -> None:
    """Loads torch; its threads sleep soon when they wait. OpenMP reads how they are to, once, when it is loaded."""
    os.environ['GOMP_SPINCOUNT'] = _SPINS
    try:
        importlib.import_module('torch')
    finally:
        del os.environ['GOMP_SPINCOUNT']  # other programs that this one starts are not ours to tell


def use_no_more_threads_than_allowed() -> None:
    """Has torch take as many threads as the control group's share of the processor allows, unless the user says.

    A container may run for two cores' worth of time on a machine of sixty-four: torch would start sixty-four threads.
    """
    import torch

    given = {name: os.environ[name] for name in _HOW_MANY if name in os.environ}
    wrong = [name for name, value in given.items() if not re.match(r'\s*0*[1-9]\d*\s*(,|$)', value)]
    for name in wrong:  # OpenMP takes as many as there are cores then
        warn_once(
            f'{name} is {given[name]!r}; expected a number of threads, such as 1: it has no effect', 'common.cpp:1'
        )
    allowed = cores_allowed()
    if allowed < torch.get_num_threads() and len(wrong) == len(given):
        torch.set_num_threads(max(1, math.ceil(allowed)))


def cores_allowed(root: str = '/') -> float:
    """How many cores' time this process's control group may use; infinity where nothing limits it.

    `root`: where the system's files are looked for.
    """
    version_2, quota_file, period_file = (Path(root, name.lstrip('/')) for name in _QUOTA_FILES)
    for read in (
        lambda: version_2.read_text('ascii').split(),
        lambda: [quota_file.read_text('ascii'), period_file.read_text('ascii')],
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file; 'max' is no number
            quota, period = (int(word) for word in read())
            if quota > 0 and period > 0:
                return quota / period
    return math.inf
