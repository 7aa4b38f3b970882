"""Data sets in PASCAL VOC layout, and their annotation files.

    <root>/Annotations/<id>.xml
    <root>/JPEGImages/<id>.jpg (or another of image_file.IMAGE_EXTENSIONS, in any case)
    <root>/ImageSets/Main/<split>.txt       an image id a line

Coordinates are 1-based in the files and 0-based in the program. The layout is that of the VOC development
kit, section "Annotation"; the reader follows Fast R-CNN's `lib/datasets/pascal_voc.py`, but checks what it
reads.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

from detection_data.image_file import IMAGE_EXTENSIONS
from detection_data.imdb import imdb
from detection_data.labels import (
    AnnotationError,
    RawObject,
    Style,
    check_names_differ,
    edges_used,
    flag_value,
    judge,
    refuse,
)

VOC_CLASSES = (
    'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
    'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train',
    'tvmonitor',
)  # fmt: skip
REMEDY = 'correct the file, or take the image out of ImageSets/Main'
# Of inclusive pixels, the first of which is 1. A box of a single pixel column or row counts as of zero size: it is what
# a stray click leaves, and no detector learns from it.
STYLE = Style(
    fields='(xmin, ymin, xmax, ymax)',
    edges=lambda box: (box[0] - 1, box[1] - 1, box[2], box[3]),
    least=1,
    counts='; VOC counts pixels from 1',
    remedy=REMEDY,
    corners=True,
)
_LITTER = ('thumbs.db', 'desktop.ini')


class pascal_voc(imdb):
    """One split of a folder in PASCAL VOC layout.

    * name: of the set.
    * root: the folder that holds Annotations, JPEGImages and ImageSets.
    * split: the image set: ImageSets/Main/<split>.txt.
    * classes: names without the background.
    * proposals_pattern: path of a proposals file, with `{method}` in it.
    * use_07_metric: the set's own AP is the 11-point one.
    """

    def __init__(
        self,
        name: str,
        root: str,
        split: str,
        classes: Sequence[str],
        proposals_pattern: str,
        use_07_metric: bool = False,
    ):
        super().__init__(name, classes, read_image_set(root, split))
        self.root = root
        self.split = split
        self.use_07_metric = use_07_metric
        self._proposals_pattern = proposals_pattern
        self._class_to_index = {c: k for k, c in enumerate(self.classes)}

    def set_class_order(self, classes: Sequence[str]) -> None:
        super().set_class_order(classes)
        self._class_to_index = {c: k for k, c in enumerate(self.classes)}

    def image_path_at(self, i: int) -> str:
        path = find_image(self.root, self.image_index[i])
        if path is None:
            raise AnnotationError(
                f'{self.name}: image {self.image_index[i]!r} not found: there is no '
                f'{os.path.join(self.root, "JPEGImages", self.image_index[i])} with any of '
                f'{", ".join(IMAGE_EXTENSIONS)}; add the file or take the id out of ImageSets/Main/{self.split}.txt'
            )
        return path

    def annotation_path_at(self, i: int) -> str:
        return os.path.join(self.root, 'Annotations', self.image_index[i] + '.xml')

    def _add_labels(self, digest) -> None:
        for i in range(self.num_images):
            with contextlib.suppress(OSError), open(self.annotation_path_at(i), 'rb') as file:
                digest.update(hashlib.sha256(file.read()).digest())

    def _read_annotation(self, i: int) -> dict:
        raw = read_raw(self.annotation_path_at(i))
        size = raw.size or self._measured_size(i)
        self._judge(i, raw.objects, size, STYLE)
        return _annotation_of(raw.objects, self._class_to_index, size)

    def proposals_path(self, method: str | None = None) -> str:
        return self._proposals_pattern.format(method=method or self.proposal_method)


def read_image_set(root: str, split: str) -> list[str]:
    """The image ids of a split, in the order of its file; an id given twice is refused."""
    folder = os.path.join(root, 'ImageSets', 'Main')
    path = os.path.join(folder, split + '.txt')
    if not os.path.isfile(path):
        others = (
            sorted(f[:-4] for f in os.listdir(folder) if f.endswith('.txt') and not is_litter(f))
            if os.path.isdir(folder)
            else []
        )
        # The kit also has a file for each class and split (aeroplane_train.txt); they are no splits of ours.
        others = [f for f in others if '_' not in f] or others
        have = f'splits there: {", ".join(others[:12])}' if others else f'there is no split in {folder}'
        raise FileNotFoundError(f'image set {split!r} not found: looked for {path}; {have}')
    ids = listed_ids(root, split)
    if not ids:
        raise ValueError(f'{path} names no image; expected an image id a line')
    seen = set()
    for image_id in ids:
        if image_id in seen:
            raise ValueError(f'{path}: image id {image_id!r} is given twice; remove one of the two lines')
        seen.add(image_id)
    return ids


def listed_ids(root: str, split: str) -> list[str]:
    """The image ids in the file of a split, as they stand there, but for files that a system leaves about.

    An id may have spaces. The kit's files of a class, `000012  -1` a line, have a second column, which is left out.
    """
    ids = []
    for line in read_lines(os.path.join(root, 'ImageSets', 'Main', split + '.txt')):
        columns = re.fullmatch(r'(\S+)\s+(?:-1|0|1)', line)
        whole = columns is None or os.path.isfile(os.path.join(root, 'Annotations', line + '.xml'))
        ids.append((line if whole or columns is None else columns[1]).replace('\\', '/'))
    return [image_id for image_id in ids if not is_litter(os.path.basename(image_id))]


def is_litter(name: str) -> bool:
    """Whether a file of that name was left by a system, not put there by a person: ._x, .DS_Store, Thumbs.db."""
    return name.startswith('.') or name.casefold() in _LITTER


def read_lines(path: str) -> list[str]:
    """The lines of a text file but the blank ones, less the space around them. Raises ValueError if it is no UTF-8."""
    try:
        with open(path, encoding='utf-8-sig') as f:  # some editors put a mark, U+FEFF, before the first line
            lines = [line.strip() for line in f if line.strip()]
    except UnicodeDecodeError as e:
        raise ValueError(f'{path}: not a text in UTF-8 ({e}); save it as UTF-8') from None
    if any('\0' in line for line in lines):
        raise ValueError(f'{path}: not a text but a binary file: it has zero bytes')
    return lines


def find_image(root: str, image_id: str) -> str | None:
    """Path of the image with that id, with any of IMAGE_EXTENSIONS in any case; None if there is none."""
    stem = os.path.join(root, 'JPEGImages', image_id)
    for extension in IMAGE_EXTENSIONS:
        if os.path.isfile(stem + extension):
            return stem + extension
    folder, name = os.path.split(stem)
    try:
        files = os.listdir(folder)
    except OSError:
        return None
    extensions = {file[len(name) :].lower(): file for file in files if file.startswith(name)}
    found = next((extensions[each] for each in IMAGE_EXTENSIONS if each in extensions), None)
    return None if found is None else os.path.join(folder, found)


class RawAnnotation(NamedTuple):
    """An annotation file as it stands."""

    size: tuple[int, int] | None
    """(width, height); None if the file does not say."""
    objects: list[RawObject]


def read_raw(path: str) -> RawAnnotation:
    """An annotation file as it stands. Raises AnnotationError if it is missing, or is none."""
    root = parse_xml(path)
    objects = []
    for k, node in enumerate(root.findall('object'), start=1):
        numbers, problem, outline = _box_of(node)
        flags = {
            tag: node.findtext(tag) for tag in ('difficult', 'truncated', 'occluded') if node.find(tag) is not None
        }
        objects.append(
            RawObject(
                f'{path}: object {k}',
                (node.findtext('name') or '').strip(),
                numbers,
                problem,
                flags,
                functools.partial(_place_of, path, k),
                outline,
            )
        )
    width, height = image_size(root)
    return RawAnnotation((width, height) if width and height else None, objects)


def read_annotation(path: str, class_to_index: dict[str, int]) -> dict:
    """Read and check one VOC annotation file.

    path: of the .xml file. class_to_index: name of each class -> its index.

    Returns `boxes` float32 (n, 4) 0-based inclusive, `gt_classes` int32 (n,), `difficult` bool (n,), `width`
    and `height` (None if the file gives no size).

    Raises AnnotationError for malformed XML, and for what `labels.judge` refuses.
    """
    raw = read_raw(path)
    refuse(judge(raw.objects, class_to_index, raw.size, STYLE))
    return _annotation_of(raw.objects, class_to_index, raw.size)


def _annotation_of(objects: Sequence[RawObject], class_to_index: dict[str, int], size: tuple[int, int] | None) -> dict:
    """The annotation of objects that were judged."""
    edges = edges_used(np.array([each.numbers for each in objects]), size, STYLE)
    return {
        'boxes': (edges - [0, 0, 1, 1]).astype(np.float32),
        'gt_classes': np.array([class_to_index[each.name] for each in objects], np.int32),
        'difficult': np.array([bool(flag_value(each.flags.get('difficult'))) for each in objects], bool),
        'width': size and size[0],
        'height': size and size[1],
    }


def class_names(root: str) -> list[str]:
    """The classes of a folder: the lines of `<root>/classes.txt`, else all names in its annotations."""
    listed = os.path.join(root, 'classes.txt')
    if os.path.isfile(listed):
        names = listed_classes(listed)
    else:
        folder = os.path.join(root, 'Annotations')
        found = {
            (node.findtext('name') or '').strip()
            for path in _xml_files(folder)
            for node in parse_xml(path).iter('object')
        } - {''}
        names = sorted(found)
        if not names:
            raise ValueError(f'no object in {folder}/*.xml and no {listed}: the classes of this set are unknown')
        check_names_differ(names, folder, f'Correct the annotations; if they are two, list both in {listed}')
    for name in names:
        if not re.fullmatch(r'[^/\\\x00-\x1f]+', name) or name.startswith('.'):
            raise ValueError(f'{root}: class name {name!r} cannot be used in a file name; rename it')
    return names


def _xml_files(folder: str) -> Iterator[str]:
    """The annotation files in a folder and those inside it, but hidden ones."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        yield from (
            os.path.join(place, name) for name in sorted(files) if name.endswith('.xml') and not is_litter(name)
        )


def listed_classes(path: str) -> list[str]:
    """The class names in a file like `classes.txt`, one a line, without the background."""
    names = read_lines(path)
    # The background has index 0 whether or not the file says so.
    names = names[1:] if names[:1] == ['__background__'] else names
    if not names or len(set(names)) != len(names):
        raise ValueError(f'{path}: expected different class names, one a line; got {names}')
    return names


def parse_xml(path: str) -> ElementTree.Element:
    """The root element of an annotation file. Raises `AnnotationError` if it is missing or none."""
    try:
        with open(path, 'rb') as f:
            text = f.read()
    except FileNotFoundError:
        raise AnnotationError(f'{path}: no such annotation file; add it or take its id out of ImageSets/Main') from None
    except OSError as e:  # the checker lists it, and goes on
        raise AnnotationError(f'{path}: cannot be read: {e.strerror}') from None
    # No VOC file has a document type; refusing it (and encodings that could hide it) keeps entity bombs out.
    if b'<!DOCTYPE' in text or b'<!ENTITY' in text or b'\x00' in text:
        raise AnnotationError(f'{path}: has a DOCTYPE or is not plain 8-bit XML, which VOC annotations never are')
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as e:
        raise AnnotationError(f'{path}: malformed XML ({e}); {REMEDY}') from None
    if root.tag != 'annotation':
        raise AnnotationError(f'{path}: its root is <{root.tag}>, expected <annotation>: not a VOC annotation file')
    return root


def image_size(root: ElementTree.Element) -> tuple[int | None, int | None]:
    """(width, height) as annotated; some tools leave the size out or write 0."""
    try:
        size = int(float(root.findtext('size/width') or 0)), int(float(root.findtext('size/height') or 0))
    except (ValueError, OverflowError):
        return None, None
    return size if min(size) > 0 else (None, None)


def _box_of(node: ElementTree.Element) -> tuple[tuple[float, ...] | None, str, bool]:
    """(the box of an object as it stands in the file, what is wrong with it, whether it bounds an outline)."""
    if node.find('bndbox') is None:
        outline = _outline_of(node)
        return (None, ' has no <bndbox>', False) if outline is None else (outline, '', True)
    box = []
    for corner in ('xmin', 'ymin', 'xmax', 'ymax'):
        text = (node.findtext(f'bndbox/{corner}') or '').strip()
        value = _number(text)
        if value is None:
            return None, f': <{corner}> is {text!r}, expected a number', False
        box.append(value)
    return tuple(box), '', False


def _outline_of(node: ElementTree.Element) -> tuple[float, ...] | None:
    """The bounding box of a <robndbox> (centre, size and angle in radians, as roLabelImg writes it) or <polygon>."""
    rotated, polygon = node.find('robndbox'), node.find('polygon')
    if rotated is not None:
        known = _numbers(rotated.findtext(tag) or '' for tag in ('cx', 'cy', 'w', 'h', 'angle'))
        if known is None:
            return None
        cx, cy, w, h, angle = known
        c, s = abs(math.cos(angle)), abs(math.sin(angle))
        dx, dy = (w * c + h * s) / 2, (w * s + h * c) / 2
        return cx - dx, cy - dy, cx + dx, cy + dy
    if polygon is not None:
        # <pt><x>1</x><y>2</y></pt> of LabelMe, or <x1>1</x1><y1>2</y1> of Roboflow
        xs, ys = (_numbers(e.text or '' for e in polygon.iter() if re.fullmatch(axis + r'\d*', e.tag)) for axis in 'xy')
        if xs and ys and len(xs) == len(ys) >= 3:
            return min(xs), min(ys), max(xs), max(ys)
    return None


def _numbers(texts: Iterable[str]) -> list[float] | None:
    numbers = [_number(text) for text in texts]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _place_of(path: str, number: int, tag: str) -> str:
    return f'{path}, line {_line_of(path, number, tag)}: object {number}'


def _line_of(path: str, number: int, tag: str) -> int:
    """The line of an annotation file on which the tag of its object of that number begins."""
    parser, stack, lines = expat.ParserCreate(), [], []

    def start(name, _):
        stack.append(name)
        if stack == ['annotation', 'object']:
            lines.append(0)
        elif stack == ['annotation', 'object', tag] and len(lines) == number and not lines[-1]:
            lines[-1] = parser.CurrentLineNumber

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    with open(path, 'rb') as f:
        parser.ParseFile(f)
    return lines[number - 1]
