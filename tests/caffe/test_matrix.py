"""Products of large matrices are the same by whichever library, for any layout."""

import pytest
import torch

from caffe.kernels import matrix


@pytest.mark.parametrize('route', matrix.routes.names)
@pytest.mark.parametrize('shape', [(3, 40, 50), (300, 64, 50), (64, 300, 1000), (1, 7, 2000)])
@pytest.mark.parametrize('layout', ['rows', 'transposed', 'some columns of a larger one'])
def test_every_library_gives_the_same(route, shape, layout):
    m, k, n = shape
    torch.manual_seed(0)
    if layout == 'rows':
        a, b = torch.randn(m, k), torch.randn(k, n)
    elif layout == 'transposed':
        a, b = torch.randn(k, m).t(), torch.randn(n, k).t()
    else:
        a, b = torch.randn(m, k), torch.randn(n, 3 * k)[:, k : 2 * k].t()
    want = a.double() @ b.double()
    out = torch.empty(want.shape)
    with matrix.routes.force(route):
        matrix.multiply(a, b, out)
        torch.testing.assert_close(out.double(), want, rtol=1e-4, atol=1e-3)
        matrix.multiply(a, b, out, add=True)
        torch.testing.assert_close(out.double(), 2 * want, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize('route', matrix.routes.names)
@pytest.mark.parametrize('shape', [(16, 5, 40, 30), (3, 200, 64, 100), (2, 1, 7, 1)])
@pytest.mark.parametrize('layout', ['rows', 'transposed', 'transposed on the left'])
def test_many_products_are_the_same_by_every_library(route, shape, layout):
    batch, m, k, n = shape
    torch.manual_seed(0)
    a, b = torch.randn(batch, m, k), torch.randn(batch, k, n)
    if layout == 'transposed':
        b = torch.randn(batch, n, k).transpose(1, 2)
    elif layout == 'transposed on the left':
        a = torch.randn(batch, k, m).transpose(1, 2)
    want = a.double() @ b.double()
    out = torch.empty(want.shape)
    with matrix.routes.force(route):
        matrix.multiply_each(a, b, out)
        torch.testing.assert_close(out.double(), want, rtol=1e-4, atol=1e-3)
        matrix.multiply_each(a, b, out, add=True)
        torch.testing.assert_close(out.double(), 2 * want, rtol=1e-4, atol=2e-3)


def test_a_route_that_there_is_not_is_refused_with_those_that_there_are():
    message = "'cuda' is none of the ways that there are here: torch"
    with pytest.raises(ValueError, match=message), matrix.routes.force('cuda'):
        pass


def test_a_route_is_forced_for_as_long_as_the_with_lasts():
    assert matrix.routes.forced is None
    with pytest.raises(KeyError), matrix.routes.force('torch'):
        assert matrix.routes.forced == 'torch'
        raise KeyError
    assert matrix.routes.forced is None
