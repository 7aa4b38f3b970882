"""Makes experiments/ importable, and leaves the settings as they were."""

import copy
import sys
from pathlib import Path

import pytest

from fast_rcnn.config import cfg

sys.path.append(str(Path(__file__).parents[2] / 'experiments'))


@pytest.fixture(autouse=True)
def fresh_settings():
    before = copy.deepcopy(dict(cfg))
    yield cfg
    cfg.update(before)
