"""Makes the packages in `lib` importable; imported first by every tool.

`lib` goes to the end of the search path, so a Caffe that is installed, or on PYTHONPATH, comes first.
"""

import os
import sys

LIB = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
if LIB not in map(os.path.realpath, sys.path):
    sys.path.append(LIB)

from command_line import interrupts  # noqa: E402

if os.path.dirname(os.path.abspath(sys.argv[0])) == os.path.dirname(os.path.abspath(__file__)):
    interrupts.end_at_once(os.path.basename(sys.argv[0]))  # until `_command_line.run`

import detection_data  # noqa: E402, F401  a script of the family imports `datasets.factory` next: now it is known
