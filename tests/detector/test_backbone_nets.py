"""ResNet-50 and MobileNet-v2 in models/: what is there, that it loads, trains, and is tested with."""

import json
from pathlib import Path

import numpy as np
import pytest
from seeded_net import save_seeded, write_net

import caffe
from detection_nets.files import METHODS, shipped
from fast_rcnn.config import cfg
from fast_rcnn.test import im_detect, load_net
from fast_rcnn.train import get_training_roidb, train_net
from roi_data_layer.image_blob import read_image

ROOT = Path(__file__).parents[2]
NETS = [(net, m) for net in ('ResNet-50', 'MobileNet-v2') for m in METHODS if net == 'ResNet-50' or m[:4] != 'rfcn']
IDS = ['-'.join(each) for each in NETS]
LOSSES = {'loss_cls', 'loss_bbox'}


@pytest.fixture
def settings(request):
    """Small images, and what the cfg of the method says of proposals, mining and boxes."""
    caffe.set_mode_cpu()

    def choose(method):
        rpn, rfcn = not method.startswith('fast_'), method.startswith('rfcn')
        cfg.TRAIN.HAS_RPN = cfg.TEST.HAS_RPN = cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = rpn
        cfg.TRAIN.PROPOSAL_METHOD = 'gt' if rpn else 'selective_search'
        cfg.TRAIN.AGNOSTIC = cfg.TEST.AGNOSTIC = rfcn
        cfg.TRAIN.USE_OHEM = method.endswith('ohem') and not rfcn
        cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.BG_THRESH_LO = 1, 16, 0.0
        cfg.TRAIN.SCALES = cfg.TEST.SCALES = (120,)
        cfg.TRAIN.RPN_POST_NMS_TOP_N = cfg.TEST.RPN_POST_NMS_TOP_N = 40

    return choose


def test_models_holds_what_the_program_makes():
    made = shipped()
    there = {
        str(path.relative_to(ROOT)): path.read_text()
        for net in ('ResNet-50', 'MobileNet-v2')
        for path in (ROOT / 'models').glob(f'*/{net}/*/*')
    }
    assert there == made, 'run: tools/make_nets.py'
    assert len(made) == 2 * (6 + 4) * 3


@pytest.mark.parametrize(('net', 'method'), NETS, ids=IDS)
def test_it_loads_at_full_width(net, method, settings):
    settings(method)
    folder = ROOT / 'models' / 'pascal_voc' / net / method
    trained = caffe.Net(str(folder / 'train.prototxt'), caffe.TRAIN)
    assert set(trained.outputs) >= LOSSES
    assert ('rois_hard' in trained.blobs, 'labels_ohem' in trained.blobs) == (
        method in ('fast_rcnn_ohem', 'faster_rcnn_end2end_ohem'),
        method == 'rfcn_end2end_ohem',
    )
    tested = caffe.Net(str(folder / 'test.prototxt'), caffe.TEST)
    assert set(tested.outputs) == {'cls_prob', 'bbox_pred'}
    # every weight that is tested with was learned or loaded under that name
    shapes = {key: [blob.data.shape for blob in blobs] for key, blobs in trained.params.items()}
    assert all([blob.data.shape for blob in blobs] == shapes[key] for key, blobs in tested.params.items())


@pytest.mark.parametrize(
    ('net', 'method'), [('ResNet-50', 'rfcn_end2end_ohem'), ('MobileNet-v2', 'faster_rcnn_end2end')]
)
def test_those_for_coco_have_81_classes_and_12_anchors(net, method, settings):
    settings(method)
    tested = caffe.Net(str(ROOT / 'models' / 'coco' / net / method / 'test.prototxt'), caffe.TEST)
    assert tested.blobs['cls_prob'].data.shape[1] == 81
    assert tested.params['rpn_bbox_pred'][0].data.shape[0] == 4 * 12
    trained = caffe.Net(str(ROOT / 'models' / 'coco' / net / method / 'train.prototxt'), caffe.TRAIN)
    assert trained.blobs['bbox_pred'].data.shape[1] == (8 if method.startswith('rfcn') else 4 * 81)


@pytest.mark.parametrize(('net', 'method'), NETS, ids=IDS)
def test_it_trains_and_detects(net, method, settings, blood_cells, tmp_path):
    settings(method)
    solver = write_net(tmp_path / 'net', net, method, 4)
    start = save_seeded(tmp_path / 'net' / 'test.prototxt', tmp_path / 'start.caffemodel')
    (model,) = train_net(solver, get_training_roidb(blood_cells), str(tmp_path), start, max_iters=2)
    (record,) = tmp_path.glob('*_record.jsonl')
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(lines) == 2 and all(0 <= value < np.inf for line in lines for value in line['loss'].values())
    before, after = (caffe.Net(str(tmp_path / 'net' / 'test.prototxt'), file, caffe.TEST) for file in (start, model))
    moved = {n for n, blobs in after.params.items() if (blobs[0].data != before.params[n][0].data).any()}
    frozen = ('conv1', 'bn', 'scale', 'res2', 'block1/', 'block2/', 'block3/')
    assert not {name for name in moved if name.startswith(frozen)}
    still = {'cls_score', 'rfcn_cls', 'res3a_branch2a', 'block4/expand', 'rpn_cls_score'} & set(after.params)
    assert len(still) >= 2 and still <= moved
    image = read_image(blood_cells.image_path_at(0))
    proposals = None if cfg.TEST.HAS_RPN else blood_cells.proposals_of(0)
    scores, boxes = im_detect(load_net(str(tmp_path / 'net' / 'test.prototxt'), model), image, proposals)
    assert scores.shape[1] == 4 and boxes.shape == (len(scores), 16) and np.isfinite(boxes).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-4)


def test_the_read_only_copy_has_no_backward_pass_and_the_same_weights(settings):
    settings('fast_rcnn_ohem')
    net = caffe.Net(str(ROOT / 'models/pascal_voc/MobileNet-v2/fast_rcnn_ohem/train.prototxt'), caffe.TRAIN)
    assert np.shares_memory(net.params['fc6'][0].data, net.params['fc6_readonly'][0].data)
    assert net.why_no_backward('fc6_readonly') and not net.why_no_backward('fc6')
