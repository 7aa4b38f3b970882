import numpy as np
import pytest
from one_layer import backward, forward, make, run

from caffe.layer import LayerError

SCORES = [[3, 1, 2], [1, 2, 3], [2, 3, 1], [1, 3, 2]]


@pytest.mark.parametrize(('top_k', 'accuracy'), [(1, 0.5), (2, 0.75), (3, 1.0)])
def test_labels_among_the_top_k(top_k, accuracy):
    labels = [0, 0, 1, 2]  # ranked first, third, first, second
    (out,) = run(f'type: "Accuracy" top: "a" accuracy_param {{ top_k: {top_k} }}', SCORES, labels)
    assert out.shape == () and out == accuracy


def test_equal_scores_count_against_the_label():
    assert run('type: "Accuracy" top: "a"', [[1, 1, 0]], [0])[0] == 0


def test_ignored_labels_do_not_count():
    text = 'type: "Accuracy" top: "a" accuracy_param { ignore_label: 9 }'
    assert run(text, SCORES, [0, 9, 9, 2])[0] == 0.5
    assert run(text, SCORES, [9, 9, 9, 9])[0] == 0


def test_each_class_in_the_second_top():
    _, each = run('type: "Accuracy" top: "a" top: "each"', SCORES, [0, 0, 1, 1])
    np.testing.assert_array_equal(each, [0.5, 1, 0])


def test_along_another_axis():
    scores = np.moveaxis(np.array(SCORES).reshape(2, 2, 3), 2, 0)
    assert run('type: "Accuracy" top: "a" accuracy_param { axis: 0 }', scores, [[0, 0], [1, 2]])[0] == 0.5


def test_refusals():
    with pytest.raises(LayerError, match='top_k must be less than or equal to the number of classes'):
        make('type: "Accuracy" top: "a" accuracy_param { top_k: 4 }', SCORES, np.zeros(4))
    with pytest.raises(LayerError, match='Number of labels must match number of predictions'):
        make('type: "Accuracy" top: "a"', SCORES, np.zeros(3))
    net = make('type: "Accuracy" top: "a"', SCORES, np.zeros(4))
    forward(*net)
    with pytest.raises(LayerError, match='no gradient'):
        backward(*net, 1)
