"""Convolution, Deconvolution and Im2col against loops over pixels, and their gradients."""

import itertools

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient, run_layer

from caffe.kernels import convolution
from caffe.layer import LayerError

FILL = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


def image(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def layer(type, options, *shape, count=1):
    return RunningLayer(
        f'type: "{type}" convolution_param {{ num_output: 4 {FILL} {options} }}',
        [image(*shape)] * count,
        n_tops=count,
    )


def convolve(x, weight, bias, kernel, stride, pad, dilation, group):
    """Convolution as its definition has it: one sum of products for each output pixel."""
    x = np.pad(x, [(0, 0), (0, 0)] + [(p, p) for p in pad])
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    out = np.zeros((x.shape[0], weight.shape[0], *size))
    per_group, outputs = weight.shape[1], weight.shape[0] // group
    for o, *at in itertools.product(*map(range, out.shape[1:])):
        g = o // outputs
        window = tuple(
            slice(a * s, a * s + d * (k - 1) + 1, d) for a, s, k, d in zip(at, stride, kernel, dilation, strict=True)
        )
        taps = x[(slice(None), slice(g * per_group, (g + 1) * per_group), *window)]
        out[(slice(None), o, *at)] = (taps * weight[o]).reshape(x.shape[0], -1).sum(axis=1) + bias[o]
    return out


@pytest.mark.parametrize(
    ('options', 'shape', 'geometry'),
    [
        ('kernel_size: 3', (2, 4, 6, 5), ((3, 3), (1, 1), (0, 0), (1, 1), 1)),
        ('kernel_size: 3 pad: 1 stride: 2', (2, 4, 6, 5), ((3, 3), (2, 2), (1, 1), (1, 1), 1)),
        (
            'kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 1',
            (1, 4, 6, 5),
            ((3, 2), (2, 1), (0, 1), (1, 1), 1),
        ),
        ('kernel_size: 3 kernel_size: 1 pad: 1 pad: 0', (1, 4, 6, 5), ((3, 1), (1, 1), (1, 0), (1, 1), 1)),
        ('kernel_size: 3 dilation: 2 group: 2', (1, 4, 6, 7), ((3, 3), (1, 1), (0, 0), (2, 2), 2)),
        ('kernel_size: 3 stride: 2', (2, 4, 9), ((3,), (2,), (0,), (1,), 1)),
        ('kernel_size: 2 pad: 1', (1, 4, 3, 2, 4), ((2, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1)),
    ],
)  # fmt: skip
def test_convolution_is_a_sum_of_products(options, shape, geometry):
    run = layer('Convolution', options, *shape)
    weight, bias = (b.data for b in run.layer.blobs)
    want = convolve(run.bottoms[0].data, weight, bias, *geometry)
    np.testing.assert_allclose(run.forward()[0], want, rtol=1e-4, atol=1e-5)


OPTIONS = [
    ('kernel_size: 3', (2, 4, 4, 5)),
    ('kernel_size: 2 stride: 2 pad: 1 bias_term: false', (1, 4, 4, 3)),
    ('kernel_size: 2 dilation: 2 group: 2', (1, 4, 4, 4)),
    ('kernel_size: 2', (1, 4, 5)),
    ('kernel_size: 2 pad: 1', (1, 2, 2, 2, 2)),
    ('kernel_size: 2 axis: 2', (2, 1, 3, 4, 3)),
    ('kernel_size: 1', (2, 4)),
]


@pytest.mark.parametrize('type', ['Convolution', 'Deconvolution'])
@pytest.mark.parametrize(('options', 'shape'), OPTIONS)
def test_gradient(type, options, shape):
    check_gradient(f'type: "{type}" convolution_param {{ num_output: 4 {FILL} {options} }}', [image(*shape)], atol=3e-3)


def test_bottoms_share_the_filters():
    run = layer('Convolution', 'kernel_size: 3', 1, 2, 4, 4, count=2)
    first, second = run.forward()
    np.testing.assert_array_equal(first, second)
    run.backward([np.ones_like(first), np.ones_like(second)])
    both = run.layer.blobs[0].diff.copy()
    run.backward([np.ones_like(first), np.zeros_like(second)])
    np.testing.assert_allclose(both, 2 * run.layer.blobs[0].diff, rtol=1e-5)


@pytest.mark.parametrize(
    'options', ['kernel_size: 3 stride: 2 pad: 1', 'kernel_size: 2 group: 2', 'kernel_size: 3 dilation: 2']
)
def test_deconvolution_is_the_transpose_of_convolution(options):
    """<convolution(x), y> = <x, deconvolution(y)> with the same filters and no bias."""
    forth = layer('Convolution', options + ' bias_term: false', 1, 4, 7, 7)
    (y,) = forth.forward()
    back = layer('Deconvolution', options + ' bias_term: false', *y.shape)
    back.layer.blobs[0].data[...] = forth.layer.blobs[0].data
    z = image(*y.shape)
    back.bottoms[0].data[...] = z
    (x,) = back.forward()
    assert x.shape == (1, 4, 7, 7)
    np.testing.assert_allclose((y * z).sum(), (x * forth.bottoms[0].data).sum(), rtol=1e-4)


def test_without_a_spatial_axis_it_is_a_product():
    run = layer('Convolution', 'kernel_size: 1', 3, 2)
    weight, bias = (b.data for b in run.layer.blobs)
    assert weight.shape == (4, 2)
    np.testing.assert_allclose(run.forward()[0], run.bottoms[0].data @ weight.T + bias, rtol=1e-4, atol=1e-6)


def test_only_what_is_asked_for_is_computed():
    run = layer('Convolution', 'kernel_size: 3', 1, 2, 4, 4)
    (y,) = run.forward()
    run.layer.param_propagate_down = [False, False]
    assert not run.backward([np.ones_like(y)], [False])[0].any()
    assert all(b.diff_is_zero for b in run.layer.blobs)


def test_im2col_sets_the_pixels_under_the_filter_in_a_column():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    (columns,) = run_layer('type: "Im2col" convolution_param { kernel_size: 2 }', [x])
    np.testing.assert_array_equal(columns[0, :, 0, 0], [0, 1, 3, 4])
    np.testing.assert_array_equal(columns[0, :, 1, 1], [4, 5, 7, 8])
    np.testing.assert_array_equal(columns[0, 3], [[4, 5], [7, 8]])


@pytest.mark.parametrize(
    ('options', 'shape'),
    [
        ('kernel_size: 2 stride: 2 pad: 1 dilation: 2', (2, 2, 4, 5)),
        ('kernel_size: 2', (1, 2, 4)),
        ('kernel_size: 2', (1, 1, 2, 3, 2)),
    ],
)
def test_im2col_times_filters_is_convolution(options, shape):
    run = RunningLayer(
        f'type: "Convolution" convolution_param {{ num_output: 3 bias_term: false {FILL} {options} }}',
        [image(*shape)],
    )
    (want,) = run.forward()
    (columns,) = run_layer(f'type: "Im2col" convolution_param {{ {options} }}', [image(*shape)])
    assert columns.shape[2:] == want.shape[2:]
    got = np.einsum('ok,nk...->no...', run.layer.blobs[0].data.reshape(3, -1), columns)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    check_gradient(f'type: "Im2col" convolution_param {{ {options} }}', [image(*shape)])


@pytest.mark.parametrize(
    ('options', 'shape', 'message'),
    [
        ('', (1, 4, 5, 5), 'kernel_size must be specified once, or once per spatial dimension'),
        ('kernel_size: 3 kernel_h: 3 kernel_w: 3', (1, 4, 5, 5), 'Either kernel_size or kernel_h/w'),
        ('kernel_h: 3 kernel_w: 3', (1, 4, 5), 'can only be used for 2D convolution'),
        ('kernel_size: 0', (1, 4, 5, 5), 'Filter dimensions must be nonzero'),
        ('kernel_size: 3 stride: 0', (1, 4, 5, 5), 'Stride dimensions must be nonzero'),
        ('kernel_size: 3 group: 3', (1, 4, 5, 5), 'cannot be split into 3 groups'),
        ('kernel_size: 3 group: 2 num_output: 3', (1, 4, 5, 5), 'multiples of group'),
        ('kernel_size: 7', (1, 4, 5, 5), 'more than the padded input'),
        ('kernel_size: 2000000', (1, 4, 5, 5), 'more than the padded input'),  # before memory is taken for it
        ('kernel_size: 1', (1, 1, 1, 1, 1, 1), 'up to 3 spatial axes'),
    ],
)
def test_bad_options_are_refused(options, shape, message):
    with pytest.raises(LayerError, match=message):
        num_output = '' if 'num_output' in options else 'num_output: 4'
        RunningLayer(f'type: "Convolution" convolution_param {{ {num_output} {options} }}', [image(*shape)])


def test_the_channels_may_not_change():
    run = layer('Convolution', 'kernel_size: 3', 1, 2, 4, 4)
    run.bottoms[0].reshape(1, 3, 4, 4)
    with pytest.raises(LayerError, match='Input size incompatible with convolution kernel'):
        run.forward()


@pytest.mark.parametrize('band', [1, 30, 200])
@pytest.mark.parametrize(
    'options',
    [
        'kernel_size: 3 pad: 1',
        'kernel_h: 5 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 2 pad_w: 0',
        'kernel_size: 3 dilation: 2 pad: 2 group: 2',
        'kernel_size: 1 pad: 3 stride: 2',  # rows that see nothing but padding
    ],
)
def test_a_large_top_is_the_same_in_bands(options, band, monkeypatch):
    x = np.random.default_rng(0).standard_normal((2, 4, 11, 9)).astype(np.float32)
    net = f'type: "Convolution" convolution_param {{ num_output: 6 {options} {FILL} }}'
    (whole,) = run_layer(net, [x])
    monkeypatch.setattr(convolution, '_BAND', band)
    (bands,) = run_layer(net, [x])
    np.testing.assert_allclose(bands, whole, rtol=1e-5, atol=1e-5)
