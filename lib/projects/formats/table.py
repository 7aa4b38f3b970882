"""CSV with a header, a line an object: the image's file name, its class, and the corners in pixels.

The columns go by the names that TensorFlow's object detection, Roboflow, Kaggle's sets and VGG's tools give them.
"""

from __future__ import annotations

import csv
import io
from collections import Counter

from projects.boxes import checked, flag
from projects.formats.text import files_of, number, read_text
from projects.photographs import Box, ImageFolder, LabelError, Photograph, size_of, split_of

KEY, NAME = 'csv', 'CSV with a header: filename, class, xmin, ymin, xmax, ymax'
_COLUMNS = {
    'file': ('filename', 'file_name', 'image', 'image_path', 'image_name', 'imageid', 'image_id', 'path', 'file'),
    'class': ('class', 'label', 'label_name', 'name', 'category', 'class_name', 'labelname'),
    'left': ('xmin', 'x1', 'x_min', 'left', 'bbox_x', 'x'),
    'top': ('ymin', 'y1', 'y_min', 'top', 'bbox_y', 'y'),
    'right': ('xmax', 'x2', 'x_max', 'right'),
    'bottom': ('ymax', 'y2', 'y_max', 'bottom'),
    'width': ('bbox_width', 'w', 'box_width'),
    'height': ('bbox_height', 'h', 'box_height'),
    'difficult': ('difficult', 'iscrowd', 'isgroupof'),
}


def files(root: str) -> list[str]:
    return [path for path in files_of(root, '.csv') if {'file', 'class', 'left', 'top'} <= set(_header(path)[0])]


def read(files: list[str], root: str, images: ImageFolder, said: Counter) -> list[Photograph]:
    boxes: dict[str, list[Box]] = {}
    for path in files:
        columns, rows = _header(path)
        for line, row in enumerate(rows, start=2):
            where = f'{path}, line {line}'
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(columns.values()):
                raise LabelError(f'{where}: {len(row)} columns; the header has more: {", ".join(columns)}')
            cell = {key: row[at].strip() for key, at in columns.items()}
            image = images.find(cell['file'], where)
            found = boxes.setdefault(image, [])
            if not cell['class'] and not cell['left']:
                continue  # a line for an image without objects
            box = Box(cell['class'], *_edges(cell, where), flag(cell.get('difficult'), where, 'difficult'), where)
            if not box.name:
                raise LabelError(f'{where} has no class')
            found.append(checked(box, *size_of(image), said))
    return [
        Photograph(image, *size_of(image), tuple(found), split_of(image, images.root)) for image, found in boxes.items()
    ]


def _edges(cell: dict[str, str], where: str) -> tuple[float, float, float, float]:
    left, top = number(cell['left'], where, 'left'), number(cell['top'], where, 'top')
    if 'right' in cell and 'bottom' in cell:
        return left, top, number(cell['right'], where, 'right'), number(cell['bottom'], where, 'bottom')
    if 'width' in cell and 'height' in cell:
        return left, top, left + number(cell['width'], where, 'width'), top + number(cell['height'], where, 'height')
    raise LabelError(f'{where}: a box needs xmax and ymax, or bbox_width and bbox_height')


def _header(path: str) -> tuple[dict[str, int], list[list[str]]]:
    """(column of each thing that is known, the rows below) of a CSV file, whatever its separator."""
    text = read_text(path)
    first = text.split('\n', 1)[0]
    separator = max(',;\t', key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=separator))
    except csv.Error as error:
        raise LabelError(f'{path}: not a CSV file ({error})') from None
    names = [name.strip().lower() for name in (rows[0] if rows else [])]
    columns = {}
    for key, known in _COLUMNS.items():
        at = next((names.index(name) for name in known if name in names), None)
        if at is not None:
            columns[key] = at
    return columns, rows[1:]
