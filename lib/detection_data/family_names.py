"""The family's names `datasets.factory`, `datasets.imdb`, ..., in one environment with another package `datasets`.

Scripts of Fast R-CNN and its kin say `from datasets.factory import get_imdb`. A package of that name is in most
environments today, Hugging Face's, so ours has another name, and these names are aliases: the files of the folder
`datasets` beside this package, each of which stands for the module of `detection_data` that it names.

That folder has no __init__.py. So it never hides a package `datasets`, wherever the two are on the search path, and
where there is none it is one by itself. What it cannot do alone is to be seen beside such a package in another folder.
For that a finder is asked last of all, when nobody else knows `datasets.factory`. Importing this package, or
`fast_rcnn`, puts it there.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder

_ALIASES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'datasets')


class _FamilyNames(MetaPathFinder):
    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        package, _, name = fullname.rpartition('.')
        return PathFinder.find_spec(fullname, [_ALIASES]) if package == 'datasets' and name else None


def make_known() -> None:
    """Let `import datasets.factory` and its neighbours find the aliases where no one else answers to the name."""
    if not any(isinstance(finder, _FamilyNames) for finder in sys.meta_path):
        sys.meta_path.append(_FamilyNames())
