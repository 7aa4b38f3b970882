"""Freed memory stays in the process, unless the user has settings of his own."""

import os
import subprocess
import sys

import pytest

CODE = """
import resource, statistics, torch, caffe
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(16 * 2**20).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(int(statistics.median(faults() for _ in range(9))))
"""


def page_faults(**environment) -> int:
    """The pages that the system has to clear when 64 MiB are taken once more: the median of nine times.

    The median, since a small block may have come to lie in the gap that the last 64 MiB left.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_') and k != 'GLIBC_TUNABLES'}
    done = subprocess.run(
        [sys.executable, '-c', CODE], capture_output=True, text=True, check=True, env={**clean, **environment}
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason="glibc's allocator is told")
def test_memory_that_was_freed_is_taken_again_without_a_page_fault():
    assert page_faults() < 100  # 64 MiB are 16384 pages of 4 KiB


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason="glibc's allocator is told")
def test_settings_of_the_users_own_are_kept():
    assert page_faults(MALLOC_ARENA_TEST='8') > 100
