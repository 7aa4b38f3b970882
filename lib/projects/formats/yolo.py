"""YOLO: a text file an image; a line an object: class number, centre x, centre y, width, height as parts of the image.

Class names are in data.yaml (Ultralytics, Roboflow), classes.txt (labelImg) or obj.names (Darknet, CVAT). A line with
more numbers is a polygon (Ultralytics' segmentation) or a box with a score.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import yaml

from detection_data.labels import RawObject, Style
from projects.boxes import EDGES, boxes_of
from projects.formats.text import files_of, number, read_text
from projects.photographs import ImageFolder, LabelError, Photograph, frame_of, split_of

KEY, NAME = 'yolo', 'YOLO text files with data.yaml, classes.txt or obj.names'
_NAMES = ('data.yaml', 'data.yml', 'classes.txt', 'obj.names')
_NO_LABELS = {'classes.txt', 'train.txt', 'val.txt', 'valid.txt', 'test.txt', 'readme.txt', 'requirements.txt'}
_EXPECTED = 'a class number, centre x, centre y, width and height with blanks between them'
_LINE = re.compile(r'\s*\d+(\.0*)?(\s+[-+.\deE]+){4,}\s*')


def files(root: str) -> list[str]:
    found = [path for path in _texts(root) if _why_not(path) is None]
    return found if _names_file(root) or any(os.path.getsize(path) for path in found) else []


def why_not(root: str) -> Iterator[tuple[str, str]]:
    """(path, reason) of texts that are not taken for YOLO's."""
    for path in _texts(root):
        reason = _why_not(path)
        if reason is not None:
            yield path, reason


def _texts(root: str) -> Iterator[str]:
    for path in files_of(root, '.txt'):
        name = os.path.basename(path).lower()
        if name not in _NO_LABELS and not name.startswith('readme'):
            yield path


def _why_not(path: str) -> str | None:
    """Why a text does not look like YOLO: the first of its first three lines that are not blank; None if it does."""
    try:
        text = read_text(path)
    except LabelError:  # notes of another tool's, perhaps; one called as a photograph is read all the same
        return 'not a text in UTF-8'
    lines = [(k, line) for k, line in enumerate(text.splitlines(), start=1) if line.strip()]
    odd = next((k for k, line in lines[:3] if not _LINE.fullmatch(line)), None)
    return None if odd is None else f'line {odd} is not {_EXPECTED}'


def read(files: list[str], root: str, images: ImageFolder, said: Counter) -> list[Photograph]:
    names = _class_names(root, images.root)
    photographs = []
    # a text called as a photograph is its label file, however it looks: passed over, its objects would be missing
    stems = {_stem(path) for path in images.paths}
    for path in sorted({*files, *(path for path in _texts(root) if _stem(path) in stems)}):
        image = images.find(os.path.splitext(_as_image(path, root))[0], path, path)
        objects = []
        for k, line in enumerate(read_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            where = f'{path}, line {k}'
            index, *values = _numbers(line, where)
            if index != int(index) or not 0 <= index < len(names):
                raise LabelError(f'{where}: class {index:g}; there are {len(names)} classes, numbered from 0')
            objects.append(_object(names[int(index)], values, where))
        frame = frame_of(image, None, path, images, said)
        boxes = boxes_of(objects, _style(*frame.labelled), frame, said)
        photographs.append(Photograph(image, frame.width, frame.height, boxes, split_of(image, images.root)))
    return photographs


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0].lower()


def _numbers(line: str, where: str) -> list[float]:
    try:
        return [number(word, where, '') for word in line.split()]
    except LabelError:
        raise LabelError(
            f'{where}: {line.strip()[:60]!r} is not {_EXPECTED}; correct it, or, if this text is no label file, take '
            'it away or give the folder of the labels alone (--labels)'
        ) from None


def _style(width: int, height: int) -> Style:
    """Of boxes in shares of an image of that size."""

    def edges(box):
        x, y, w, h = box
        sides = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
        return tuple(_whole(side) for side in sides)

    return Style('(centre x, centre y, width, height)', edges, 0, '', EDGES.remedy, shares=True)


def _object(name: str, values: list[float], where: str) -> RawObject:
    if len(values) >= 6 and len(values) % 2 == 0:
        left, top, right, bottom = min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])
        bounds = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        return RawObject(where, name, bounds, outline=True)
    if len(values) not in (4, 5):
        raise LabelError(f'{where}: {len(values) + 1} numbers; expected {_EXPECTED}')
    x, y, w, h = values[:4]
    return RawObject(where, name, (x, y, w, h))


def _whole(edge):
    """Tools write six digits: an edge within two thousandths of a pixel of a whole number is that number."""
    return np.where(np.abs(edge - np.round(edge)) < 2e-3, np.round(edge), edge)


def _as_image(path: str, root: str) -> str:
    """The label file's path below root, with the folder labels/ in it called images/, as Ultralytics lays them out."""
    base = root if os.path.isdir(root) else os.path.dirname(root)
    parts = os.path.relpath(path, base).split(os.sep)
    return '/'.join('images' if part == 'labels' else part for part in parts)


def _names_file(*folders: str) -> str | None:
    """The file of class names below one of the folders, or directly in the folder above it: not in a neighbour."""
    for folder in folders:
        folder = os.path.abspath(folder if os.path.isdir(folder) else os.path.dirname(folder))
        above, _, beside = next(os.walk(os.path.dirname(folder)), ('', [], []))
        for paths in (files_of(folder, *_NAMES), [os.path.join(above, name) for name in beside]):
            found = [path for path in paths if os.path.basename(path).lower() in _NAMES]
            if found:
                return min(found, key=lambda p: (p.count(os.sep), _NAMES.index(os.path.basename(p).lower())))
    return None


def _class_names(*folders: str) -> list[str]:
    path = _names_file(*folders)
    if path is None:
        raise LabelError(
            f'{folders[0]}: YOLO labels number their classes, and no {", ".join(_NAMES)} names them: '
            'write the names into classes.txt, one a line, and put it into that folder or the one above'
        )
    print(f'The class names are those of {path}')
    if path.lower().endswith(('.yaml', '.yml')):
        names = [name.strip() for name in _yaml_names(path)]
    else:
        names = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not names:
        raise LabelError(f'{path}: no names in it; expected the names of the classes, one a line')
    if '' in names:
        raise LabelError(
            f'{path}, line {names.index("") + 1}: blank, and names follow it: the number of a class is that of its '
            'line, counted from 0. Take the line out, or write the name that it stands for'
        )
    for k, name in enumerate(names):
        if name in names[:k]:
            raise LabelError(
                f'{path}: the classes {names.index(name)} and {k} are both called {name!r}: give them names that '
                'differ; new_project.py --rename OLD=NEW makes one class of two'
            )
    return names


def _yaml_names(path: str) -> list[str]:
    text = read_text(path)
    if len(text) > 2**20 or re.search(r'[&*]\w', text):
        raise LabelError(f'{path}: too long, or with anchors and aliases: expected nc, names and folders')
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise LabelError(f'{path}: not YAML: {error}') from None
    names = content.get('names') if isinstance(content, dict) else None
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise LabelError(f'{path}: names are numbered {list(names)}; expected 0, 1, 2, ...')
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names:
        raise LabelError(f'{path}: no list of names in it')
    for k, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not str(name).strip():
            raise LabelError(f'{path}: the name of class {k} is {name!r}; expected a text: put it between quotes')
    if content.get('nc') is not None and str(content['nc']) != str(len(names)):
        raise LabelError(f'{path}: nc is {content["nc"]!r}, but there are {len(names)} names: correct one of them')
    return [str(name) for name in names]
