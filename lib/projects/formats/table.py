"""CSV with a header, a line an object: the image's file name, its class, and the corners in pixels.

The columns go by the names that TensorFlow's object detection, Roboflow, Kaggle's sets and VGG's tools give them.
"""

from __future__ import annotations

import csv
import io
from collections import Counter

from detection_data.coco import STYLE as COCO_STYLE
from detection_data.labels import RawObject, Style
from projects.boxes import EDGES, boxes_of
from projects.formats.text import files_of, number, read_text
from projects.photographs import ImageFolder, LabelError, Photograph, frame_of, split_of

KEY, NAME = 'csv', 'CSV with a header: filename, class, xmin, ymin, xmax, ymax'
_CORNERS, _SIZED = ('left', 'top', 'right', 'bottom'), ('left', 'top', 'width', 'height')
_BY_SIZE = COCO_STYLE._replace(remedy=EDGES.remedy)
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
    return [path for path in files_of(root, '.csv') if not lacking(path)]


def lacking(path: str) -> list[str]:
    """The columns that a CSV file of labels has to have and this one has not."""
    there = _header(path)[0]
    return [key for key in ('file', 'class', 'left', 'top') if key not in there]


def read(files: list[str], root: str, images: ImageFolder, said: Counter) -> list[Photograph]:
    objects: dict[str, dict[Style, list[RawObject]]] = {}
    for path in files:
        columns, rows = _header(path)
        style = _style(columns, path)
        for line, row in enumerate(rows, start=2):
            where = f'{path}, line {line}'
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(columns.values()):
                raise LabelError(f'{where}: {len(row)} columns; the header has more: {", ".join(columns)}')
            cell = {key: row[at].strip() for key, at in columns.items()}
            found = objects.setdefault(images.find(cell['file'], where, path), {}).setdefault(style, [])
            if not cell['class'] and not cell['left']:
                continue  # a line for an image without objects
            sides = _SIZED if style is _BY_SIZE else _CORNERS
            x, y, *others = (number(cell[key], where, key) for key in sides)
            found.append(RawObject(where, cell['class'], (x, y, *others), flags={'difficult': cell.get('difficult')}))
    photographs = []
    for image, of_style in objects.items():
        frame = frame_of(image, None, next((o.where for part in of_style.values() for o in part), root), images, said)
        boxes = (box for style, part in of_style.items() for box in boxes_of(part, style, frame, said))
        photographs.append(Photograph(image, frame.width, frame.height, tuple(boxes), split_of(image, images.root)))
    return photographs


def _style(columns: dict[str, int], path: str) -> Style:
    for sides, style in ((_CORNERS, EDGES), (_SIZED, _BY_SIZE)):
        if set(sides) <= set(columns):
            return style
    raise LabelError(f'{path}: a box needs xmax and ymax, or bbox_width and bbox_height')


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
