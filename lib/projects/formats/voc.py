"""PASCAL VOC: one XML file an image, corners counted from 1, both included (VOC development kit, "Annotation").

labelImg, CVAT and Roboflow write it too, with the images beside the files or in JPEGImages.
"""

from __future__ import annotations

import functools
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter

from detection_data.pascal_voc import STYLE, read_raw
from projects.boxes import EDGES, boxes_of
from projects.formats.text import files_of, read_text
from projects.photographs import ImageFolder, LabelError, Photograph, frame_of, split_of

KEY, NAME = 'voc', 'PASCAL VOC XML, a file an image'
_STYLE = STYLE._replace(remedy=EDGES.remedy)


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
        image = images.find(stem, path, path)  # a file keeps its name where tools rename images
    except LabelError:
        if not name:
            raise
        image = images.find(name, path, path)
    stated, objects = read_raw(path)
    frame = frame_of(image, stated, path, images, said)
    boxes = boxes_of(objects, _STYLE, frame, said)
    return Photograph(image, frame.width, frame.height, boxes, split or split_of(image, images.root))
