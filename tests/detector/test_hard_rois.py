"""What became of each RoI of a mini-batch, and what other settings would have mined."""

import dataclasses
import os

import numpy as np
import pytest

from fast_rcnn.config import cfg
from inspection.draw import draw_by_loss, draw_chosen, draw_detections, draw_mined_rois, draw_repeats
from inspection.hard_rois import FATES, MiniBatch, normalise_regression
from inspection.report import confusion_of_mined, write_report

# image, x1, y1, x2, y2: 0 and 1 overlap by IoU 0.9, 2 lies there too but is background; 3 and 4 in image 1
ROIS = [[0, 0, 0, 9, 9], [0, 0, 0, 9, 8], [0, 0, 0, 9, 9], [1, 0, 0, 9, 9], [1, 20, 20, 29, 29]]
IOU = [0.8, 0.7, 0.3, 0.05, 0.9]


@pytest.fixture
def batch():
    cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.USE_OHEM = 2, True
    images = [np.full((40, 60, 3), 90, np.uint8)] * 2
    return MiniBatch(
        images=images,
        names=['a.jpg', 'b.jpg (mirrored)'],
        rois=np.array(ROIS, np.float32),
        labels=np.array([1, 1, 0, 0, 2]),
        predicted=np.array([1, 0, 0, 2, 2]),
        iou=np.array(IOU),
        cls_loss=np.array([2.0, 3.0, 0.5, 2.5, 0.1]),
        bbox_loss=np.array([1.0, 0.2, 0.0, 0.0, 0.1]),
        kept=np.array([1, 3]),
        by=np.array([1, 1, 2, 3, 4]),
    )


def fates(batch):
    return [FATES[fate] for fate in batch.fate]


def test_every_roi_has_a_fate(batch):
    assert fates(batch) == ['repeats a harder one', 'mined', 'easier', 'mined', 'easier']
    np.testing.assert_allclose(batch.loss, [3.0, 3.2, 0.5, 2.5, 0.2])
    assert batch.rows(1).tolist() == [3, 4]


def test_mining_again_with_the_settings_of_training_changes_nothing(batch):
    again = batch.mine_again()
    assert again.kept.tolist() == [1, 3] and again.by.tolist() == [1, 1, 2, 3, 4]


def test_mining_again_with_other_settings(batch):
    assert batch.mine_again(batch_size=3).kept.tolist() == [1, 3, 2]
    no_nms = batch.mine_again(batch_size=3, nms_thresh=2)
    assert no_nms.kept.tolist() == [1, 0, 3]
    assert no_nms.by.tolist() == [0, 1, 2, 3, 4]
    assert batch.mine_again(nms_thresh=0.95).by.tolist() == [0, 1, 2, 3, 4]  # IoU 0.9 is less
    with_bg_lo = batch.mine_again(bg_lo=0.1)
    assert with_bg_lo.kept.tolist() == [1, 2] and with_bg_lo.by[3] == -1
    assert fates(with_bg_lo)[3] == 'not offered'


def test_another_rule_passes_harder_rois_over(batch):
    """Class losses 2, 3, 0.5, 2.5, 0.1 and box losses 1, 0.2, 0, 0, 0.1: boxes have 1.3 of 9.4, of two RoIs
    none (0.28, rounded). So the rule of strata mines the hardest here, without a word of who repeats whom."""
    again = batch.mine_again(batch_size=2, nms_thresh=2, rule='mine_stratified')
    assert (again.rule, again.kept.tolist(), again.by.tolist()) == ('mine_stratified', [1, 0], [0, 1, 2, 3, 4])
    passed_over = dataclasses.replace(again, kept=np.array([1, 3]))  # of losses 3.2 and 2.5, not RoI 0 of 3.0
    assert fates(passed_over) == ['harder, but passed over', 'mined', 'easier', 'mined', 'easier']


def test_a_random_rule_mines_again_what_it_mined(batch):
    cfg.TRAIN.BATCH_SIZE = 3
    of = [dataclasses.replace(batch, position=n).mine_again(rule='sample_by_loss_rank') for n in range(8)]
    assert len({tuple(each.kept) for each in of}) > 1
    assert all(each.mine_again().kept.tolist() == each.kept.tolist() for each in of)


def test_hardness_is_what_the_settings_say(batch):
    cfg.TRAIN.OHEM_LOSS = 'cls'
    assert batch.mine_again(nms_thresh=2).kept.tolist() == [1, 3]  # of losses 3.0 and 2.5; RoI 0 has 2.0


def test_the_heuristic_samples_by_image_and_quota(batch):
    """BATCH_SIZE 4 on two images: 2 each, of which a quarter (0.5, rounded to even: 0) may be foreground."""
    cfg.TRAIN.BATCH_SIZE = 4
    assert sorted(batch.sampled(np.random.default_rng(0)).kept.tolist()) == [2]  # the other background has IoU < 0.1
    cfg.TRAIN.FG_FRACTION = 1.0
    assert sorted(batch.sampled(np.random.default_rng(0)).kept.tolist()) == [0, 1, 4]
    cfg.TRAIN.FG_FRACTION = 0.0
    assert sorted(batch.sampled(np.random.default_rng(0), bg_lo=0.0).kept.tolist()) == [2, 3]


def test_the_confusion_counts_mined_rois_alone(batch):
    assert confusion_of_mined([batch], 3).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_pictures_are_at_least_480_pixels_and_leave_their_input_alone(batch):
    before = batch.images[0].copy()
    rows = batch.rows(0)
    boxes, loss, labels = batch.rois[rows, 1:], batch.loss[rows], batch.labels[rows]
    names = ['__background__', 'cat', 'dog']
    for picture in (
        draw_by_loss(batch.images[0], boxes, loss),
        draw_chosen(batch.images[0], boxes, loss, labels, np.array([1]), names),
        draw_repeats(batch.images[0], boxes, batch.by[rows], np.array([1])),
        draw_mined_rois(batch, 0, names),
        draw_detections(batch.images[0], [{'class': 'cat', 'score': 0.5, 'box': [1, 1, 9, 9]}], names[1:]),
    ):
        assert picture.dtype == np.uint8 and min(picture.shape[:2]) >= 480
    np.testing.assert_array_equal(batch.images[0], before)
    nothing = np.zeros((0, 4))
    draw_by_loss(batch.images[0], nothing, np.zeros(0))
    draw_chosen(batch.images[0], nothing, np.zeros(0), np.zeros(0, int), np.zeros(0, int), names)


def test_a_page_holds_names_that_look_like_html(batch, tmp_path):
    write_report(str(tmp_path / 'p.html'), [batch], ['__background__', '</script><b>', 'dog'], {'<i>': '</title>'})
    page = (tmp_path / 'p.html').read_text()
    assert page.count('</script>') == 2 and '<i>' not in page and page.count('</title>') == 1
    assert 'http' not in page.replace('http://www.w3.org/2000/svg', '')  # nothing is fetched
    assert os.listdir(tmp_path) == ['p.html']


class Net:
    """As much of a net as `normalise_regression` needs, when it is told what the weights predict."""

    def __init__(self, weights, bias):
        from stand_in_data import Blob

        self.params = {'bbox_pred': [Blob(weights), Blob(bias)]}


def test_plain_weights_are_normalised_as_they_are_told():
    net = Net([[2.0, 4.0], [6.0, 8.0]], [1.0, 2.0])
    said = normalise_regression(net, np.array([0.5, 1.0]), np.array([0.5, 0.0]), 'plain')
    assert said == 'the weights predict plain regressions'
    # divided by the deviation; a class without examples, of deviation 0, predicts 0
    assert net.params['bbox_pred'][0].data.tolist() == [[4.0, 8.0], [0.0, 0.0]]
    assert net.params['bbox_pred'][1].data.tolist() == [1.0, 0.0]
    normalise_regression(net, np.array([0.5, 1.0]), np.array([0.5, 0.0]), 'normalised')
    assert net.params['bbox_pred'][0].data.tolist() == [[4.0, 8.0], [0.0, 0.0]]


def test_a_reading_that_cannot_be_told_is_said_to_be_assumed():
    from stand_in_data import Blob

    net = Net([[2.0, 4.0], [6.0, 8.0]], [1.0, 2.0])
    net.forward = lambda: None
    net.blobs = {
        'cls_prob_readonly': Blob([[0.5, 0.5]]), 'bbox_pred_readonly': Blob(np.ones((1, 8))),
        'rois': Blob([[0, 1, 1, 9, 9]]), 'labels': Blob([0]), **{name: Blob(np.zeros((1, 8))) for name in
                                ('bbox_targets', 'bbox_inside_weights', 'bbox_outside_weights')},
    }  # fmt: skip
    # background alone: the box loss is 0 whatever is predicted
    said = normalise_regression(net, np.full(8, 0.5), np.full(8, 0.1), 'auto')
    assert said.startswith('the weights predict normalised regressions, which is assumed: the box loss is 0 either way')
    assert '--bbox_pred says which this is' in said


def test_plain_weights_of_a_net_without_bbox_pred_are_refused():
    net = Net([[2.0, 4.0]], [1.0])
    net.params['boxes'] = net.params.pop('bbox_pred')
    with pytest.raises(ValueError, match='no layer with weights that makes bbox_pred'):
        normalise_regression(net, np.zeros(1), np.ones(1), 'plain')
