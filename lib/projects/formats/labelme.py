"""LabelMe: one JSON file an image, with shapes: rectangles, polygons, circles (github.com/wkentaro/labelme)."""

from __future__ import annotations

import math
import os
from collections import Counter

from detection_data.labels import RawObject
from projects.boxes import EDGES, boxes_of
from projects.formats.text import files_of, number, peek_json, read_json
from projects.photographs import ImageFolder, LabelError, Photograph, frame_of, split_of

KEY, NAME = 'labelme', "LabelMe's JSON, a file an image"


def files(root: str) -> list[str]:
    return [path for path, content in peek_json(files_of(root, '.json')) if isinstance(content.get('shapes'), list)]


def read(files: list[str], root: str, images: ImageFolder, said: Counter) -> list[Photograph]:
    return [_read(path, images, said) for path in files]


def _read(path: str, images: ImageFolder, said: Counter) -> Photograph:
    content = read_json(path)
    name = str(content.get('imagePath') or '')
    try:
        image = images.find(os.path.splitext(os.path.basename(path))[0], path, path)
    except LabelError:
        if not name:
            raise
        image = images.find(name, path, path)
    sides = content.get('imageWidth'), content.get('imageHeight')
    stated = None if None in sides else (number(sides[0], path, 'imageWidth'), number(sides[1], path, 'imageHeight'))
    frame = frame_of(image, stated, path, images, said)
    objects = []
    for k, shape in enumerate(content['shapes'], start=1):
        where = f'{path}: shape {k}'
        if not isinstance(shape, dict) or not isinstance(shape.get('points'), list):
            raise LabelError(f'{where} has no points')
        kind = shape.get('shape_type') or 'polygon'
        points = []
        for point in shape['points']:
            if not isinstance(point, list) or len(point) != 2:
                raise LabelError(f'{where}: point {point!r}; expected [x, y]')
            points.append((number(point[0], where, 'x'), number(point[1], where, 'y')))
        if kind in ('point', 'line', 'linestrip', 'points') or len(points) < 2:
            said[f'shapes of type {kind}, which are no objects, left out'] += 1
            continue
        if kind == 'circle':  # the centre and a point of the rim
            (x, y), rim = points[0], math.dist(points[0], points[1])
            points = [(x - rim, y - rim), (x + rim, y + rim)]
        xs, ys = zip(*points, strict=True)
        label = str(shape.get('label') or '').strip()
        given = shape.get('flags')
        flags = given if isinstance(given, dict) else {}
        difficult = {'difficult': flags.get('difficult', shape.get('difficult'))}
        bounds = min(xs), min(ys), max(xs), max(ys)
        objects.append(RawObject(where, label, bounds, flags=difficult, outline=kind != 'rectangle'))
    boxes = boxes_of(objects, EDGES, frame, said)
    return Photograph(image, frame.width, frame.height, boxes, split_of(image, images.root))
