"""The nets for COCO are those for PASCAL VOC, but for the number of classes."""

import re
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / 'models'
VOC = sorted((MODELS / 'pascal_voc').rglob('*.prototxt'))


def test_every_net_of_voc_has_one_of_coco():
    names = [path.relative_to(MODELS / 'coco') for path in sorted((MODELS / 'coco').rglob('*.prototxt'))]
    assert names == [path.relative_to(MODELS / 'pascal_voc') for path in VOC] and len(names) == 12


@pytest.mark.parametrize('voc', VOC, ids=lambda path: '-'.join(path.relative_to(MODELS).parts[1:]))
def test_a_net_of_81_classes(voc):
    coco = MODELS / 'coco' / voc.relative_to(MODELS / 'pascal_voc')
    # 80 classes and the background; 4 numbers of a box for each
    expected = re.sub(r"(num_output|'num_classes'): 21\b", r'\1: 81', voc.read_text())
    expected = re.sub(r'num_output: 84\b', 'num_output: 324', expected)
    # the schedule of py-faster-rcnn for COCO: 280,000 iterations, 200,000 of them at the first rate
    expected = expected.replace('models/pascal_voc', 'models/coco').replace('stepsize: 30000', 'stepsize: 200000')
    assert coco.read_text() == expected != voc.read_text()
