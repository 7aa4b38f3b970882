"""The layers of Faster R-CNN beyond what the original does: several images, no objects, sampling, bad input."""

import numpy as np
import pytest

import caffe
from fast_rcnn.config import cfg
from fast_rcnn.nms import nms
from rpn.anchor_targets import anchor_targets, hardest, labelled, sampled
from rpn.generate_anchors import anchor_grid, generate_anchors
from rpn.layer import phase_of
from rpn.proposal_targets import choose_rois, roi_targets
from rpn.proposals import propose

INPUT = 'layer {{ name: "{0}" type: "Input" top: "{0}" input_param {{ shape {{ {1} }} }} }}\n'
TOPS = {
    'AnchorTargetLayer': ('rpn_labels', 'rpn_bbox_targets', 'rpn_bbox_inside_weights', 'rpn_bbox_outside_weights'),
    'ProposalLayer': ('rois', 'roi_scores'),
    'ProposalTargetLayer': ('rois', 'labels', 'bbox_targets', 'bbox_inside_weights', 'bbox_outside_weights'),
}
MODULES = {
    'AnchorTargetLayer': 'anchor_target_layer',
    'ProposalLayer': 'proposal_layer',
    'ProposalTargetLayer': 'proposal_target_layer',
}


@pytest.fixture
def one_layer(tmp_path):
    """Make a net of one layer with the given inputs; running it returns its tops."""

    def make(layer, inputs, param_str, phase=caffe.TRAIN):
        text = ''.join(INPUT.format(name, ' '.join(f'dim: {n}' for n in a.shape)) for name, a in inputs.items())
        text += f'layer {{ name: "l" type: "Python" {" ".join(f"bottom: {chr(34)}{n}{chr(34)}" for n in inputs)} '
        text += ' '.join(f'top: "{name if name not in inputs else name + "_"}"' for name in TOPS[layer])
        text += f' python_param {{ module: "rpn.{MODULES[layer]}" layer: "{layer}" param_str: "{param_str}" }} }}'
        (tmp_path / 'net.prototxt').write_text(text)
        net = caffe.Net(str(tmp_path / 'net.prototxt'), phase)

        def run(**inputs):
            for name, array in inputs.items():
                net.blobs[name].reshape(*array.shape)
                net.blobs[name].data[...] = array
            return {name: blob.copy() for name, blob in net.forward().items()}

        run.layer = list(net.layers)[-1]
        return run, run(**inputs)

    return make


def maps(rng, images, scale=1.0):
    """Scores (N, 18, 6, 8) and regressions (N, 36, 6, 8) of nine anchors."""
    return rng.random((images, 18, 6, 8)).astype('f'), (scale * rng.normal(size=(images, 36, 6, 8))).astype('f')


OBJECTS = np.array([[10, 10, 70, 60, 3], [60, 30, 120, 90, 1], [5, 40, 60, 90, 2]], dtype=np.float32)
INFO = np.array([[96, 128, 1.0]], dtype=np.float32)


def test_default_anchors_are_those_of_the_paper():
    """Areas 128, 256 and 512 squared at ratios 1:2, 1:1, 2:1; the centre of pixels 0 ... 15 is 7.5."""
    anchors = generate_anchors()
    assert anchors[4].tolist() == [-120, -120, 135, 135]  # ratio 1, scale 16: 256 pixels around 7.5
    assert ((anchors[:, :2] + anchors[:, 2:]) / 2 == 7.5).all()
    assert anchor_grid(anchors, 2, 3, 16)[9 * 4].tolist() == (anchors[0] + [16, 16, 16, 16]).tolist()  # row 1, column 1


def test_labels_of_anchors():
    """Above 0.7 or nearest to an object: 1; below 0.3 with all: 0; what is both is an object, unless told otherwise."""
    overlaps = np.array([[0.8, 0.1], [0.5, 0.2], [0.2, 0.25], [0.1, 0.0], [0.2, 0.25]])
    assert labelled(overlaps).tolist() == [1, -1, 1, 0, 1]
    cfg.TRAIN.RPN_CLOBBER_POSITIVES = True
    assert labelled(overlaps).tolist() == [1, -1, 0, 0, 0]


def test_an_object_that_no_anchor_touches_makes_no_anchor_an_object():
    assert labelled(np.array([[0.0, 0.8], [0.0, 0.1]])).tolist() == [1, 0]


def test_without_objects_every_anchor_inside_is_background():
    cfg.TRAIN.RPN_BATCHSIZE = 10_000
    grid = anchor_grid(generate_anchors(scales=(1, 2)), 6, 8, 16)
    targets = anchor_targets(grid, np.zeros((0, 4), np.float32), INFO[0], 0, np.random.default_rng(0))
    inside = (grid[:, :2] >= 0).all(axis=1) & (grid[:, 2] < 128) & (grid[:, 3] < 96)
    np.testing.assert_array_equal(targets.labels, np.where(inside, 0, -1))
    assert not targets.bbox_targets.any() and not targets.inside_weights.any()
    np.testing.assert_allclose(targets.outside_weights[inside], 1 / inside.sum())


def test_no_anchor_fits_into_a_small_image():
    targets = anchor_targets(generate_anchors(), OBJECTS[:, :4], np.float32([20, 20, 1]), 0, np.random.default_rng(0))
    assert (targets.labels == -1).all() and not targets.outside_weights.any()


def test_objects_are_half_of_the_sampled_anchors_at_most():
    cfg.TRAIN.RPN_BATCHSIZE = 8
    rng = np.random.default_rng(0)
    labels = sampled(np.array([1] * 10 + [0] * 20 + [-1] * 5), rng)
    assert [(labels == k).sum() for k in (1, 0, -1)] == [4, 4, 27]
    labels = sampled(np.array([1] * 2 + [0] * 20), rng)
    assert [(labels == k).sum() for k in (1, 0)] == [2, 6]  # background fills up


def test_the_hardest_anchors_are_those_of_the_largest_loss(one_layer):
    """Of ratio 1 alone: cell by cell, the more wrong the score the larger the loss; no share of objects is kept."""
    cfg.TRAIN.RPN_BATCHSIZE = 2
    assert hardest(np.array([1, 1, 0, 0, -1]), np.array([5.0, -4.0, 3.0, -2.0, 9.0])).tolist() == [-1, 1, 0, -1, -1]
    cfg.TRAIN.RPN_USE_OHEM = True
    scores = np.zeros((1, 2, 6, 8), np.float32)  # background, object
    scores[0, 1, 2, 5], scores[0, 0, 0, 0], scores[0, 1, 4, 7] = 3, 7, 4  # wrong, right, and wrong outside of the image
    inputs = {'scores': scores, 'gt_boxes': np.zeros((0, 5), np.float32), 'im_info': np.float32([[96, 112, 1]])}
    cfg.TRAIN.RPN_BATCHSIZE = 1
    _, tops = one_layer('AnchorTargetLayer', inputs, "{'feat_stride': 16, 'scales': [1], 'ratios': [1]}")
    assert np.argwhere(tops['rpn_labels'][0, 0] == 0).tolist() == [[2, 5]] and (tops['rpn_labels'] >= 0).sum() == 1


def test_proposals_are_the_best_that_do_not_repeat_a_better_one():
    rng = np.random.default_rng(0)
    anchors = anchor_grid(generate_anchors(scales=(1, 2, 4)), 6, 8, 16)
    scores, deltas = rng.random(len(anchors)).astype('f'), np.zeros((len(anchors), 4), np.float32)
    cfg.TEST.RPN_PRE_NMS_TOP_N, cfg.TEST.RPN_POST_NMS_TOP_N = 100, 7
    boxes, found = propose(scores, deltas, anchors, INFO[0], cfg.TEST)
    assert len(boxes) == 7 and (np.diff(found) <= 0).all()
    assert len(nms(np.column_stack((boxes, found)), cfg.TEST.RPN_NMS_THRESH)) == 7
    assert (boxes >= 0).all() and (boxes[:, 2] <= 127).all() and (boxes[:, 3] <= 95).all()
    assert (boxes[:, 2:] - boxes[:, :2] + 1 >= 16).all()
    cfg.TEST.RPN_MIN_SIZE = 200  # of an image of 128 x 96 pixels
    boxes, found = propose(scores, deltas, anchors, INFO[0], cfg.TEST)
    assert boxes.shape == (0, 4) and found.shape == (0,)


def test_a_quarter_of_the_sampled_rois_is_foreground_at_most():
    cfg.TRAIN.BG_THRESH_LO = 0.0
    boxes = np.concatenate((np.repeat(OBJECTS[:1, :4], 20, axis=0), [[90, 0, 120, 20]] * 50))
    rows, classes, _ = choose_rois(boxes, OBJECTS[:, :4], OBJECTS[:, 4], 16, np.random.default_rng(0))
    assert classes.tolist() == [3] * 4 + [0] * 12 and len(set(rows)) == 16
    cfg.TRAIN.USE_OHEM = True
    rows, classes, _ = choose_rois(boxes, OBJECTS[:, :4], OBJECTS[:, 4], 16, np.random.default_rng(0))
    assert classes.tolist() == [3] * 20 + [0] * 50  # all, for the mining to choose among


def test_rois_move_towards_their_object_in_the_columns_of_its_class():
    boxes, objects = np.float32([[0, 0, 9, 9], [0, 0, 9, 9]]), np.float32([[0, 0, 9, 9], [5, 0, 14, 19]])
    targets, inside = roi_targets(boxes, np.float32([2, 0]), objects, np.array([1, 1]), 3)
    assert inside.tolist() == [[0] * 8 + [1] * 4, [0] * 12]
    np.testing.assert_allclose(targets[0, 8:], [0.5, 0.5, 0, np.log(2)], atol=1e-6)  # 5/10, 5/10, 10:10, 20:10
    assert not targets[1].any()
    cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = True
    targets, _ = roi_targets(boxes, np.float32([2, 0]), objects, np.array([1, 1]), 3)
    np.testing.assert_allclose(targets[0, 8:], [5, 5, 0, np.log(2) / 0.2], atol=1e-5)


@pytest.mark.parametrize('layer', TOPS)
def test_two_images_a_pass_are_as_each_by_itself(one_layer, layer):
    """Anchors and RoIs are not sampled away here, so that what is drawn for an image does not matter."""
    cfg.TRAIN.RPN_BATCHSIZE, cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.FG_FRACTION, cfg.TRAIN.BG_THRESH_LO = (
        10_000,
        10_000,
        1.0,
        0.0,
    )
    cfg.TRAIN.IMS_PER_BATCH = 2
    rng = np.random.default_rng(0)
    scores, deltas = maps(rng, 2, 0.1)
    objects = np.column_stack(([1, 0, 1], OBJECTS))  # one in the first image, two in the second
    info = np.array([[96, 128, 1.0], [90, 100, 1.5]], dtype=np.float32)
    rois = np.column_stack((np.repeat([0, 1], 20), np.tile(OBJECTS[rng.integers(3, size=20), :4], (2, 1))))
    rois[:, 1:] += rng.integers(0, 20, (40, 4))
    inputs = {
        'AnchorTargetLayer': lambda i: {'scores': scores[i], 'gt_boxes': objects, 'im_info': info[i]},
        'ProposalLayer': lambda i: {'scores': scores[i], 'deltas': deltas[i], 'im_info': info[i]},
        'ProposalTargetLayer': lambda i: {'rpn_rois': rois[np.isin(rois[:, 0], np.arange(2)[i])], 'gt_boxes': objects},
    }[layer]
    params = "'num_classes': 4" if layer == 'ProposalTargetLayer' else "{'feat_stride': 16, 'scales': [1, 2, 4]}"

    def alone(i):
        blobs = inputs(slice(i, i + 1))
        if 'gt_boxes' in blobs:
            blobs['gt_boxes'] = objects[objects[:, 0] == i, 1:]
        if 'rpn_rois' in blobs:
            blobs['rpn_rois'] = blobs['rpn_rois'] * [0, 1, 1, 1, 1]
        return one_layer(layer, blobs, params)[1]

    both = one_layer(layer, inputs(slice(0, 2)), params)[1]
    each = [alone(0), alone(1)]
    if 'rois' in both:
        each[1]['rois'][:, 0] = 1
    for name, values in both.items():
        np.testing.assert_array_equal(values, np.concatenate([blobs[name] for blobs in each]), err_msg=name)


def test_what_is_sampled_depends_on_seed_pass_and_image_alone(one_layer):
    cfg.TRAIN.RPN_BATCHSIZE = 8
    scores = np.concatenate([maps(np.random.default_rng(0), 1)[0]] * 2)
    objects = np.concatenate([np.column_stack((np.full(3, i), OBJECTS)) for i in range(2)])
    inputs = {'scores': scores, 'gt_boxes': objects, 'im_info': np.repeat(INFO, 2, axis=0)}
    run, first = one_layer('AnchorTargetLayer', inputs, "{'feat_stride': 16, 'scales': [1, 2, 3]}")
    labels = [first['rpn_labels']] + [run()['rpn_labels'] for _ in range(2)]
    assert not np.array_equal(labels[0], labels[1]) and not np.array_equal(labels[0][0], labels[0][1])
    run.layer.set_position(1)
    np.testing.assert_array_equal(run()['rpn_labels'], labels[1])  # whatever came before
    np.testing.assert_array_equal(run()['rpn_labels'], labels[2])
    cfg.RNG_SEED += 1
    run.layer.set_position(1)
    assert not np.array_equal(run()['rpn_labels'], labels[1])


def test_images_without_objects(one_layer):
    cfg.TRAIN.BG_THRESH_LO = 0.0
    none = np.zeros((0, 5), np.float32)
    rois = np.float32([[0, 10, 10, 60, 60], [0, 30, 5, 90, 80]])
    run, _ = one_layer('ProposalTargetLayer', {'rpn_rois': rois, 'gt_boxes': OBJECTS}, "'num_classes': 4")
    tops = run(gt_boxes=none)
    np.testing.assert_array_equal(np.sort(tops['rois'], axis=0), np.sort(rois, axis=0))
    assert tops['labels'].tolist() == [0, 0] and not tops['bbox_targets'].any()


@pytest.mark.parametrize('phase', [0, '0', 'TRAIN', caffe.TRAIN])
def test_the_phase_as_every_pycaffe_says_it(phase):
    assert phase_of(type('Layer', (), {'phase': phase})) == 'TRAIN'
    other = {0: 1, '0': '1', 'TRAIN': 'TEST'}.get(phase, caffe.TEST)
    assert phase_of(type('Layer', (), {'phase': other})) == 'TEST'


def test_settings_go_by_the_phase(one_layer):
    cfg.TRAIN.RPN_POST_NMS_TOP_N, cfg.TEST.RPN_POST_NMS_TOP_N = 5, 3
    scores, deltas = maps(np.random.default_rng(0), 1, 0.1)
    inputs = {'scores': scores, 'deltas': deltas, 'im_info': INFO}
    for phase, rows in ((caffe.TRAIN, 5), (caffe.TEST, 3)):
        tops = one_layer('ProposalLayer', inputs, "{'feat_stride': 16, 'scales': [1, 2, 4]}", phase)[1]
        assert tops['rois'].shape == (rows, 5) and tops['roi_scores'].shape == (rows, 1)


@pytest.mark.parametrize(
    ('layer', 'param_str', 'words'),
    [
        ('ProposalLayer', "'scales': [8]", 'must give feat_stride'),
        ('ProposalLayer', "'feat_stride': 16", 'expected one'),
        ('ProposalLayer', "{'feat_stride': 16, 'scales': [8]}", '3 anchors need 6 channels of scores'),
        ('ProposalLayer', "{'feat_stride': 16, 'ratio': [1]}", "no parameter 'ratio'; there are: feat_stride"),
        ('ProposalLayer', "{'feat_stride': 16, 'scales': [0]}", 'scales in param_str are numbers above 0'),
        ('AnchorTargetLayer', "{'feat_stride': 16, 'allowed_border': far}", 'allowed_border'),
        ('ProposalTargetLayer', "'num_classes': 1", 'must give num_classes, 2 or more'),
        (
            'ProposalLayer',
            "'feat_stride': 16, 'scales': [8]",
            'line 1, column 28.*; several parameters stand in braces',
        ),
        ('ProposalLayer', "{'feat_stride': 16, 'feat_stride': 8}", 'feat_stride is given twice'),
        ('ProposalLayer', "{'feat_stride': 16, 'scales': [.inf]}", 'scales in param_str are numbers above 0'),
        ('ProposalLayer', "'feat_stride': 9999999999999999999999", 'no more than 1000000'),
        ('AnchorTargetLayer', "{'feat_stride': 16, 'allowed_border': .nan}", 'allowed_border in param_str is a finite'),
    ],
)
def test_a_mistake_in_param_str_is_explained(one_layer, layer, param_str, words):
    scores, deltas = maps(np.random.default_rng(0), 1)
    inputs = {
        'ProposalLayer': {'scores': scores, 'deltas': deltas, 'im_info': INFO},
        'AnchorTargetLayer': {'scores': scores, 'gt_boxes': OBJECTS, 'im_info': INFO},
        'ProposalTargetLayer': {'rpn_rois': np.zeros((1, 5)), 'gt_boxes': OBJECTS},
    }[layer]
    if words == 'expected one':
        inputs, words = {**inputs, 'scores': scores[:, :10]}, '9 anchors need 18 channels'
    with pytest.raises(Exception, match=words) as raised:
        one_layer(layer, inputs, param_str)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    'text', ["'feat_stride': 16\\n'scales': !!python/tuple [1, 2]", '{feat_stride: 16, scales: [1, 2]}']
)
def test_parameters_as_published_and_in_braces(one_layer, text):
    rng = np.random.default_rng(0)
    inputs = {'scores': rng.random((1, 12, 6, 8)), 'deltas': rng.normal(size=(1, 24, 6, 8)), 'im_info': INFO}
    assert one_layer('ProposalLayer', inputs, text)[1]['rois'].shape[1] == 5


@pytest.mark.parametrize(
    ('layer', 'change', 'words'),
    [
        ('ProposalLayer', {'im_info': None}, '2 bottoms and 2 tops, expected .*rpn_bbox_pred, im_info'),
        ('ProposalLayer', {'im_info': INFO[:, :2]}, r'im_info has shape \(1, 2\) for 1 images'),
        ('ProposalLayer', {'deltas': np.zeros((1, 36, 6, 4))}, 'scores have shape .* as many images and cells'),
        ('AnchorTargetLayer', {'im_info': None}, 'has 2 bottoms and 4 tops'),
        ('AnchorTargetLayer', {'im_info': INFO[:, :2]}, r'im_info has shape \(1, 2\)'),
        ('ProposalTargetLayer', {'gt_boxes': None}, '1 bottoms and 5 tops, expected .* rpn_rois, gt_boxes'),
        ('ProposalTargetLayer', {'rpn_rois': np.zeros((1, 4))}, r'rpn_rois has shape \(1, 4\)'),
        ('ProposalTargetLayer', {'rpn_rois': np.full((1, 5), np.nan)}, 'which are finite numbers'),
        ('ProposalTargetLayer', {'rpn_rois': np.ones((1, 5))}, 'boxes of several images, gt_boxes has five columns'),
    ],
)
def test_bottoms_that_do_not_fit_are_explained(one_layer, layer, change, words):
    scores, deltas = maps(np.random.default_rng(0), 1)
    inputs, text = {
        'ProposalLayer': ({'scores': scores, 'deltas': deltas, 'im_info': INFO}, "'feat_stride': 16"),
        'AnchorTargetLayer': ({'scores': scores, 'gt_boxes': OBJECTS, 'im_info': INFO}, "'feat_stride': 16"),
        'ProposalTargetLayer': ({'rpn_rois': np.zeros((1, 5)), 'gt_boxes': OBJECTS}, "'num_classes': 4"),
    }[layer]
    inputs = {name: array for name, array in {**inputs, **change}.items() if array is not None}
    with pytest.raises(Exception, match=words):
        one_layer(layer, inputs, text)


def test_an_image_with_neither_proposals_nor_objects_has_no_rois(one_layer):
    inputs = {'rpn_rois': np.zeros((0, 5)), 'gt_boxes': np.zeros((0, 5))}
    tops = one_layer('ProposalTargetLayer', inputs, "'num_classes': 4")[1]
    shapes = [tops[name].shape for name in TOPS['ProposalTargetLayer']]
    assert shapes == [(0, 5), (0,), (0, 16), (0, 16), (0, 16)]


def test_objects_of_several_images_need_to_say_of_which(one_layer):
    scores, _ = maps(np.random.default_rng(0), 2)
    inputs = {'scores': scores, 'gt_boxes': OBJECTS, 'im_info': np.repeat(INFO, 2, axis=0)}
    with pytest.raises(Exception, match=r'gt_boxes has shape \(3, 5\) for 2 images'):
        one_layer('AnchorTargetLayer', inputs, "'feat_stride': 16")


def test_each_roi_tells_which_proposal_it_is(one_layer):
    """Two proposals in image 1, one in image 0; the objects themselves are none."""
    rois = np.array([[0, 10, 10, 70, 61], [1, 60, 30, 120, 88], [1, 0, 0, 20, 20]], dtype=np.float32)
    objects = np.array([[0, 10, 10, 70, 60, 3], [1, 60, 30, 120, 90, 1]], dtype=np.float32)
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.USE_OHEM, cfg.TRAIN.BG_THRESH_LO = 2, True, 0.0
    run, tops = one_layer('ProposalTargetLayer', {'rpn_rois': rois, 'gt_boxes': objects}, "'num_classes': 4")
    which = run.layer.proposal
    assert sorted(which.tolist()) == [-1, -1, 0, 1, 2]
    proposed = which >= 0
    np.testing.assert_array_equal(tops['rois'][proposed], rois[which[proposed]])
    np.testing.assert_array_equal(tops['rois'][~proposed], objects[:, :5])


def test_scores_without_a_top_for_them(one_layer):
    scores, deltas = maps(np.random.default_rng(0), 1)
    inputs = {'rpn_cls_prob_reshape': scores, 'rpn_bbox_pred': deltas, 'im_info': INFO}
    run, tops = one_layer('ProposalLayer', inputs, "'feat_stride': 16", caffe.TEST)
    np.testing.assert_array_equal(run.layer.scores, tops['roi_scores'][:, 0])
