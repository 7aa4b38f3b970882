"""The nets of Faster R-CNN in models/: what py-faster-rcnn published, and what OHEM makes of it."""

import re
from pathlib import Path

import pytest

import caffe
from fast_rcnn.config import cfg

MODELS = Path(__file__).parents[2] / 'models'
# Layers that learn in each stage of the four: the others keep the weights that they start from
STAGES = {
    'stage1_rpn': ('conv', 'rpn'),
    'stage1_fast_rcnn': ('conv', 'roi'),
    'stage2_rpn': ('rpn',),
    'stage2_fast_rcnn': ('roi',),
}


def layers(path):
    """Name -> text of every layer of a prototxt."""
    return {re.search(r'name: "(.*?)"', text).group(1): text for text in path.read_text().split('\nlayer {')[1:]}


def group(name):
    return 'rpn' if name.startswith('rpn') else 'conv' if name.startswith('conv') else 'roi'


@pytest.mark.parametrize('stage', STAGES)
@pytest.mark.parametrize(
    'folder', sorted(MODELS.glob('*/*/faster_rcnn_alt_opt')), ids=lambda p: '-'.join(p.parts[-3:-1])
)
def test_what_learns_in_each_stage(folder, stage):
    learning = {
        name for name, text in layers(folder / f'{stage}_train.pt').items() if re.search('lr_mult: [1-9]', text)
    }
    assert {group(name) for name in learning} == set(STAGES[stage])
    frozen = {name for name, text in layers(folder / f'{stage}_train.pt').items() if 'lr_mult: 0' in text}
    assert not frozen & learning and frozen - {'conv1', 'conv1_1'}  # weights of the others pass on


@pytest.mark.parametrize('name', ['faster_rcnn_end2end', 'faster_rcnn_end2end_ohem'])
@pytest.mark.parametrize('net', ['pascal_voc/ZF', 'coco/VGG_CNN_M_1024'])
def test_nets_load_and_mine_where_they_say_so(net, name):
    caffe.set_mode_cpu()
    cfg.TRAIN.HAS_RPN, cfg.TRAIN.IMS_PER_BATCH, cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = True, 1, True
    trained = caffe.Net(str(MODELS / net / name / 'train.prototxt'), caffe.TRAIN)
    assert set(trained.outputs) == {'rpn_cls_loss', 'rpn_loss_bbox', 'loss_cls', 'loss_bbox'}
    assert ('rois_hard' in trained.blobs) == name.endswith('ohem')
    tested = caffe.Net(str(MODELS / net / name / 'test.prototxt'), caffe.TEST)
    assert set(tested.inputs) == {'data', 'im_info'} and set(tested.outputs) == {'cls_prob', 'bbox_pred'}
    # every weight that is tested with was learned or loaded under that name
    shapes = {key: [blob.data.shape for blob in blobs] for key, blobs in trained.params.items()}
    assert all([blob.data.shape for blob in blobs] == shapes[key] for key, blobs in tested.params.items())
