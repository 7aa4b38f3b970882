"""What the ablations turn: the loss that ranks, and one large mini-batch against several small ones."""

import numpy as np
import pytest
from stand_in_data import GOLDEN, Blob, ListImdb

import caffe
from fast_rcnn.config import ConfigError, cfg, cfg_from_list
from roi_data_layer.layer import HardRoiMiningLayer
from roi_data_layer.roidb import Roidb

PHOTOS = [GOLDEN / 'images' / f'BloodImage_{name}.jpg' for name in ('00000', '00007')]

# ---------------------------------------------------------------- ranking


def mined(batch_size):
    """Labels-and-losses of three RoIs far apart: classification -log 0.5, -log 0.25, -log 0.9; the box of the
    first is off by 10 in one coordinate, which smooth L1 counts as 9.5."""
    layer = HardRoiMiningLayer.__new__(HardRoiMiningLayer)
    prob = [[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]
    rois = [[0, 0, 0, 9, 9], [0, 50, 0, 59, 9], [0, 100, 0, 109, 9]]
    pred, zeros = np.zeros((3, 8)), np.zeros((3, 8))
    pred[0, 4] = 10
    inside = np.zeros((3, 8))
    inside[[0, 2], 4:] = 1
    bottom = [Blob(x) for x in (prob, pred, rois, [1, 0, 1], zeros, inside, inside)]
    top = [Blob() for _ in range(5)]
    cfg.TRAIN.BATCH_SIZE = batch_size
    layer.forward(bottom, top)
    return layer.last


def test_both_losses_rank_as_in_the_paper():
    last = mined(2)
    np.testing.assert_allclose(last['loss'], [np.log(2) + 9.5, np.log(4), -np.log(0.9)], rtol=1e-6)
    assert last['kept'].tolist() == [0, 1]


def test_ranking_by_classification_loss_alone():
    cfg.TRAIN.OHEM_LOSS = 'cls'
    last = mined(2)
    np.testing.assert_allclose(last['loss'], [np.log(2), np.log(4), -np.log(0.9)], rtol=1e-6)
    np.testing.assert_allclose(last['bbox_loss'], [9.5, 0, 0])  # still known
    assert last['kept'].tolist() == [1, 0]


def test_a_mistaken_loss_is_named():
    with pytest.raises(ConfigError, match=r"TRAIN\.OHEM_LOSS is one of both, cls; got 'box'"):
        cfg_from_list(['TRAIN.OHEM_LOSS', 'box'])


# ---------------------------------------------------------------- accumulation by iter_size

NET = """
layer { name: "data" type: "Python" top: "data" top: "rois" top: "labels" top: "bbox_targets"
  top: "bbox_inside_weights" top: "bbox_outside_weights"
  python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 3" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 5 stride: 8 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
"""
BRANCH = """
layer { name: "pool%(r)s" type: "ROIPooling" bottom: "conv" bottom: "rois%(h)s" top: "pool%(r)s" %(stop2)s
  roi_pooling_param { pooled_w: 3 pooled_h: 3 spatial_scale: 0.125 } }
layer { name: "cls_score%(r)s" type: "InnerProduct" bottom: "pool%(r)s" top: "cls_score%(r)s" %(stop)s
  param { name: "cls_w" } param { name: "cls_b" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "bbox_pred%(r)s" type: "InnerProduct" bottom: "pool%(r)s" top: "bbox_pred%(r)s" %(stop)s
  param { name: "box_w" } param { name: "box_b" }
  inner_product_param { num_output: 12 weight_filler { type: "xavier" } } }
"""
MINING = """
layer { name: "prob" type: "Softmax" bottom: "cls_score_readonly" top: "prob" propagate_down: false }
layer { name: "mining" type: "Python" bottom: "prob" bottom: "bbox_pred_readonly" bottom: "rois"
  bottom: "labels" bottom: "bbox_targets" bottom: "bbox_inside_weights" bottom: "bbox_outside_weights"
  top: "rois_hard" top: "labels_hard" top: "bbox_targets_hard" top: "bbox_inside_weights_hard"
  top: "bbox_outside_weights_hard" propagate_down: [false, false, false, false, false, false, false]
  python_param { module: "roi_data_layer.layer" layer: "HardRoiMiningLayer" param_str: "'num_classes': 3" } }
"""
LOSSES = """
layer { name: "loss_cls" type: "SoftmaxWithLoss" bottom: "cls_score" bottom: "labels%(h)s" top: "loss_cls"
  loss_weight: 1 }
layer { name: "loss_bbox" type: "SmoothL1Loss" bottom: "bbox_pred" bottom: "bbox_targets%(h)s"
  bottom: "bbox_inside_weights%(h)s" bottom: "bbox_outside_weights%(h)s" top: "loss_bbox" loss_weight: 1 }
"""


def roidb_of(counts):
    """Two photographs with so many RoIs: one object, and proposals that overlap it more and less."""
    images = []
    for path, count in zip(PHOTOS, counts, strict=True):
        shift = np.linspace(0, 250, count - 1)
        proposals = np.stack([100 + shift, 100 + shift / 2, 299 + shift, 249 + shift / 2], axis=1).round()
        images.append(
            {
                'path': path,
                'size': (640, 480),
                'boxes': [[100, 100, 299, 249]],
                'classes': [1],
                'proposals': proposals,
            }
        )
    return Roidb(ListImdb(images, ['__background__', 'RBC', 'WBC']), use_flipped=False)


def gradients(tmp_path, counts, images_a_pass, rois_a_pass, ohem):
    """The gradient of every parameter after one iteration over both images, in so many passes as that
    takes."""
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BATCH_SIZE = images_a_pass, rois_a_pass
    learning = {'r': '', 'h': '_hard' if ohem else '', 'stop': '', 'stop2': ''}
    readonly = {
        'r': '_readonly',
        'h': '',
        'stop': 'propagate_down: false',
        'stop2': 'propagate_down: [false, false]',
    }
    net = NET + (BRANCH % readonly + MINING if ohem else '') + BRANCH % learning + LOSSES % learning
    (tmp_path / 'net.prototxt').write_text(net)
    (tmp_path / 'solver.prototxt').write_text(
        f'train_net: "{tmp_path}/net.prototxt" base_lr: 1 lr_policy: "fixed" momentum: 0 weight_decay: 0 '
        f'iter_size: {2 // images_a_pass} display: 0 snapshot: 0 random_seed: 7'
    )
    caffe.set_mode_cpu()
    caffe.set_random_seed(7)
    solver = caffe.get_solver(str(tmp_path / 'solver.prototxt'))
    solver.net.layers[0].set_roidb(roidb_of(counts))
    solver.step(1)
    # with lr 1 and no momentum or decay the update, which Caffe leaves in diff, is the gradient
    return [blob.diff.copy() for blobs in solver.net.params.values() for blob in blobs]


def distance(one, other):
    """The largest difference of two gradients, in parts of the largest entry."""
    largest = max(np.abs(a).max() for a in one)
    return max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)) / largest


@pytest.fixture
def small_scale():
    cfg.TRAIN.SCALES, cfg.TRAIN.MAX_SIZE, cfg.TRAIN.BG_THRESH_LO = (120,), 200, 0.0
    cfg.TRAIN.FG_FRACTION = 1.0  # so that sampling takes all there are
    cfg.TRAIN.ASPECT_GROUPING = False


@pytest.mark.parametrize('ohem', [False, True])
def test_two_passes_of_one_image_are_one_of_two(tmp_path, small_scale, ohem):
    """Every pass has the same number of RoIs, and none has to be left out: both normalisations are 1/40
    then."""
    cfg.TRAIN.USE_OHEM, cfg.TRAIN.OHEM_USE_NMS = ohem, False
    whole = gradients(tmp_path, (20, 20), 2, 40, ohem)
    assert distance(whole, gradients(tmp_path, (20, 20), 1, 20, ohem)) < 1e-5


def test_passes_of_unequal_size_weigh_their_images_alike(tmp_path, small_scale):
    """SoftmaxWithLoss divides by the labels, and SmoothL1Loss by the rows, of a *pass*. With 10 and 30 RoIs
    one pass gives (10 g1 + 30 g2) / 40, two passes (g1 + g2) / 2, where g1 and g2 are the means over each
    image's RoIs.
    """
    whole = gradients(tmp_path, (10, 30), 2, 60, False)
    halves = gradients(tmp_path, (10, 30), 1, 30, False)
    alone = [gradients_of_image(tmp_path, (10, 30), i) for i in (0, 1)]
    assert distance(whole, [0.25 * a + 0.75 * b for a, b in zip(*alone, strict=True)]) < 1e-5
    assert distance(halves, [0.5 * a + 0.5 * b for a, b in zip(*alone, strict=True)]) < 1e-5
    assert distance(whole, halves) > 0.01


def gradients_of_image(tmp_path, counts, i):
    """The gradient of the mean loss over the RoIs of one image."""
    cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BATCH_SIZE = 1, 100
    caffe.set_mode_cpu()
    caffe.set_random_seed(7)
    solver = caffe.get_solver(str(tmp_path / 'solver.prototxt'))
    roidb = roidb_of(counts)
    solver.net.layers[0].set_roidb([roidb[i]])
    solver.net.clear_param_diffs()
    solver.net.forward()
    solver.net.backward()
    return [blob.diff.copy() for blobs in solver.net.params.values() for blob in blobs]


def test_with_mining_two_passes_choose_among_the_rois_of_an_image_each(tmp_path, small_scale):
    """B = 16 of both images is not 8 of each: here accumulation and one large batch need not, and do not,
    agree."""
    cfg.TRAIN.USE_OHEM = True
    whole = gradients(tmp_path, (20, 20), 2, 16, True)
    assert distance(whole, gradients(tmp_path, (20, 20), 1, 8, True)) > 0.001
