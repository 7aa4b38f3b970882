"""R-FCN's layers against NumPy transcriptions of its Caffe's loops (daijifeng001/caffe-rfcn), and a net of them."""

import numpy as np
import pytest
from gradient import RunningLayer

import caffe
from caffe.layer import LayerError

f = np.float32


# ---- PSROIPooling


def psroi(x, rois, output_dim, group, scale=0.25):
    text = f'psroi_pooling_param {{ output_dim: {output_dim} group_size: {group} spatial_scale: {scale} }}'
    return RunningLayer(f'type: "PSROIPooling" {text}', [x, rois])


def c_round(value):
    return f(np.sign(value) * np.floor(abs(float(value)) + 0.5))


def loops(x, rois, output_dim, group, scale, top_diff):
    """PSROIPoolingForward and PSROIPoolingBackwardAtomic, pixel by pixel."""
    height, width = x.shape[2:]
    top, x_diff = np.zeros((len(rois), output_dim, group, group)), np.zeros(x.shape)
    for r, roi in enumerate(rois):
        x1, y1 = (c_round(c) * f(scale) for c in roi[1:3])
        x2, y2 = (f(c_round(c) + f(1)) * f(scale) for c in roi[3:5])
        bin_w, bin_h = f(max(x2 - x1, f(0.1))) / f(group), f(max(y2 - y1, f(0.1))) / f(group)
        for d in range(output_dim):
            for p in range(group):
                for q in range(group):
                    top_row = min(max(int(np.floor(f(p) * bin_h + y1)), 0), height)
                    end_row = min(max(int(np.ceil(f(p + 1) * bin_h + y1)), 0), height)
                    left = min(max(int(np.floor(f(q) * bin_w + x1)), 0), width)
                    right = min(max(int(np.ceil(f(q + 1) * bin_w + x1)), 0), width)
                    if end_row <= top_row or right <= left:
                        continue
                    place = int(roi[0]), (d * group + p) * group + q, slice(top_row, end_row), slice(left, right)
                    area = (end_row - top_row) * (right - left)
                    top[r, d, p, q] = x[place].astype(float).sum() / area
                    x_diff[place] += top_diff[r, d, p, q] / area
    return top, x_diff


def test_a_bin_is_the_mean_of_its_own_map():
    """One RoI over a 2 x 2 map, four maps: each bin is the pixel of its own map that lies there."""
    maps = np.arange(16).reshape(1, 4, 2, 2)
    (y,) = psroi(maps, [[0, 0, 0, 1, 1]], 1, 2, scale=1).forward()
    np.testing.assert_array_equal(y, [[[[0, 5], [10, 15]]]])


@pytest.mark.parametrize('seed', range(6))
def test_psroi_pooling_is_the_originals(seed):
    rng = np.random.default_rng(seed)
    height, width, group, dim = *rng.integers(4, 20, 2), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    scale = float(rng.choice([0.0625, 0.25, 1 / 3, 1]))
    x = rng.standard_normal((2, dim * group**2, height, width)).astype(f)
    corners = np.sort(rng.uniform(-0.2, 1.2, (12, 2, 2)), axis=1) * [width / scale, height / scale]
    rois = np.concatenate([rng.integers(2, size=(12, 1)), corners.reshape(12, 4)], axis=1).astype(f)
    rois[0, 3:] = rois[0, 1:3] - 9  # ends before it starts: 0.1 of a pixel long
    rois[1, 1:] = np.round(rois[1, 1:]) + 0.5  # halves are rounded away from zero
    top_diff = rng.standard_normal((12, dim, group, group)).astype(f)
    run = psroi(x, rois, dim, group, scale)
    want, want_diff = loops(x, rois, dim, group, scale, top_diff)
    np.testing.assert_allclose(run.forward()[0], want, rtol=1e-5, atol=1e-6)
    x_diff, rois_diff = run.backward([top_diff])
    np.testing.assert_allclose(x_diff, want_diff, rtol=1e-5, atol=1e-6)
    assert not rois_diff.any()


@pytest.mark.parametrize(
    ('options', 'maps', 'rois', 'message'),
    [
        ('group_size: 2 spatial_scale: 1', (1, 4, 2, 2), (1, 5), 'needs a output_dim'),
        ('output_dim: 1 group_size: 0 spatial_scale: 1', (1, 4, 2, 2), (1, 5), 'group_size must be > 0'),
        ('output_dim: 2 group_size: 2 spatial_scale: 1', (1, 4, 2, 2), (1, 5), r'group_size\^2 = 8, H, W\), got'),
        ('output_dim: 1 group_size: 2 spatial_scale: nan', (1, 4, 2, 2), (1, 5), 'spatial_scale must be > 0'),
        ('output_dim: 1 group_size: 2 spatial_scale: inf', (1, 4, 2, 2), (1, 5), 'spatial_scale must be > 0'),
        ('output_dim: 1 group_size: 2 spatial_scale: 1', (1, 4, 2, 2), (1, 4), r'RoIs of shape \(R, 5\)'),
    ],
)
def test_bad_psroi_pooling_is_refused(options, maps, rois, message):
    with pytest.raises(LayerError, match=message):
        RunningLayer(f'type: "PSROIPooling" psroi_pooling_param {{ {options} }}', [np.zeros(maps), np.zeros(rois)])


def test_an_roi_of_no_image_is_refused():
    with pytest.raises(LayerError, match='RoI 1 is of image 1 of the batch, but bottom 0 holds 1'):
        psroi(np.zeros((1, 4, 2, 2)), [[0, 0, 0, 1, 1], [1, 0, 0, 1, 1]], 1, 2).forward()


# ---- The losses


def test_softmax_loss_ohem_gives_each_rows_loss():
    scores = np.log([[[1]], [[3]]]).reshape(1, 2, 1, 1).repeat(3, axis=0)  # probabilities 1/4, 3/4
    run = RunningLayer('type: "SoftmaxWithLossOHEM" loss_param { ignore_label: -1 }', [scores, [0, -1, 1]], n_tops=3)
    loss, probability, rows = run.forward()
    each = [np.log(4), 0, np.log(4 / 3)]
    assert loss == pytest.approx(sum(each) / 2)  # VALID: two labels count
    np.testing.assert_allclose(probability[0].ravel(), [0.25, 0.75], rtol=1e-6)
    assert rows.shape == (3, 1, 1, 1)
    np.testing.assert_allclose(rows.ravel(), each, rtol=1e-6)
    diff, _ = run.backward([1, np.ones((3, 2, 1, 1)), np.ones((3, 1, 1, 1))], [True, False])
    # The gradient is of the loss alone, though the other tops have diffs: (p - 1[label]) / 2.
    np.testing.assert_allclose(diff[:, :, 0, 0], [[-0.375, 0.375], [0, 0], [0.125, -0.125]], rtol=1e-5)


@pytest.mark.parametrize(
    ('loss_param', 'divisor'),
    [('', 2), ('normalization: BATCH_SIZE', 2), ('normalization: NONE', 1), ('normalize: false', 2),
     ('normalization: PRE_FIXED pre_fixed_normalizer: 128', 128),
     ('normalization: PRE_FIXED pre_fixed_normalizer: 0.5', 1)],
)  # fmt: skip
def test_smooth_l1_loss_ohem(loss_param, divisor):
    """f(d) = d^2 / 2 within 1, |d| - 1/2 beyond; the gradient is f', not multiplied by the weight again."""
    prediction, target, weight = [[3, 0.5], [1, 7]], [[1, 0], [1, 0]], [[1, 0.5], [1, 0]]
    run = RunningLayer(
        f'type: "SmoothL1LossOHEM" loss_param {{ {loss_param} }}', [prediction, target, weight], n_tops=2
    )
    loss, rows = run.forward()
    np.testing.assert_allclose(rows, np.reshape([1.5 + 0.03125, 0], (2, 1, 1, 1)))
    assert loss == pytest.approx(1.53125 / divisor)
    diffs = run.backward([2, np.ones((2, 1, 1, 1))], [True, True, False])
    want = np.array([[1, 0.25], [0, 0]]) * 2 / divisor
    np.testing.assert_allclose(diffs[0], want)
    np.testing.assert_allclose(diffs[1], -want)


def test_a_number_may_divide_the_softmax_loss_too():
    text = 'type: "SoftmaxWithLossOHEM" loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 8 }'
    run = RunningLayer(text, [np.zeros((3, 4)), [0, 1, 2]])
    assert run.forward()[0] == pytest.approx(3 * np.log(4) / 8)
    diff = run.backward([np.ones(())], [True, False])[0]
    np.testing.assert_allclose(diff[0], np.array([-0.75, 0.25, 0.25, 0.25]) / 8, rtol=1e-5)


def test_no_rois_are_no_loss():
    """What a net has when all proposals of an image are too small."""
    assert psroi(np.ones((1, 4, 2, 2)), np.zeros((0, 5)), 1, 2).forward()[0].shape == (0, 1, 2, 2)
    assert psroi(np.ones((0, 4, 2, 2)), np.zeros((0, 5)), 1, 2).forward()[0].shape == (0, 1, 2, 2)
    run = RunningLayer('type: "SoftmaxWithLossOHEM"', [np.ones((0, 4)), np.ones(0)], n_tops=3)
    assert [top.shape for top in run.forward()] == [(), (0, 4), (0,)]
    diff = run.backward([np.ones(()), np.ones((0, 4)), np.ones(0)], [True, False])[0]
    assert diff.shape == (0, 4)
    loss, rows = RunningLayer('type: "SmoothL1LossOHEM"', [np.ones((0, 8))] * 3, n_tops=2).forward()
    assert (loss, rows.shape) == (0, (0, 1, 1, 1))
    labels, weights = annotate(np.zeros((0, 5)), np.zeros((0, 1)), np.zeros(0), np.zeros((0, 8)), 2).forward()
    assert (labels.shape, weights.shape) == ((0, 1, 1, 1), (0, 8, 1, 1))


def test_bad_losses_are_refused():
    with pytest.raises(LayerError, match='PRE_FIXED is for SmoothL1LossOHEM and SoftmaxWithLossOHEM'):
        RunningLayer('type: "SoftmaxWithLoss" loss_param { normalization: PRE_FIXED }', [np.ones((1, 2)), [0]])
    with pytest.raises(LayerError, match='Number of labels must match'):
        RunningLayer('type: "SoftmaxWithLossOHEM"', [np.ones((2, 2)), np.ones((2, 2))])
    with pytest.raises(LayerError, match=r'label 2 .* is not among the 2 classes'):
        RunningLayer('type: "SoftmaxWithLossOHEM"', [np.ones((1, 2)), [2]]).forward()
    with pytest.raises(LayerError, match='bottom 2 must have the shape of bottom 0'):
        RunningLayer('type: "SmoothL1LossOHEM"', [np.ones((2, 4)), np.ones((2, 4)), np.ones((2, 3))])
    with pytest.raises(LayerError, match='same first dimension'):
        RunningLayer('type: "SmoothL1LossOHEM"', [np.ones((2, 4)), np.ones((1, 4))])


# ---- BoxAnnotatorOHEM


def annotate(rois, loss, labels, weights, count):
    text = f'type: "BoxAnnotatorOHEM" box_annotator_ohem_param {{ roi_per_img: {count} }}'
    return RunningLayer(text, [rois, loss, labels, weights], n_tops=2)


def annotator_loops(rois, loss, labels, weights, count):
    """Forward_gpu of box_annotator_ohem_layer.cu, with a stable sort."""
    top_labels, top_weights = np.full(len(rois), -1.0), np.zeros_like(weights)
    left = [count] * (int(rois[:, 0].max()) + 1)
    for r in sorted(range(len(rois)), key=lambda r: -loss[r]):
        image = int(rois[r, 0])
        if left[image] > 0:
            left[image] -= 1
            top_labels[r], top_weights[r] = labels[r], weights[r]
    return top_labels, top_weights


def test_the_hardest_of_each_image_keep_their_labels():
    rois = np.zeros((5, 5))
    rois[:, 0] = [0, 1, 0, 0, 1]
    run = annotate(rois, [3, 1, 2, 3, 4], [7, 0, 8, 9, 2], np.ones((5, 4)), 2)
    labels, weights = run.forward()
    assert labels.shape == (5, 1, 1, 1)
    np.testing.assert_array_equal(labels.ravel(), [7, 0, -1, 9, 2])  # image 1 has but two
    np.testing.assert_array_equal(weights[:, 0, 0, 0], [1, 1, 0, 1, 1])


@pytest.mark.parametrize('seed', range(4))
def test_the_annotators_rule_is_the_originals(seed):
    rng = np.random.default_rng(seed)
    rois = np.concatenate([rng.integers(3, size=(50, 1)), rng.uniform(0, 9, (50, 4))], axis=1)
    loss, labels = rng.integers(8, size=50) / 4, rng.integers(5, size=50)  # many losses are equal
    weights = rng.uniform(0.5, 1, (50, 8)).astype(f)
    got = annotate(rois, loss.reshape(50, 1, 1, 1), labels, weights, 6).forward()
    for top, want in zip(got, annotator_loops(rois, loss, labels, weights, 6), strict=True):
        np.testing.assert_array_equal(top.reshape(want.shape), want)


def test_losses_of_no_image_are_refused():
    with pytest.raises(LayerError, match='RoI 0 is of image -1'):
        annotate([[-1, 0, 0, 1, 1]], [1], [1], np.ones((1, 4)), 2).forward()
    with pytest.raises(LayerError, match='RoI 0 is of image nan'):
        annotate([[np.nan, 0, 0, 1, 1]], [1], [1], np.ones((1, 4)), 2).forward()
    with pytest.raises(LayerError, match='roi_per_img > 0'):
        annotate(np.zeros((1, 5)), [1], [1], np.ones((1, 4)), 0)
    with pytest.raises(LayerError, match='bottom 1, the losses'):
        annotate(np.zeros((2, 5)), [1], [1, 1], np.ones((2, 4)), 2)


# ---- A net


def convolution(name, bottom, outputs, kernel=1, more='', filler='type: "msra"'):
    pad = kernel // 2
    return f"""layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{
        num_output: {outputs} kernel_size: {kernel} pad: {pad} {more} weight_filler {{ {filler} }} }} }}"""


def residual(name, bottom, width):
    """A bottleneck of ResNet: 1 x 1, 3 x 3, 1 x 1, and what came in."""
    text = ''
    for part, outputs, kernel in (('a', width, 1), ('b', width, 3), ('c', 4 * width, 1)):
        text += convolution(f'{name}{part}', bottom, outputs, kernel, 'bias_term: false')
        text += f"""layer {{ name: "bn_{name}{part}" type: "BatchNorm" bottom: "{name}{part}" top: "{name}{part}" }}
            layer {{ name: "scale_{name}{part}" type: "Scale" bottom: "{name}{part}" top: "{name}{part}"
            scale_param {{ bias_term: true }} }}"""
        bottom = f'{name}{part}'
    return text


def rfcn_ohem(classes=3, group=3, rois=24, kept=6):
    """The layers of py-R-FCN's rfcn_end2end_ohem behind its proposals, on a ResNet of one block, 8 channels wide."""
    head = ''.join(
        f"""{convolution(f'rfcn_{what}', 'res', dim * group**2, filler='type: "gaussian" std: 0.01')}
        layer {{ name: "ps_{what}" type: "PSROIPooling" bottom: "rfcn_{what}" bottom: "rois" top: "ps_{what}"
            psroi_pooling_param {{ spatial_scale: 0.25 output_dim: {dim} group_size: {group} }} }}
        layer {{ name: "{top}" type: "Pooling" bottom: "ps_{what}" top: "{top}"
            pooling_param {{ pool: AVE kernel_size: {group} stride: {group} }} }}"""
        for what, dim, top in (('cls', classes, 'cls_score'), ('bbox', 8, 'bbox_pred'))
    )
    return f"""
    layer {{ name: "input" type: "Input" top: "data" top: "rois" top: "labels" top: "bbox_targets" top: "inside"
        input_param {{ shape {{ dim: [2, 3, 48, 64] }} shape {{ dim: [{rois}, 5] }} shape {{ dim: {rois} }}
        shape {{ dim: [{rois}, 8] }} shape {{ dim: [{rois}, 8] }} }} }}
    {convolution('conv1', 'data', 32, 3, 'stride: 4')}
    {residual('res2', 'conv1', 8)}
    layer {{ name: "res" type: "Eltwise" bottom: "conv1" bottom: "res2c" top: "res" }}
    layer {{ name: "relu" type: "ReLU" bottom: "res" top: "res" }}
    {head}
    layer {{ name: "per_roi_loss_cls" type: "SoftmaxWithLossOHEM" bottom: "cls_score" bottom: "labels"
        top: "temp_loss_cls" top: "temp_prob_cls" top: "per_roi_loss_cls" loss_weight: [0, 0, 0]
        propagate_down: [false, false] }}
    layer {{ name: "per_roi_loss_bbox" type: "SmoothL1LossOHEM" bottom: "bbox_pred" bottom: "bbox_targets"
        bottom: "inside" top: "temp_loss_bbox" top: "per_roi_loss_bbox" loss_weight: [0, 0]
        propagate_down: [false, false, false] }}
    layer {{ name: "per_roi_loss" type: "Eltwise" bottom: "per_roi_loss_cls" bottom: "per_roi_loss_bbox"
        top: "per_roi_loss" propagate_down: [false, false] }}
    layer {{ name: "annotator" type: "BoxAnnotatorOHEM" bottom: "rois" bottom: "per_roi_loss" bottom: "labels"
        bottom: "inside" top: "labels_ohem" top: "weights_ohem" box_annotator_ohem_param {{ roi_per_img: {kept} }}
        propagate_down: [false, false, false, false] }}
    layer {{ name: "silence" type: "Silence" bottom: "temp_loss_cls" bottom: "temp_prob_cls" bottom: "temp_loss_bbox" }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "cls_score" bottom: "labels_ohem" top: "loss_cls"
        loss_param {{ ignore_label: -1 }} propagate_down: [true, false] }}
    layer {{ name: "accuracy" type: "Accuracy" bottom: "cls_score" bottom: "labels_ohem" top: "accuracy"
        accuracy_param {{ ignore_label: -1 }} propagate_down: [false, false] }}
    layer {{ name: "loss_bbox" type: "SmoothL1LossOHEM" bottom: "bbox_pred" bottom: "bbox_targets"
        bottom: "weights_ohem" top: "loss_bbox" loss_weight: 1
        loss_param {{ normalization: PRE_FIXED pre_fixed_normalizer: {kept} }} propagate_down: [true, false, false] }}
    """


@pytest.fixture
def solver(tmp_path):
    (tmp_path / 'train.prototxt').write_text(rfcn_ohem())
    (tmp_path / 'solver.prototxt').write_text(
        f'train_net: "{tmp_path / "train.prototxt"}" base_lr: 0.02 lr_policy: "fixed" momentum: 0.9 random_seed: 1'
    )
    solver = caffe.SGDSolver(str(tmp_path / 'solver.prototxt'))
    rng = np.random.default_rng(0)
    rois = len(solver.net.blobs['rois'].data)
    corners = np.sort(rng.uniform(0, 1, (rois, 2, 2)), axis=1) * [63, 47]
    labels = rng.integers(3, size=rois)
    targets, inside = rng.standard_normal((rois, 8)), np.zeros((rois, 8))
    inside[labels > 0, 4:] = 1
    for name, value in {
        'data': rng.standard_normal((2, 3, 48, 64)),
        'rois': np.concatenate([np.arange(rois)[:, None] % 2, corners.reshape(rois, 4)], axis=1),
        'labels': labels, 'bbox_targets': targets, 'inside': inside,
    }.items():  # fmt: skip
        solver.net.blobs[name].data[...] = value
    return solver


def test_an_rfcn_net_learns_the_hardest_rois(solver):
    solver.step(1)
    blobs = solver.net.blobs
    first = blobs['per_roi_loss'].data.sum()
    rois, loss = blobs['rois'].data.copy(), blobs['per_roi_loss'].data.ravel()
    want, weights = annotator_loops(rois, loss, blobs['labels'].data, blobs['inside'].data, 6)
    np.testing.assert_array_equal(blobs['labels_ohem'].data.ravel(), want)
    np.testing.assert_array_equal(blobs['weights_ohem'].data[:, :, 0, 0], weights)
    assert np.unique(rois[want >= 0, 0], return_counts=True)[1].tolist() == [6, 6]
    # The scores of the other RoIs have no gradient.
    has_gradient = np.abs(blobs['cls_score'].diff).sum((1, 2, 3)) > 0
    np.testing.assert_array_equal(has_gradient, want >= 0)
    solver.step(12)
    assert blobs['per_roi_loss'].data.sum() < 0.95 * first


def test_ohems_own_rule_drops_rois_alike_that_the_annotator_keeps():
    """HardRoiMiningLayer's rule on the same RoIs: NMS within an image and label, then the hardest of the batch."""
    from roi_data_layer.mining import mine_hard_rois

    rois = np.array([[0, 0, 0, 9, 9], [0, 0, 0, 9, 9], [0, 20, 20, 29, 29], [1, 0, 0, 9, 9], [1, 30, 0, 39, 9]], f)
    loss, labels = np.array([5, 4, 3, 2, 1], f), np.array([1, 1, 1, 0, 0])
    kept = annotate(rois, loss, labels, np.ones((5, 4)), 2).forward()[0].ravel() >= 0
    assert np.flatnonzero(kept).tolist() == [0, 1, 3, 4]  # two of each image, the copy 1 among them
    assert mine_hard_rois(loss, rois, labels, 4, 0.7).tolist() == [0, 2, 3, 4]  # 1 is a copy of 0
    assert mine_hard_rois(loss, rois, labels, 2, 0.7).tolist() == [0, 2]  # of the batch, not of each image
