"""The nets for COCO are those for PASCAL VOC, but for the number of classes, smaller anchors and the schedule.

py-faster-rcnn's of Faster R-CNN end to end, VGG16 and VGG_CNN_M_1024, have no Dropout.
"""

import re
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / 'models'
# The schedules of py-faster-rcnn for VOC and COCO: the first step of the learning rate, in thousands of iterations.
# Its four stages it has for VOC alone: RPNs train as long as in the paper's section 4.2, Fast R-CNN as by itself.
STEPS = {'30': '200', '50': '350', '60': '240'}
NAMES = {'60k80k': '240k320k', '30k40k': '200k280k'}


def nets(data):
    """Those written by hand: tests/detector/test_backbone_nets.py is about those that a program writes.

    A-Fast-RCNN is published for VOC alone.
    """
    written = (path for ending in ('prototxt', 'pt') for path in (MODELS / data).rglob(f'*.{ending}'))
    return sorted(
        path
        for path in written
        if 'tools/make_nets.py' not in path.read_text()
        and not path.parent.name.endswith(('_std', '_adv', '_adv_pretrain'))
    )


def of_coco(text, replacements):
    for voc, coco in replacements.items():
        text = text.replace(voc, coco)
    return text


def test_every_net_of_voc_has_one_of_coco():
    voc = sorted(of_coco(str(path.relative_to(MODELS / 'pascal_voc')), NAMES) for path in nets('pascal_voc'))
    assert voc == sorted(str(path.relative_to(MODELS / 'coco')) for path in nets('coco'))
    # 2 nets of Fast R-CNN, 3 of Faster R-CNN, with and without OHEM; four stages
    assert len(voc) == 2 * 2 * 3 + 3 * 2 * 3 + 3 * 10


@pytest.mark.parametrize('voc', nets('pascal_voc'), ids=lambda path: '-'.join(path.relative_to(MODELS).parts[1:]))
def test_a_net_of_81_classes(voc):
    coco = MODELS / 'coco' / of_coco(str(voc.relative_to(MODELS / 'pascal_voc')), NAMES)
    # 80 classes and the background; 4 numbers of a box for each
    expected = re.sub(r"(num_output|'num_classes'): 21\b", r'\1: 81', voc.read_text())
    expected = re.sub(r'num_output: 84\b', 'num_output: 324', expected)
    # 3 ratios at 4 scales instead of 3
    expected = re.sub(
        r"param_str: \"'feat_stride': 16\"", "param_str: \"{'feat_stride': 16, 'scales': [4, 8, 16, 32]}\"", expected
    )
    expected = re.sub(r'(num_output|dim): 18\b', r'\1: 24', expected).replace('num_output: 36 ', 'num_output: 48 ')
    expected = expected.replace('9 anchors', '12 anchors').replace('models/pascal_voc', 'models/coco')
    expected = re.sub(r'stepsize: (\d\d)000', lambda step: f'stepsize: {STEPS[step.group(1)]}000', expected)
    if voc.parent.name.startswith('faster_rcnn_end2end') and 'ZF' not in voc.parts:
        expected = re.sub(r'layer \{ name: "drop.*\n', '', expected)
    assert coco.read_text() == expected != voc.read_text()
