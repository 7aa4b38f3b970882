"""Fast R-CNN: the detector's settings, arithmetic, training loop and test loop.

Who may import whom: `train` and `test` stand on `roi_data_layer` and `rpn`, on a data set given by the caller
(`detection_data`) and on pycaffe's public names. Three modules are leaves, which import nothing of this project, so
that `roi_data_layer` and `rpn` may use them too: `config` (the settings), `bbox_transform` (box arithmetic) and `nms`.

`from fast_rcnn import Detector, Trainer` is for programs and notebooks that use a detector, or train one; they need
none of the rest.

Boxes are inclusive pixels (x1, y1, x2, y2), counted from 0; images are BGR arrays, height x width x 3.
"""

import importlib

import detection_data  # noqa: F401  makes the family's names known: scripts import `datasets.factory` after this package

_LAZY = {
    'Box': 'fast_rcnn.detector',
    'Detections': 'fast_rcnn.detector',
    'Detector': 'fast_rcnn.detector',
    'Trainer': 'fast_rcnn.trainer',
}


def __getattr__(name: str):
    """Modules that stand on all others, when they are asked for: `fast_rcnn.config` must not bring Caffe along."""
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_LAZY[name]), name)
