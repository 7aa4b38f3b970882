"""caffe.set_precision: what is rounded, and what stays float32."""

import numpy as np
import pytest
import torch
from gradient import RunningLayer

import caffe
from caffe.blob import Blob, replace_diffs
from caffe.kernels import bf16, processor


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    caffe.set_precision('fp32')


FILL = 'weight_filler { type: "gaussian" std: 0.1 } bias_filler { type: "constant" value: 1 }'
FILLED = """num_output: 1 weight_filler { type: "constant" value: 1 }
    bias_filler { type: "constant" value: 0.001 }"""
PRODUCT = f'type: "InnerProduct" inner_product_param {{ {FILLED} }}'
FILTER = f'type: "Convolution" convolution_param {{ kernel_size: 1 {FILLED} }}'
# Large enough to gain, with a bias; 2^23 multiplications and more, 32 of each number
LARGE = {
    'InnerProduct': (f'type: "InnerProduct" inner_product_param {{ {FILL} num_output: 512 }}', (160, 512)),
    'transposed': (f'type: "InnerProduct" inner_product_param {{ {FILL} num_output: 512 transpose: true }}',
                   (160, 512)),
    'Convolution': (f'type: "Convolution" convolution_param {{ {FILL} num_output: 64 kernel_size: 3 pad: 1 }}',
                    (2, 64, 14, 20)),
    'groups': (f'type: "Convolution" convolution_param {{ {FILL} num_output: 64 kernel_size: 5 pad: 2 group: 2 }}',
               (1, 64, 14, 15)),
    'dilated': (f'type: "Convolution" convolution_param {{ {FILL} num_output: 64 kernel_size: 3 dilation: 2 }}',
                (1, 64, 20, 21)),
    'Deconvolution': (f'type: "Deconvolution" convolution_param {{ {FILL} num_output: 64 kernel_size: 4 stride: 2 }}',
                      (1, 64, 12, 13)),
}  # fmt: skip
# 1 + 2**-9 lies between the bfloat16 numbers 1 and 1 + 2**-7, nearer to 1
FACTOR = np.float32(1 + 2**-9)


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(processor, 'words', lambda: frozenset({'AuthenticAMD', 'avx512_bf16'}))


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(processor, 'words', lambda: frozenset({'GenuineIntel', 'avx512_bf16'}))


def gradients(layer, bottom, top_diff, change=lambda numbers: numbers):
    """Of the bottom, the weights and the bias; `change` is applied to weights, bottom and top diff before."""
    run = RunningLayer(layer, [change(bottom)])
    for blob in run.layer.blobs:
        blob.data[...] = change(blob.data.copy())
    run.forward()
    (down,) = run.backward([change(top_diff)])
    return [down, *(blob.diff.copy() for blob in run.layer.blobs)]


@pytest.fixture
def large(request):
    layer, shape = LARGE[request.param]
    rng = np.random.default_rng(0)
    bottom = rng.standard_normal(shape).astype(np.float32)
    top_diff = rng.standard_normal(RunningLayer(layer, [bottom]).forward()[0].shape).astype(np.float32)
    return layer, bottom, top_diff


@pytest.mark.parametrize('large', LARGE, indirect=True)
def test_large_backward_products_are_rounded_and_their_sums_are_not(large, fast):
    """A factor is off by 2^-9 of itself at most, so a term of a sum by 2^-8, and the rounded sum by 2^-9 more."""
    exact = gradients(*large)
    terms = gradients(*large, change=np.abs)  # the sums of the terms' sizes
    caffe.set_precision('bf16')
    found = gradients(*large)
    for got, want, sizes in list(zip(found, exact, terms, strict=True))[:2]:
        error = np.abs(got - want)
        assert error.max() > 0
        assert (error <= 1.01 * 3 * 2**-9 * sizes).all()
        # errors of both signs: the terms' cancel, so that what stays is 2^-8 of the result and less
        assert np.sqrt(np.square(error).mean()) < 2**-8 * np.sqrt(np.square(want).mean())
    np.testing.assert_allclose(found[2], exact[2], rtol=1e-5, atol=1e-4)  # the bias: a sum in float32


@pytest.mark.parametrize('large', LARGE, indirect=True)
@pytest.mark.parametrize('precision', ['fp32', 'tf32', 'bf16-ranking'])
def test_the_backward_pass_of_other_precisions_is_that_of_fp32_to_the_last_bit(large, precision, fast):
    exact = gradients(*large)
    caffe.set_precision('bf16')
    gradients(*large)
    caffe.set_precision(precision)
    for got, want in zip(gradients(*large), exact, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize('large', LARGE, indirect=True)
def test_the_backward_pass_stays_float32_where_bf16_is_slow(large, slow):
    exact = gradients(*large)
    caffe.set_precision('bf16')
    for got, want in zip(gradients(*large), exact, strict=True):
        np.testing.assert_array_equal(got, want)


def test_gradients_of_several_passes_are_added_in_float32(fast):
    """1 and 2^-9, each of which bfloat16 holds, and not their sum."""
    layer, shape = LARGE['InnerProduct']
    caffe.set_precision('bf16')
    run = RunningLayer(layer, [np.ones(shape)])
    for size in (1, 2**-9):
        diff = np.zeros((160, 512))
        diff[0] = size
        run.forward()
        run.tops[0].diff[...] = diff
        with torch.no_grad():
            run.layer.backward(run.tops, [True], run.bottoms)
    assert (run.layer.blobs[0].diff == 1 + 2**-9).all()


def test_a_large_factor_is_rounded_in_portions(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(7, 50, generator=rng), torch.randn(50, 40, generator=rng)
    before = torch.randn(7, 40, generator=rng)
    rounded = a.bfloat16().float(), b.bfloat16().float()
    want, bound = rounded[0] @ rounded[1], 1.01 * 2**-9 * (rounded[0].abs() @ rounded[1].abs())  # of the portions' sums
    monkeypatch.setattr(bf16, '_PORTION', 300)
    for right in (b, b.t().contiguous().t(), torch.cat([b, b], dim=1)[:, :40]):  # by rows, by columns, with gaps
        out = torch.full((7, 40), torch.nan)
        bf16.multiply(a, right, out)
        assert ((out - want).abs() <= bound).all()
        out.copy_(before)
        bf16.multiply(a, right, out, add=True)
        assert ((out - before - want).abs() <= bound + 1e-5).all()


def test_a_gradient_kept_as_factors_is_multiplied_in_bf16_by_the_update_alone(fast):
    """Rows of ones and 1 + 2^-9, which is 1 in bfloat16."""

    def diff(read_first):
        blob, held = Blob(1024, 1024), Blob(1024, 1024)
        blob.add_product_diff(torch.full((1, 1024), float(FACTOR)), torch.ones(1, 1024))
        assert blob.diff_product is not None
        if read_first:
            assert (blob.diff == FACTOR).all()
        replace_diffs(lambda diffs, data, own: [own[0].copy_(diffs[0])], [(blob, held)], held_by=0)
        return np.unique(held.data)

    assert diff(False).tolist() == [FACTOR]
    caffe.set_precision('bf16')
    assert diff(False).tolist() == [1]
    assert diff(True).tolist() == [FACTOR]


def test_what_was_set_is_told():
    for choice in ('bf16-ranking', 'fp32'):
        caffe.set_precision(choice)
        assert caffe.get_precision() == choice


def constant(weight, outputs):
    return f"""num_output: {outputs} weight_filler {{ type: "constant" value: {weight} }}
        bias_filler {{ type: "constant" value: 0.001 }}"""


@pytest.mark.parametrize(
    ('layer', 'shape'),
    [
        (f'type: "InnerProduct" inner_product_param {{ {constant(1 / 512, 512)} }}', (64, 512)),
        (f'type: "Convolution" convolution_param {{ kernel_size: 1 {constant(1 / 128, 128)} }}', (1, 128, 30, 30)),
    ],
)
def test_bf16_rounds_factors_and_adds_the_bias_in_float32(layer, shape):
    run = RunningLayer(layer, [np.full(shape, FACTOR)])
    np.testing.assert_allclose(run.forward()[0], FACTOR + 0.001, atol=1e-6)
    caffe.set_precision('bf16')
    np.testing.assert_allclose(run.forward()[0], 1.001, atol=1e-6)
    assert run.tops[0].data.dtype == np.float32


@pytest.mark.parametrize('layer', [PRODUCT, FILTER])
def test_small_forward_products_stay_float32(layer):
    run = RunningLayer(layer, [np.full((1, 1, 1, 1), FACTOR)])
    full = run.forward()[0]
    caffe.set_precision('bf16')
    np.testing.assert_array_equal(run.forward()[0], full)


@pytest.mark.parametrize('layer', [PRODUCT, FILTER])
def test_small_backward_products_stay_float32(layer, fast):
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
    with pytest.raises(ValueError, match="fp32, tf32, bf16, bf16-ranking; set_precision was given 'fp16'"):
        caffe.set_precision('fp16')
