"""ROIPooling against the original's loops (roi_pooling_layer.cu of the fast-rcnn branch), in float32."""

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient

from caffe.layer import LayerError

f = np.float32


def layer(x, rois, pooled=(3, 2), scale=0.25, **kwargs):
    text = f'roi_pooling_param {{ pooled_h: {pooled[0]} pooled_w: {pooled[1]} spatial_scale: {scale} }}'
    return RunningLayer(f'type: "ROIPooling" {text}', [x, rois], **kwargs)


def c_round(value):
    """C's round(): halves away from zero."""
    return int(np.floor(abs(float(value)) + 0.5) * np.sign(value))


def bins_of(first, last, scale, pooled, size):
    start, end = c_round(f(first) * f(scale)), c_round(f(last) * f(scale))
    length = f(max(end - start + 1, 1)) / f(pooled)
    low = [min(max(int(np.floor(f(p) * length)) + start, 0), size) for p in range(pooled)]
    high = [min(max(int(np.ceil(f(p + 1) * length)) + start, 0), size) for p in range(pooled)]
    return start, end, length, low, high


def loops(x, rois, pooled, scale, top_diff):
    """ROIPoolForward and ROIPoolBackward, pixel by pixel."""
    channels, height, width = x.shape[1:]
    top = np.zeros((len(rois), channels, *pooled), f)
    x_diff = np.zeros(x.shape)
    for r, (image, x1, y1, x2, y2) in enumerate(rois):
        h_start, h_end, h_length, h_low, h_high = bins_of(y1, y2, scale, pooled[0], height)
        w_start, w_end, w_length, w_low, w_high = bins_of(x1, x2, scale, pooled[1], width)
        for c in range(channels):
            plane = x[int(image), c]
            for p in range(pooled[0]):
                for q in range(pooled[1]):
                    best, at = -np.finfo(f).max, None
                    for h in range(h_low[p], h_high[p]):
                        for w in range(w_low[q], w_high[q]):
                            if plane[h, w] > best:
                                best, at = plane[h, w], (h, w)
                    if at is None:
                        continue
                    top[r, c, p, q] = best
                    h, w = at
                    if not (w_start <= w <= w_end and h_start <= h <= h_end):
                        continue
                    p_first, p_last = (
                        np.floor(f(h - h_start) / h_length),
                        np.ceil(f(h - h_start + 1) / h_length),
                    )
                    q_first, q_last = (
                        np.floor(f(w - w_start) / w_length),
                        np.ceil(f(w - w_start + 1) / w_length),
                    )
                    if p_first <= p < p_last and q_first <= q < q_last:
                        x_diff[int(image), c, h, w] += top_diff[r, c, p, q]
    return top, x_diff


def random_rois(count, images, height, width, rng):
    corners = np.sort(rng.uniform(-0.1, 1.1, (count, 2, 2)), axis=1) * [width, height]
    return np.concatenate([rng.integers(images, size=(count, 1)), corners.reshape(count, 4)], axis=1).astype(f)


@pytest.mark.parametrize('seed', range(6))
def test_forward_and_backward_are_the_originals(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(5, 24, 2)
    pooled, scale = tuple(rng.integers(1, 8, 2)), float(rng.choice([0.0625, 0.25, 1 / 3, 1]))
    # few distinct values, so that many are equal
    x = rng.integers(-3, 4, (2, 3, height, width)).astype(f)
    rois = random_rois(12, 2, height / scale, width / scale, rng)
    top_diff = rng.standard_normal((12, 3, *pooled)).astype(f)
    run = layer(x, rois, pooled, scale)
    top, x_diff = loops(x, rois, pooled, scale, top_diff)
    np.testing.assert_array_equal(run.forward()[0], top)
    np.testing.assert_allclose(run.backward([top_diff], [True, False])[0], x_diff, rtol=1e-5, atol=1e-5)


def test_without_a_backward_pass_the_maxima_are_the_same():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 200, 19, 30)).astype(f)  # more channels and RoIs than are worked on at once
    run = layer(x, random_rois(70, 2, 76, 120, rng), (7, 7))
    with_places = run.forward()
    run.layer.needs_backward = False
    np.testing.assert_array_equal(run.forward(), with_places)


def test_gradient():
    rng = np.random.default_rng(0)
    x = (rng.permutation(2 * 2 * 7 * 6) * 0.1).reshape(2, 2, 7, 6)
    rois = np.array([[0, 0, 0, 23, 27], [1, 4, 4, 14, 20], [1, 8, 0, 20, 10]])
    text = 'type: "ROIPooling" roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.25 }'
    check_gradient(text, [x, rois])


def test_corners_are_rounded_half_away_from_zero():
    """At scale 1/4, x = 2 is 0.5 and x = 10 is 2.5: columns 1 to 3; rounding to even would give 0 to 2."""
    x = np.arange(5, dtype=f).reshape(1, 1, 1, 5)
    (y,) = layer(x, [[0, 2, 0, 10, 0]], pooled=(1, 1)).forward()
    assert y.item() == 3
    (y,) = layer(-x, [[0, 2, 0, 10, 0]], pooled=(1, 1)).forward()
    assert y.item() == -1


def test_an_roi_that_ends_before_it_starts_is_one_pixel_without_gradient():
    x = np.arange(16, dtype=f).reshape(1, 1, 4, 4)
    run = layer(x, [[0, 2, 1, 0, 3]], pooled=(1, 1), scale=1)
    (y,) = run.forward()
    assert y.item() == x[0, 0, 3, 2]  # column 2 alone, rows 1 to 3
    assert not run.backward([np.ones_like(y)], [True, False])[0].any()


def test_bins_outside_of_the_map_are_zero():
    run = layer(np.full((1, 1, 4, 4), -5, f), [[0, 2, 0, 5, 3]], pooled=(1, 2), scale=1)
    (y,) = run.forward()
    np.testing.assert_array_equal(y[0, 0], [[-5, 0]])
    assert run.backward([np.ones_like(y)], [True, False])[0].sum() == 1


def test_equal_rois_add_up_their_gradients():
    run = layer(np.eye(4, dtype=f)[None, None], [[0, 0, 0, 3, 3]] * 3, pooled=(1, 1), scale=1)
    run.forward()
    (diff, _) = run.backward([np.array([1, 2, 4]).reshape(3, 1, 1, 1)], [True, False])
    assert diff[0, 0, 0, 0] == 7  # the first in reading order of the four ones
    assert diff.sum() == 7


def test_no_rois_give_nothing_and_no_gradient():
    run = layer(np.ones((1, 2, 4, 4), f), np.zeros((0, 5), f))
    assert run.forward()[0].shape == (0, 2, 3, 2)
    assert not run.backward([np.zeros((0, 2, 3, 2))], [True, False])[0].any()


def test_rois_may_have_four_axes():
    rois = np.array([0, 0, 0, 12, 12], f).reshape(1, 5, 1, 1)
    assert layer(np.ones((1, 2, 4, 4), f), rois).forward()[0].shape == (1, 2, 3, 2)


@pytest.mark.parametrize('image', [-1, 2])
def test_an_image_that_is_not_in_the_batch_is_refused_with_the_rois_number(image):
    rois = [[0, 0, 0, 3, 3], [image, 0, 0, 3, 3]]
    with pytest.raises(LayerError, match=rf'RoI 1 is of image {image} of the batch, but bottom 0 holds 2'):
        layer(np.ones((2, 1, 4, 4), f), rois).forward()


def test_rois_of_another_shape_are_refused():
    with pytest.raises(LayerError, match=r'RoIs of shape \(R, 5\)'):
        layer(np.ones((1, 1, 4, 4), f), np.zeros((2, 4)))


def test_a_pooled_size_of_zero_is_refused():
    with pytest.raises(LayerError, match='pooled_w must be > 0'):
        layer(np.ones((1, 1, 4, 4), f), np.zeros((2, 5)), pooled=(3, 0))


def test_the_gradient_of_rois_is_zero():
    run = layer(np.ones((1, 1, 4, 4), f), [[0, 0, 0, 3, 3]])
    (y,) = run.forward()
    run.bottoms[1].diff[...] = 7
    assert not run.backward([np.ones_like(y)], [True, True])[1].any()


def test_rois_alike_are_pooled_once_with_the_same_result(tmp_path):
    """With most RoIs repeating others, a net gives what it gives when each is pooled for itself."""
    import caffe

    text = """
    layer { name: "in" type: "Input" top: "x" top: "rois"
      input_param { shape { dim: 2 dim: 3 dim: 12 dim: 15 } shape { dim: 40 dim: 5 } } }
    layer { name: "pool" type: "ROIPooling" bottom: "x" bottom: "rois" top: "pool"
      roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.0625 } }
    layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
      inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
    """
    (tmp_path / 'once.prototxt').write_text(text)
    (tmp_path / 'each.prototxt').write_text(text + ' force_backward: true')  # keeps places: no shortcut
    once, each = (caffe.Net(str(tmp_path / f'{name}.prototxt'), caffe.TEST) for name in ('once', 'each'))
    each.share_with(once)
    rng = np.random.default_rng(0)
    few = np.column_stack([rng.integers(0, 2, 6), rng.uniform(0, 100, (6, 2)), rng.uniform(100, 230, (6, 2))])
    rois = few[rng.integers(0, 6, 40)] + np.append(0, rng.uniform(-0.2, 0.2, 4))
    inputs = {'x': rng.standard_normal((2, 3, 12, 15)), 'rois': rois}
    a, b = once.forward(**inputs)['ip'].copy(), each.forward(**inputs)['ip']
    assert once.blobs['pool'].rows.count < 20
    assert each.blobs['pool'].rows is None
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(once.blobs['pool'].data, each.blobs['pool'].data)
