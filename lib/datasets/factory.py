"""The family's name for `detection_data.factory`; see `detection_data.family_names`."""

import sys

from detection_data import factory

sys.modules[__name__] = factory
