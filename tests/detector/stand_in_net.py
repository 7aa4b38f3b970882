"""A net whose answers are given by a function of the RoIs, so that what is made of them can be worked out."""

import numpy as np


class StandInNet:
    """As much of a pycaffe net as `im_detect` touches.

    `answer(rois)` -> cls_prob (R, K), bbox_pred (R, 4K) for rois (R, 5). `runs` lists what was run:
    ('whole', shape of data, rois) or ('roi layers', None, rois).
    """

    def __init__(self, answer, num_classes: int):
        blob = type('Blob', (), {'reshape': lambda self, *shape: setattr(self, 'data', np.zeros(shape))})
        self.blobs = {name: blob() for name in ('data', 'rois', 'cls_prob')}
        self.blobs['cls_prob'].data = np.zeros((1, num_classes))
        self.bottom_names = {'input': [], 'conv': ['data'], 'pool': ['conv', 'rois'], 'fc': ['pool']}
        self._answer = answer
        self.runs = []

    def forward(self, start=None, **inputs):
        for name, array in inputs.items():
            self.blobs[name].data[...] = array
        assert (start, sorted(inputs)) in ((None, ['data', 'rois']), ('pool', []))
        rois = self.blobs['rois'].data.copy()
        self.runs.append(('roi layers', None, rois) if start else ('whole', self.blobs['data'].data.shape, rois))
        scores, deltas = self._answer(rois)
        return {'cls_prob': np.float32(scores), 'bbox_pred': np.float32(deltas)}
