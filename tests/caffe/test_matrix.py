"""Products of large matrices are the same by whichever library, for any layout."""

import pytest
import torch

from caffe import matrix


@pytest.mark.parametrize('by_onednn', [False, True])
@pytest.mark.parametrize('shape', [(3, 40, 50), (64, 300, 1000), (1, 7, 2000)])
@pytest.mark.parametrize('layout', ['rows', 'transposed', 'some columns of a larger one'])
def test_every_library_gives_the_same(by_onednn, shape, layout, monkeypatch):
    if by_onednn and matrix._ONEDNN is None:
        pytest.skip('this torch has no oneDNN')
    monkeypatch.setattr(matrix, '_by_onednn', by_onednn)
    monkeypatch.setattr(matrix, '_LARGE', 1)
    m, k, n = shape
    torch.manual_seed(0)
    if layout == 'rows':
        a, b = torch.randn(m, k), torch.randn(k, n)
    elif layout == 'transposed':
        a, b = torch.randn(k, m).t(), torch.randn(n, k).t()
    else:
        a, b = torch.randn(m, 3 * k)[:, k : 2 * k], torch.randn(n, 3 * k)[:, k : 2 * k].t()
    want = a.double() @ b.double()
    out = torch.empty(want.shape)
    matrix.multiply(a, b, out)
    torch.testing.assert_close(out.double(), want, rtol=1e-4, atol=1e-3)
    matrix.multiply(a, b, out, add=True)
    torch.testing.assert_close(out.double(), 2 * want, rtol=1e-4, atol=2e-3)
