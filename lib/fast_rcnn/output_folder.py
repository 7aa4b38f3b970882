"""The folder that a run writes into: made when it begins, and gone again if the run is refused."""

import contextlib
import os
from collections.abc import Iterator


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
