"""Makes the packages in ``lib`` importable; imported first by every tool.

``lib`` goes to the end of the search path, so a Caffe that is installed, or on PYTHONPATH, comes first.
"""

import importlib.util
import os
import sys

LIB = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
if LIB not in map(os.path.realpath, sys.path):
    sys.path.append(LIB)

# A common name: Hugging Face's package has it too
_found = importlib.util.find_spec('datasets').origin or 'a folder named datasets'
if not os.path.isfile(os.path.join(os.path.dirname(_found), 'factory.py')):
    sys.exit(
        f'{os.path.basename(sys.argv[0])}: error: {_found} hides the package datasets in {LIB}; '
        'use an environment without it, such as the .venv that `make` builds'
    )
