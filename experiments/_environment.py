"""Imported first by every experiment: where packages are missing, one line says what to do."""

import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))  # at the end, as in tools

from command_line import environment

environment.say_what_is_missing(os.path.basename(sys.argv[0]))
