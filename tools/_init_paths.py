"""Makes the packages in ``lib`` importable; imported first by every tool.

``lib`` goes to the end of the search path, so a Caffe that is installed, or on PYTHONPATH, comes first.
"""

import os
import sys

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib')
if os.path.abspath(LIB) not in map(os.path.abspath, sys.path):
    sys.path.append(os.path.abspath(LIB))
