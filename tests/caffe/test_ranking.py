"""Which layers serve for nothing but a choice, and that only these are rounded by 'bf16-ranking'."""

import itertools

import numpy as np
import pytest

import caffe

NUMBERS = itertools.count()  # a module is imported once, whatever becomes of its file

# Hands on the two rows of bottom 1 (features or labels, ...) whose scores, bottom 0, are the highest
CHOOSER = """
import numpy as np
import caffe
class Chooser(caffe.Layer):
    ranks_by = {ranks_by}
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        for i in range(len(top)):
            top[i].reshape(2, *bottom[i + 1].data.shape[1:])
    def forward(self, bottom, top):
        kept = np.argsort(-bottom[0].data[:, 0], kind='stable')[:2]
        for i in range(len(top)):
            top[i].data[...] = bottom[i + 1].data[kept]
class Doubled(caffe.Layer):
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A net of these layers, after the blobs `x` (rows, columns) and `label` (rows,)."""
    monkeypatch.syspath_prepend(tmp_path)

    def net_of(layers, phase=caffe.TRAIN, ranks_by='(0,)', options='', shape=(6, 4)):
        module = f'chooser{next(NUMBERS)}'
        (tmp_path / f'{module}.py').write_text(CHOOSER.format(ranks_by=ranks_by))
        path = tmp_path / 'net.prototxt'
        path.write_text(
            f"""{options}
            layer {{ name: "in" type: "Input" top: "x" top: "label"
              input_param {{ shape {{ dim: {shape[0]} dim: {shape[1]} }} shape {{ dim: {shape[0]} }} }} }}"""
            + layers.replace('MODULE', module)
        )
        return caffe.Net(str(path), phase)

    yield net_of
    caffe.set_precision('fp32')


def product(name, bottom, options='', outputs=3):
    return f"""layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {options}
      inner_product_param {{ num_output: {outputs} weight_filler {{ type: "gaussian" std: 1 }} }} }}"""


def python(kind, name, bottoms, tops, options=None):
    names = ''.join(f' bottom: "{b}"' for b in bottoms) + ''.join(f' top: "{t}"' for t in tops)
    stop = 'propagate_down: false ' * len(bottoms) if options is None else options
    return f"""layer {{ name: "{name}" type: "Python" {names} {stop}
      python_param {{ module: "MODULE" layer: "{kind}" }} }}"""


def loss(bottom='learns', label='hard_label', name='loss', options='propagate_down: true propagate_down: false'):
    return f"""layer {{ name: "{name}" type: "SoftmaxWithLoss" bottom: "{bottom}" bottom: "{label}" top: "{name}"
      {options} }}"""


STOP = 'propagate_down: false'
TRUNK = product('trunk', 'x', outputs=4)
SCORES = product('scores', 'trunk', STOP)
MINING = python('Chooser', 'mining', ['scores', 'trunk', 'label'], ['hard', 'hard_label'])
LEARNING = product('learns', 'hard') + loss()
OHEM = TRUNK + SCORES + MINING + LEARNING


def ranking(net):
    return [name for name, layer in net.layer_dict.items() if layer.only_ranks and layer.type != 'Split']


def test_a_read_only_branch_that_a_choice_is_made_by_only_ranks(make):
    assert ranking(make(OHEM)) == ['scores']


def test_so_does_all_on_the_way_to_the_choice(make):
    relu = f'layer {{ name: "relu" type: "ReLU" bottom: "scores" top: "scores" {STOP} }}'
    last = product('last', 'scores', STOP)
    mining = MINING.replace('"scores"', '"last"')
    assert ranking(make(TRUNK + SCORES + relu + last + mining + LEARNING)) == ['scores', 'relu', 'last']


def test_a_python_layer_in_between_hands_on_what_it_computes(make):
    doubled = python('Doubled', 'doubled', ['scores'], ['doubled'])
    mining = MINING.replace('"scores"', '"doubled"')
    assert ranking(make(TRUNK + SCORES + doubled + mining + LEARNING)) == ['scores', 'doubled']
    # and where what it computes is learned from, its bottoms are
    features = product('learns', 'doubled') + loss(label='label')
    assert ranking(make(TRUNK + SCORES + doubled + features)) == []


def test_a_python_layer_that_does_not_say_so_hands_on_values(make):
    assert ranking(make(OHEM, ranks_by='()')) == []


def test_a_frozen_trunk_does_not_only_rank(make):
    """It says propagate_down: false and learns nothing, but layers after it learn from its features."""
    still = f'param {{ lr_mult: 0 }} {STOP}'
    frozen = product('first', 'x', still, 4) + product('trunk', 'first', still, 4)
    assert ranking(make(frozen + SCORES + MINING + LEARNING)) == ['scores']
    # nor where the layer that learns states that no diff comes back either
    learning = product('learns', 'hard', STOP) + loss()
    assert ranking(make(frozen + SCORES + MINING + learning)) == ['scores']
    # nor by way of the layer that chooses: 'trunk' is handed on, whatever it is ranked by
    by_trunk = python('Chooser', 'mining', ['trunk', 'trunk', 'label'], ['hard', 'hard_label'])
    assert ranking(make(frozen + by_trunk + LEARNING)) == []


def test_a_branch_with_a_loss_of_its_own_does_not_only_rank(make):
    own = loss('scores', 'label', 'own', 'propagate_down: false propagate_down: false')
    assert ranking(make(OHEM + own)) == []
    assert ranking(make(OHEM + own.replace('top: "own"', 'top: "own" loss_weight: 0'))) == ['scores']


def test_a_target_computed_by_a_read_only_branch_is_learned_from(make):
    """A teacher's outputs: the gradient is the difference from them."""
    teacher = product('teacher', 'trunk', STOP)
    student = product('student', 'trunk')
    distance = f"""layer {{ name: "loss" type: "EuclideanLoss" bottom: "student" bottom: "teacher" top: "loss"
      propagate_down: true {STOP} }}"""
    assert ranking(make(TRUNK + teacher + student + distance)) == []


def test_an_accuracy_of_the_branch_changes_nothing(make):
    accuracy = 'layer { name: "accuracy" type: "Accuracy" bottom: "scores" bottom: "label" top: "accuracy" }'
    assert ranking(make(OHEM + accuracy)) == ['scores']


def test_a_branch_that_says_nothing_ranks_where_no_gradient_comes_back(make):
    assert ranking(make(TRUNK + product('scores', 'trunk') + MINING + LEARNING)) == ['scores']


def test_with_force_backward_all_is_learned_from(make):
    net = TRUNK + SCORES + LEARNING.replace('"hard"', '"scores"').replace('hard_label', 'label')
    assert ranking(make(net, options='force_backward: true')) == []


def test_a_net_for_testing_ranks_nothing(make):
    assert ranking(make(TRUNK + product('scores', 'trunk'), caffe.TEST)) == []
    softmax = f'layer {{ name: "prob" type: "Softmax" bottom: "scores" top: "prob" {STOP} }}'
    assert ranking(make(TRUNK + SCORES + softmax, caffe.TEST)) == []


@pytest.mark.parametrize('given', ['(0, 3)', '(-1,)', "('scores',)", '0', 'None'])
def test_ranks_by_has_to_name_bottoms(make, given):
    with pytest.raises(caffe.LayerError) as refused:
        make(OHEM, ranks_by=given)
    expected = f"layer 'mining' (Python): ranks_by is {given}; expected are numbers of its 3 bottoms, such as (0,)"
    assert expected in str(refused.value)


def passed(net, precision, x, label):
    caffe.set_precision(precision)
    net.clear_param_diffs()
    net.blobs['x'].data[...], net.blobs['label'].data[...] = x, label
    net.forward()
    net.backward()
    blobs = {name: net.blobs[name].data.copy() for name in ('scores', 'trunk', 'learns', 'loss')}
    return blobs, {name: params[0].diff.copy() for name, params in net.params.items()}


def test_ranking_is_rounded_and_learning_is_float32_to_the_last_bit(make):
    large = OHEM.replace('num_output: 4', 'num_output: 256').replace('num_output: 3', 'num_output: 256', 1)
    net = make(large, shape=(256, 256))
    rng = np.random.default_rng(0)
    x, label = rng.standard_normal((256, 256)), rng.integers(0, 3, 256)
    x[[3, 0], 0] = 8, 9
    net.params['trunk'][0].data[...] = np.eye(256)
    net.params['scores'][0].data[0] = np.arange(256) == 0  # rows 0 and 3 are the hardest, whatever is rounded
    full, full_diffs = passed(net, 'fp32', x, label)
    found, diffs = passed(net, 'bf16-ranking', x, label)
    sizes = np.abs(x) @ np.abs(net.params['scores'][0].data.T)  # a term is off by 2^-8 at most, its rounded sum by 2^-9
    assert (found['scores'] != full['scores']).any()
    assert (np.abs(found['scores'] - full['scores']) <= 1.01 * 3 * 2**-9 * sizes).all()
    for name in ('trunk', 'learns', 'loss'):
        np.testing.assert_array_equal(found[name], full[name])
    for name, diff in diffs.items():
        np.testing.assert_array_equal(diff, full_diffs[name])
    rounded, _ = passed(net, 'bf16', x, label)
    assert (rounded['learns'] != full['learns']).any()
