"""The family's name for `detection_data.voc_eval`; see `detection_data.family_names`."""

import sys

from detection_data import voc_eval

sys.modules[__name__] = voc_eval
