"""Which photographs a command line means: files, patterns, folders, and lists of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence

from detection_data.image_file import IMAGE_EXTENSIONS

_SYSTEM_FILES = {'thumbs.db', 'desktop.ini', '__macosx'}
LIST_EXTENSION = '.txt'
_LARGEST_LIST = 1 << 26  # bytes


def listed_images(words: Iterable[str | os.PathLike], extensions: Sequence[str] = IMAGE_EXTENSIONS) -> list[str]:
    """The image files that `words` mean, those with one of `extensions`, in their order, each once.

    A word is a file; a pattern such as 'photos/*.jpg' or 'photos/**/*.png'; a folder, of which all images are taken,
    those in folders below it too; or a text file (.txt) with one of these a line, relative to the text file's folder.
    Raises FileNotFoundError or ValueError, naming the word.
    """
    found: dict[str, str] = {}
    for word in words:
        for path in _of_word(os.fspath(word), tuple(extensions)):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _of_word(word: str, extensions: tuple[str, ...]) -> list[str]:
    if os.path.isdir(word):
        inside = [path for path in walk(word) if path.lower().endswith(extensions)]
        if not inside:
            raise ValueError(f'{word}: no image in this folder or below it ({", ".join(extensions)})')
        return inside
    if os.path.isfile(word):
        return _in_list(word, extensions) if word.lower().endswith(LIST_EXTENSION) else [word]
    if glob.has_magic(word):
        matching = sorted(glob.glob(os.path.expanduser(word), recursive=True))
        images = [path for path in matching if path.lower().endswith(extensions) and os.path.isfile(path)]
        if images:
            return images
        raise FileNotFoundError(
            f'no image is called {word}' + (f': {len(matching)} other files are' if matching else '')
        )
    raise FileNotFoundError(f'there is no file {word}')


def walk(root: str) -> Iterator[str]:
    """The files below a folder, but hidden ones and what systems leave behind (._x.jpg, Thumbs.db).

    Links to folders are followed, but to none twice, so that links in a circle have an end.
    """
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        if os.path.realpath(folder) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(f for f in folders if not f.startswith('.') and f.lower() not in _SYSTEM_FILES)
        for file in sorted(files):
            if not file.startswith('.') and file.lower() not in _SYSTEM_FILES:
                yield os.path.join(folder, file)


def _in_list(path: str, extensions: tuple[str, ...]) -> list[str]:
    try:
        with open(path, encoding='utf-8-sig') as file:
            text = file.read(_LARGEST_LIST)
    except UnicodeDecodeError:
        raise ValueError(f'{path}: a list of images is a text in UTF-8, one a line; this is none') from None
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith('#'):
            continue
        target = os.path.join(os.path.dirname(path), os.path.expanduser(name))
        if name.lower().endswith(LIST_EXTENSION):
            raise ValueError(f'{path}, line {number}: {name} is a list itself')
        try:
            found += _of_word(target, extensions)
        except (OSError, ValueError) as error:
            raise type(error)(f'{path}, line {number}: {error}') from None
    if not found:
        raise ValueError(f'{path}: it lists no image')
    return found
