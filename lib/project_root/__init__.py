"""The folder that data/, models/, projects/ and output/ lie in.

In a checkout that is the checkout. Packages that pip has installed lie among those of Python, where nobody looks for a
model, and an update or a new environment would take it away: then it is the working folder.
"""

import glob
import os


def root_of(lib: str) -> str:
    """The root for packages that lie in the folder `lib`: the folder above a checkout's, else the working folder."""
    installed = glob.glob(os.path.join(glob.escape(lib), 'fast_rcnn_ohem-*.dist-info'))  # --target lib
    if os.path.basename(lib) == 'lib' and not installed:
        return os.path.dirname(lib)
    return os.getcwd()


ROOT = root_of(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""As it was when this was imported: a program that changes its folder later does not scatter its files."""
