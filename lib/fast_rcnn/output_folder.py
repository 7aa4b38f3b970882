"""The folder that a run writes into: made when it begins, and gone again if the run is refused.

What an earlier run has left there and this one would write over is set aside.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator

import whole_file

_EARLIER = '_of_earlier_run'


@contextlib.contextmanager
def output_folder(path: str) -> Iterator[None]:
    """Makes the folder `path` and those above it. After an error, those that it has made and that are empty go."""
    made = []
    folder = os.path.abspath(path)
    while not os.path.isdir(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    try:
        os.makedirs(path, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # one that somebody else has begun to fill, or that was not reached
                os.rmdir(folder)
        raise


@contextlib.contextmanager
def files_of(prefix: str) -> Iterator[None]:
    """After an error, files <prefix>... that were not there before are removed."""
    folder, name = os.path.split(prefix)

    def there() -> set[str]:
        return {file for file in os.listdir(folder) if file.startswith(name)}

    before = there()
    try:
        yield
    except BaseException:
        for file in there() - before:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder, file))
        raise


def set_aside(path: str) -> str:
    """Renames x.y to x_of_earlier_run.y, or x_of_earlier_run_2.y ..., the first that is free; says so, and returns it.

    So no file that was set aside is ever written over.
    """
    aside = next(name for name in _names_aside(path) if not os.path.lexists(name))
    whole_file.rename(path, aside)
    print(f'{path} is of an earlier run; it is {aside} now')
    return aside


def set_aside_before(path: str) -> list[str]:
    """The files that `set_aside` has made of `path`, the newest first."""
    return [*itertools.takewhile(os.path.lexists, _names_aside(path))][::-1]


def _names_aside(path: str) -> Iterator[str]:
    start, end = os.path.splitext(path)
    return (f'{start}{_EARLIER}{"" if n == 1 else f"_{n}"}{end}' for n in itertools.count(1))
