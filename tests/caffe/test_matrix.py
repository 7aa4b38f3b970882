"""Products of large matrices are the same by whichever library, in one part or in many."""

import os
import sys

import pytest
import torch

from caffe import matrix


def matrices(m, k, n):
    torch.manual_seed(0)
    return torch.randn(m, k), torch.randn(n, k).t()


@pytest.mark.parametrize('library', ['openblas', 'onednn', 'torch'])
@pytest.mark.parametrize('shape', [(3, 40, 50), (64, 300, 1000), (1, 7, 2000)])
def test_every_library_gives_the_same(library, shape, monkeypatch):
    if library == 'onednn' and matrix._ONEDNN is None:
        pytest.skip('this torch has no oneDNN')
    monkeypatch.setattr(matrix, 'LIBRARY', library)
    monkeypatch.setattr(matrix, '_LARGE', 1)
    a, b = matrices(*shape)
    want = a.double() @ b.double()
    for left, right in ((a, b), (a.t().contiguous().t(), b.contiguous())):
        torch.testing.assert_close(matrix.multiply(left, right).double(), want, rtol=1e-4, atol=1e-3)
        out = torch.empty(want.shape)
        assert matrix.multiply(left, right, out=out) is out
        torch.testing.assert_close(out.double(), want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('count', [1, 2, 6, 7])
@pytest.mark.parametrize('shape', [(1, 1), (5, 600), (2000, 4096), (9, 1801)])
def test_parts_make_up_the_whole(shape, count):
    whole = torch.zeros(shape)
    for rows, columns in matrix._parts(shape, count):
        whole[rows, columns] += 1
    assert bool((whole == 1).all())


def test_the_number_of_threads_is_torchs(monkeypatch):
    monkeypatch.setattr(matrix, 'LIBRARY', 'openblas')
    monkeypatch.setattr(matrix, '_LARGE', 1)
    a, b = matrices(8, 64, 1024)
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            torch.testing.assert_close(matrix.multiply(a, b), a @ b, rtol=1e-4, atol=1e-4)
            assert matrix._OpenBLAS._count == count
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, 'fork') or sys.platform == 'darwin', reason='no fork')
def test_a_forked_process_multiplies_with_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(matrix, 'LIBRARY', 'openblas')
    monkeypatch.setattr(matrix, '_LARGE', 1)
    a, b = matrices(8, 64, 1024)
    want = matrix.multiply(a, b)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(matrix.multiply(a, b), want) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
