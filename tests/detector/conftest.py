"""What the detector's tests share: settings that are put back, and data sets made from recorded entries."""

import copy

import numpy as np
import pytest
from stand_in_data import GOLDEN, ListImdb

from fast_rcnn.config import cfg


@pytest.fixture(autouse=True)
def fresh_settings():
    """Every test starts from the default settings and leaves them behind."""
    before = copy.deepcopy(dict(cfg))
    yield cfg
    cfg.update(before)


@pytest.fixture(scope='session')
def recorded():
    """Six roidb entries recorded on the original OHEM code, on three photographs, the last three mirrored."""
    return dict(np.load(GOLDEN / 'minibatch.npz'))


@pytest.fixture
def blood_cells(recorded):
    """The data set of the three photographs, with the recorded boxes."""
    images = []
    for i in range(3):
        n = int(recorded[f'{i}/n_gt'])
        images.append(
            {
                'path': GOLDEN / 'images' / f'{recorded[f"{i}/id"]}.jpg',
                'size': (640, 480),
                'boxes': recorded[f'{i}/boxes'][:n],
                'classes': recorded[f'{i}/gt_classes'][:n],
                'proposals': recorded[f'{i}/boxes'][n:],
            }
        )
    return ListImdb(images, ['__background__', 'RBC', 'WBC', 'Platelets'], 'blood_cells')
