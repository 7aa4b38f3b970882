"""Freed memory stays in the process, what lasts lies apart, and what is computed on the way in one place."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from caffe.kernels.host_memory import workspace, zeros_with_own_pages

only_linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason="glibc's allocator is told")

CODE = """
import resource, statistics, torch, caffe
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(16 * 2**20).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(int(statistics.quantiles((faults() for _ in range(9)), n=4)[0]))
"""


def page_faults(**environment) -> int:
    """The pages that the system has to clear when 64 MiB are taken once more: the lower quartile of nine times.

    Not the most, since a small block may have come to lie in the gap that the last 64 MiB left. Memory that is handed
    back costs its pages every time.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_') and k != 'GLIBC_TUNABLES'}
    done = subprocess.run(
        [sys.executable, '-c', CODE], capture_output=True, text=True, check=True, env={**clean, **environment}
    )
    return int(done.stdout)


@only_linux
def test_memory_that_was_freed_is_taken_again_without_a_page_fault():
    assert page_faults() < 100  # 64 MiB are 16384 pages of 4 KiB


@only_linux
def test_settings_of_the_users_own_are_kept():
    assert page_faults(MALLOC_ARENA_TEST='8') > 100


def resident() -> int:
    """Bytes of memory that the process has now."""
    with open('/proc/self/statm', encoding='ascii') as stream:
        return int(stream.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@only_linux
def test_lasting_memory_is_zero_comes_with_its_use_and_goes_with_the_tensor():
    zeros_with_own_pages(2**20).fill_(1)  # torch's threads are there now
    before = resident()
    memory = zeros_with_own_pages(64 * 2**20 // 4)
    assert resident() - before < 2**20
    assert memory.numpy().max() == memory.numpy().min() == 0
    view = memory.fill_(1)[5:].numpy()
    assert resident() - before > 60 * 2**20
    del memory
    assert view.min() == view.max() == 1
    del view
    assert resident() - before < 2**22


def test_lasting_memory_of_a_forked_process_is_its_own():
    memory = zeros_with_own_pages(2**20)
    child = os.fork() if hasattr(os, 'fork') else pytest.skip('no fork')
    if child == 0:
        memory.numpy()[:] = 7  # by NumPy: the threads of torch are not there
        os._exit(0)
    os.waitpid(child, 0)
    assert not memory.any()


def test_what_is_taken_together_lies_apart_and_what_follows_lies_there_again():
    with workspace() as allocate:
        a, b = allocate(3, 5).fill_(1), allocate(1000, 7).fill_(2)
        with workspace() as allocate_more:
            c = allocate_more(100).fill_(3)
            place = c.data_ptr()
        with workspace() as allocate_more:
            assert allocate_more(2, 2).data_ptr() == place
        assert (a == 1).all() and (b == 2).all() and (c[4:] == 3).all()


def test_a_workspace_ends_with_an_error():
    with workspace() as allocate:
        place = allocate(16).data_ptr()
    with pytest.raises(KeyError), workspace() as allocate:
        allocate(16)
        raise KeyError
    with workspace() as allocate:
        assert allocate(16).data_ptr() == place


def test_a_workspace_where_addresses_are_few(monkeypatch):
    from caffe.kernels import host_memory

    monkeypatch.setattr(host_memory._Stack, 'numbers', 0)
    monkeypatch.setattr(host_memory, '_stack', host_memory._Stack())
    with workspace() as allocate:
        a, b = allocate(4, 2).fill_(1), allocate(3).fill_(2)
    np.testing.assert_array_equal(a, np.ones((4, 2)))
    assert b.shape == (3,) and isinstance(b, torch.Tensor)
