"""The prototxts of a detector on a backbone: train, test and solver."""

from __future__ import annotations

import dataclasses

from detection_nets.detectors import Detector
from detection_nets.mobilenet import MobileNetV2
from detection_nets.resnet import ResNet50

METHODS = {
    'fast_rcnn': 'Fast R-CNN',
    'fast_rcnn_ohem': 'Fast R-CNN with OHEM',
    'faster_rcnn_end2end': 'Faster R-CNN, end to end',
    'faster_rcnn_end2end_ohem': 'Faster R-CNN with OHEM, end to end',
    'rfcn_end2end': 'R-FCN, end to end, with one box for all classes',
    'rfcn_end2end_ohem': 'R-FCN with OHEM, end to end, with one box for all classes',
}
MADE_BY = 'Made by tools/make_nets.py: change lib/detection_nets, or a copy.'


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What nets for a data set differ in. Steps are the iterations before the learning rate drops, by method."""

    num_classes: int
    scales: tuple[int, ...]
    steps: dict[str, int]
    rfcn_rate: float = 0.001
    rfcn_passes: int = 2


# Steps: Fast and Faster R-CNN's, and those of py-R-FCN's solver_ohem.prototxt, for COCO that of ResNet-101
DATA_SETS = {
    'pascal_voc': DataSet(21, (8, 16, 32), {'fast': 30000, 'faster': 50000, 'rfcn': 80000}),
    'coco': DataSet(81, (4, 8, 16, 32), {'fast': 200000, 'faster': 350000, 'rfcn': 1280000}, 0.0005, 1),
}


def backbone_of(net: str, method: str, width: float = 1.0, form: str = '') -> ResNet50 | MobileNetV2:
    """The backbone that `method` stands on by default; `form`, published or torchvision, is for ResNet-50.

    Raises ValueError for a net that is not there, or cannot be had so.
    """
    rfcn = method.startswith('rfcn')
    if net == 'ResNet-50':
        return ResNet50(form == 'published' if form else rfcn, width)
    if net != 'MobileNet-v2':
        raise ValueError(f'there is no net {net!r} to make; there are ResNet-50 and MobileNet-v2')
    if rfcn:
        raise ValueError('R-FCN stands on a ResNet here: take --net ResNet-50')
    if form:
        raise ValueError(f'--form {form}: MobileNet-v2 has one form alone')
    return MobileNetV2(width)


def net_files(
    folder: str, backbone: ResNet50 | MobileNetV2, method: str, data: DataSet, learned: int = 128
) -> dict[str, str]:
    """Path below `folder` -> text: train.prototxt, test.prototxt and solver.prototxt of a method, which go into it.

    `learned`: RoIs of an image that R-FCN learns from.
    """
    detector = Detector(backbone, data.num_classes, data.scales, learned)
    kind, ohem = method.split('_')[0], method.endswith('_ohem')
    make = {'fast': detector.fast_rcnn, 'faster': detector.faster_rcnn, 'rfcn': detector.rfcn}[kind]
    what = f'{METHODS[method]}, on {backbone.name}. {MADE_BY}'
    return {
        'train.prototxt': make(True, ohem).text(what),
        'test.prototxt': make(False).text(what),
        'solver.prototxt': _solver(folder, backbone.name, method, kind, ohem, data),
    }


def _solver(folder: str, net: str, method: str, kind: str, ohem: bool, data: DataSet) -> str:
    rate = data.rfcn_rate if kind == 'rfcn' else 0.001
    passes = data.rfcn_passes if kind == 'rfcn' else 2 if ohem or kind == 'faster' else 1
    prefix = f'{net.lower().replace("-", "")}_{method.replace("_end2end", "")}'
    several = '# one image a forward pass, two passes an update\niter_size: 2\n' if passes > 1 else ''
    return f"""# {MADE_BY}
train_net: "{folder}/train.prototxt"
base_lr: {rate}
lr_policy: "step"
gamma: 0.1
stepsize: {data.steps[kind]}
momentum: 0.9
weight_decay: 0.0005
display: 20
average_loss: 100
{several}# tools/train_net.py writes the snapshots itself (TRAIN.SNAPSHOT_ITERS); it uses the prefix
snapshot: 0
snapshot_prefix: "{prefix}"
"""


def shipped() -> dict[str, str]:
    """Path below the project's folder -> text, of all nets in models/ that are made here."""
    files = {}
    for data, about in DATA_SETS.items():
        for net in ('ResNet-50', 'MobileNet-v2'):
            for method in METHODS:
                if net == 'MobileNet-v2' and method.startswith('rfcn'):
                    continue
                folder = f'models/{data}/{net}/{method}'
                for name, text in net_files(folder, backbone_of(net, method), method, about).items():
                    files[f'{folder}/{name}'] = text
    return files
