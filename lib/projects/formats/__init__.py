"""The kinds of label files that are read, a module each.

Each module has NAME; `files(root)`, the files below a folder that are of its kind; and `read(files, root, images,
said)`, the photographs of `images` with the boxes in them. What is put right on the way is counted in `said`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from projects.formats import coco, labelme, table, voc, yolo
from projects.formats.text import files_of, read_json
from projects.photographs import ImageFolder, LabelError, Photograph

FILE_AN_IMAGE = ('voc', 'yolo', 'labelme')
FORMATS = {module.KEY: module for module in (voc, coco, yolo, labelme, table)}


class NoLabelsError(LabelError):
    """A folder without labels."""


def find_format(root: str, wanted: str | None = None) -> tuple[str, list[str]]:
    """(key of the format, its label files) below a folder, or of the one file given.

    Raises LabelError where there is none, or several kinds and `wanted` does not choose.
    """
    if not os.path.exists(root):
        raise LabelError(f'{root}: there is no such file or folder (--labels)')
    found = {key: module.files(root) for key, module in FORMATS.items() if wanted in (None, key)}
    found = {key: files for key, files in found.items() if files}
    if not found:
        kinds = FORMATS[wanted].NAME if wanted else '; '.join(module.NAME for module in FORMATS.values())
        fell_out = list(_fell_out(root, wanted))
        more = f'; and {len(fell_out) - 3} more' if len(fell_out) > 3 else ''
        raise NoLabelsError(
            f'{root}: no labels found; looked for: {kinds}'
            + (f'. Not taken: {"; ".join(fell_out[:3])}{more}' if fell_out else '')
        )
    if len(found) > 1:
        kinds = ', '.join(f'{len(files)} of {key} ({os.path.basename(files[0])})' for key, files in found.items())
        raise LabelError(f'{root}: labels of several kinds: {kinds}; choose with --format {"|".join(found)}')
    key, files = next(iter(found.items()))
    if key in ('coco', 'labelme'):  # a broken one among them: passed over, its objects would be missing
        for path in files_of(root, '.json'):
            read_json(path)
    return key, files


def _fell_out(root: str, wanted: str | None) -> Iterator[str]:
    """Path and reason of each file that by its extension might be labels, and is none."""
    if wanted in (None, 'coco', 'labelme'):
        for path in files_of(root, '.json'):
            try:
                content = read_json(path)
            except LabelError as error:
                yield str(error)
                continue
            of_kind = {'coco': coco.LISTS, 'labelme': ('shapes',)}
            for key in of_kind if wanted is None else (wanted,):
                lacking = [each for each in of_kind[key] if not isinstance(content, dict) or each not in content]
                yield f'{path}: has no {", ".join(lacking) or "list of shapes"}, as {FORMATS[key].NAME} has'
    if wanted in (None, 'voc'):
        for path in files_of(root, '.xml'):
            yield f'{path}: its root is not <annotation>, as {voc.NAME} has'
    if wanted in (None, 'yolo'):
        yield from (f'{path}: {reason}' for path, reason in yolo.why_not(root))
    if wanted in (None, 'csv'):
        for path in files_of(root, '.csv'):
            yield f'{path}: its first line has no column for {", ".join(table.lacking(path))}'


def _read_all(key: str, files: list[str], root: str, images: ImageFolder, said: Counter) -> list[Photograph]:
    """What `read` of a format returns. Raises LabelError with the first files of several that cannot be used."""
    read = FORMATS[key].read
    try:
        return read(files, root, images, said)
    except LabelError as first:
        if key not in FILE_AN_IMAGE or len(files) == 1:
            raise
        told = []
        for path in files:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    read([path], root, images, Counter())
            except LabelError as error:
                told.append(str(error))
        told = list(dict.fromkeys(told))  # what is wrong with all of them, such as missing names, is said once
        if len(told) < 2:
            raise
        more = f'; and {len(told) - 3} more' if len(told) > 3 else ''
        raise LabelError(f'{len(told)} label files cannot be used: {"; ".join(told[:3])}{more}') from first


def read_labels(
    roots: str | Sequence[str], images: ImageFolder, said: Counter, wanted: str | None = None
) -> tuple[str, list[Photograph]]:
    """(name of the format, the labelled photographs) of the labels below one folder or more, sorted by path."""
    roots = [roots] if isinstance(roots, str) else list(roots)
    kinds, photographs = [], []
    for root in roots:
        key, files = find_format(root, wanted)
        kinds.append(FORMATS[key].NAME)
        photographs += _read_all(key, files, root, images, said)
    twice = [path for path, n in Counter(p.path for p in photographs).items() if n > 1]
    if twice:
        raise LabelError(f'{twice[0]}: labelled twice in {", ".join(roots)}: take one of its label files away')
    return '; '.join(dict.fromkeys(kinds)), sorted(photographs, key=lambda p: p.path)
