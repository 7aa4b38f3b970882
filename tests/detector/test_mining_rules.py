"""Mining rules: by name, one's own, and the two that are shipped besides the paper's."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest

import caffe
from fast_rcnn.config import ConfigError, cfg
from roi_data_layer.layer import HardRoiMiningLayer
from roi_data_layer.mining import mine_stratified, sample_by_loss_rank
from roi_data_layer.mining_rules import RULES, find_rule, mine, mining_rng

# Six RoIs far apart, of one image and label
ROIS = np.array([[0, 100 * i, 0, 100 * i + 9, 9] for i in range(6)], np.float32)
LABELS = np.ones(6, np.float32)

# ---------------------------------------------------------------- strata, after S-OHEM


def stratified(cls_loss, bbox_loss, batch_size, rois=ROIS, nms_thresh=0.7):
    cls_loss, bbox_loss = np.array(cls_loss, float), np.array(bbox_loss, float)
    count = len(cls_loss)
    more = {'cls_loss': cls_loss, 'bbox_loss': bbox_loss}
    return mine_stratified(cls_loss + bbox_loss, rois[:count], LABELS[:count], batch_size, nms_thresh, **more).tolist()


def test_box_losses_get_their_share_of_the_mini_batch():
    """They are 6 of 18, a third: one RoI of 3, two of 5 (5/3, rounded). The three hardest would be 0, 1 and 2."""
    assert stratified([4, 4, 4, 0, 0, 0], [0, 0, 0, 2, 2, 2], 3) == [0, 1, 3]
    assert stratified([4, 4, 4, 0, 0, 0], [0, 0, 0, 2, 2, 2], 5) == [0, 1, 2, 3, 4]


def test_a_stratum_that_is_too_small_is_filled_up_from_the_other():
    assert stratified([4, 4, 4, 0, 0, 0], [0, 0, 0, 2, 2, 2], 6) == [0, 1, 2, 3, 4, 5]  # of 2 and 4: 3 and 3
    # boxes have 9 of 13, two of 3; but RoI 3 alone loses more by its box
    assert stratified([1, 1, 1, 1], [0, 0, 0, 9], 3) == [3, 0, 1]


def test_strata_are_made_of_rois_that_do_not_repeat_a_harder_one():
    rois = ROIS.copy()
    rois[1] = rois[0]
    assert stratified([4, 4, 4, 0, 0, 0], [0, 0, 0, 2, 2, 2], 3, rois) == [0, 2, 3]
    assert stratified([4, 4, 4, 0, 0, 0], [0, 0, 0, 2, 2, 2], 3, rois, nms_thresh=None) == [0, 1, 3]


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_loss_that_is_not_finite_comes_through(bad):
    """Training stops at it, with a message; the rule is not in the way."""
    assert 1 in stratified([1, bad, 1], [0, 0, 0], 2)


# ---------------------------------------------------------------- drawing by rank


def drawn(loss, batch_size, rng, rois=ROIS):
    count = len(loss)
    return sample_by_loss_rank(np.array(loss, float), rois[:count], LABELS[:count], batch_size, 0.7, rng=rng).tolist()


def test_ranks_are_drawn_by_their_weights():
    """Two RoIs weigh 1 and 100^(-1/2) = 1/10: the harder one is drawn 10 times of 11. Of 4400 draws 400 are the
    other's, give or take five deviations of sqrt(4400 * 10 / 121) = 19."""
    times = sum(drawn([1.0, 7.0], 1, mining_rng(3, n)) == [0] for n in range(4400))
    assert abs(times - 400) < 95


def test_a_draw_is_without_repetition_and_hardest_first():
    for n in range(20):
        kept = drawn([3, 6, 1, 5, 2, 4], 4, mining_rng(3, n))
        assert len(set(kept)) == 4
        assert kept == sorted(kept, key=[1, 3, 5, 0, 4, 2].index)
    assert drawn([3, 6, 1], 5, mining_rng(3, 0)) == [1, 0, 2]  # all there are


def test_near_copies_are_not_dropped():
    assert drawn([3, 6, 1], 3, mining_rng(3, 0), ROIS[[0, 0, 0]]) == [1, 0, 2]


def test_random_numbers_follow_from_seed_and_mini_batch_alone():
    draws = {(seed, n): mining_rng(seed, n).random(4).tolist() for seed, n in itertools.product((3, 4), (0, 1))}
    assert draws[3, 1] == mining_rng(3, 1).random(4).tolist()
    assert len({tuple(draw) for draw in draws.values()}) == 4


# ---------------------------------------------------------------- names


OWN = """
def largest(loss, rois, labels, batch_size, nms_thresh):
    area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    return (-area).argsort(kind='stable')[:batch_size]

def at_random(loss, rois, labels, batch_size, nms_thresh, *, rng, cls_loss):
    assert cls_loss.shape == loss.shape
    return rng.permutation(len(loss))[:batch_size]

def too_few_parameters(loss, batch_size):
    return [0]

def asks_for_more(loss, rois, labels, batch_size, nms_thresh, *, scores):
    return [0]

def spoils_the_loss(loss, rois, labels, batch_size, nms_thresh):
    loss[0] = 0
    return [0]

number = 3
"""


@pytest.fixture
def own_rules(tmp_path, monkeypatch):
    """A module of the user's, `my_rules`, on the path."""
    (tmp_path / 'my_rules.py').write_text(OWN)
    (tmp_path / 'needs_more.py').write_text('import a_package_that_is_not_here\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__('sys').modules, 'my_rules', raising=False)


def test_the_rules_that_are_shipped():
    assert list(RULES) == ['mine_hard_rois', 'mine_stratified', 'sample_by_loss_rank']
    assert find_rule('mine_stratified') is mine_stratified


def mined_by(name, batch_size=2, rois=ROIS):
    loss = np.arange(len(rois), dtype=float)
    on_demand = {'cls_loss': loss, 'bbox_loss': loss * 0, 'rng': mining_rng(3, 0)}
    return mine(name, loss, rois, LABELS[: len(rois)], batch_size, None, **on_demand)


def test_a_rule_of_one_s_own(own_rules):
    rois = np.array([[0, 0, 0, 9, 9], [0, 0, 0, 99, 9], [0, 0, 0, 49, 9]], np.float32)
    kept = mined_by('my_rules.largest', rois=rois)
    assert kept.tolist() == [1, 2] and kept.dtype == np.int64
    expected = mining_rng(3, 0).permutation(6)[:2].tolist()
    assert mined_by('my_rules.at_random').tolist() == expected


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('hardest', r"'hardest': there are mine_hard_rois, mine_stratified, sample_by_loss_rank; a rule of your own"),
        ('my_rulez.largest', r'there is no module my_rulez; put the folder that holds it on PYTHONPATH'),
        ('my_rules.sub.largest', r'there is no module my_rules\.sub'),
        ('my_rules.smallest', r'my_rules\.py has no function smallest'),
        ('my_rules.number', r'number in .*my_rules\.py is no function but 3'),
        ('my_rules.too_few_parameters', r'called as rule\(loss, rois, labels, batch_size, nms_thresh\).*is \(loss, b'),
        ('my_rules.asks_for_more', r"missing a required argument: 'scores'.*may ask for cls_loss, bbox_loss, rng"),
    ],
)
def test_a_name_that_is_no_rule_is_explained(own_rules, name, said):
    with pytest.raises(ValueError, match=f'^mining rule .*{said}'):
        find_rule(name)


def test_what_a_module_of_rules_lacks_itself_is_not_taken_for_the_module(own_rules):
    with pytest.raises(ModuleNotFoundError, match='a_package_that_is_not_here'):
        find_rule('needs_more.rule')


def test_a_rule_cannot_change_what_the_net_holds(own_rules):
    with pytest.raises(ValueError, match='read-only') as caught:
        mined_by('my_rules.spoils_the_loss')
    (note,) = caught.value.__notes__
    assert note.startswith("raised by mining rule 'my_rules.spoils_the_loss'") and 'x.copy()' in note


def test_what_a_rule_raises_names_the_rule(monkeypatch):
    monkeypatch.setitem(RULES, 'made', lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        mined_by('made')
    assert caught.value.__notes__ == ["raised by mining rule 'made'"]


def test_every_rule_that_is_shipped_has_a_test_of_its_own():
    """In one of these two files, beside what all rules have in common."""
    here = Path(__file__)
    tests = [path.read_text() for path in (here, here.with_name('test_mining.py'))]
    used = {node.func.id for text in tests for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert [name for name in RULES if name not in used] == []


@pytest.mark.parametrize(
    ('returned', 'said'),
    [
        ([0, 1, 2], r'3 RoIs; expected the indices of 1 to 2 RoIs, whole numbers in \[0, 6\), none twice'),
        ([4, 4], 'the index 4 2 times'),
        ([0, 6], 'the index 6'),
        ([-1], 'the index -1'),
        ([], 'no RoI of 6'),
        ([0.0, 1.0], 'numbers of type float64'),
        (np.arange(6) > 3, r'a mask: give np\.flatnonzero\(mask\)'),
        ([[0, 1]], r'list of shape \(1, 2\)'),
        (None, r'NoneType of shape \(\)'),
        (3, r'int of shape \(\)'),
    ],
)
def test_wrong_indices_are_explained(monkeypatch, returned, said):
    monkeypatch.setitem(RULES, 'made', lambda *given: returned)
    with pytest.raises(ValueError, match=f"^mining rule 'made' returned {said}"):
        mined_by('made')


# ---------------------------------------------------------------- in a net

NET = """
layer { name: "in" type: "Input" top: "prob" top: "pred" top: "rois" top: "labels"
  input_param { shape { dim: 6 dim: 2 } shape { dim: 6 dim: 8 } shape { dim: 6 dim: 5 } shape { dim: 6 } } }
layer { name: "mining" type: "Python" bottom: "prob" bottom: "pred" bottom: "rois" bottom: "labels"
  top: "rois_hard" top: "labels_hard"
  python_param { module: "roi_data_layer.layer" layer: "HardRoiMiningLayer" param_str: "%s" } }
"""


@pytest.fixture
def net_of(tmp_path):
    """net_of(param_str): a net that mines 2 of six RoIs far apart, of which RoI i has the class loss i."""
    cfg.TRAIN.BBOX_REG, cfg.TRAIN.BATCH_SIZE = False, 2

    def make(param_str):
        path = tmp_path / 'net.prototxt'
        path.write_text(NET % param_str)
        net = caffe.Net(str(path), caffe.TRAIN)
        net.blobs['rois'].data[...] = ROIS
        net.blobs['labels'].data[...] = 1
        net.blobs['prob'].data[:, 1] = np.exp(-np.arange(6))
        return net

    return make


def rows_mined(net):
    net.forward()
    return (net.blobs['rois_hard'].data[:, 1] / 100).astype(int).tolist()


def test_without_a_word_the_paper_s_rule_mines(net_of):
    net = net_of("'num_classes': 2")
    assert rows_mined(net) == [5, 4]
    assert net.layers[1].last['rule'] == net.layers[1].rule == 'mine_hard_rois'


def test_the_prototxt_or_the_settings_name_the_rule(net_of, own_rules):
    assert rows_mined(net_of("{'num_classes': 2, 'rule': my_rules.largest}")) == [0, 1]  # all of one size
    cfg.TRAIN.OHEM_RULE = 'my_rules.largest'
    assert rows_mined(net_of("'num_classes': 2")) == [0, 1]
    net = net_of("{'num_classes': 2, 'rule': my_rules.largest}")
    assert rows_mined(net) == [0, 1] and net.layers[1].last['rule'] == 'my_rules.largest'


def test_two_rules_are_one_too_many(net_of):
    cfg.TRAIN.OHEM_RULE = 'mine_hard_rois'
    with pytest.raises(ConfigError, match=r'names the mining rule mine_stratified, TRAIN\.OHEM_RULE names mine_hard_r'):
        net_of("{'num_classes': 2, 'rule': mine_stratified}")


@pytest.mark.parametrize(
    ('param_str', 'said'),
    [
        ("{'num_classes': 2, 'rule': hardest}", 'there are mine_hard_rois'),
        ("{'num_classes': 2, 'rul': mine_stratified}", 'param_str has rul, which it does not know'),
        ("{'num_classes': 2, 'rule': 3}", 'param_str names the rule 3'),
    ],
)
def test_a_prototxt_that_names_no_rule_is_explained_when_the_net_is_made(net_of, param_str, said):
    with pytest.raises(ValueError, match=said):
        net_of(param_str)


def test_a_random_rule_draws_by_the_number_of_the_mini_batch(net_of):
    net = net_of("{'num_classes': 2, 'rule': sample_by_loss_rank}")
    first = [rows_mined(net) for _ in range(12)]
    assert len(set(map(tuple, first))) > 1
    again = net_of("{'num_classes': 2, 'rule': sample_by_loss_rank}")
    again.layers[1].set_position(5)
    assert [rows_mined(again) for _ in range(7)] == first[5:]
    assert isinstance(again.layers[1], HardRoiMiningLayer) and again.layers[1].last['position'] == 11
