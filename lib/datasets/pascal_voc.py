"""The family's name for `detection_data.pascal_voc`; see `detection_data.family_names`."""

import sys

from detection_data import pascal_voc

sys.modules[__name__] = pascal_voc
