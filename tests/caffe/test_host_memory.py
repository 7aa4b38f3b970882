"""Freed memory stays in the process, unless the user has settings of his own."""

import os
import subprocess
import sys

import pytest

CODE = """
import resource, statistics, {imports}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(16 * 2**20).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(int(statistics.median(faults() for _ in range(9))))
"""


def page_faults(imports='torch, caffe', **environment) -> int:
    """The pages that the system has to clear when 64 MiB are taken once more: the median of nine times.

    The median, since a small block may have come to lie in the gap that the last 64 MiB left.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_') and k != 'GLIBC_TUNABLES'}
    done = subprocess.run(
        [sys.executable, '-c', CODE.replace('{imports}', imports)],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, **environment},
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason="glibc's allocator is told")
def test_memory_that_was_freed_is_taken_again_without_a_page_fault():
    assert page_faults() < 100  # 64 MiB are 16384 pages of 4 KiB


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason="glibc's allocator is told")
def test_very_large_memory_is_taken_in_huge_pages_where_caffe_comes_before_torch():
    assert page_faults('caffe, torch') < 2000  # 32 pages of 2 MiB, or the same memory again


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason="glibc's allocator is told")
def test_settings_of_the_users_own_are_kept():
    assert page_faults(MALLOC_ARENA_TEST='8') > 100
