"""caffe.set_precision: what is rounded, and what stays float32."""

import numpy as np
import pytest
from gradient import RunningLayer

import caffe


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    caffe.set_precision('fp32')


FILLED = """num_output: 1 weight_filler { type: "constant" value: 1 }
    bias_filler { type: "constant" value: 0.001 }"""
PRODUCT = f'type: "InnerProduct" inner_product_param {{ {FILLED} }}'
FILTER = f'type: "Convolution" convolution_param {{ kernel_size: 1 {FILLED} }}'
# 1 + 2**-9 lies between the bfloat16 numbers 1 and 1 + 2**-7, nearer to 1
FACTOR = np.float32(1 + 2**-9)


@pytest.mark.parametrize('layer', [PRODUCT, FILTER])
def test_bf16_rounds_factors_and_adds_the_bias_in_float32(layer):
    run = RunningLayer(layer, [np.full((1, 1, 1, 1), FACTOR)])
    assert run.forward()[0].item() == pytest.approx(FACTOR + 0.001, abs=1e-6)
    caffe.set_precision('bf16')
    assert run.forward()[0].item() == pytest.approx(1.001, abs=1e-6)
    assert run.tops[0].data.dtype == np.float32


@pytest.mark.parametrize('layer', [PRODUCT, FILTER])
def test_the_backward_pass_stays_float32(layer):
    caffe.set_precision('bf16')
    run = RunningLayer(layer, [np.full((1, 1, 1, 1), FACTOR)])
    run.forward()
    run.backward([np.ones(run.tops[0].shape)])
    assert run.layer.blobs[0].diff.item() == FACTOR


def test_on_a_cpu_tf32_is_float32():
    run = RunningLayer(PRODUCT, [np.full((1, 1, 1, 1), FACTOR)])
    full = run.forward()[0]
    caffe.set_precision('tf32')
    np.testing.assert_array_equal(run.forward()[0], full)


def test_an_unknown_precision_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="fp32, tf32, bf16; set_precision was given 'fp16'"):
        caffe.set_precision('fp16')
