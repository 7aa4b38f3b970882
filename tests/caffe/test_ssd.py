"""SSD's layers by examples worked by hand, and beside NumPy transcriptions of its Caffe's loops (weiliu89/caffe, branch
ssd: bbox_util.cpp, multibox_loss_layer.cpp, detection_output_layer.cpp)."""

import numpy as np
import pytest
from gradient import RunningLayer, run_layer

import caffe
from caffe import glog
from caffe.kernels import boxes as kernel
from caffe.layer import LayerError

f = np.float32


# ---- Permute, Normalize


def test_permute_puts_the_named_axes_first():
    x = np.arange(24).reshape(1, 2, 3, 4)
    (y,) = run_layer('type: "Permute" permute_param { order: [0, 2, 3, 1] }', [x])
    np.testing.assert_array_equal(y, x.transpose(0, 2, 3, 1))
    (y,) = run_layer('type: "Permute" permute_param { order: 3 }', [x])
    np.testing.assert_array_equal(y, x.transpose(3, 0, 1, 2))


def test_normalize_divides_by_the_norm_of_a_place_or_of_the_image():
    x = np.array([3, 0, 4, 2]).reshape(1, 2, 1, 2)  # places (3, 4) and (0, 2)
    (y,) = run_layer('type: "Normalize" norm_param { across_spatial: false scale_filler { value: 20 } }', [x])
    np.testing.assert_allclose(y.ravel(), [12, 0, 16, 20], rtol=1e-6)
    (y,) = run_layer('type: "Normalize"', [x])
    np.testing.assert_allclose(y.ravel(), np.array([3, 0, 4, 2]) / np.sqrt(29), rtol=1e-6)


def test_normalizes_scale_has_the_forks_shape():
    options = 'norm_param { channel_shared: %s }'
    x = np.ones((1, 3, 2, 2))
    assert RunningLayer('type: "Normalize" ' + options % 'true', [x]).layer.blobs[0].shape == ()
    assert RunningLayer('type: "Normalize" ' + options % 'false', [x]).layer.blobs[0].shape == (3,)


# ---- PriorBox


def prior_box(options, size=(1, 1), image=(100, 200)):
    return RunningLayer(
        f'type: "PriorBox" prior_box_param {{ {options} }}', [np.zeros((1, 2, *size)), np.zeros((1, 3, *image))]
    ).forward()[0]


def test_the_boxes_of_a_cell():
    """Side 40; sqrt(40 * 90) = 60; ratio 4: 80 x 20 and 20 x 80; all about the middle of 200 x 100 pixels."""
    y = prior_box('min_size: 40 max_size: 90 aspect_ratio: 4 aspect_ratio: 1 variance: [0.1, 0.1, 0.2, 0.2]')
    assert y.shape == (1, 2, 16)
    want = [[80, 30, 120, 70], [70, 20, 130, 80], [60, 40, 140, 60], [90, 10, 110, 90]]
    np.testing.assert_allclose(y[0, 0].reshape(4, 4), np.array(want) / [200, 100, 200, 100], rtol=1e-6)
    np.testing.assert_allclose(y[0, 1].reshape(4, 4), [[0.1, 0.1, 0.2, 0.2]] * 4)


def test_cells_go_by_rows_and_clip_cuts():
    y = prior_box('min_size: 60 clip: true flip: false aspect_ratio: 1', size=(2, 2))[0, 0].reshape(4, 4)
    # cells of 100 x 50 pixels: centres (50, 25), (150, 25), (50, 75), (150, 75)
    want = [[20, 0, 80, 55], [120, 0, 180, 55], [20, 45, 80, 100], [120, 45, 180, 100]]
    np.testing.assert_allclose(y, np.array(want) / [200, 100, 200, 100], rtol=1e-6)


def test_step_offset_and_image_size_may_be_given_and_sizes_are_whole():
    y = prior_box('min_size: 20.9 img_size: 100 step: 10 offset: 0', size=(1, 2))
    np.testing.assert_allclose(y[0, 0].reshape(2, 4), [[-0.1, -0.1, 0.1, 0.1], [0, -0.1, 0.2, 0.1]], atol=1e-7)
    np.testing.assert_allclose(y[0, 1], 0.1)


# ---- Arithmetic on boxes


def random_boxes(rng, count):
    return np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4).astype(f)


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return width * height / (area(a) + area(b) - width * height)


def match_loops(boxes, objects, threshold):
    """MatchBBox."""
    shown, overlaps = [-1] * len(boxes), [[iou(b, o) for o in objects] for b in boxes]
    pool = list(range(len(objects)))
    while pool:
        best, at = 1e-6, None
        for i in range(len(boxes)):
            for j in pool:
                if shown[i] == -1 and overlaps[i][j] > best:
                    best, at = overlaps[i][j], (i, j)
        if at is None:
            break
        shown[at[0]] = at[1]
        pool.remove(at[1])
    for i in range(len(boxes)):
        if shown[i] == -1 and max(overlaps[i]) >= threshold:
            shown[i] = overlaps[i].index(max(overlaps[i]))
    return shown


@pytest.mark.parametrize('seed', range(5))
def test_matching_is_the_originals(seed):
    rng = np.random.default_rng(seed)
    boxes, objects = random_boxes(rng, 40), random_boxes(rng, 6)
    shown, overlap = kernel.match(boxes, objects, 0.4, np.ones(40, bool))
    assert shown.tolist() == match_loops(boxes.tolist(), objects.tolist(), 0.4)
    np.testing.assert_allclose(overlap, [max(iou(b, o) for o in objects) for b in boxes], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('code', ['CORNER', 'CENTER_SIZE', 'CORNER_SIZE'])
def test_decoding_is_the_inverse_of_encoding(code):
    rng = np.random.default_rng(0)
    boxes, priors, variances = random_boxes(rng, 20), random_boxes(rng, 20), rng.uniform(0.1, 0.3, (20, 4)).astype(f)
    for its in (variances, None):
        codes = kernel.encode(boxes, priors, its, code)
        np.testing.assert_allclose(kernel.decode(codes, priors, its, code), boxes, atol=1e-5)


def test_codes_worked_by_hand():
    box, prior, variance = (
        np.array([[0.2, 0.2, 0.6, 0.4]]),
        np.array([[0, 0, 0.4, 0.4]]),
        np.array([[0.1, 0.1, 0.2, 0.2]]),
    )
    centre = [(0.4 - 0.2) / 0.4 / 0.1, (0.3 - 0.2) / 0.4 / 0.1, 0, np.log(0.5) / 0.2]
    np.testing.assert_allclose(kernel.encode(box, prior, variance, 'CENTER_SIZE'), [centre], atol=1e-9)
    np.testing.assert_allclose(kernel.encode(box, prior, variance, 'CORNER'), [[2, 2, 1, 0]], atol=1e-9)
    np.testing.assert_allclose(kernel.encode(box, prior, None, 'CORNER_SIZE'), [[0.5, 0.5, 0.5, 0]], atol=1e-9)


# ---- DetectionOutput

CORNERS = [[0, 0, 0.4, 0.4], [0.02, 0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9], [0.5, 0, 0.9, 0.4]]
PRIORS = np.array([[np.ravel(CORNERS), np.full(16, 0.1)]])
SCORES = np.array([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6], [0.9, 0.05, 0.05]])


def detect(options='', scores=SCORES, codes=None, classes=3):
    codes = np.zeros((1, 16)) if codes is None else codes
    return RunningLayer(
        f'type: "DetectionOutput" detection_output_param {{ num_classes: {classes} {options} }}',
        [codes, scores.reshape(len(codes), -1), PRIORS],
    ).forward()[0]


def test_detections_of_four_priors():
    """Class 1: prior 0, of which prior 1 is a copy (IoU 0.95). Class 2: prior 2."""
    y = detect('confidence_threshold: 0.3 nms_param { nms_threshold: 0.45 }')
    assert y.shape == (1, 1, 2, 7)
    np.testing.assert_allclose(y[0, 0], [[0, 1, 0.8, 0, 0, 0.4, 0.4], [0, 2, 0.6, 0.5, 0.5, 0.9, 0.9]], rtol=1e-6)


def test_keep_top_k_is_of_the_image_and_top_k_of_a_class():
    options = 'confidence_threshold: 0.08 nms_param { nms_threshold: 0.45 %s } keep_top_k: 3'
    y = detect(options % '')[0, 0]
    # class 1: 0.8 (0), 0.1 (2); class 2: 0.6 (2), 0.1 (0): of the equal scores 0.1 the earlier row stays
    np.testing.assert_allclose(y[:, 1:3], [[1, 0.8], [1, 0.1], [2, 0.6]], rtol=1e-6)
    y = detect(options % 'top_k: 1')[0, 0]
    np.testing.assert_allclose(y[:, 1:3], [[1, 0.8], [2, 0.6]], rtol=1e-6)


def test_codes_move_the_boxes():
    codes = np.zeros((1, 4, 4))
    codes[0, 2] = [1, 2, -1, 3]  # CORNER: each times the variance 0.1
    y = detect('confidence_threshold: 0.5 nms_param { nms_threshold: 0.4 }', codes=codes.reshape(1, 16))[0, 0]
    np.testing.assert_allclose(y[1, 3:], [0.6, 0.7, 0.8, 1.2], rtol=1e-6)
    y = detect('confidence_threshold: 0.5 variance_encoded_in_target: true', codes=codes.reshape(1, 16))[0, 0]
    np.testing.assert_allclose(y[1, 3:], [1.5, 2.5, -0.1, 3.9], rtol=1e-5)


def test_boxes_of_each_class():
    codes = np.zeros((1, 4, 3, 4))
    codes[0, 2, 2] = 1
    y = detect('confidence_threshold: 0.5 share_location: false', codes=codes.reshape(1, 48))[0, 0]
    np.testing.assert_allclose(y[:, 1:], [[1, 0.8, 0, 0, 0.4, 0.4], [2, 0.6, 0.6, 0.6, 1, 1]], rtol=1e-6)


def test_no_detection_is_a_row_of_minus_ones_an_image():
    y = detect('confidence_threshold: 0.95', np.stack([SCORES, SCORES]), np.zeros((2, 16)))
    np.testing.assert_array_equal(y[0, 0], [[0, -1, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1, -1]])


def test_files_that_a_net_would_write_are_left_out_with_a_warning(tmp_path, monkeypatch, capsys):
    """As in all prototxts that SSD's scripts write, those to deploy among them."""
    monkeypatch.setattr(glog, '_warned', set())
    out = tmp_path / 'Main'
    rows = detect(f'save_output_param {{ output_directory: "{out}" output_format: "VOC" label_map_file: "nowhere" }}')
    np.testing.assert_array_equal(rows, detect())
    assert 'DetectionOutput writes no files' in capsys.readouterr().err and not out.exists()


def test_eta_lowers_the_threshold():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.85], [0, 0, 1, 0.55]], f)  # IoU 0.85 and 0.55 with the first
    assert kernel.suppress(boxes, 0.8).tolist() == [0, 2]
    assert kernel.suppress(boxes, 0.8, eta=0.6).tolist() == [0]  # 0.48 after the first


# ---- MultiBoxLoss

# Prior 0 is the object of class 2; 1 overlaps it by 0.5 exactly; 2 to 5 do not.
LOSS_CORNERS = [[0, 0, 0.4, 0.4], [0, 0, 0.4, 0.2], *([0.5 + 0.1 * i, 0.5, 0.6 + 0.1 * i, 0.6] for i in range(4))]
LOSS_PRIORS = np.array([[np.ravel(LOSS_CORNERS), np.full(24, 0.1)]])
OBJECT = [[[[0, 2, 0, 0, 0, 0.4, 0.4, 0]]]]


def multibox(scores, options='', codes=None, objects=OBJECT, priors=LOSS_PRIORS, more=''):
    codes = np.zeros((1, 24)) if codes is None else codes
    text = f'type: "MultiBoxLoss" {more} multibox_loss_param {{ num_classes: 3 {options} }}'
    return RunningLayer(text, [codes, np.reshape(scores, (len(codes), -1)), priors, objects])


def scores_of(probabilities):
    """Scores (P, 3) whose softmax has this probability of the background, the rest halved."""
    p = np.array(probabilities, float)
    return np.log(np.stack([p, (1 - p) / 2, (1 - p) / 2], axis=1))


def test_the_hardest_negatives_are_mined():
    """One match and ratio 2: of the negatives 2 to 5 the two with the least probability of background. Prior 1 overlaps
    the object by neg_overlap, so it is none, however hard; nor does BIPARTITE match it."""
    run = multibox(
        scores_of([0.2, 0.01, 0.5, 0.8, 0.1, 0.9]), 'match_type: BIPARTITE neg_pos_ratio: 2 overlap_threshold: 0.5'
    )
    (loss,) = run.forward()
    chosen = run.layer.chosen
    assert chosen.matched.tolist() == [[0, 0]]
    assert chosen.scored.tolist() == [[0, 0], [0, 2], [0, 4]]
    assert chosen.classes.tolist() == [2, 0, 0]
    # the codes are right; class 2 has probability 0.4; divided by one match
    assert loss == pytest.approx(-np.log(0.4) - np.log(0.5) - np.log(0.1), rel=1e-5)
    codes_diff, scores_diff, *_ = run.backward([np.ones(())], [True, True, False, False])
    rows = np.abs(scores_diff.reshape(6, 3)).sum(1) > 0
    assert np.flatnonzero(rows).tolist() == [0, 2, 4]
    assert not codes_diff.any()


def test_per_prediction_matches_what_overlaps_enough():
    run = multibox(scores_of([0.2] * 6), 'neg_pos_ratio: 1')
    run.forward()
    assert run.layer.chosen.matched.tolist() == [[0, 0], [0, 1]]
    assert len(run.layer.chosen.scored) == 4  # as many negatives as matches


def test_the_loss_of_the_boxes():
    codes = np.zeros((1, 6, 4))
    codes[0, 0] = [0.5, 0, -2, 0]  # smooth L1: 0.125 and 1.5; L2: 0.125 and 2
    certain = scores_of([1 - 1e-9] * 6)
    certain[0] = [-50, -50, 50]
    options = 'match_type: BIPARTITE loc_weight: 2 '
    run = multibox(certain, options, codes.reshape(1, 24))
    assert run.forward()[0] == pytest.approx(2 * 1.625, abs=1e-4)
    codes_diff = run.backward([np.ones(())], [True, True, False, False])[0].reshape(6, 4)
    np.testing.assert_allclose(codes_diff[0], [1, 0, -2, 0])
    assert not codes_diff[1:].any()
    run = multibox(certain, options + 'loc_loss_type: L2', codes.reshape(1, 24))
    assert run.forward()[0] == pytest.approx(2 * 2.125, abs=1e-4)
    run = multibox(certain, options, codes.reshape(1, 24), more='propagate_down: [false, true, false, false]')
    assert run.forward()[0] == pytest.approx(0, abs=1e-4)


def test_hard_example_mining_is_over_both_kinds_and_both_losses():
    """OHEM: the three hardest of six priors, matches among them; a match that is easy is no longer one."""
    probabilities = scores_of([0.2, 0.3, 0.5, 0.99, 0.1, 0.98])
    probabilities[0] = [0, 0, 20]  # the match of prior 0 is easy
    run = multibox(probabilities, 'mining_type: HARD_EXAMPLE sample_size: 3')
    run.forward()
    # losses: 0: 0; 1: box 1.5 (0.2 off, over 0.1: 2) + -log 0.35; 2: log 2; 3: 0.01; 4: log 10; 5: 0.02
    assert run.layer.chosen.matched.tolist() == [[0, 1]]
    assert run.layer.chosen.scored.tolist() == [[0, 1], [0, 2], [0, 4]]


def test_without_mining_all_priors_count_and_an_image_without_objects_too():
    codes, scores = np.zeros((2, 24)), np.stack([scores_of([0.5] * 6)] * 2)
    run = multibox(scores, 'mining_type: NONE', codes)
    run.forward()
    assert len(run.layer.chosen.scored) == 12
    run = multibox(scores, '', codes)
    run.forward()
    assert set(run.layer.chosen.scored[:, 0].tolist()) == {0}


@pytest.mark.parametrize(('mode', 'divisor'), [('FULL', 6), ('VALID', 2), ('BATCH_SIZE', 1), ('NONE', 1)])
def test_what_the_loss_is_divided_by(mode, divisor):
    (loss,) = multibox(
        scores_of([0.5] * 6), 'mining_type: NONE loc_weight: 0', more=f'loss_param {{ normalization: {mode} }}'
    ).forward()
    assert loss == pytest.approx((4 * np.log(2) + 2 * np.log(4)) / divisor, rel=1e-5)


def test_difficult_objects_may_be_left_out_and_no_object_is_no_loss():
    difficult = np.array(OBJECT, float)
    difficult[..., 7] = 1
    scores = scores_of([0.2] * 6)
    assert multibox(scores, objects=difficult).forward()[0] > 0
    assert multibox(scores, 'use_difficult_gt: false', objects=difficult).forward()[0] == 0
    assert multibox(scores, objects=[[[[-1] * 8]]]).forward()[0] == 0


def test_logistic_losses_are_of_each_class():
    (loss,) = multibox(
        np.zeros((6, 3)), 'conf_loss_type: LOGISTIC match_type: BIPARTITE neg_pos_ratio: 1 loc_weight: 0'
    ).forward()
    assert loss == pytest.approx(2 * 3 * np.log(2), rel=1e-5)


def test_a_batch_with_variance_in_the_target_gives_the_same_gradient_scale():
    """encode_variance_in_target: what is predicted is not divided by the variance, but the difference is."""
    codes = np.zeros((1, 6, 4))
    codes[0, 0] = [0.05, 0, 0, 0]
    options = 'match_type: BIPARTITE neg_pos_ratio: 0 encode_variance_in_target: true bp_inside: true'
    run = multibox(np.zeros((6, 3)), options, codes.reshape(1, 24))
    assert run.forward()[0] == pytest.approx(0.5 * 0.5**2 + np.log(3), rel=1e-5)
    assert run.backward([np.ones(())], [True, True, False, False])[0][0, 0] == pytest.approx(0.5 / 0.1)


@pytest.mark.parametrize(
    ('options', 'objects', 'message'),
    [
        ('', [[[[0, 0, 0, 0, 0, 1, 1, 0]]]], 'Found background label'),
        ('', [[[[0, 3, 0, 0, 0, 1, 1, 0]]]], 'is of class 3, not among 0 .. 2'),
        ('', [[[[1, 1, 0, 0, 0, 1, 1, 0]]]], 'is of image 1; the batch has 1'),
        ('code_type: CENTER_SIZE', [[[[0, 1, 0, 0.5, 0, 0.5, 1, 0]]]], 'has no area'),
        ('share_location: false', OBJECT, 'negative mining if share_location'),
        ('do_neg_mining: false', OBJECT, 'does not agree with mining_type MAX_NEGATIVE'),
        ('background_label_id: 3', OBJECT, r'within \[0, num_classes\)'),
        ('mining_type: HARD_EXAMPLE sample_size: 0', OBJECT, 'sample_size must be > 0'),
        ('neg_pos_ratio: inf', OBJECT, 'neg_pos_ratio must be a number; got inf'),
        ('', [[[[0, np.nan, 0, 0, 0, 1, 1, 0]]]], r'object \[0.0, nan, .* has numbers that are none'),
    ],
)
def test_a_loss_that_makes_no_sense_is_refused(options, objects, message):
    with pytest.raises(LayerError, match=message):
        multibox(np.zeros((6, 3)), options, objects=objects).forward()


def test_priors_beside_which_nothing_can_be_encoded_are_refused():
    priors = LOSS_PRIORS.copy()
    priors[0, 1, 3] = 0
    with pytest.raises(LayerError, match=r'variances of priors must be > 0; got \[0.1.*, 0.1.*, 0.1.*, 0.0\]'):
        multibox(np.zeros((6, 3)), priors=priors).forward()
    priors = LOSS_PRIORS.copy()
    priors[0, 0, :4] = [0.4, 0, 0, 0.4]  # ends before it starts; its codes make the object's box of it
    options = 'code_type: CORNER_SIZE use_prior_for_matching: false'
    codes = np.zeros((1, 24))
    codes[0, :3:2] = 10, -10
    with pytest.raises(LayerError, match=r'prior \[0.4.*\] has no area: CORNER_SIZE can encode nothing beside it'):
        multibox(np.zeros((6, 3)), options, codes, priors=priors).forward()


def test_no_images_or_no_priors_are_no_loss_and_no_detection():
    empty = [np.zeros((0, 24)), np.zeros((0, 18)), LOSS_PRIORS]
    options = 'num_classes: 3'
    assert run_layer(
        f'type: "MultiBoxLoss" multibox_loss_param {{ {options} }}', [*empty, np.full((1, 1, 1, 8), -1)]
    ) == [0]
    assert run_layer(f'type: "DetectionOutput" detection_output_param {{ {options} }}', empty)[0].shape == (1, 1, 0, 7)
    none = [np.zeros((1, 0)), np.zeros((1, 0)), np.zeros((1, 2, 0))]
    assert run_layer(f'type: "MultiBoxLoss" multibox_loss_param {{ {options} }}', [*none, OBJECT]) == [0]
    (rows,) = run_layer(f'type: "DetectionOutput" detection_output_param {{ {options} }}', none)
    assert rows.tolist() == [[[[0] + [-1] * 6]]]


def test_boxes_without_end_are_detected_in_silence(recwarn):
    assert np.isinf(detect('code_type: CENTER_SIZE', codes=np.full((1, 16), 1e30))).any()
    assert not recwarn.list


def test_permute_does_not_work_in_place():
    with pytest.raises(LayerError, match='Permute Layer does not allow in-place computation'):
        RunningLayer('type: "Permute" permute_param { order: 1 }', [np.ones((2, 3))], in_place=True)


@pytest.mark.parametrize(
    ('text', 'shapes', 'message'),
    [
        ('type: "Permute" permute_param { order: [0, 4] }', [(1, 2)], 'less than the input dimension'),
        ('type: "Permute" permute_param { order: [0, 0] }', [(1, 2)], 'duplicate orders'),
        ('type: "Normalize"', [(3,)], 'must be >=2'),
        ('type: "PriorBox"', [(1, 1, 2, 2), (1, 3, 8, 8)], 'must provide min_size'),
        ('type: "PriorBox" prior_box_param { min_size: 9 max_size: 5 }', [(1, 1, 2, 2), (1, 3, 8, 8)], 'greater'),
        ('type: "PriorBox" prior_box_param { min_size: 9 variance: [1, 1] }', [(1, 1, 2, 2)] * 2, 'one or four'),
        ('type: "PriorBox" prior_box_param { min_size: 9 step: 1 step_h: 1 }', [(1, 1, 2, 2)] * 2, 'not both'),
        ('type: "PriorBox" prior_box_param { min_size: 9 img_h: 5 }', [(1, 1, 2, 2)] * 2, 'larger than 0'),
        ('type: "PriorBox" prior_box_param { min_size: 9 }', [(1, 1, 2, 2)], 'needs the image as bottom 1'),
        ('type: "PriorBox" prior_box_param { min_size: nan }', [(1, 1, 2, 2)] * 2, 'min_size must be positive'),
        ('type: "PriorBox" prior_box_param { min_size: 9 max_size: inf }', [(1, 1, 2, 2)] * 2, 'greater than min_size'),
        ('type: "PriorBox" prior_box_param { min_size: 9 aspect_ratio: nan }', [(1, 1, 2, 2)] * 2, 'aspect_ratio must'),
        ('type: "PriorBox" prior_box_param { min_size: 9 offset: nan }', [(1, 1, 2, 2)] * 2, 'offset must be a number'),
        ('type: "PriorBox" prior_box_param { min_size: 9 }', [(1, 1, 0, 2), (1, 3, 8, 8)], r'map of \(0, 2\)'),
        ('type: "PriorBox" prior_box_param { min_size: 9 }', [(1, 1, 2, 2), (1, 3, 8, 0)], r'image of \(8, 0\)'),
        ('type: "Normalize" norm_param { eps: -1 }', [(1, 3)], 'eps must not be negative; got -1'),
        ('type: "DetectionOutput"', [(1, 4), (1, 2), (1, 2, 4)], 'Must specify num_classes'),
        ('type: "DetectionOutput" detection_output_param { num_classes: 2 }', [(), (), (1, 2, 4)], 'location'),
        (
            'type: "DetectionOutput" detection_output_param { num_classes: 3 }',
            [(1, 4), (1, 2), (1, 2, 4)],
            'confidence',
        ),
        ('type: "DetectionOutput" detection_output_param { num_classes: 2 }', [(1, 8), (1, 2), (1, 2, 4)], 'location'),
        ('type: "MultiBoxLoss"', [(1, 4), (1, 2), (1, 2, 4), (1, 1, 1, 8)], 'Must provide num_classes'),
        (
            'type: "MultiBoxLoss" multibox_loss_param { num_classes: 2 }',
            [(1, 4), (1, 2), (1, 2, 4), (1, 1, 1, 7)],
            'objects of shape',
        ),
    ],
)
def test_bad_input_is_refused(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        RunningLayer(text, [np.ones(shape) for shape in shapes])


# ---- Nets


def head(name, bottom, boxes, classes, min_size):
    """What ssd_pascal.py makes of each map: codes, scores and priors."""
    text = ''
    for what, width in (('loc', 4), ('conf', classes)):
        text += f"""
        layer {{ name: "{name}_{what}" type: "Convolution" bottom: "{bottom}" top: "{name}_{what}" convolution_param {{
            num_output: {boxes * width} kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}
        layer {{ name: "{name}_{what}_perm" type: "Permute" bottom: "{name}_{what}" top: "{name}_{what}_perm"
            permute_param {{ order: [0, 2, 3, 1] }} }}
        layer {{ name: "{name}_{what}_flat" type: "Flatten" bottom: "{name}_{what}_perm" top: "{name}_{what}_flat" }}"""
    return f"""{text}
        layer {{ name: "{name}_priorbox" type: "PriorBox" bottom: "{bottom}" bottom: "data" top: "{name}_priorbox"
            prior_box_param {{ min_size: {min_size} aspect_ratio: 2 clip: false variance: [0.1, 0.1, 0.2, 0.2] }} }}"""


def ssd(inputs, end, classes=4):
    """SSD on two small maps: 16 x 16 normalised, and 8 x 8."""
    joined = ''.join(
        f'layer {{ name: "{top}" type: "Concat" bottom: "a{part}" bottom: "b{part}" top: "{top}" '
        f'concat_param {{ axis: {axis} }} }}'
        for top, part, axis in (('loc', '_loc_flat', 1), ('conf', '_conf_flat', 1), ('priorbox', '_priorbox', 2))
    )
    return f"""{inputs}
        layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param {{ num_output: 8
            kernel_size: 3 pad: 1 stride: 2 weight_filler {{ type: "msra" }} }} }}
        layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }}
        layer {{ name: "norm1" type: "Normalize" bottom: "conv1" top: "norm1" norm_param {{ across_spatial: false
            channel_shared: false scale_filler {{ type: "constant" value: 20 }} }} }}
        layer {{ name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" convolution_param {{ num_output: 8
            kernel_size: 3 pad: 1 stride: 2 weight_filler {{ type: "msra" }} }} }}
        {head('a', 'norm1', 3, classes, 8)}{head('b', 'conv2', 3, classes, 16)}{joined}{end}"""


def test_a_deploy_net_detects(tmp_path):
    path = tmp_path / 'deploy.prototxt'
    path.write_text(
        ssd(
            'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [2, 3, 32, 32] } } }',
            """layer { name: "reshape" type: "Reshape" bottom: "conf" top: "conf_reshape"
                reshape_param { shape { dim: [0, -1, 4] } } }
            layer { name: "softmax" type: "Softmax" bottom: "conf_reshape" top: "softmax" softmax_param { axis: 2 } }
            layer { name: "flat" type: "Flatten" bottom: "softmax" top: "flat" }
            layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "flat" bottom: "priorbox" top: "out"
                include { phase: TEST } detection_output_param { num_classes: 4 code_type: CENTER_SIZE keep_top_k: 20
                nms_param { nms_threshold: 0.45 top_k: 40 } confidence_threshold: 0.01 } }""",
        )
    )
    caffe.set_random_seed(2)
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs['data'].data[...] = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    out = net.forward()['out']
    assert net.blobs['priorbox'].data.shape == (1, 2, 4 * 3 * (16 * 16 + 8 * 8))
    assert out.shape == (1, 1, 40, 7)
    assert np.unique(out[0, 0, :, 0], return_counts=True)[1].tolist() == [20, 20]
    assert set(out[0, 0, :, 1].tolist()) <= {1, 2, 3}


def test_a_train_net_learns(tmp_path):
    (tmp_path / 'train.prototxt').write_text(
        ssd(
            """layer { name: "in" type: "Input" top: "data" top: "label" input_param { shape { dim: [2, 3, 32, 32] }
                shape { dim: [1, 1, 3, 8] } } }""",
            """layer { name: "loss" type: "MultiBoxLoss" bottom: "loc" bottom: "conf" bottom: "priorbox" bottom: "label"
                top: "loss" propagate_down: [true, true, false, false] loss_param { normalization: VALID }
                multibox_loss_param { num_classes: 4 code_type: CENTER_SIZE mining_type: MAX_NEGATIVE } }""",
        )
    )
    (tmp_path / 'solver.prototxt').write_text(
        f'train_net: "{tmp_path / "train.prototxt"}" base_lr: 0.005 lr_policy: "fixed" momentum: 0.9 random_seed: 1'
    )
    solver = caffe.SGDSolver(str(tmp_path / 'solver.prototxt'))
    solver.net.blobs['data'].data[...] = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    solver.net.blobs['label'].data[0, 0] = [
        [0, 1, 0, 0.1, 0.1, 0.4, 0.5, 0],
        [0, 3, 0, 0.5, 0.5, 0.9, 0.8, 0],
        [1, 2, 0, 0.3, 0.2, 0.7, 0.6, 0],
    ]
    solver.step(1)
    first = float(solver.net.blobs['loss'].data)
    solver.step(15)
    assert float(solver.net.blobs['loss'].data) < 0.8 * first
