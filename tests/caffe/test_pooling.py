"""Pooling and SPP against loops over windows, and their gradients."""

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient, run_layer

from caffe.layer import LayerError


def distinct(*shape, step=0.1):
    """Values that differ by `step` at least, so that no maximum is near another."""
    count = int(np.prod(shape))
    return (np.random.default_rng(0).permutation(count) * step - count * step / 2).reshape(shape)


def windows(size, kernel, stride, pad, ceil=True):
    """The windows along one axis, (begin, end) within the padded image (pooling_layer.cpp)."""
    steps = (size + 2 * pad - kernel) / stride
    count = int(np.ceil(steps) if ceil else np.floor(steps)) + 1
    if pad and (count - 1) * stride >= size + pad:
        count -= 1
    return [(i * stride - pad, min(i * stride - pad + kernel, size + pad)) for i in range(count)]


def pool(x, method, kernel, stride=(1, 1), pad=(0, 0), ceil=True):
    down, across = (windows(*v, ceil) for v in zip(x.shape[2:], kernel, stride, pad, strict=True))
    out = np.zeros((*x.shape[:2], len(down), len(across)))
    for i, (top, bottom) in enumerate(down):
        for j, (left, right) in enumerate(across):
            inside = x[:, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            if method == 'MAX':
                out[:, :, i, j] = inside.max(axis=(2, 3), initial=np.finfo(np.float32).min)
            else:
                out[:, :, i, j] = inside.sum(axis=(2, 3)) / ((bottom - top) * (right - left))
    return out


# (options, kernel, stride, pad, rounded up, size of the image)
CASES = [
    ('kernel_size: 2 stride: 2', (2, 2), (2, 2), (0, 0), True, (5, 6)),
    ('kernel_size: 3 stride: 2', (3, 3), (2, 2), (0, 0), True, (6, 8)),
    ('kernel_size: 3 stride: 2', (3, 3), (2, 2), (0, 0), True, (7, 9)),
    ('kernel_h: 1 kernel_w: 2 stride: 2', (1, 2), (2, 2), (0, 0), True, (5, 6)),
    ('kernel_size: 3 stride: 2 round_mode: FLOOR', (3, 3), (2, 2), (0, 0), False, (6, 8)),
    ('kernel_size: 3 stride: 2 pad: 1', (3, 3), (2, 2), (1, 1), True, (6, 7)),
    (
        'kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3 pad_h: 1 pad_w: 0',
        (3, 2),
        (1, 3),
        (1, 0),
        True,
        (4, 7),
    ),
    # what torch's own pooling refuses or counts otherwise: pad above kernel / 2, a kernel larger than the image
    ('kernel_size: 3 stride: 2 pad: 2', (3, 3), (2, 2), (2, 2), True, (5, 6)),
    ('kernel_size: 4 stride: 2', (4, 4), (2, 2), (0, 0), True, (3, 3)),
    ('kernel_size: 2 stride: 2 pad: 1 round_mode: FLOOR', (2, 2), (2, 2), (1, 1), False, (4, 5)),
    ('kernel_size: 3 stride: 3 pad: 2 round_mode: FLOOR', (3, 3), (3, 3), (2, 2), False, (7, 6)),
]


@pytest.mark.parametrize('method', ['MAX', 'AVE'])
@pytest.mark.parametrize('case', CASES)
def test_pooling_and_gradient(method, case):
    options, *geometry, size = case
    x = distinct(2, 1, *size)
    text = f'type: "Pooling" pooling_param {{ pool: {method} {options} }}'
    run = RunningLayer(text, [x])
    for needs_backward in (True, False):
        run.layer.needs_backward = needs_backward
        np.testing.assert_allclose(run.forward()[0], pool(x, method, *geometry), rtol=1e-4, atol=1e-5)
    check_gradient(text, [x])


def test_a_stride_beyond_the_kernel_may_give_a_window_without_pixels():
    """Caffe clips the last window only where there is padding: size 5, kernel 1, stride 3 makes 3 windows."""
    x = distinct(1, 1, 5, 5)
    text = 'type: "Pooling" pooling_param {{ pool: {} kernel_size: 1 stride: 3 }}'
    run = RunningLayer(text.format('MAX'), [x])
    (y,) = run.forward()
    assert y.shape == (1, 1, 3, 3)
    np.testing.assert_allclose(y[0, 0, :2, :2], x[0, 0, ::3, ::3], rtol=1e-6)
    assert (y[0, 0, 2] == np.finfo(np.float32).min).all()
    (diff,) = run.backward([np.ones_like(y)])
    assert diff.sum() == 4


def test_global_pooling_takes_the_whole_image():
    x = distinct(2, 3, 4, 5)
    text = 'type: "Pooling" pooling_param {{ pool: {} global_pooling: true }}'
    np.testing.assert_allclose(run_layer(text.format('MAX'), [x])[0][..., 0, 0], x.max(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_allclose(run_layer(text.format('AVE'), [x])[0][..., 0, 0], x.mean(axis=(2, 3)), atol=1e-5)


def test_global_pooling_follows_the_size_of_the_image():
    run = RunningLayer('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', [np.ones((1, 1, 4, 5))])
    run.bottoms[0].reshape(1, 1, 7, 3)
    run.bottoms[0].data[...] = 2
    np.testing.assert_array_equal(run.forward()[0], [[[[2]]]])


@pytest.mark.parametrize('options', ['kernel_size: 3 stride: 2', 'kernel_size: 3 stride: 2 pad: 2'])
def test_the_second_top_of_max_is_the_place_of_the_maximum(options):
    x = distinct(2, 3, 6, 7)
    values, places = run_layer(f'type: "Pooling" pooling_param {{ pool: MAX {options} }}', [x], n_tops=2)
    picked = np.take_along_axis(x.reshape(2, 3, -1), places.reshape(2, 3, -1).astype(int), axis=2)
    np.testing.assert_allclose(picked.reshape(values.shape), values, rtol=1e-6)


def test_the_first_of_equal_maxima_gets_the_gradient():
    run = RunningLayer('type: "Pooling" pooling_param { pool: MAX kernel_size: 2 stride: 2 }', [np.ones((1, 1, 2, 2))])
    run.forward()
    np.testing.assert_array_equal(run.backward([[[[5]]]])[0], [[[[5, 0], [0, 0]]]])


@pytest.mark.parametrize('kernel, stride, size', [((2, 2), 2, (64, 66)), ((3, 3), 2, (65, 67)), ((1, 4), 1, (40, 43))])
def test_of_many_equal_maxima_in_large_images_the_first_in_reading_order_counts(kernel, stride, size):
    x = np.random.default_rng(0).integers(0, 3, (2, 16, *size)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))[:, :, ::stride, ::stride]
    tap = windows.reshape(*windows.shape[:4], -1).argmax(axis=-1)  # NumPy's is the first
    down, across = np.indices(tap.shape)[2:]
    place = (down * stride + tap // kernel[1]) * size[1] + across * stride + tap % kernel[1]
    options = f'pool: MAX kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride: {stride}'
    top, found = run_layer(f'type: "Pooling" pooling_param {{ {options} }}', [x], n_tops=2)
    assert np.array_equal(top, windows.max(axis=(4, 5)))
    assert np.array_equal(found, place)


@pytest.mark.parametrize(
    'options', ['kernel_size: 3 stride: 2', 'kernel_size: 3 pad: 1', 'kernel_size: 3 pad: 2 stride: 2']
)
def test_many_channels_are_pooled_as_each_is_alone(options):
    """Many go another way, with the channels of a pixel side by side in memory."""
    x = np.random.default_rng(1).integers(0, 9, (2, 20, 16, 16)).astype(np.float32)
    text = f'type: "Pooling" pooling_param {{ pool: MAX {options} }}'
    alone = [run_layer(text, [x[:, c : c + 1]], n_tops=2) for c in range(20)]
    for found, expected in zip(run_layer(text, [x], n_tops=2), zip(*alone, strict=True), strict=True):
        assert np.array_equal(found, np.concatenate(expected, axis=1))


def test_stochastic_pooling_draws_pixels_by_their_share():
    x = np.tile(np.array([[1.0, 3.0], [0.0, 4.0]]), (1, 1, 100, 100))
    text = 'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }'
    (y,) = run_layer(text, [x], phase='TRAIN')
    shares = [(y == v).mean() for v in (0, 1, 3, 4)]
    np.testing.assert_allclose(shares, [0, 1 / 8, 3 / 8, 4 / 8], atol=0.02)


def test_stochastic_pooling_gives_the_gradient_to_the_pixel_drawn():
    x = np.abs(distinct(2, 2, 5, 5)) + 0.1
    run = RunningLayer(
        'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }', [x], phase='TRAIN'
    )
    (y,) = run.forward()
    assert y.shape == (2, 2, 3, 3)
    (diff,) = run.backward([np.ones_like(y)])
    np.testing.assert_allclose((diff * run.bottoms[0].data).sum(axis=(2, 3)), y.sum(axis=(2, 3)), rtol=1e-5)


def test_stochastic_pooling_in_testing_weighs_pixels_by_their_share():
    x = np.array([[[[1.0, 3.0], [0.0, 4.0]]]])
    text = 'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }'
    np.testing.assert_allclose(run_layer(text, [x])[0], [[[[26 / 8]]]], rtol=1e-5)  # (1 + 9 + 16) / (1 + 3 + 4)
    check_gradient(text, [np.abs(distinct(1, 2, 5, 4)) + 0.3])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('kernel_size: 2 kernel_h: 2 kernel_w: 2', 'kernel is kernel_size OR'),
        ('kernel_h: 2', 'kernel is kernel_size OR'),
        ('', 'Filter dimensions cannot be zero'),
        ('kernel_size: 2 stride: 0', 'stride cannot be zero'),
        ('kernel_size: 2 pad: 2', 'must be smaller than the kernel'),
        ('kernel_size: 2 pad: 1 pool: STOCHASTIC', 'Padding implemented only for'),
        ('kernel_size: 2 global_pooling: true', 'Filter size cannot specified'),
        ('global_pooling: true stride: 2', 'only pad = 0 and stride = 1'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(LayerError, match=message):
        run_layer(f'type: "Pooling" pooling_param {{ {options} }}', [np.zeros((1, 1, 4, 4))])


def test_a_bottom_of_three_axes_is_refused():
    with pytest.raises(LayerError, match='Input must have 4 axes'):
        run_layer('type: "Pooling" pooling_param { kernel_size: 2 }', [np.zeros((1, 4, 4))])


@pytest.mark.parametrize('options', ['kernel_size: 2', 'kernel_size: 4 stride: 5 pad: 3', 'pool: AVE kernel_size: 2'])
def test_no_images_give_no_images(options):
    run = RunningLayer(f'type: "Pooling" pooling_param {{ {options} }}', [np.zeros((0, 3, 4, 4))])
    (top,) = run.forward()
    assert top.shape == ((0, 3, 2, 2) if 'stride' in options else (0, 3, 3, 3))
    assert run.backward([np.zeros(top.shape)])[0].shape == (0, 3, 4, 4)


@pytest.mark.parametrize('method', ['MAX', 'AVE'])
def test_spp_sets_the_levels_of_the_pyramid_side_by_side(method):
    x = distinct(2, 3, 9, 8)
    text = f'type: "SPP" spp_param {{ pyramid_height: 3 pool: {method} }}'
    # 9 x 8 pixels in 2 x 2 bins: kernel 5 x 4, pad 1 x 0; in 4 x 4 bins: kernel 3 x 2, pad 2 x 0
    levels = [
        pool(x, method, (9, 8)),
        pool(x, method, (5, 4), (5, 4), (1, 0)),
        pool(x, method, (3, 2), (3, 2), (2, 0)),
    ]
    want = np.concatenate([level.reshape(2, -1) for level in levels], axis=1)
    np.testing.assert_allclose(run_layer(text, [x])[0], want, rtol=1e-4, atol=1e-5)
    check_gradient(text, [distinct(1, 2, 9, 8)])


def test_spp_of_height_1_keeps_four_axes():
    assert run_layer('type: "SPP" spp_param { pyramid_height: 1 }', [np.zeros((2, 3, 5, 4))])[0].shape == (
        2,
        3,
        1,
        1,
    )
