"""Imported first by every experiment: where packages are missing, one line says what to do. Else as tools begin."""

import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))

import _init_paths  # noqa: F401
