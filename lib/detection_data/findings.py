"""What is wrong with a data set: every image and annotation is looked at, nothing is changed.

Reading for training stops at the first error; here errors are collected, so a set may be looked at that
cannot be opened at all. What training would refuse is told apart from what merely deserves a look.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from detection_data import factory, labels, pascal_voc
from detection_data.coco import STYLE as COCO_STYLE
from detection_data.coco import coco
from detection_data.image_file import ImageError, damage_of, image_scale, read_header, read_image
from detection_data.imdb import imdb
from detection_data.jpeg_trial import damage_within_jpegs
from detection_data.labels import NOTED, PUT_RIGHT, REFUSED, RawObject, flag_value

SHOWN = 3  # places of each kind, unless all are asked for
AT_A_TIME = 512  # images looked at together
LARGE = 30_000_000  # pixels; of such images one is read at a time, whatever the number of threads

# kind -> (what it is, what becomes of it)
KINDS = {
    'set': ('the set cannot be opened', REFUSED),
    'listed twice': ('image listed twice in the split', REFUSED),
    'no image': ('image missing', REFUSED),
    'unreadable image': ('image that cannot be read', REFUSED),
    'thin image': ('image of which a side becomes 0 pixels when it is scaled', REFUSED),
    'damaged image': ('image with damaged or missing data, partly grey when read', NOTED),
    'pixels': ('image of other than 8-bit colours or greys: made so when read', NOTED),
    'size': ('size in the annotation differs from that of the image', REFUSED),
    'turned size': ('annotated as shown, turned by its EXIF data: boxes and stored pixels differ', REFUSED),
    'turned': ('image that EXIF data turns when shown; it is used as stored', NOTED),
    'annotation': ('annotation missing or malformed', REFUSED),
    **labels.KINDS,
    'no objects': ('image without objects', NOTED),
    'empty class': ('class without examples', NOTED),
    'all difficult': ('class of which all objects are difficult, or crowds: nothing is learned of it', NOTED),
    'nothing to learn': ('no object to train on in the whole set', REFUSED),
    'proposals': ('proposals missing or broken', REFUSED),
    'not proposed': ('image that the proposals file lacks', REFUSED),
    'wrong proposals': ('image with proposals that are none, or beyond its edge: made of another image?', REFUSED),
    'no proposals': ('image without proposals', NOTED),
    'far proposals': ('image with proposals beyond its edge by a pixel at most', NOTED),
}


@dataclass
class RawImage:
    """An image as the files have it, whatever is wrong with it."""

    image_id: str
    path: str | None
    missing: str = ''
    """Why there is no path."""
    width: int | None = None
    height: int | None = None
    objects: list[RawObject] = field(default_factory=list)
    problem: str | None = None
    """Of the annotation as a whole."""

    @property
    def name(self) -> str:
        """What a reader finds it by: the file where the id, a number in COCO's files, is not its name."""
        file = os.path.basename(self.path or '')
        return file if file and os.path.splitext(file)[0] != os.path.basename(self.image_id) else self.image_id


@dataclass
class Report:
    """What was found in a set.

    Attributes:
        name: of the set.
        images: how many.
        objects: class -> how many, in the order of the classes.
        shown: how many places of each kind are kept.
        places: kind (see KINDS) -> the first few places.
        counts: kind -> how many.
        advice: sentences about the set as a whole.
        turned: paths of the images of kind 'turned size', all of them.
    """

    name: str
    shown: float = SHOWN
    images: int = 0
    objects: Counter = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    advice: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)

    def add(self, kind: str, place: str) -> None:
        self.counts[kind] += 1
        if len(self.places.setdefault(kind, [])) < self.shown:
            self.places[kind].append(place)

    @property
    def refused(self) -> bool:
        """Whether training would refuse the set."""
        return any(KINDS[kind][1] == REFUSED for kind in self.counts)


def look_at(
    name: str,
    method: str = 'selective_search',
    jobs: int = 1,
    seen: Callable | None = None,
    scales: Sequence[int] = (600,),
    max_size: int = 1000,
    shown: float = SHOWN,
) -> Report:
    """Look at every image and annotation of a data set that is not joined.

    * name: as for `factory.get_imdb`, without '+'.
    * method: whose proposals to look at; 'gt' for none.
    * jobs: threads that decode images.
    * seen: called with the number of images done, now and then.
    * shown: places of each kind that the report keeps.
    * scales, max_size: to what images will be scaled, see `image_file.image_scale`.

    Raises as `get_imdb` does for a name or folder that does not exist.
    """
    report = Report(name, shown)
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
        classes, images, style = data_set.classes[1:], _coco_images(data_set), COCO_STYLE
    else:
        root, split = _voc_place(name)
        ids = _listed(root, split, report)
        classes = data_set.classes[1:] if data_set else _known_classes(root, ids)
        images, style = _voc_images(root, ids), pascal_voc.STYLE
        if problem is not None and 'listed twice' not in report.counts:
            report.add('set', problem)
    report.objects = Counter(dict.fromkeys(classes, 0))
    proposals = _proposals(data_set, method, report)
    ends: Counter[str] = Counter()
    difficult: Counter[str] = Counter()
    indices = {name: k for k, name in enumerate(('', *classes))}
    # What reading for training does not refuse of a published set is no reason to refuse it
    lenient = data_set is not None and getattr(data_set, 'published', False)
    withheld = data_set is not None and data_set.withheld
    with ThreadPoolExecutor(jobs) as pool:
        for chunk in _chunks(images, AT_A_TIME):
            measured = _with_damage_within(pool.map(lambda image: measure(image.path), chunk), chunk)
            for image, found in zip(chunk, measured, strict=True):
                size = _look_at_image(image, found, scales, max_size, report)
                if not withheld:
                    _look_at_objects(image, size, indices, style, lenient, report, ends, difficult)
                if proposals is not None:
                    _look_at_proposals(proposals, image, size, report)
            report.images += len(chunk)
            if seen:
                seen(len(chunk))
    for c, n in report.objects.items() if not withheld else ():
        if n == 0:
            report.add('empty class', c)
        elif n == difficult[c]:
            report.add('all difficult', f'{c}: {n} objects')
    if not withheld and report.objects.total() == difficult.total() and 'annotation' not in report.counts:
        report.add('nothing to learn', f'{report.objects.total()} objects, {difficult.total()} of them difficult')
    _advise(report, ends)
    return report


class Measured(NamedTuple):
    """An image file. `width` is None where it cannot be read."""

    width: int | None = None
    height: int | None = None
    orientation: int = 1
    damage: str | None = None
    mode: str = ''
    problem: str = ''
    """Why it cannot be read."""
    format: str = ''
    """Pillow's name of it."""


_large = threading.Lock()


def measure(path: str | None) -> Measured:
    """Read an image file: the size of the stored pixels, its EXIF orientation (1: none), and damage."""
    if path is None:
        return Measured()
    header = read_header(path)
    if header and header.width * header.height > LARGE:
        with _large:
            return _measured(path, header)
    return _measured(path, header)


def _measured(path: str, header) -> Measured:
    try:
        height, width = read_image(path).shape[:2]
    except ImageError as e:
        return Measured(problem=str(e))
    if header is None:
        return Measured(width, height, damage=damage_of(path))
    return Measured(width, height, header.orientation, damage_of(path), _unusual(header.mode), format=header.format)


def _with_damage_within(measured: Iterable[Measured], images: Sequence[RawImage]) -> list[Measured]:
    """The same, with the damage inside JPEG files that look whole."""
    done = list(measured)
    whole = [i for i, each in enumerate(done) if each.format == 'JPEG' and each.width and not each.damage]
    for i, damage in zip(whole, damage_within_jpegs([images[i].path or '' for i in whole]), strict=True):
        done[i] = done[i]._replace(damage=damage)
    return done


def _unusual(mode: str) -> str:
    """What is to be said of the pixels of Pillow's mode, if anything."""
    if mode.startswith(('I', 'F')):
        return '16 bits or more a channel, scaled to 8: dim if they use a part of their range'
    if mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa'):
        return 'with transparency, which is left out'
    return {'CMYK': 'CMYK', 'P': 'of a palette', '1': 'black and white'}.get(mode, '')


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
    order = (REFUSED, PUT_RIGHT, NOTED)
    for kind in sorted(report.counts, key=lambda k: (order.index(KINDS[k][1]), list(KINDS).index(k))):
        title, becomes = KINDS[kind]
        lines.append(f'{report.counts[kind]:8d}  {becomes:9} {title}')
        lines += [f'{"":20}{place}' for place in report.places[kind]]
        more = report.counts[kind] - len(report.places[kind])
        if more:
            lines.append(f'{"":20}and {more} more')
    return '\n'.join(lines + report.advice)


# ---------------------------------------------------------------------- the parts of it


def _look_at_image(
    image: RawImage, found: Measured, scales: Sequence[int], max_size: int, report: Report
) -> tuple[int, int] | None:
    """Note what is wrong with the image file; returns the size to hold boxes against."""
    if image.path is None:
        report.add('no image', f'{image.image_id}: {image.missing}')
    elif found.width is None or found.height is None:
        report.add('unreadable image', found.problem)
    else:
        if found.damage:
            report.add('damaged image', f'{image.path}: {found.damage}')
        if found.mode:
            report.add('pixels', f'{image.path}: {found.mode}')
        try:
            for scale in scales:
                image_scale(found.height, found.width, scale, max_size)
        except ImageError as e:
            report.add('thin image', f'{image.path}: {e}')
        stated, stored = (image.width, image.height), (found.width, found.height)
        sizes = f'{image.path}: {found.width}x{found.height}'
        if image.width and stated != stored:
            turned = found.orientation >= 5 and stated == stored[::-1]
            report.add('turned size' if turned else 'size', f'{sizes}, annotated {image.width}x{image.height}')
            report.turned += [image.path] * turned
        elif found.orientation != 1:
            report.add('turned', f'{sizes}, EXIF orientation {found.orientation}')
        if not image.width and image.problem is None:
            report.add('no size', sizes)
    if image.width and image.height:
        return image.width, image.height
    return (found.width, found.height) if found.width and found.height else None


def _look_at_objects(
    image: RawImage,
    size: tuple[int, int] | None,
    classes: dict[str, int],
    style: labels.Style,
    lenient: bool,
    report: Report,
    ends: Counter,
    difficult: Counter,
) -> None:
    """`ends` counts the boxes that end at the very edge, `difficult` the difficult objects of each class."""
    if image.problem:
        report.add('annotation', image.problem)
        return
    if not image.objects:
        report.add('no objects', image.name)
    for kind, message in labels.judge(image.objects, classes, size, style):
        if not (lenient and KINDS[kind][1] == REFUSED):
            report.add(kind, message.removesuffix(f'; {style.remedy}'))
    for each in image.objects:
        if each.name in report.objects:
            report.objects[each.name] += 1
            difficult[each.name] += any(flag_value(each.flags.get(flag)) for flag in ('difficult', 'iscrowd'))
        if each.numbers and size:
            edges = style.edges(each.numbers)
            ends['edge'] += edges[2] == size[0] or edges[3] == size[1]


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


def _look_at_proposals(proposals, image: RawImage, size: tuple | None, report: Report) -> None:
    if image.image_id not in proposals:
        report.add('not proposed', image.name)
        return
    try:
        boxes = proposals.of(image.image_id, size)
    except ValueError as e:
        report.add('wrong proposals', str(e))
        return
    if len(boxes) == 0:
        report.add('no proposals', image.name)
    elif size and (boxes[:, 2:] >= size).any():
        far = boxes[:, 2:].max(axis=0)
        report.add('far proposals', f'{image.name}: to ({far[0]:g}, {far[1]:g}) in {size[0]}x{size[1]}')


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
        path = pascal_voc.find_image(root, image_id)
        stem = os.path.join(root, 'JPEGImages', image_id)
        image = RawImage(image_id, path, f'there is no {stem} with any of {", ".join(pascal_voc.IMAGE_EXTENSIONS)}')
        try:
            size, image.objects = pascal_voc.read_raw(os.path.join(root, 'Annotations', image_id + '.xml'))
            image.width, image.height = size or (None, None)
        except ValueError as e:
            image.problem = str(e)
        yield image


def _coco_images(data_set: coco) -> Iterator[RawImage]:
    for i, image_id in enumerate(data_set.image_index):
        path, missing = None, ''
        try:
            path = data_set.image_path_at(i)
        except ValueError as e:
            missing = str(e)
        width, height = data_set.size_at(i)
        yield RawImage(image_id, path, missing, width or None, height or None, data_set.raw_objects(i))
