"""PASCAL VOC: one XML file an image, corners counted from 1, both included (VOC development kit, "Annotation").

labelImg, CVAT and Roboflow write it too, with the images beside the files or in JPEGImages.
"""

from __future__ import annotations

import functools
import math
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter

from projects.boxes import checked, flag
from projects.formats.text import files_of, number, read_text
from projects.photographs import Box, ImageFolder, LabelError, Photograph, size_of, split_of

KEY, NAME = 'voc', 'PASCAL VOC XML, a file an image'
_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def files(root: str) -> list[str]:
    return [path for path in files_of(root, '.xml') if _root(path) is not None]


def read(files: list[str], root: str, images: ImageFolder, said: Counter) -> list[Photograph]:
    return [_read(path, images, _listed_splits(path), said) for path in files]


@functools.cache
def _lists(folder: str) -> dict[str, str]:
    """Image id -> split, as ImageSets/Main beside the folder of annotations has them."""
    splits = {}
    for split in ('train', 'val', 'test'):
        path = os.path.join(os.path.dirname(folder), 'ImageSets', 'Main', f'{split}.txt')
        if os.path.isfile(path):
            splits.update(dict.fromkeys(read_text(path).split('\n'), split))
    return splits


def _listed_splits(path: str) -> str | None:
    return _lists(os.path.dirname(path)).get(os.path.splitext(os.path.basename(path))[0])


def _root(path: str) -> ElementTree.Element | None:
    """The <annotation> of a file; None if it is of another kind. Raises LabelError if it is no XML."""
    text = read_text(path)
    if '<!DOCTYPE' in text or '<!ENTITY' in text:
        raise LabelError(f'{path}: an XML file with definitions of its own, which no labelling tool writes')
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, RecursionError) as error:
        raise LabelError(f'{path}: not an XML file ({error})') from None
    return root if root.tag == 'annotation' else None


def _read(path: str, images: ImageFolder, split: str | None, said: Counter) -> Photograph:
    root = _root(path)
    if root is None:
        raise LabelError(f'{path}: its root is not <annotation>: not in the format of VOC')
    stem = os.path.splitext(os.path.basename(path))[0]
    name = (root.findtext('filename') or '').strip()
    try:
        image = images.find(stem, path)  # a file keeps its name where tools rename images
    except LabelError:
        if not name:
            raise
        image = images.find(name, path)
    width, height = size_of(image)
    stated = tuple(number(root.findtext(f'size/{k}') or 0, path, f'<{k}>') for k in ('width', 'height'))
    if stated not in ((0, 0), (width, height)):
        raise LabelError(
            f'{path}: says that its image is {stated[0]:g}x{stated[1]:g}; {image} is {width}x{height}: '
            'another picture, or a scaled one'
        )
    boxes = []
    for k, each in enumerate(root.iter('object'), start=1):
        where = f'{path}: object {k}'
        label = (each.findtext('name') or '').strip()
        if not label:
            raise LabelError(f'{where} has no <name>')
        rotated = each.find('robndbox')
        if rotated is not None:
            said['rotated boxes, of which the upright box around them is taken'] += 1
            edges = _around(rotated, where)
        else:
            box = each.find('bndbox')
            if box is None:
                raise LabelError(f'{where} ({label}) has no <bndbox>')
            x1, y1, x2, y2 = (number(box.findtext(c), where, f'<{c}>') for c in _CORNERS)
            (x1, x2), (y1, y2) = sorted((x1, x2)), sorted((y1, y2))
            edges = (x1 - 1, y1 - 1, x2, y2)
        ignored = flag(each.findtext('difficult'), where, '<difficult>')
        boxes.append(checked(Box(label, *edges, ignored, where), width, height, said))
    return Photograph(image, width, height, tuple(boxes), split or split_of(image, images.root))


def _around(box: ElementTree.Element, where: str) -> tuple[float, float, float, float]:
    """labelImg2's rotated box: centre, size, and an angle in radians."""

    cx, cy, w, h, angle = (number(box.findtext(k), where, f'<{k}>') for k in ('cx', 'cy', 'w', 'h', 'angle'))
    across = (abs(w * math.cos(angle)) + abs(h * math.sin(angle))) / 2
    down = (abs(w * math.sin(angle)) + abs(h * math.cos(angle))) / 2
    return cx - across, cy - down, cx + across, cy + down
