"""Data sets in PASCAL VOC layout, and their annotation files.

    <root>/Annotations/<id>.xml
    <root>/JPEGImages/<id>.jpg (or .jpeg, .png, .bmp)
    <root>/ImageSets/Main/<split>.txt       an image id a line

Coordinates are 1-based in the files and 0-based in the program. The layout is that of the VOC development
kit, section "Annotation"; the reader follows Fast R-CNN's ``lib/datasets/pascal_voc.py``, but checks what it
reads.
"""

from __future__ import annotations

import math
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import numpy as np

from detection_data.imdb import imdb

VOC_CLASSES = (
    'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
    'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train',
    'tvmonitor',
)  # fmt: skip
IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.JPG', '.JPEG', '.PNG', '.BMP')
REMEDY = 'correct the file, or take the image out of ImageSets/Main'


class AnnotationError(ValueError):
    """An annotation that cannot be used; the message names the file, the object and what is wrong."""


class pascal_voc(imdb):
    """One split of a folder in PASCAL VOC layout.

    Args:
        name: of the set.
        root: the folder that holds Annotations, JPEGImages and ImageSets.
        split: the image set: ImageSets/Main/<split>.txt.
        classes: names without the background.
        proposals_pattern: path of a proposals file, with ``{method}`` in it.
        use_07_metric: the set's own AP is the 11-point one.
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
        stem = os.path.join(self.root, 'JPEGImages', self.image_index[i])
        for extension in IMAGE_EXTENSIONS:
            if os.path.isfile(stem + extension):
                return stem + extension
        raise AnnotationError(
            f'{self.name}: image {self.image_index[i]!r} not found: looked for {stem}.jpg, .jpeg, .png, .bmp'
            f'; add the file or take the id out of ImageSets/Main/{self.split}.txt'
        )

    def annotation_path_at(self, i: int) -> str:
        return os.path.join(self.root, 'Annotations', self.image_index[i] + '.xml')

    def _read_annotation(self, i: int) -> dict:
        return read_annotation(self.annotation_path_at(i), self._class_to_index)

    def proposals_path(self, method: str | None = None) -> str:
        return self._proposals_pattern.format(method=method or self.proposal_method)


def read_image_set(root: str, split: str) -> list[str]:
    """The image ids of a split, in the order of its file; an id given twice is refused."""
    folder = os.path.join(root, 'ImageSets', 'Main')
    path = os.path.join(folder, split + '.txt')
    if not os.path.isfile(path):
        others = sorted(f[:-4] for f in os.listdir(folder) if f.endswith('.txt')) if os.path.isdir(folder) else []
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
    """The image ids in the file of a split, as they stand there.

    An id may have spaces. The kit's files of a class, ``000012  -1`` a line, have a second column, which is left out.
    """
    ids = []
    for line in read_lines(os.path.join(root, 'ImageSets', 'Main', split + '.txt')):
        columns = re.fullmatch(r'(\S+)\s+(?:-1|0|1)', line)
        whole = columns is None or os.path.isfile(os.path.join(root, 'Annotations', line + '.xml'))
        ids.append(line if whole or columns is None else columns[1])
    return ids


def read_lines(path: str) -> list[str]:
    """The lines of a text file but the blank ones, less the space around them. Raises ValueError if it is no UTF-8."""
    try:
        with open(path, encoding='utf-8-sig') as f:  # some editors put a mark, U+FEFF, before the first line
            return [line.strip() for line in f if line.strip()]
    except UnicodeDecodeError as e:
        raise ValueError(f'{path}: not a text in UTF-8 ({e}); save it as UTF-8') from None


def read_annotation(path: str, class_to_index: dict[str, int]) -> dict:
    """Read and check one VOC annotation file.

    Args:
        path: of the .xml file.
        class_to_index: name of each class -> its index.

    Returns:
        ``boxes`` float32 (n, 4) 0-based inclusive, ``gt_classes`` int32 (n,), ``difficult`` bool (n,),
        ``width`` and ``height`` (None if the file gives no size).

    Raises:
        AnnotationError: malformed XML, a box that is no box (zero or negative size, not a number, outside its
            image), an unknown class. A box of a single pixel column or row (xmin equal to xmax) counts as of
            zero size: it is what a stray click leaves, and no detector learns from it.
    """
    root = parse_xml(path)
    width, height = image_size(root)
    objects = root.findall('object')
    boxes = np.zeros((len(objects), 4), np.float32)
    gt_classes = np.zeros(len(objects), np.int32)
    difficult = np.zeros(len(objects), bool)
    for k, node in enumerate(objects):
        where = f'{path}: object {k + 1}'
        name = (node.findtext('name') or '').strip()
        if name not in class_to_index or class_to_index[name] == 0:
            known = ', '.join(c for c, index in class_to_index.items() if index)
            raise AnnotationError(f'{where} is of class {name!r}; the classes of this set are: {known}; {REMEDY}')
        boxes[k] = _read_box(node, f'{where} ({name})', width, height)
        gt_classes[k] = class_to_index[name]
        difficult[k] = (node.findtext('difficult') or '0').strip() not in ('0', '')
    boxes -= 1
    return {
        'boxes': boxes,
        'gt_classes': gt_classes,
        'difficult': difficult,
        'width': width,
        'height': height,
    }


def class_names(root: str) -> list[str]:
    """The classes of a folder: the lines of ``<root>/classes.txt``, else all names in its annotations."""
    listed = os.path.join(root, 'classes.txt')
    if os.path.isfile(listed):
        names = listed_classes(listed)
    else:
        folder = os.path.join(root, 'Annotations')
        files = sorted(f for f in os.listdir(folder) if f.endswith('.xml')) if os.path.isdir(folder) else []
        found = {
            (node.findtext('name') or '').strip()
            for f in files
            for node in parse_xml(os.path.join(folder, f)).findall('object')
        } - {''}
        names = sorted(found)
        if not names:
            raise ValueError(f'no object in {folder}/*.xml and no {listed}: the classes of this set are unknown')
    for name in names:
        if not re.fullmatch(r'[^/\\\x00-\x1f]+', name) or name.startswith('.'):
            raise ValueError(f'{root}: class name {name!r} cannot be used in a file name; rename it')
    return names


def listed_classes(path: str) -> list[str]:
    """The class names in a file like ``classes.txt``, one a line, without the background."""
    names = read_lines(path)
    # The background has index 0 whether or not the file says so.
    names = names[1:] if names[:1] == ['__background__'] else names
    if not names or len(set(names)) != len(names):
        raise ValueError(f'{path}: expected different class names, one a line; got {names}')
    return names


def parse_xml(path: str) -> ElementTree.Element:
    """The root element of an annotation file. Raises ``AnnotationError`` if it is missing or none."""
    try:
        with open(path, 'rb') as f:
            text = f.read()
    except FileNotFoundError:
        raise AnnotationError(f'{path}: no such annotation file; add it or take its id out of ImageSets/Main') from None
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


def _read_box(node: ElementTree.Element, where: str, width: int | None, height: int | None) -> list[float]:
    """The box of an object, 1-based as in the file."""
    if node.find('bndbox') is None:
        raise AnnotationError(f'{where} has no <bndbox>; {REMEDY}')
    box = []
    for corner in ('xmin', 'ymin', 'xmax', 'ymax'):
        text = (node.findtext(f'bndbox/{corner}') or '').strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise AnnotationError(f'{where}: <{corner}> is {text!r}, expected a number; {REMEDY}')
        box.append(value)
    x1, y1, x2, y2 = box
    shown = f'box ({x1:g}, {y1:g}, {x2:g}, {y2:g})'
    if x2 <= x1 or y2 <= y1:
        raise AnnotationError(f'{where}: {shown} has zero or negative size (xmin, ymin, xmax, ymax); {REMEDY}')
    size = f'{width}x{height}' if width else 'unknown size'
    if x1 < 1 or y1 < 1 or (width and height and (x2 > width or y2 > height)):
        raise AnnotationError(f'{where}: {shown} lies outside its image ({size}; VOC counts pixels from 1); {REMEDY}')
    return box
