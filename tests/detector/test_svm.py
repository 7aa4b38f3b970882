"""A linear SVM a class on a net's features: the optimum that it is at, its cache, and what becomes of the net."""

import numpy as np
import pytest
from stand_in_data import GOLDEN, ListImdb

import caffe
from fast_rcnn import svm
from fast_rcnn.config import ConfigError, cfg
from fast_rcnn.model_card import ModelCard, follow_classifier
from fast_rcnn.svm import ClassSVM, negatives_of, train_svms
from fast_rcnn.test import im_detect, load_net
from roi_data_layer.image_blob import read_image

pytest.importorskip('sklearn')


def clouds(positives=30, negatives=200):
    rng = np.random.default_rng(0)
    return (
        (rng.normal(size=(positives, 4)) + [2, 1, 0, 0]).astype(np.float32),
        (rng.normal(size=(negatives, 4)) - [2, 1, 0, 0]).astype(np.float32),
    )


def trained(scale=1.0):
    machine = ClassSVM('cat', 4, scale)
    machine.positives, negatives = clouds()
    machine.add_negatives(negatives)
    machine.fit()
    return machine, negatives


def objective(machine, negatives, weights, bias):
    """R-CNN's: the weights on the scaled features, the bias as one more weight, of a feature that is 10."""
    weights = weights / machine.scale
    positives = machine.positives * machine.scale @ weights + bias
    negatives = negatives * machine.scale @ weights + bias
    hinges = 2 * np.maximum(0, 1 - positives).sum() + np.maximum(0, 1 + negatives).sum()
    return (weights @ weights + (bias / 10) ** 2) / 2 + 0.001 * hinges


def test_no_other_weights_are_better():
    machine, negatives = trained(scale=3.0)
    best = objective(machine, negatives, machine.weights, machine.bias)
    rng = np.random.default_rng(1)
    for size in (1e-1, 1e-2, 1e-3):
        for change in rng.normal(size=(50, 5)) * size:
            assert objective(machine, negatives, machine.weights + change[:4], machine.bias + change[4]) > best - 1e-5
    assert machine.converged and best < objective(machine, negatives, np.zeros(4), 0.0)


def test_what_is_learned_leaves_the_cache():
    machine, negatives = trained(scale=20.0)
    scores = negatives @ machine.weights + machine.bias
    assert (scores < -1.1).any()
    np.testing.assert_array_equal(machine.negatives, negatives[scores >= -1.1])
    kept = len(machine.negatives)
    assert not machine.add_negatives(np.full((2000, 4), -9, np.float32))
    assert machine.add_negatives(np.full((1, 4), -9, np.float32))  # the 2001st: time to train again
    machine.fit()
    assert len(machine.negatives) <= kept


def test_a_class_without_examples_of_a_kind():
    machine = ClassSVM('cat', 4)
    machine.add_negatives(clouds()[1])
    machine.fit()
    assert not machine.weights.any() and machine.bias == -1
    machine = ClassSVM('cat', 4)
    machine.positives = clouds()[0]
    machine.fit()
    assert not machine.weights.any() and machine.bias == 0


def test_negatives_of_a_class_are_near_none_of_its_objects():
    """IoU 0.3 of boxes of 10 x 10 pixels beside each other: (10 - d) / (10 + d) for a shift of d."""
    entry = {
        'boxes': np.array([[0, 0, 9, 9], [100, 0, 109, 9], [5, 0, 14, 9], [6, 0, 15, 9], [104, 0, 113, 9]], np.float32),
        'gt_classes': np.array([1, 2, 0, 0, 0]),
    }
    assert negatives_of(entry, 1).tolist() == [False, True, False, True, True]
    assert negatives_of(entry, 2).tolist() == [True, False, True, True, False]
    assert negatives_of(entry, 3).all()


@pytest.fixture
def net():
    cfg.TEST.SCALES, cfg.TEST.MAX_SIZE = (300,), 600
    caffe.set_mode_cpu()
    return load_net(str(GOLDEN / 'detect.prototxt'), str(GOLDEN / 'detect.caffemodel'))


def test_the_net_scores_as_the_svms_do(net, blood_cells, capsys):
    cfg.TRAIN.USE_FLIPPED = False
    before = dict(cfg.TEST), cfg.DEDUP_BOXES
    machines = train_svms(net, blood_cells)
    assert (dict(cfg.TEST), cfg.DEDUP_BOXES) == before
    assert [machine.name for machine in machines] == ['RBC', 'WBC', 'Platelets']
    objects = np.concatenate([blood_cells.annotation(i)['gt_classes'] for i in range(3)])
    assert [len(machine.positives) for machine in machines] == [(objects == c).sum() for c in (1, 2, 3)]
    assert 'RBC: ' in capsys.readouterr().out

    cfg.TEST.SVM, cfg.DEDUP_BOXES = True, 0.0
    scores, _ = im_detect(net, read_image(blood_cells.image_path_at(0)), blood_cells.proposals_of(0))
    features = net.blobs['fc6'].data
    assert not scores[:, 0].any()
    for cls, machine in enumerate(machines, start=1):
        np.testing.assert_allclose(scores[:, cls], features @ machine.weights + machine.bias, atol=1e-4)
    found = []
    for i in range(3):
        objects = blood_cells.annotation(i)
        im_detect(net, read_image(blood_cells.image_path_at(i)), objects['boxes'])
        found.append(net.blobs['fc6'].data[objects['gt_classes'] == 1])
    np.testing.assert_allclose(machines[0].positives, np.concatenate(found), atol=1e-5)


def test_features_are_brought_to_a_norm_of_20(net, blood_cells):
    cfg.TRAIN.USE_FLIPPED, cfg.TEST.SVM, cfg.DEDUP_BOXES = False, True, 0.0
    scale = train_svms(net, blood_cells)[0].scale
    norms = []
    for i in range(3):
        boxes = np.concatenate((blood_cells.annotation(i)['boxes'], blood_cells.proposals_of(i)))
        im_detect(net, read_image(blood_cells.image_path_at(i)), boxes)
        norms.append(np.linalg.norm(net.blobs['fc6'].data, axis=1))
    assert np.concatenate(norms).mean() * scale == pytest.approx(20, rel=1e-4)


def test_nets_and_settings_that_do_not_go(net, blood_cells):
    cfg.TEST.HAS_RPN = True
    with pytest.raises(ConfigError, match='proposals that are computed beforehand: give a Fast R-CNN, HAS_RPN False'):
        train_svms(net, blood_cells)
    cfg.TEST.HAS_RPN = False
    with pytest.raises(ValueError, match='the net knows 4 classes, list_train has 2: not its net'):
        train_svms(net, ListImdb([], ['__background__', 'cat']))
    del net.blobs['cls_prob']
    with pytest.raises(ValueError, match='the net has no blob cls_prob: give the prototxt of a net to test'):
        train_svms(net, blood_cells)
    net.blobs['cls_prob'] = net.blobs['cls_score']
    net.params['fc6'][0].data[...] = 0
    net.params['fc6'][1].data[...] = 0
    with pytest.raises(ValueError, match=r'the mean norm of the features fc6 is 0\.0: is the net trained'):
        train_svms(net, blood_cells)


def test_a_model_says_how_it_scores(capsys):
    cfg.TEST.SVM = True  # of a training, this says nothing
    softmax = ModelCard.of_training(('__background__', 'cat'), 'cats')
    assert softmax.svm is False and softmax.of_svms().svm is True
    follow_classifier(softmax, 'a.caffemodel')
    assert 'a.caffemodel was trained by softmax, and TEST.SVM is True' in capsys.readouterr().out
    cfg.TEST.SVM = False
    follow_classifier(softmax, 'a.caffemodel')
    follow_classifier(None, 'a.caffemodel')
    follow_classifier(ModelCard(('__background__', 'cat')), 'a.caffemodel')
    assert cfg.TEST.SVM is False and capsys.readouterr().out == ''
    follow_classifier(softmax.of_svms(), 'a.caffemodel')
    assert cfg.TEST.SVM is True and 'a.caffemodel scores by SVMs: TEST.SVM is True for it' in capsys.readouterr().out


def test_the_settings_are_r_cnn_s():
    """rbgirshick/fast-rcnn, tools/train_svms.py."""
    assert (svm.TARGET_NORM, svm.NEGATIVE_IOU, svm.HARD_SCORE) == (20, 0.3, -1.0001)
    assert (svm.EVICT_SCORE, svm.RETRAIN_LIMIT) == (-1.1, 2000)
    assert (svm.C, svm.BIAS_SCALE, svm.POSITIVE_WEIGHT) == (0.001, 10, 2)


def test_what_was_measured_of_a_net_is_not_said_of_one_made_of_it():
    card = ModelCard.of_training(('__background__', 'cat'), 'cats', {'imdb': 'cats_val', 'iteration': 9, 'mAP': 0.5})
    assert card.of_svms().validation == card.remade('').validation == {}
    assert card.remade('').settings == card.settings and card.of_svms().classes == card.classes
