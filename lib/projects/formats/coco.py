"""COCO's JSON ("instances"): images, annotations with bbox (x, y, width, height), categories (cocodataset.org).

CVAT writes instances_default.json, Roboflow _annotations.coco.json in each folder of a split.
"""

from __future__ import annotations

import os
from collections import Counter

from detection_data.coco import STYLE
from detection_data.labels import KINDS, RawObject
from projects.boxes import EDGES, boxes_of
from projects.formats.text import files_of, number, peek_json, read_json
from projects.photographs import ImageFolder, LabelError, Photograph, frame_of, split_of

KEY, NAME = 'coco', "COCO's JSON"
_STYLE = STYLE._replace(remedy=EDGES.remedy)
LISTS = ('images', 'annotations', 'categories')


def files(root: str) -> list[str]:
    return [path for path, content in peek_json(files_of(root, '.json')) if all(key in content for key in LISTS)]


def read(files: list[str], root: str, images: ImageFolder, said: Counter) -> list[Photograph]:
    return [photograph for path in files for photograph in _read(path, images, said)]


def _read(path: str, images: ImageFolder, said: Counter) -> list[Photograph]:
    content = read_json(path)
    for key in LISTS:
        if not isinstance(content[key], list) or not all(isinstance(each, dict) for each in content[key]):
            raise LabelError(f'{path}: {key} is no list of objects: not in the format of COCO')
    # ids may be numbers or text: as text 3 and '3' are one
    names = _category_names(path, content)
    rows: dict[str, list[tuple[int, dict]]] = {str(image.get('id')): [] for image in content['images']}
    if len(rows) < len(content['images']):
        raise LabelError(f'{path}: two images have the same id, or several have none')
    for k, each in enumerate(content['annotations']):
        where = f'{path}: annotation {each.get("id", f"number {k}")}'
        image = str(each.get('image_id'))
        if image not in rows:
            raise LabelError(f'{where}: image_id {each.get("image_id")!r} is not among the images')
        if str(each.get('category_id')) not in names:
            raise LabelError(f'{where}: category_id {each.get("category_id")!r} is not among the categories')
        rows[image].append((k, each))
    photographs = []
    for image in content['images']:
        file_name = str(image.get('file_name') or image.get('path') or '')
        if not file_name:
            raise LabelError(f'{path}: image {image.get("id")!r} has no file_name')
        beside = os.path.join(os.path.dirname(path), *file_name.replace('\\', '/').split('/'))
        known = os.path.abspath(beside) if images.has(beside) else images.find(file_name, path, path)
        sides = (image.get('width'), image.get('height'))
        if None in sides:
            said[KINDS['no size'][0]] += 1
            stated = None
        else:
            stated = (number(sides[0], path, 'a size'), number(sides[1], path, 'a size'))
        frame = frame_of(known, stated, f'{path}, image {file_name}', images, said)
        objects = []
        for k, each in rows[str(image.get('id'))]:
            where = f'{path}: annotation {each.get("id", f"number {k}")} of {file_name}'
            name = names[str(each['category_id'])]
            objects.append(_object(name, each, where))
        boxes = boxes_of(objects, _STYLE, frame, said)
        photographs.append(Photograph(known, frame.width, frame.height, boxes, split_of(known, images.root)))
    return photographs


def _category_names(path: str, content: dict) -> dict[str, str]:
    """Category id -> name. Raises LabelError for ids given twice, names of two that are used, and for what is no name.

    Roboflow's first category, which nothing is of, is called as the data set, which may be a class's name too.
    """
    names: dict[str, str] = {}
    used = Counter(str(each.get('category_id')) for each in content['annotations'])
    for category in content['categories']:
        key, name = str(category.get('id')), category.get('name')
        if not isinstance(name, str) or not name.strip():
            raise LabelError(f'{path}: category {key} has name {name!r}; expected a text')
        if key in names:
            raise LabelError(f'{path}: two categories have the same id, {key}: give them ids that differ')
        other = next((k for k, known in names.items() if known == name.strip()), None)
        if other is not None and used[other] and used[key]:
            raise LabelError(
                f'{path}: the categories {other} and {key} are both called {name.strip()!r} ({used[other]} and '
                f'{used[key]} annotations): give them names that differ, or take one out of the file'
            )
        names[key] = name.strip()
    return names


def _object(name: str, annotation: dict, where: str) -> RawObject:
    flags = {'iscrowd': annotation['iscrowd']} if 'iscrowd' in annotation else {}
    box = annotation.get('bbox')
    if isinstance(box, list) and len(box) == 4:
        x, y, w, h = (number(value, where, 'bbox') for value in box)
        return RawObject(where, name, (x, y, w, h), flags=flags)
    polygons = annotation.get('segmentation')
    if isinstance(polygons, list) and polygons and all(isinstance(p, list) and len(p) >= 6 for p in polygons):
        xs = [number(v, where, 'segmentation') for p in polygons for v in p[0::2]]
        ys = [number(v, where, 'segmentation') for p in polygons for v in p[1::2]]
        bounds = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
        return RawObject(where, name, bounds, flags=flags, outline=True)
    raise LabelError(f'{where}: bbox is {box!r}; expected [x, y, width, height]')
