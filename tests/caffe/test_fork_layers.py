"""Layer types of forks that each have one: worked by hand, or beside a NumPy transcription of the published loops."""

import numpy as np
import pytest
from gradient import RunningLayer, run_layer

from caffe.kernels.proposals import anchors_of_a_cell
from caffe.layer import LayerError


def test_axpy():
    x, y = np.arange(8.0).reshape(1, 2, 2, 2), np.ones((1, 2, 2, 2))
    (out,) = run_layer('type: "Axpy"', [np.reshape([2, -1], (1, 2, 1, 1)), x, y])
    np.testing.assert_array_equal(out.ravel(), [1, 3, 5, 7, -3, -4, -5, -6])


def test_relu6():
    assert run_layer('type: "ReLU6"', [[-2, 3, 8]])[0].tolist() == [0, 3, 6]
    assert run_layer('type: "ReLU6" relu6_param { negative_slope: 0.5 }', [[-2, 3, 8]])[0].tolist() == [-1, 3, 6]


def test_shuffle_channel_deals_the_groups_out():
    (y,) = run_layer('type: "ShuffleChannel" shuffle_channel_param { group: 2 }', [np.arange(6).reshape(1, 6, 1, 1)])
    assert y.ravel().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ('options', 'want'),
    [
        ('zoom_factor: 2', [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]),
        ('height: 1 width: 2', [[0, 1]]),
        ('shrink_factor: 2', [[0]]),
        ('shrink_factor: 1 zoom_factor: 2', [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]),
        ('height: 3 width: 1 pad_beg: -1', [[3], [3], [3]]),
    ],
)
def test_interp_puts_corners_on_corners(options, want):
    (y,) = run_layer(f'type: "Interp" interp_param {{ {options} }}', [[[[[0, 1], [2, 3]]]]])
    np.testing.assert_allclose(y[0, 0], want)


def test_interp_takes_the_size_of_a_second_bottom():
    assert run_layer('type: "Interp"', [np.ones((1, 2, 3, 3)), np.ones((1, 9, 5, 4))])[0].shape == (1, 2, 5, 4)


@pytest.mark.parametrize('kind', ['DepthwiseConvolution', 'ConvolutionDepthwise'])
def test_a_depthwise_convolution_is_a_convolution_of_as_many_groups(kind):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
    options = 'num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" }'
    group = 'group: 3' if kind == 'DepthwiseConvolution' else ''
    got = RunningLayer(f'type: "{kind}" convolution_param {{ {options} {group} }}', [x])
    want = RunningLayer(f'type: "Convolution" convolution_param {{ {options} group: 3 }}', [x])
    assert got.layer.blobs[0].shape == (3, 1, 3, 3)
    np.testing.assert_array_equal(got.forward()[0], want.forward()[0])


# ---- BN

BATCH = np.array([1.0, 3, 5, 7]).reshape(2, 1, 1, 2)  # mean 4, variance 5


def test_bn_normalizes_by_the_batch_and_gathers():
    run = RunningLayer(
        'type: "BN" bn_param { slope_filler { value: 2 } bias_filler { value: 1 } momentum: 0.75 eps: 0 }',
        [BATCH],
        'TRAIN',
    )
    np.testing.assert_allclose(run.forward()[0].ravel(), np.array([-3, -1, 1, 3]) * 2 / np.sqrt(5) + 1, rtol=1e-6)
    assert [float(blob.data.ravel()[0]) for blob in run.layer.blobs[2:]] == [0.25 * 4, 0.25 * 5]


def test_bn_uses_what_was_gathered_in_test_or_frozen():
    for phase, frozen in (('TEST', 'false'), ('TRAIN', 'true')):
        run = RunningLayer(
            f'type: "BN" bn_param {{ slope_filler {{ value: 2 }} frozen: {frozen} eps: 1 }}', [BATCH], phase
        )
        run.layer.blobs[2].data[...] = 1
        run.layer.blobs[3].data[...] = 3
        np.testing.assert_allclose(run.forward()[0].ravel(), [0, 2, 4, 6])


def test_segnets_bn_has_two_parameters():
    text = 'type: "BN" bn_param { scale_filler { value: 2 } shift_filler { value: 1 } bn_mode: %s }'
    run = RunningLayer(text % 'INFERENCE', [BATCH])
    assert len(run.layer.blobs) == 2
    assert run.forward()[0].ravel().tolist() == [3, 7, 11, 15]
    (y,) = run_layer(text % 'LEARN', [BATCH])
    np.testing.assert_allclose(y.ravel(), np.array([-3, -1, 1, 3]) * 2 / np.sqrt(5) + 1, rtol=1e-5)


# ---- ROIAlign


def bilinear(plane, y, x):
    """bilinear_interpolate of Detectron's roi_align_op.cc."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    ly, lx = y - top, x - left
    above = plane[top, left] * (1 - lx) + plane[top, right] * lx
    return above * (1 - ly) + (plane[bottom, left] * (1 - lx) + plane[bottom, right] * lx) * ly


def align_loops(maps, rois, scale, pooled, ratio):
    out = np.zeros((len(rois), maps.shape[1], *pooled))
    for r, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (c * scale for c in corners)
        height, width = max(y2 - y1, 1) / pooled[0], max(x2 - x1, 1) / pooled[1]
        down, across = (ratio or int(np.ceil(n)) for n in (height, width))
        for c, p, q in np.ndindex(*out.shape[1:]):
            plane = maps[int(image), c]
            samples = [
                bilinear(plane, y1 + (p + (i + 0.5) / down) * height, x1 + (q + (j + 0.5) / across) * width)
                for i in range(down)
                for j in range(across)
            ]
            out[r, c, p, q] = np.mean(samples)
    return out


@pytest.mark.parametrize('ratio', [0, 1, 2, 3])
def test_roi_align_is_detectrons(ratio):
    rng = np.random.default_rng(ratio)
    maps = rng.standard_normal((2, 2, 9, 7))
    corners = np.sort(rng.uniform(-0.3, 1.3, (8, 2, 2)), axis=1) * [27, 35]
    rois = np.concatenate([rng.integers(2, size=(8, 1)), corners.reshape(8, 4)], axis=1).astype(np.float32)
    rois[0, 3:] = rois[0, 1:3]  # at least one feature pixel
    text = f'type: "ROIAlign" roi_align_param {{ pooled_h: 3 pooled_w: 2 spatial_scale: 0.25 sampling_ratio: {ratio} }}'
    (y,) = run_layer(text, [maps, rois])
    np.testing.assert_allclose(y, align_loops(maps, rois.astype(float), 0.25, (3, 2), ratio), rtol=1e-4, atol=1e-5)


def test_roi_align_of_boxes_without_end():
    """A billion pixels wide and high: of 5e8 samples a bin along each side only those at the map's four count."""
    text = 'type: "ROIAlign" roi_align_param { pooled_h: 2 pooled_w: 2 }'
    rois = [
        [0, -1, -1, 1e9, 1e9],
        [0, -2e9, -2e9, -1e9, -1e9],
        [0, 1, 1, 3, 3],
        [0, np.nan, 0, 4, 4],
        [0, 0, 0, np.inf, 4],
    ]
    (y,) = run_layer(text, [np.ones((1, 1, 4, 4)), rois])
    assert 0 < y[0, 0, 0, 0] < 1e-15
    assert not y[0, 0, 1].any() and not y[1].any()
    np.testing.assert_allclose(y[2], 1)
    assert np.isnan(y[3:]).all()


# ---- Proposal


def test_anchors_are_rounded_as_the_forks_round():
    """ROUND of proposal_layer.cpp: 5 x 5 at ratio 4 is 2.5 wide: 3, not NumPy's 2; and 12 high, about (2, 2)."""
    np.testing.assert_array_equal(anchors_of_a_cell(5, [4], [1]), [[1, -3.5, 3, 7.5]])


def test_the_nine_anchors_are_the_published_ones():
    """The table in generate_anchors.py of py-faster-rcnn, less 1 for its MATLAB's indices."""
    np.testing.assert_array_equal(
        anchors_of_a_cell(16, [0.5, 1, 2], [8, 16, 32]) + 1,
        [[-83, -39, 100, 56], [-175, -87, 192, 104], [-359, -183, 376, 200], [-55, -55, 72, 72], [-119, -119, 136, 136],
         [-247, -247, 264, 264], [-35, -79, 52, 96], [-79, -167, 96, 184], [-167, -343, 184, 360]],
    )  # fmt: skip


def propose(scores, codes, options='', info=(64, 64, 1)):
    text = f'type: "Proposal" proposal_param {{ ratio: 1 scale: 1 {options} }}'
    return RunningLayer(text, [scores, codes, [info]], n_tops=2).forward()


def test_proposals_are_the_best_boxes_that_do_not_repeat():
    """Four cells of one 16 x 16 anchor each; cell 1 is moved onto cell 0, which scores higher; cell 2 is small."""
    scores, codes = np.zeros((1, 2, 2, 2)), np.zeros((1, 4, 2, 2))
    scores[0, 1] = [[0.9, 0.8], [0.7, 0.6]]
    codes[0, 0, 0, 1] = -1
    codes[0, 3, 1, 0] = np.log(0.5)
    rois, probabilities = propose(scores, codes)
    np.testing.assert_allclose(rois, [[0, 0, 0, 16, 16], [0, 16, 16, 32, 32]])
    np.testing.assert_allclose(probabilities, [[0.9], [0.6]], rtol=1e-6)
    rois, _ = propose(scores, codes, 'min_size: 4 post_nms_topn: 2')
    np.testing.assert_allclose(rois, [[0, 0, 0, 16, 16], [0, 0, 20, 16, 28]])
    assert len(propose(scores, codes, 'min_size: 4 pre_nms_topn: 1')[0]) == 1
    rois, _ = propose(scores, codes, info=(30, 20, 1))  # cut to the image, cell 3 is 4 wide
    np.testing.assert_allclose(rois, [[0, 0, 0, 16, 16]])


# ---- Bad input


def test_no_images_are_no_work():
    (y,) = run_layer('type: "ShuffleChannel" shuffle_channel_param { group: 2 }', [np.ones((0, 4, 2, 2))])
    assert y.shape == (0, 4, 2, 2)


@pytest.mark.parametrize(
    ('text', 'shapes', 'message'),
    [
        ('type: "Axpy"', [(1, 3), (1, 2, 4, 4), (1, 2, 4, 4)], 'a scale for each image and channel'),
        ('type: "Axpy"', [(1, 2), (1, 2, 4, 4), (1, 2, 4, 5)], 'must have one shape'),
        ('type: "ShuffleChannel" shuffle_channel_param { group: 4 }', [(1, 6, 2, 2)], 'no channels that 4 groups'),
        ('type: "Interp"', [(1, 1, 2, 2)], 'Output dimension specified either'),
        ('type: "Interp" interp_param { height: 3 }', [(1, 1, 2, 2)], 'Output dimension specified either'),
        ('type: "Interp" interp_param { zoom_factor: 2 pad_beg: 1 }', [(1, 1, 2, 2)], 'Only supports non-pos padding'),
        ('type: "Interp" interp_param { zoom_factor: 2 pad_beg: -2 }', [(1, 1, 2, 2)], 'leave nothing'),
        ('type: "Interp" interp_param { zoom_factor: 0 }', [(1, 1, 2, 2)], 'must be positive'),
        (
            'type: "BN" bn_param { bn_mode: LEARN frozen: true }',
            [(1, 1, 2, 2)],
            'bn_mode is of SegNet, frozen of PSPNet',
        ),
        ('type: "DepthwiseConvolution" convolution_param { num_output: 4 kernel_size: 1 }', [(1, 4, 2, 2)], 'it is 1'),
        (
            'type: "ConvolutionDepthwise" convolution_param { num_output: 4 kernel_size: 1 group: 2 }',
            [(1, 4, 2, 2)],
            'remove group: 2',
        ),
        ('type: "ROIAlign" roi_align_param { pooled_h: 2 }', [(1, 1, 2, 2), (1, 5)], 'pooled_w must be > 0'),
        ('type: "ROIAlign" roi_align_param { pooled_h: 2 pooled_w: 2 }', [(1, 1, 2, 2), (1, 4)], 'RoIs of shape'),
        ('type: "Proposal"', [(1, 2, 2, 2), (1, 36, 2, 2), (1, 3)], 'with 9 anchors'),
        (
            'type: "ROIAlign" roi_align_param { pooled_h: 2 pooled_w: 2 spatial_scale: nan }',
            [(1, 1, 2, 2), (1, 5)],
            'spatial_scale must be > 0; got nan',
        ),
        (
            'type: "ROIAlign" roi_align_param { pooled_h: 2 pooled_w: 2 sampling_ratio: 2147483647 }',
            [(1, 1, 2, 2), (1, 5)],
            'sampling_ratio must be at most 1024; got 2147483647',
        ),
        ('type: "Proposal" proposal_param { scale: nan }', [(1, 6, 2, 2), (1, 12, 2, 2), (1, 3)], 'must be positive'),
        ('type: "Proposal" proposal_param { nms_thresh: -1 }', [(1, 18, 2, 2)] * 3, 'nms_thresh must not be negative'),
        ('type: "Proposal" proposal_param { ratio: 0 }', [(1, 2, 2, 2), (1, 4, 2, 2), (1, 3)], 'must be positive'),
    ],
)
def test_bad_input_is_refused(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        RunningLayer(text, [np.ones(shape) for shape in shapes])


def test_an_roi_of_no_image_is_refused():
    text = 'type: "ROIAlign" roi_align_param { pooled_h: 2 pooled_w: 2 }'
    with pytest.raises(LayerError, match='RoI 0 is of image 3 of the batch, but bottom 0 holds 1'):
        run_layer(text, [np.ones((1, 1, 4, 4)), [[3, 0, 0, 1, 1]]])
