"""Python imports this first where its folder is on PYTHONPATH: sends the process a signal at its n-th write.

A write is whatever changes files: opening one to write, fsync, replace, rename, unlink, mkdir, truncate. ROBUSTNESS_AT
is n, from 1 on; ROBUSTNESS_SIGNAL the number of the signal; ROBUSTNESS_FOLDER where files are looked at;
ROBUSTNESS_COUNT a file that gets the number of writes at the end. Processes that this one starts are left alone.
"""

import atexit
import builtins
import os

_folder = os.environ.pop('ROBUSTNESS_FOLDER', None)
_at = int(os.environ.pop('ROBUSTNESS_AT', '0'))
_signal = int(os.environ.pop('ROBUSTNESS_SIGNAL', '9'))
_count_file = os.environ.pop('ROBUSTNESS_COUNT', None)
_count = 0


def _noted(path) -> None:
    global _count
    if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(_folder):
        _count += 1
        if _count == _at:
            os.kill(os.getpid(), _signal)


def _watched(function, path_of):
    def call(*args, **kwargs):
        _noted(path_of(args, kwargs))
        return function(*args, **kwargs)

    return call


def _path_of_descriptor(args, kwargs):
    try:
        return os.readlink(f'/proc/self/fd/{args[0]}')
    except OSError:
        return None


def _path_if_written(args, kwargs):
    mode = args[1] if len(args) > 1 else kwargs.get('mode', 'r')
    return args[0] if isinstance(mode, str) and set(mode) & set('wax+') else None


if _folder is not None:
    for _name in ('replace', 'rename', 'unlink', 'remove', 'mkdir'):
        setattr(os, _name, _watched(getattr(os, _name), lambda args, kwargs: args[-1] if args else None))
    for _name in ('fsync', 'ftruncate'):
        setattr(os, _name, _watched(getattr(os, _name), _path_of_descriptor))
    builtins.open = _watched(builtins.open, _path_if_written)
    if _count_file is not None:

        def _write_count() -> None:
            with open(_count_file, 'w', encoding='ascii') as file:
                file.write(str(_count))

        atexit.register(_write_count)
