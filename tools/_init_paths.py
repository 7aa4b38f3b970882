"""Makes the packages in `lib` importable; imported first by every tool, and by experiments and notebooks.

`lib` goes to the end of the search path, so a Caffe that is installed, or on PYTHONPATH, comes first; but before each
folder that holds the same packages, such as another checkout's `lib` that pip has put on the path: a checkout runs its
own, or it would write into the other's output.
"""

import os
import sys

LIB = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
_CAFFE = ('caffe', 'datasets')  # others may have them: another Caffe, and Hugging Face's datasets


def _put_on_path() -> None:
    ours = [name for name in os.listdir(LIB) if name not in _CAFFE and os.path.isdir(os.path.join(LIB, name))]
    there = next((path for path in sys.path if os.path.realpath(path) == LIB), LIB)
    others = [path for path in sys.path if os.path.realpath(path) != LIB]
    hides = [any(os.path.isfile(os.path.join(path, name, '__init__.py')) for name in ours) for path in others]
    place = hides.index(True) if True in hides else len(others)
    if there not in sys.path or place < sys.path.index(there):
        sys.path[:] = [*others[:place], there, *others[place:]]


_put_on_path()

from command_line import environment, interrupts  # noqa: E402

if os.path.dirname(os.path.abspath(sys.argv[0])) == os.path.dirname(os.path.abspath(__file__)):
    interrupts.end_at_once(os.path.basename(sys.argv[0]))  # until `_command_line.run`

environment.say_what_is_missing(os.path.basename(sys.argv[0]))

import detection_data  # noqa: E402, F401  a script of the family imports `datasets.factory` next: now it is known


def _say_if_others_are_used() -> None:
    """Where a program had imported them before, such as a notebook with another checkout's `lib` on its path."""
    loaded = {name: getattr(sys.modules.get(name), '__file__', None) for name in ('fast_rcnn', 'detection_data')}
    used = {os.path.dirname(os.path.dirname(os.path.realpath(file))) for file in loaded.values() if file}
    if used - {LIB}:
        print(f'Note: the packages of {", ".join(sorted(used - {LIB}))} are used, not those of {LIB}', file=sys.stderr)


_say_if_others_are_used()
