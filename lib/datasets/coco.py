"""The family's name for `detection_data.coco`; see `detection_data.family_names`."""

import sys

from detection_data import coco

sys.modules[__name__] = coco
