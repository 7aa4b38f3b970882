"""SSD's losses and detections under every option, beside loops that follow its Caffe (ssd_loops.py)."""

import numpy as np
import pytest
from gradient import RunningLayer
from ssd_loops import detections, multibox

f = np.float32


def boxes_of(rng, count):
    """(count, 4) boxes, some of which leave the image."""
    centre, side = rng.uniform(-0.1, 1.1, (count, 2)), rng.uniform(0.02, 0.5, (count, 2))
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1).astype(f)


def drawn(rng, **choices):
    """One of the choices for each option."""
    return {name: values[rng.integers(len(values))] for name, values in choices.items()}


def fields(options):
    """Options as the text of a message; nms_param's are within it."""
    text = {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}
    nms = ' '.join(f'{name}: {text.pop(name)}' for name in ('nms_threshold', 'top_k', 'eta') if name in text)
    return ' '.join(f'{name}: {value}' for name, value in text.items()) + f' nms_param {{ {nms} }}'


def priors_of(rng, count):
    """(2, count, 4): boxes, the first of hardly any size, and their variances."""
    boxes = boxes_of(rng, count)
    boxes[0, 2:] = boxes[0, :2] + 0.002
    return np.stack([boxes, rng.uniform(0.05, 0.4, boxes.shape)]).astype(f)


@pytest.mark.parametrize('seed', range(60))
def test_the_loss_and_what_is_mined_are_the_originals(seed):
    """But for LOGISTIC without mining, whose targets are as with SOFTMAX (docs/pycaffe.md)."""
    rng = np.random.default_rng(seed)
    images, count, classes = 2, int(rng.integers(3, 25)), int(rng.integers(2, 5))
    o = drawn(
        rng,
        mining_type=['NONE', 'MAX_NEGATIVE', 'HARD_EXAMPLE', 'HARD_EXAMPLE'],
        conf_loss_type=['SOFTMAX', 'LOGISTIC'],
        loc_loss_type=['L2', 'SMOOTH_L1'],
        match_type=['BIPARTITE', 'PER_PREDICTION'],
        code_type=['CORNER', 'CENTER_SIZE', 'CORNER_SIZE'],
        overlap_threshold=[0.2, 0.35, 0.5],
        neg_overlap=[0.1, 0.3, 0.5],
        neg_pos_ratio=[0.5, 1, 3],
        nms_threshold=[0, 0, 0.3, 0.6],
        top_k=[-1, 2, 6, 12],
        sample_size=[1, 3, 10],
        loc_weight=[0.25, 1],
        background_label_id=[0, 0, 1],
        encode_variance_in_target=[False, True],
        bp_inside=[False, True],
        use_difficult_gt=[False, True],
        use_prior_for_nms=[False, True],
        use_prior_for_matching=[False, True],
        ignore_cross_boundary_bbox=[False, False, True],
        share_location=[True, False],
    )
    if o['mining_type'] != 'NONE' or not o['use_prior_for_matching']:
        o['share_location'] = True
    more = drawn(rng, normalization=['VALID', 'FULL', 'BATCH_SIZE', 'NONE'])
    priors = priors_of(rng, count)
    objects = np.zeros((4, 8), f)
    objects[:, 0] = [0, 0, -1, rng.integers(-1, images)]
    objects[:, 1] = rng.choice([c for c in range(classes) if c != o['background_label_id']], 4)
    objects[:, 3:7] = boxes_of(rng, 4)
    objects[0, 3:7] = priors[0, -1] + 0.01
    objects[:, 7] = rng.integers(2, size=4)
    codes = rng.normal(0, 0.5, (images, count, 1 if o['share_location'] else classes, 4)).astype(f)
    scores = rng.normal(0, 2, (images, count, classes)).astype(f)

    run = RunningLayer(
        f'type: "MultiBoxLoss" multibox_loss_param {{ num_classes: {classes} {fields(o)} }} '
        f'loss_param {{ normalization: {more["normalization"]} }}',
        [codes.reshape(images, -1), scores.reshape(images, -1), priors.reshape(1, 2, -1), objects[None, None]],
    )
    (loss,) = run.forward()
    want, matches, negatives = multibox(codes, scores, priors, objects, o | more)
    assert set(map(tuple, run.layer.chosen.matched.tolist())) == matches
    assert set(map(tuple, run.layer.chosen.scored.tolist())) == matches | negatives
    assert loss == pytest.approx(want, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize('seed', range(40))
def test_detections_are_the_originals(seed):
    rng = np.random.default_rng(seed)
    images, count, classes = 2, int(rng.integers(3, 25)), int(rng.integers(2, 5))
    o = drawn(
        rng,
        code_type=['CORNER', 'CENTER_SIZE', 'CORNER_SIZE'],
        background_label_id=[-1, 0, 1],
        confidence_threshold=[-9, 0, 0.25, 1],
        nms_threshold=[0, 0.1, 0.45, 0.75, 1],
        eta=[1, 0.75],
        top_k=[-1, 0, 3, 8],
        keep_top_k=[-1, 0, 1, 5, 20],
        share_location=[True, False],
        variance_encoded_in_target=[True, False],
    )
    priors = priors_of(rng, count)
    codes = rng.normal(0, 0.5, (images, count, 1 if o['share_location'] else classes, 4)).astype(f)
    scores = (rng.normal(0, 4, (images, count, classes)).round() / 2).astype(f)  # many are equal
    run = RunningLayer(
        f'type: "DetectionOutput" detection_output_param {{ num_classes: {classes} {fields(o)} }}',
        [codes.reshape(images, -1), scores.reshape(images, -1), priors.reshape(1, 2, -1)],
    )
    np.testing.assert_allclose(run.forward()[0][0, 0], detections(codes, scores, priors, o), rtol=1e-5, atol=1e-6)
