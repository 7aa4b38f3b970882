import numpy as np
import pytest
from gradient import check_gradient
from one_layer import backward, forward, make, run

from caffe.layer import LayerError
from caffe.proto import caffe_pb2

RNG = np.random.default_rng(0)


def log_softmax(x, axis=1):
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


# -- SoftmaxWithLoss


def softmax_loss(options=''):
    return f'type: "SoftmaxWithLoss" top: "loss" {options}'


def test_softmax_loss_is_the_mean_negative_log_probability():
    x, labels = RNG.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    (loss,) = run(softmax_loss(), x, labels)
    assert loss.shape == ()
    np.testing.assert_allclose(loss, -log_softmax(x)[np.arange(4), labels].mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ('options', 'divisor'),
    [
        ('ignore_label: 1', 6),  # VALID: 8 labels, 2 of them ignored
        ('ignore_label: 1 normalization: FULL', 8),
        ('ignore_label: 1 normalization: BATCH_SIZE', 2),
        ('ignore_label: 1 normalization: NONE', 1),
        ('ignore_label: 1 normalize: true', 6),
        ('ignore_label: 1 normalize: false', 2),
        ('ignore_label: 1 normalize: false normalization: FULL', 8),
    ],
)
def test_softmax_loss_normalization(options, divisor):
    x, labels = RNG.standard_normal((2, 3, 4)), np.array([[0, 1, 2, 2], [2, 0, 1, 0]])
    picked = np.take_along_axis(log_softmax(x), labels[:, None], 1)[:, 0]
    (loss,) = run(softmax_loss(f'loss_param {{ {options} }}'), x, labels)
    np.testing.assert_allclose(loss, -picked[labels != 1].sum() / divisor, rtol=1e-5)
    check_gradient(softmax_loss(f'loss_param {{ {options} }}'), [x, labels])


def test_softmax_loss_along_another_axis():
    x, labels = RNG.standard_normal((2, 4, 3)), RNG.integers(0, 3, (2, 4))
    check_gradient(softmax_loss('softmax_param { axis: -1 }'), [x, labels])


def test_softmax_loss_gives_the_softmax_as_second_top():
    x = RNG.standard_normal((2, 3))
    _, prob = run('type: "SoftmaxWithLoss" top: "loss" top: "prob"', x, [0, 1])
    np.testing.assert_allclose(prob, np.exp(log_softmax(x)), rtol=1e-5)


def test_softmax_loss_of_a_vanished_probability_is_finite():
    (loss,) = run(softmax_loss(), [[0, 1000]], [0])
    np.testing.assert_allclose(loss, -np.log(np.finfo(np.float32).tiny), rtol=1e-6)


def test_softmax_loss_where_all_labels_are_ignored_is_zero():
    layer, bottom, top = make(softmax_loss('loss_param { ignore_label: 255 }'), RNG.standard_normal((2, 3)), [255, 255])
    assert forward(layer, bottom, top)[0] == 0
    assert not backward(layer, bottom, top, 1, down=[True, False])[0].any()


def test_softmax_loss_without_rows_is_zero():
    layer, bottom, top = make(softmax_loss(), np.zeros((0, 3)), np.zeros(0))
    assert forward(layer, bottom, top)[0] == 0
    assert backward(layer, bottom, top, 1, down=[True, False])[0].shape == (0, 3)


def test_softmax_loss_gradient_is_scaled_by_the_loss_weight():
    x, labels = RNG.standard_normal((2, 3)), [0, 2]
    net = make(softmax_loss(), x, labels)
    forward(*net)
    once = backward(*net, 1, down=[True, False])[0]
    np.testing.assert_allclose(backward(*net, 2.5, down=[True, False])[0], 2.5 * once, rtol=1e-6)


def test_softmax_loss_names_a_label_that_is_no_class():
    with pytest.raises(LayerError, match=r'label 3 \(element 1 of the labels\) is not among the 3 classes 0 .. 2'):
        run(softmax_loss(), np.zeros((2, 3)), [0, 3])


def test_softmax_loss_refuses_a_gradient_for_labels():
    net = make(softmax_loss(), np.zeros((2, 3)), [0, 1])
    forward(*net)
    with pytest.raises(LayerError, match='SoftmaxWithLoss Layer cannot backpropagate to label inputs'):
        backward(*net, 1)


def test_softmax_loss_checks_shapes():
    with pytest.raises(LayerError, match='The data and label should have the same first dimension'):
        run(softmax_loss(), np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(LayerError, match='Number of labels must match number of predictions'):
        run(softmax_loss(), np.zeros((2, 3, 4)), np.zeros(2))


# -- SmoothL1Loss


def smooth_l1(sigma=1.0):
    return f'type: "SmoothL1Loss" top: "loss" smooth_l1_loss_param {{ sigma: {sigma} }}'


@pytest.mark.parametrize(
    ('sigma', 'difference', 'loss'),
    [
        (1, 0.5, 0.125),
        (1, -3, 2.5),
        (3, 0.1, 0.045),  # 0.5 * (3 * 0.1)^2
        (3, 0.5, 0.5 - 0.5 / 9),  # beyond 1 / 9
    ],
)
def test_smooth_l1_of_one_number(sigma, difference, loss):
    np.testing.assert_allclose(run(smooth_l1(sigma), [[difference]], [[0]])[0], loss, rtol=1e-6)


def test_smooth_l1_weights_inside_and_outside_and_divides_by_the_rows():
    pred, target = np.array([[1.0, 5], [0, 0]]), np.array([[0.5, 1], [0, 9]])
    inside, outside = np.array([[1, 0.5], [1, 0]]), np.array([[2.0, 1], [1, 1]])
    # inside * (pred - target) = [0.5, 2], [0, 0]
    (loss,) = run(smooth_l1(), pred, target, inside, outside)
    np.testing.assert_allclose(loss, (2 * 0.125 + 1.5) / 2)


@pytest.mark.parametrize('sigma', [1, 3])
@pytest.mark.parametrize('weighted', [False, True])
def test_smooth_l1_gradient(sigma, weighted):
    # Differences keep off 1 / sigma^2, where the second derivative jumps.
    diff = RNG.choice([-2, -0.7, -0.04, 0.03, 0.6, 3], (4, 6))
    target = RNG.standard_normal((4, 6))
    weights = [RNG.choice([0.0, 1.0], (4, 6)), RNG.uniform(0.5, 2, (4, 6))] if weighted else []
    check_gradient(smooth_l1(sigma), [target + diff, target, *weights], check=(0, 1))


def test_smooth_l1_without_rows_is_zero():
    layer, bottom, top = make(smooth_l1(), *[np.zeros((0, 8))] * 4)
    assert forward(layer, bottom, top)[0] == 0
    assert backward(layer, bottom, top, 1, down=[True, False, False, False])[0].shape == (0, 8)


def test_smooth_l1_passes_over_gradients_to_its_weights():
    """Published end-to-end nets leave propagate_down out although their weights come from a layer that learns."""
    layer, bottom, top = make(smooth_l1(), [[1.0, 5]], [[0.5, 1]], [[1, 0.5]], [[2, 1]])
    forward(layer, bottom, top)
    pred, target, inside, outside = backward(layer, bottom, top, 1, down=[True] * 4)
    np.testing.assert_allclose(pred, [[2 * 0.5, 0.5 * 1]])  # outside * inside * f'(0.5), f'(2)
    np.testing.assert_allclose(target, -pred)
    assert not inside.any()
    assert not outside.any()


def test_smooth_l1_with_the_three_bottoms_of_the_first_release():
    """Its weights multiply the difference, and not the gradient again (Fast R-CNN's first Caffe)."""
    layer, bottom, top = make(smooth_l1(), [[1.0, 5, 3]], [[0.5, 1, 0]], [[1, 0.5, 0]])
    # weights * (pred - target) = [0.5, 2, 0]
    np.testing.assert_allclose(forward(layer, bottom, top)[0], 0.125 + 1.5)
    pred, target, weights = backward(layer, bottom, top, 1)
    np.testing.assert_allclose(pred, [[0.5, 1, 0]])
    np.testing.assert_allclose(target, -pred)
    assert not weights.any()


# -- the others


def test_euclidean_loss():
    a, b = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))
    (loss,) = run('type: "EuclideanLoss" top: "loss"', a, b)
    np.testing.assert_allclose(loss, ((a - b) ** 2).sum() / 6, rtol=1e-5)
    check_gradient('type: "EuclideanLoss" top: "loss"', [a, b], check=(0, 1))


@pytest.mark.parametrize(('norm', 'power'), [('L1', 1), ('L2', 2)])
def test_hinge_loss(norm, power):
    x, labels = RNG.standard_normal((4, 3)) * 2, np.array([0, 1, 2, 0])
    sign = np.ones((4, 3))
    sign[np.arange(4), labels] = -1
    text = f'type: "HingeLoss" top: "loss" hinge_loss_param {{ norm: {norm} }}'
    (loss,) = run(text, x, labels)
    np.testing.assert_allclose(loss, (np.maximum(0, 1 + sign * x) ** power).sum() / 4, rtol=1e-5)
    check_gradient(text, [x, labels], eps=1e-3)


@pytest.mark.parametrize('legacy', [False, True])
def test_contrastive_loss(legacy):
    a, b, similar = RNG.standard_normal((6, 3)), RNG.standard_normal((6, 3)), np.array([1, 0, 1, 0, 0, 1])
    b[3] = a[3] + 0.1  # a dissimilar pair well within the margin
    dist_sq = ((a - b) ** 2).sum(1)
    far = np.maximum(3 - dist_sq, 0) if legacy else np.maximum(3 - np.sqrt(dist_sq), 0) ** 2
    options = f'margin: 3 legacy_version: {str(legacy).lower()}'
    text = f'type: "ContrastiveLoss" top: "loss" contrastive_loss_param {{ {options} }}'
    (loss,) = run(text, a, b, similar)
    np.testing.assert_allclose(loss, np.where(similar, dist_sq, far).sum() / 12, rtol=1e-5)
    check_gradient(text, [a, b, similar], check=(0, 1), eps=1e-3, rtol=2e-2)


def test_multinomial_logistic_loss():
    p, labels = RNG.uniform(0.1, 1, (4, 3)), np.array([2, 0, 1, 1])
    text = 'type: "MultinomialLogisticLoss" top: "loss"'
    np.testing.assert_allclose(run(text, p, labels)[0], -np.log(p[np.arange(4), labels]).mean(), rtol=1e-5)
    check_gradient(text, [p, labels], eps=1e-3)


@pytest.mark.parametrize(
    'options', ['', 'ignore_label: 1', 'ignore_label: 1 normalization: VALID', 'normalization: FULL']
)
def test_sigmoid_cross_entropy_loss(options):
    x, t = RNG.standard_normal((2, 3)), np.array([[0, 1, 0.25], [1, 0, 0.75]])
    s = 1 / (1 + np.exp(-x))
    losses = -t * np.log(s) - (1 - t) * np.log(1 - s)
    if 'ignore' in options:
        losses = losses[t != 1]
    divisor = {'VALID': 4, 'FULL': 6}.get(options.rpartition(' ')[2], 2)  # rows unless told otherwise
    text = f'type: "SigmoidCrossEntropyLoss" top: "loss" loss_param {{ {options} }}'
    np.testing.assert_allclose(run(text, x, t)[0], losses.sum() / divisor, rtol=1e-5)
    check_gradient(text, [x, t])


def infogain(x, labels, matrix):
    return -(matrix[labels] * log_softmax(x)).sum(1).mean()


def test_infogain_loss_with_the_matrix_as_bottom():
    x, labels, matrix = RNG.standard_normal((4, 3)), np.array([0, 2, 1, 1]), RNG.uniform(0, 1, (3, 3))
    text = 'type: "InfogainLoss" top: "loss"'
    np.testing.assert_allclose(run(text, x, labels, matrix)[0], infogain(x, labels, matrix), rtol=1e-5)
    check_gradient(text, [x, labels, matrix])


def test_infogain_loss_with_the_matrix_from_a_file(tmp_path):
    x, labels, matrix = RNG.standard_normal((4, 3)), np.array([0, 2, 1, 1]), RNG.uniform(0, 1, (3, 3))
    proto = caffe_pb2.BlobProto(num=1, channels=1, height=3, width=3, data=matrix.ravel())
    (tmp_path / 'H.binaryproto').write_bytes(proto.SerializeToString())
    text = f'type: "InfogainLoss" top: "loss" infogain_loss_param {{ source: "{tmp_path}/H.binaryproto" }}'
    np.testing.assert_allclose(run(text, x, labels)[0], infogain(x, labels, matrix), rtol=1e-5)


def test_infogain_loss_ignores_labels():
    x, labels, matrix = RNG.standard_normal((2, 3, 2)), np.array([[0, 9], [2, 1]]), RNG.uniform(0, 1, (3, 3))
    check_gradient('type: "InfogainLoss" top: "loss" loss_param { ignore_label: 9 }', [x, labels, matrix])


def test_infogain_loss_needs_a_matrix():
    with pytest.raises(LayerError, match='Infogain matrix source must be specified'):
        make('type: "InfogainLoss" top: "loss"', np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(LayerError, match='H must be 3x3'):
        make('type: "InfogainLoss" top: "loss"', np.zeros((2, 3)), np.zeros(2), np.zeros((2, 2)))
