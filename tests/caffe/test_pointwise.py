"""Convolutions of 1 x 1 as plain products: the same results as the direct way, forward and backward."""

import numpy as np
import pytest
import torch
from one_layer import backward, forward, make

from caffe.kernels import convolution, matrix, pointwise


@pytest.mark.parametrize('products_by', matrix.routes.names)
@pytest.mark.parametrize(
    'images, channels, filters, size', [(1, 3, 4, (5, 7)), (3, 200, 150, (20, 9)), (2, 1, 1, (1, 1))]
)
@pytest.mark.parametrize('bias', [True, False])
def test_both_passes_are_those_of_a_convolution_in_float64(images, channels, filters, size, bias, products_by):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((images, channels, *size)).astype(np.float32)
    options = f'num_output: {filters} kernel_size: 1 bias_term: {str(bias).lower()} weight_filler {{ type: "xavier" }}'
    options += ' bias_filler { type: "gaussian" }' * bias
    with matrix.routes.force(products_by), convolution.routes.force('pointwise'):
        conv, bottom, top = make(f'type: "Convolution" top: "y" convolution_param {{ {options} }}', x)
        (y,) = forward(conv, bottom, top)
        diff = rng.standard_normal(y.shape).astype(np.float32)
        (x_diff,) = backward(conv, bottom, top, diff)

    inputs = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, *(b.data for b in conv.blobs))]
    exact = torch.nn.functional.conv2d(*inputs)
    exact.backward(torch.tensor(diff, dtype=torch.float64))
    np.testing.assert_allclose(y, exact.detach(), atol=2e-5)
    for got, expected in zip([x_diff, *(b.diff for b in conv.blobs)], inputs, strict=True):
        np.testing.assert_allclose(got, expected.grad, atol=2e-5 * float(expected.grad.abs().max()))


@pytest.mark.parametrize(
    'options', ['kernel_size: 3', 'kernel_size: 1 stride: 2', 'kernel_size: 1 pad: 1', 'kernel_size: 1 group: 2']
)
def test_what_is_not_one_product_an_image_goes_another_way(options, monkeypatch):
    monkeypatch.setattr(pointwise, 'convolve', None)
    with convolution.routes.force('pointwise'):
        text = f'type: "Convolution" top: "y" convolution_param {{ num_output: 4 {options} }}'
        (y,) = forward(*make(text, np.ones((1, 2, 5, 5), np.float32)))
    assert not y.any()  # filters of zeros
