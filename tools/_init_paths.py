"""Makes the packages in ``lib`` importable; imported first by every tool.

``lib`` goes to the end of the search path, so a Caffe that is installed, or on PYTHONPATH, comes first.
"""

import os
import sys

import _interrupts

if os.path.dirname(os.path.abspath(sys.argv[0])) == os.path.dirname(os.path.abspath(__file__)):
    _interrupts.end_at_once()  # until `_command_line.run`

LIB = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
if LIB not in map(os.path.realpath, sys.path):
    sys.path.append(LIB)

import detection_data  # noqa: E402, F401  a script of the family imports `datasets.factory` next: now it is known
