"""3 x 3 convolutions by Winograd's products: the same results as the direct way, forward and backward."""

import numpy as np
import pytest
import torch
from one_layer import backward, forward, make

from caffe.kernels import convolution, matrix, winograd

# (images, channels, filters, height, width, pad): odd and even sizes, smaller than a tile, every padding
SHAPES = [
    (1, 8, 4, 9, 12, (1, 1)),
    (2, 5, 7, 8, 7, (0, 2)),
    (1, 3, 3, 3, 3, (0, 0)),
    (2, 4, 4, 1, 5, (1, 1)),
    (1, 300, 200, 60, 61, (1, 1)),  # several strips
]


@pytest.mark.parametrize('products_by', matrix.routes.names)
@pytest.mark.parametrize('shape', SHAPES)
def test_both_passes_are_those_of_a_convolution_in_float64(shape, products_by):
    n, c, k, h, w, pad = shape
    torch.manual_seed(0)
    x, weight, bias = torch.randn(n, c, h, w), torch.randn(k, c, 3, 3) / (9 * c) ** 0.5, torch.randn(k)
    exact_x, exact_weight = x.double().requires_grad_(), weight.double().requires_grad_()
    exact = torch.nn.functional.conv2d(exact_x, exact_weight, bias.double(), padding=pad)
    diff = torch.randn(exact.shape)
    exact.backward(diff.double())

    def error(got, expected):
        return float((got - expected).abs().max() / expected.abs().max())

    with matrix.routes.force(products_by):
        assert error(winograd.convolve(x, weight, bias, pad), exact.detach()) < 1e-6
        assert error(winograd.image_gradient(diff, weight, pad), exact_x.grad) < 1e-6
        assert error(winograd.weight_gradient(x, diff, pad), exact_weight.grad) < 1e-6


def test_its_error_is_that_of_float32():
    """In standard deviations of the results, each a sum of 2304 products."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 256, 40, 40).relu(), torch.randn(256, 256, 3, 3) / 48
    exact = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)
    error = (winograd.convolve(x, weight, None, (1, 1)) - exact).abs() / exact.std()
    assert float(error.mean()) < 1e-6
    assert float(error.max()) < 1e-5


@pytest.mark.skipif(not torch.backends.cpu.get_cpu_capability().startswith('AVX'), reason='off on this processor')
@pytest.mark.parametrize(('size', 'ways'), [((33, 32), 3), ((32, 32), 0)])
def test_a_large_layer_takes_this_way_a_smaller_one_the_direct_where_there_is_no_nnpack(size, ways, monkeypatch):
    monkeypatch.setattr(convolution.routes, 'names', ('direct', 'bands', 'winograd', 'pointwise'))
    used = []
    for name in ('convolve', 'image_gradient', 'weight_gradient'):
        original = getattr(winograd, name)
        monkeypatch.setattr(winograd, name, lambda *a, f=original, n=name: used.append(n) or f(*a))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 128, *size)).astype(np.float32)
    options = 'num_output: 256 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } bias_filler { type: "gaussian" }'
    conv, bottom, top = make(f'type: "Convolution" top: "y" convolution_param {{ {options} }}', x)
    (y,) = forward(conv, bottom, top)
    diff = rng.standard_normal(y.shape).astype(np.float32)
    (x_diff,) = backward(conv, bottom, top, diff)
    assert len(set(used)) == ways

    inputs = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, *(b.data for b in conv.blobs))]
    exact = torch.nn.functional.conv2d(*inputs, padding=1)
    exact.backward(torch.tensor(diff, dtype=torch.float64))
    np.testing.assert_allclose(y, exact.detach(), atol=2e-5)
    for got, expected in zip([x_diff, *(b.diff for b in conv.blobs)], inputs, strict=True):
        np.testing.assert_allclose(got, expected.grad, rtol=1e-4, atol=2e-3)


def test_a_batch_of_nothing_passes_through():
    options = 'num_output: 256 kernel_size: 3 pad: 1'
    conv, bottom, top = make(f'type: "Convolution" top: "y" convolution_param {{ {options} }}', np.ones((0, 128, 8, 8)))
    (y,) = forward(conv, bottom, top)
    (x_diff,) = backward(conv, bottom, top, y)
    assert (y.shape, x_diff.shape) == ((0, 256, 8, 8), (0, 128, 8, 8))
