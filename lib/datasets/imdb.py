"""The family's name for `detection_data.imdb`; see `detection_data.family_names`."""

import sys

from detection_data import imdb

sys.modules[__name__] = imdb
