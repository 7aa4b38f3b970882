"""What is wrong with a data set: every image and annotation is looked at, nothing is changed.

Reading for training stops at the first error; here errors are collected, so a set may be looked at that
cannot be opened at all. What training would refuse is told apart from what merely deserves a look.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from detection_data import factory, pascal_voc
from detection_data.coco import STRAY, coco
from detection_data.imdb import imdb

EXIF_ORIENTATION = 0x0112
SHOWN = 3  # places of each kind
AT_A_TIME = 512  # images looked at together

# kind -> (what it is, whether training refuses it)
KINDS = {
    'set': ('the set cannot be opened', True),
    'listed twice': ('image listed twice in the split', True),
    'no image': ('image missing', True),
    'unreadable image': ('image that cannot be read', True),
    'damaged image': ('image with damaged or missing data, partly grey when read', False),
    'size': ('size in the annotation differs from that of the image', True),
    'turned size': ('annotated as shown, turned by its EXIF data: boxes and stored pixels differ', True),
    'turned': ('image that EXIF data turns when shown; it is used as stored', False),
    'annotation': ('annotation missing or malformed', True),
    'class': ('object of an unknown class', True),
    'no box': ('object without four numbers for its box', True),
    'swapped': ('box with swapped corners', True),
    'zero size': ('box of zero width or height', True),
    'begins at 0': ('box that begins at pixel 0, where VOC counts from 1', True),
    'out of frame': ('box that reaches out of its image', True),
    'twice': ('object given twice: same class, same box', False),
    'no objects': ('image without objects', False),
    'empty class': ('class without examples', False),
    'proposals': ('proposals missing or broken', True),
    'not proposed': ('image that the proposals file lacks', True),
    'no proposals': ('image without proposals', False),
    'far proposals': ('image with proposals beyond its edge: made of another image?', False),
}


class RawObject(NamedTuple):
    """An object as its file has it."""

    where: str
    name: str
    box: tuple[float, ...] | None
    """x1, y1, x2, y2 in the file's own count; None if there are no four numbers."""


@dataclass
class RawImage:
    """An image as the files have it, whatever is wrong with it."""

    image_id: str
    path: str | None
    width: int | None = None
    height: int | None = None
    objects: list[RawObject] = field(default_factory=list)
    problem: str | None = None
    """Of the annotation as a whole."""


@dataclass
class Report:
    """What was found in a set.

    Attributes:
        name: of the set.
        images: how many.
        objects: class -> how many, in the order of the classes.
        places: kind (see KINDS) -> the first few places.
        counts: kind -> how many.
        advice: sentences about the set as a whole.
    """

    name: str
    images: int = 0
    objects: Counter = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    advice: list[str] = field(default_factory=list)

    def add(self, kind: str, place: str) -> None:
        self.counts[kind] += 1
        if len(self.places.setdefault(kind, [])) < SHOWN:
            self.places[kind].append(place)

    @property
    def refused(self) -> bool:
        """Whether training would refuse the set."""
        return any(KINDS[kind][1] for kind in self.counts)


def look_at(name: str, method: str = 'selective_search', jobs: int = 1, seen: Callable | None = None) -> Report:
    """Look at every image and annotation of a data set that is not joined.

    Args:
        name: as for ``factory.get_imdb``, without '+'.
        method: whose proposals to look at; 'gt' for none.
        jobs: threads that decode images.
        seen: called with the number of images done, now and then.

    Raises as ``get_imdb`` does for a name or folder that does not exist.
    """
    report = Report(name)
    data_set, problem = None, None
    try:
        data_set = factory.get_imdb(name)
    except FileNotFoundError:
        raise
    except ValueError as e:
        problem = str(e)
    if problem is not None and not name.startswith((factory.FOLDER, 'voc_')):
        raise ValueError(problem)  # nothing of it can be read
    classes: Sequence[str]
    if isinstance(data_set, coco):
        classes, images, first, reach = data_set.classes[1:], _coco_images(data_set), 0, STRAY
    else:
        root, split = _voc_place(name)
        ids = _listed(root, split, report)
        classes = data_set.classes[1:] if data_set else _known_classes(root, ids)
        images, first, reach = _voc_images(root, ids), 1, 0
        if problem is not None and 'listed twice' not in report.counts:
            report.add('set', problem)
    report.objects = Counter(dict.fromkeys(classes, 0))
    proposals = _proposals(data_set, method, report)
    ends: Counter[str] = Counter()
    withheld = data_set is not None and data_set.withheld
    with ThreadPoolExecutor(jobs) as pool:
        for chunk in _chunks(images, AT_A_TIME):
            measured = pool.map(lambda image: measure(image.path), chunk)
            for image, found in zip(chunk, measured, strict=True):
                size = _look_at_image(image, found, report)
                if not withheld:
                    _look_at_objects(image, size, first, reach, report, ends)
                if proposals is not None:
                    _look_at_proposals(proposals, image.image_id, size, report)
            report.images += len(chunk)
            if seen:
                seen(len(chunk))
    for c, n in report.objects.items():
        if n == 0 and not withheld:
            report.add('empty class', c)
    _advise(report, ends)
    return report


class Measured(NamedTuple):
    """An image file. ``width`` is None where it cannot be read."""

    width: int | None = None
    height: int | None = None
    orientation: int = 1
    damage: str | None = None


def measure(path: str | None) -> Measured:
    """Read an image file: the size of the stored pixels, its EXIF orientation (1: none), and damage."""
    if path is None:
        return Measured()
    picture = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        return Measured()
    height, width = picture.shape[:2]
    orientation, damage = 1, None
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            image.load()  # OpenCV fills in what is missing, and says nothing
    except Exception as e:  # Pillow raises many kinds for a damaged file
        damage = str(e)
    return Measured(width, height, orientation if orientation in range(1, 9) else 1, damage)


def format_report(report: Report) -> str:
    """The report as a text: a line of what there is, then the findings, those that stop training first."""
    total = sum(report.objects.values())
    classes = ', '.join(f'{name} {n}' for name, n in report.objects.items())
    if len(report.objects) > 25:
        classes = f'{len(report.objects)} classes'
    lines = [f'{report.name}: {report.images} images, {total} objects ({classes})']
    if not report.counts:
        return '\n'.join([*lines, '  nothing found'])
    lines.append('   count  training  finding')
    for kind in sorted(report.counts, key=lambda k: (not KINDS[k][1], list(KINDS).index(k))):
        title, stops = KINDS[kind]
        lines.append(f'{report.counts[kind]:8d}  {"refuses" if stops else "goes on":8}  {title}')
        lines += [f'{"":20}{place}' for place in report.places[kind]]
        more = report.counts[kind] - len(report.places[kind])
        if more:
            lines.append(f'{"":20}and {more} more')
    return '\n'.join(lines + report.advice)


# ---------------------------------------------------------------------- the parts of it


def _look_at_image(image: RawImage, found: Measured, report: Report) -> tuple[int | None, int | None]:
    """Note what is wrong with the image file; returns the size to hold boxes against."""
    if image.path is None:
        report.add('no image', image.image_id)
    elif found.width is None:
        report.add('unreadable image', image.path)
    else:
        if found.damage:
            report.add('damaged image', f'{image.path}: {found.damage}')
        stated, stored = (image.width, image.height), (found.width, found.height)
        sizes = f'{image.path}: {found.width}x{found.height}'
        if image.width and stated != stored:
            turned = found.orientation >= 5 and stated == stored[::-1]
            report.add('turned size' if turned else 'size', f'{sizes}, annotated {image.width}x{image.height}')
        elif found.orientation != 1:
            report.add('turned', f'{sizes}, EXIF orientation {found.orientation}')
    return (image.width, image.height) if image.width else (found.width, found.height)


def _look_at_objects(image: RawImage, size, first: int, reach: float, report: Report, ends: Counter) -> None:
    """``first``: what the file calls the first pixel; ``reach``: pixels that boxes may reach out of the
    image; ``ends`` counts the boxes that end at the very edge."""
    if image.problem:
        report.add('annotation', image.problem)
        return
    if not image.objects:
        report.add('no objects', image.image_id)
    before = set()
    for where, name, box in image.objects:
        if name in report.objects:
            report.objects[name] += 1
        else:
            report.add('class', f'{where}: {name!r}')
        if box is None:
            report.add('no box', where)
            continue
        place = f'{where} ({name}): ({", ".join(f"{v:g}" for v in box)})'
        kind = _wrong(box, size, first, reach)
        if kind:
            report.add(kind, place if kind != 'out of frame' else f'{place} in {size[0]}x{size[1]}')
        ends['edge'] += bool(size[0]) and (box[2] == size[0] or box[3] == size[1])
        if (name, box) in before:
            report.add('twice', place)
        before.add((name, box))


def _wrong(box: tuple, size: tuple, first: int, reach: float) -> str | None:
    """The kind of what is wrong with a box, the worst if several things are."""
    x1, y1, x2, y2 = box
    width, height = size
    if x2 < x1 or y2 < y1:
        return 'swapped'
    if x2 == x1 or y2 == y1:
        return 'zero size'
    beyond = width is not None and (x2 > width + reach or y2 > height + reach)
    if beyond or min(x1, y1) < min(-reach, 0):
        return 'out of frame'
    if first == 1 and min(x1, y1) < 1:
        return 'begins at 0'
    return None


def _advise(report: Report, ends: Counter) -> None:
    zeros = report.counts['begins at 0']
    if zeros and not ends['edge']:
        report.advice.append(
            f'{zeros} boxes begin at pixel 0 and none ends at the last one of its image: the set seems to '
            'count from pixel 0 throughout. VOC counts from 1: add 1 to all coordinates.'
        )
    elif zeros:
        report.advice.append(
            f'{zeros} boxes begin at pixel 0, but {ends["edge"]} end at the last one, as when counted '
            'from 1: write 1 for 0 in the former.'
        )


def _proposals(data_set: imdb | None, method: str, report: Report):
    if data_set is None or method == 'gt':
        return None
    data_set.set_proposal_method(method)
    try:
        return data_set.proposals
    except ValueError as e:
        report.add('proposals', str(e))
        return None


def _look_at_proposals(proposals, image_id: str, size: tuple, report: Report) -> None:
    if image_id not in proposals:
        report.add('not proposed', image_id)
        return
    boxes = proposals.of(image_id)
    if len(boxes) == 0:
        report.add('no proposals', image_id)
    elif size[0] and (boxes[:, 2:] >= size).any():
        far = boxes[:, 2:].max(axis=0)
        report.add('far proposals', f'{image_id}: to ({far[0]:g}, {far[1]:g}) in {size[0]}x{size[1]}')


def _chunks(items: Iterator, length: int) -> Iterator[list]:
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == length:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


# ---------------------------------------------------------------------- reading what cannot be opened


def _voc_place(name: str) -> tuple[str, str]:
    """(root, split)"""
    if name.startswith(factory.FOLDER):
        return factory.folder_root(name)
    return factory.voc_root(name), name.split('_')[2]


def _listed(root: str, split: str, report: Report) -> list[str]:
    """The ids of a split, each once."""
    path = os.path.join(root, 'ImageSets', 'Main', split + '.txt')
    ids = pascal_voc.listed_ids(root, split)
    for image_id, n in Counter(ids).items():
        if n > 1:
            report.add('listed twice', f'{path}: {image_id}')
    return list(dict.fromkeys(ids))


def _known_classes(root: str, ids: Sequence[str]) -> list[str]:
    """The classes of a set that cannot be opened: those listed, else those met in its annotations."""
    try:
        return pascal_voc.class_names(root)
    except ValueError:
        names = {o.name for image in _voc_images(root, ids) for o in image.objects}
        return sorted(names - {''})


def _voc_images(root: str, ids: Sequence[str]) -> Iterator[RawImage]:
    for image_id in ids:
        stem = os.path.join(root, 'JPEGImages', image_id)
        paths = (stem + extension for extension in pascal_voc.IMAGE_EXTENSIONS)
        image = RawImage(image_id, next((p for p in paths if os.path.isfile(p)), None))
        path = os.path.join(root, 'Annotations', image_id + '.xml')
        try:
            tree = pascal_voc.parse_xml(path)
        except ValueError as e:
            image.problem = str(e)
        else:
            image.width, image.height = pascal_voc.image_size(tree)
            for k, node in enumerate(tree.findall('object'), start=1):
                name = (node.findtext('name') or '').strip()
                image.objects.append(RawObject(f'{path}: object {k}', name, _numbers(node)))
        yield image


def _numbers(node) -> tuple[float, ...] | None:
    try:
        box = tuple(float(node.findtext(f'bndbox/{c}') or '') for c in ('xmin', 'ymin', 'xmax', 'ymax'))
    except ValueError:
        return None
    return box if all(map(math.isfinite, box)) else None


def _coco_images(data_set: coco) -> Iterator[RawImage]:
    for i, image_id in enumerate(data_set.image_index):
        try:
            path = data_set.image_path_at(i)
        except ValueError:
            path = None
        objects = [
            RawObject(where, name, (x, y, x + w, y + h) if np.isfinite((x, y, w, h)).all() else None)
            for where, name, (x, y, w, h) in data_set.raw_objects(i)
        ]
        yield RawImage(image_id, path, *data_set.size_at(i), objects)
