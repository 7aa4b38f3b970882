"""Data sets in COCO's format: one JSON file of annotations, and a folder of images.

What is kept of the file are a few arrays, so the 120,000 images of COCO cost some 30 MB. COCO's boxes are (x,
y, width, height), 0-based, with fractions; ours are their inclusive corners, (x, y, x + max(0, width - 1), y
+ max(0, height - 1)), cut to the image, as in py-faster-rcnn's `lib/datasets/coco.py` (which cut off the
fractions too). Crowds ("iscrowd") are ignored as difficult objects are, in training and by the evaluation.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
from collections.abc import Sequence

import numpy as np

import whole_file
from detection_data.imdb import imdb, nan_to_null
from detection_data.labels import AnnotationError, RawObject, Style, check_names_differ, edges_used, flag_value
from detection_data.proposals import Proposals, ProposalsError

KEYS = ('images', 'annotations', 'categories')
STYLE = Style(
    fields='(x, y, width, height)',
    edges=lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]),
    least=0,
    counts='',
    remedy='correct the file, or take the annotation out of it',
)
# What COCOeval.summarize reports, in its order: s, m, l are small, medium and large objects; a number
# after AR is the detections an image.
NUMBERS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl')


class coco(imdb):
    """One annotation file and its images.

    * name: of the set.
    * annotation_file: in COCO's format ("instances"; or "image_info", which has no objects).
    * image_dir: the folder that the file names of the annotation file are in.
    * proposals_pattern: path of a proposals file, with `{method}` in it.
    * earlier_pattern: what such a file was called by earlier versions: it serves if it holds this set's images.
    * published: one of COCO's own sets. Of these, the few objects of no area are left out, as py-faster-rcnn does; in
      one's own set they are an error.

    Raises ValueError if the file is not in COCO's format.
    """

    def __init__(
        self,
        name: str,
        annotation_file: str,
        image_dir: str,
        proposals_pattern: str,
        published: bool = False,
        earlier_pattern: str | None = None,
    ):
        self.annotation_file = annotation_file
        self.image_dir = image_dir
        images, objects, categories, notes = _load(annotation_file)
        super().__init__(name, [c['name'] for c in categories], [str(image['id']) for image in images])
        self._proposals_pattern = proposals_pattern
        self._earlier_pattern = earlier_pattern
        self.published = published
        self._texts = notes.texts
        self._flags = notes.flags
        self._category_ids = np.array([notes.number_of(c['id']) for c in categories], np.int64)
        self._image_ids = np.array([notes.number_of(image['id']) for image in images], np.int64)
        self._file_names = [image['file_name'] for image in images]
        # 0 x 0 where the file does not say: measured when asked for
        self._sizes = np.array([[image['width'], image['height']] for image in images], np.int32).reshape(-1, 2)
        self._stated = hashlib.sha256(self._sizes.tobytes()).digest()  # before any is measured
        self._index_objects(objects)

    def _index_objects(self, objects: np.ndarray) -> None:
        """Sort the objects, rows of (id, image, category, crowd, area, x, y, w, h), by image."""
        self._check_unique(self._image_ids, 'image id')
        order = np.argsort(self._image_ids)
        row = np.searchsorted(self._image_ids[order], objects['image_id'])
        row = order[np.minimum(row, len(order) - 1)]
        self._check_known(objects, self._image_ids[row] == objects['image_id'], 'image_id')
        position = {category: k for k, category in enumerate(self._category_ids.tolist(), start=1)}
        classes = np.array([position.get(c, 0) for c in objects['category_id'].tolist()], np.int16)
        self._check_known(objects, classes > 0, 'category_id')
        by_image = np.argsort(row, kind='stable')
        self._classes = classes[by_image]
        self._objects = np.empty(len(objects), _KEPT)  # the image follows from the row, the category from the class
        for field in _KEPT.names or ():
            self._objects[field] = objects[field][by_image]
        self._starts = np.searchsorted(row[by_image], np.arange(self.num_images + 1))
        self._empty = ~(np.minimum(self._objects['w'], self._objects['h']) > 0)  # a nan is no size either
        self._empty |= self._objects['area'] == 0
        if self.published and self._empty.any():
            print(f'{self.name}: {self._empty.sum()} of {len(objects)} objects left out: they have no area')

    def set_class_order(self, classes: Sequence[str]) -> None:
        old = self.classes
        super().set_class_order(classes)
        self._category_ids = self._category_ids[[old.index(name) - 1 for name in classes[1:]]]
        self._classes = np.array([classes.index(name) for name in old], np.int16)[self._classes]

    def _check_unique(self, ids: np.ndarray, what: str) -> None:
        values, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(f'{self.annotation_file}: {what} {self._id(values[counts > 1][0])!r} is given twice')

    def _id(self, number: int) -> int | str:
        """An id as the file has it: texts have numbers of our own."""
        return self._texts.get(int(number), int(number))

    def _check_known(self, objects: np.ndarray, known: np.ndarray, key: str) -> None:
        if not known.all():
            wrong = objects[~known]
            raise ValueError(
                f'{self.annotation_file}: {len(wrong)} annotations, the first of id {self._id(wrong["id"][0])}, '
                f'have a {key} that the file does not describe ({self._id(wrong[key][0])})'
            )

    # ------------------------------------------------------------------ one image

    def image_path_at(self, i: int) -> str:
        name = self._file_names[i]
        path = os.path.join(self.image_dir, name)
        if os.path.isfile(path):
            return path
        other = os.path.join(self.image_dir, name.replace('\\', '/'))  # written on Windows
        if os.path.isfile(other):
            return other
        found = _in_any_case(other)
        if found is None:
            raise AnnotationError(
                f'{self.name}: image {self.image_index[i]} not found: there is no {path}; add the file, or '
                f'take the image out of {self.annotation_file}'
            )
        return found

    def file_name_at(self, i: int) -> str:
        """Name of the image file of image `i`, as the annotation file gives it."""
        return self._file_names[i]

    def raw_objects(self, i: int) -> list[RawObject]:
        """The objects of image `i` as they stand in the file."""
        objects = []
        for k in range(self._starts[i], self._starts[i + 1]):
            if self._empty[k] and self.published:
                continue
            each, where = self._objects[k], f'{self.annotation_file}: annotation {self._id(self._objects["id"][k])}'
            numbers = tuple(float(each[v]) for v in 'xywh')
            known = all(map(math.isfinite, numbers))
            problem = '' if known else f': bbox is {numbers}, with a coordinate that is no number'
            iscrowd = self._flags[int(each['flag'])] if each['flag'] >= 0 else bool(each['crowd'])
            objects.append(
                RawObject(
                    f'{where} of image {self.image_index[i]}',
                    self.classes[self._classes[k]],
                    numbers if known else None,
                    problem,
                    {'iscrowd': iscrowd},
                    outline=bool(each['outline']),
                )
            )
        return objects

    def size_at(self, i: int) -> tuple[int, int]:
        """(width, height) of image `i` as annotated; (0, 0) if the file does not say."""
        return int(self._sizes[i, 0]), int(self._sizes[i, 1])

    def image_size(self, i: int) -> tuple[int, int]:
        size = self.size_at(i)
        if not size[0]:
            size = self._measured_size(i)
            self._sizes[i] = size
        return size

    def _read_annotation(self, i: int) -> dict:
        """As for every imdb, and `crowd`: bool (n,), the regions that hold many objects of a class."""
        width, height = self.image_size(i)
        if not self.published:
            self._judge(i, self.raw_objects(i), (width, height), STYLE)
        rows = np.arange(self._starts[i], self._starts[i + 1])
        if self.published:
            rows = rows[~self._empty[rows]]
        objects = self._objects[rows]
        crowd = objects['crowd'].astype(bool)
        return {
            'boxes': corners(np.stack([objects[k] for k in 'xywh'], axis=1), width, height),
            'gt_classes': self._classes[rows].astype(np.int32),
            'difficult': crowd,
            'crowd': crowd,
            'width': width,
            'height': height,
        }

    def _add_labels(self, digest) -> None:
        digest.update(self._stated)
        for array in (self._image_ids, self._category_ids, self._classes, self._starts):
            digest.update(np.ascontiguousarray(array).data)
        for field in self._objects.dtype.names or ():
            digest.update(np.ascontiguousarray(self._objects[field]).data)

    def proposals_path(self, method: str | None = None) -> str:
        method = method or self.proposal_method
        path = self._proposals_pattern.format(method=method)
        if self._earlier_pattern is None or os.path.isfile(path):
            return path
        earlier = self._earlier_pattern.format(method=method)
        return earlier if _is_of(earlier, self.image_index) else path

    # ------------------------------------------------------------------ evaluation

    def evaluate_detections(
        self,
        all_boxes: Sequence[Sequence[np.ndarray]],
        output_dir: str,
        iou_threshold: float = 0.5,
        use_07_metric: bool | None = None,
        quiet: bool = False,
    ) -> dict:
        """COCO's average precision, by pycocotools; writes detections and results into `output_dir`.

        all_boxes, quiet: as for every imdb. output_dir: gets `detections_<name>_results.json`, which COCO's server
        takes, `results.json` and `precision_recall.png`. iou_threshold, use_07_metric: not used: COCO averages over
        IoU 0.50, 0.55, ..., 0.95.

        Returns a dictionary: COCO's twelve numbers `AP`, `AP50`, `AP75`, `APs`, `APm`, `APl`, `AR1`,
        `AR10`, `AR100`, `ARs`, `ARm`, `ARl` (in [0, 1]; nan, null in the file, where nothing is to be found),
        `mAP` (AP by another name), `metric`, `imdb`, `images`, `without_ground_truth`, and `classes`: name
        -> `ap`, `ap_50`, `ground_truth`, `crowds`, `detections`.
        """
        detections = self._checked_detections(all_boxes)
        os.makedirs(output_dir, exist_ok=True)
        rows = self._result_rows(detections)
        self._write_results(rows, os.path.join(output_dir, f'detections_{self.name}_results.json'))
        if self.withheld:
            results = {
                'imdb': self.name,
                'images': self.num_images,
                'mAP': None,
                'AP': None,
                'withheld': True,
            }
            if not quiet:
                print(f'{self.name}: only the COCO server has its ground truth; submit the file in {output_dir}')
        else:
            evaluation = self._evaluate(rows)
            results = self._summary(evaluation, [sum(map(len, of_class)) for of_class in detections])
            if not quiet:
                print(format_table(results))
                self._draw(evaluation, results, os.path.join(output_dir, 'precision_recall.png'))
        text = json.dumps(nan_to_null(results), indent=2, allow_nan=False) + '\n'
        whole_file.write_text(os.path.join(output_dir, 'results.json'), text)
        return results

    def _result_rows(self, detections: list[list[np.ndarray]]) -> np.ndarray:
        """(n, 7) float64: image id, x, y, w, h, score, category id, which is how pycocotools takes them."""
        rows = [np.zeros((0, 7))]
        for c, of_class in enumerate(detections[1:]):
            for image_id, dets in zip(self._image_ids, of_class, strict=True):
                if len(dets):
                    side = dets[:, 2:4] - dets[:, :2] + 1
                    ids = (
                        np.full((len(dets), 1), [[image_id]]),
                        np.full((len(dets), 1), self._category_ids[c]),
                    )
                    rows.append(np.hstack([ids[0], dets[:, :2], side, dets[:, 4:], ids[1]]))
        return np.concatenate(rows)

    def _write_results(self, rows: np.ndarray, path: str) -> None:
        texts = (
            json.dumps(
                {
                    'image_id': self._id(image_id),
                    'category_id': self._id(category_id),
                    'bbox': [round(v, 3) for v in (x, y, w, h)],
                    'score': round(score, 6),
                }
            )
            for image_id, x, y, w, h, score, category_id in rows.tolist()
        )
        whole_file.write_text(path, '[\n' + ',\n'.join(texts) + '\n]\n')

    def _evaluate(self, rows: np.ndarray):
        """pycocotools' COCOeval, accumulated."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            truth = COCO()
            truth.dataset = self._ground_truth()
            truth.createIndex()
            found = truth.loadRes(rows) if len(rows) else _without_detections(COCO, truth)
            evaluation = COCOeval(truth, found, 'bbox')
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def _ground_truth(self) -> dict:
        """The file's content, as far as the evaluation of boxes needs it."""
        image_of = np.repeat(self._image_ids, np.diff(self._starts))
        kept = np.flatnonzero(~self._empty) if self.published else np.arange(len(self._objects))
        annotations = []
        # Ids of our own, from 1: pycocotools takes an object of id 0 for none.
        for number, k in enumerate(kept.tolist(), start=1):
            o = self._objects[k]
            box = [float(o[v]) for v in 'xywh']
            area = float(o['area']) if o['area'] > 0 else box[2] * box[3]
            annotations.append(
                {
                    'id': number,
                    'image_id': int(image_of[k]),
                    'category_id': int(self._category_ids[self._classes[k] - 1]),
                    'bbox': box,
                    'area': area,
                    'iscrowd': int(o['crowd']),
                }
            )
        return {
            'images': [{'id': int(i), 'width': int(w), 'height': int(h)}
                       for i, (w, h) in zip(self._image_ids, self._sizes, strict=True)],
            'annotations': annotations,
            'categories': [{'id': int(i), 'name': n}
                           for i, n in zip(self._category_ids, self.classes[1:], strict=True)],
        }  # fmt: skip

    def _summary(self, evaluation, found: list[int]) -> dict:
        numbers = {n: _mean([v]) for n, v in zip(NUMBERS, evaluation.stats.tolist(), strict=True)}
        precision = evaluation.eval['precision'][:, :, :, 0, -1]  # IoU, recall, category; of all sizes
        kept = ~self._empty if self.published else np.ones(len(self._objects), bool)
        crowd = self._objects['crowd'].astype(bool)
        column = {c: k for k, c in enumerate(evaluation.params.catIds)}
        classes = {}
        for c, name in enumerate(self.classes[1:], start=1):
            of_class = kept & (self._classes == c)
            curve = precision[:, :, column[int(self._category_ids[c - 1])]]
            classes[name] = {
                'ap': _mean(curve),
                'ap_50': _mean(curve[0]),
                'ground_truth': int((of_class & ~crowd).sum()),
                'crowds': int((of_class & crowd).sum()),
                'detections': found[c],
            }
        return {
            'imdb': self.name,
            'images': self.num_images,
            'metric': 'COCO, IoU 0.50:0.95',
            'mAP': numbers['AP'],
            **numbers,
            'classes': classes,
            'without_ground_truth': [n for n, r in classes.items() if not r['ground_truth']],
        }

    def _draw(self, evaluation, results: dict, path: str) -> None:
        from detection_data.curves import draw_curves

        precision = evaluation.eval['precision'][0, :, :, 0, -1]  # at IoU 0.5
        column = {c: k for k, c in enumerate(evaluation.params.catIds)}
        curves = {}
        for c, name in enumerate(self.classes[1:]):
            ap = results['classes'][name]['ap_50']
            if math.isfinite(ap):
                curves[name] = (
                    evaluation.params.recThrs,
                    precision[:, column[int(self._category_ids[c])]],
                    ap,
                )
        draw_curves(curves, path, f'{self.name}, IoU 0.5: AP50 {results["AP50"]:.4f}')


def _is_of(path: str, image_ids: list[str]) -> bool:
    """Whether a proposals file is there, whole, and made for these images."""
    try:
        return os.path.isfile(path) and Proposals(path).image_ids == image_ids
    except ProposalsError:
        return False


def corners(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """COCO's boxes (n, 4), x, y, w, h, as inclusive corners cut to an image of that size: float32 (n, 4)."""
    left, top, right, bottom = edges_used(boxes, (width, height), STYLE).T
    left, top = np.minimum(left, width - 1), np.minimum(top, height - 1)
    return np.stack([left, top, np.maximum(right - 1, left), np.maximum(bottom - 1, top)], axis=1).astype(np.float32)


def format_table(results: dict) -> str:
    """The table of a results dictionary (see `coco.evaluate_detections`)."""
    classes = results['classes']
    width = max([len(name) for name in classes] + [len('class'), len('mean')])

    def number(value: float) -> str:
        return f'{value:6.4f}' if math.isfinite(value) else '   n/a'

    lines = [f'{"class":<{width}}      AP    AP50    objects  detections']
    for name, r in classes.items():
        lines.append(
            f'{name:<{width}}  {number(r["ap"])}  {number(r["ap_50"])}  {r["ground_truth"]:9d}  {r["detections"]:10d}'
        )
    lines.append(f'{"mean":<{width}}  {number(results["AP"])}  {number(results["AP50"])}  ({results["images"]} images)')
    for keys in (NUMBERS[:6], NUMBERS[6:]):
        lines.append(', '.join(f'{k} {number(results[k]).strip()}' for k in keys))
    return '\n'.join(lines)


def _mean(values) -> float:
    """The mean of what is known: pycocotools writes -1 where there is nothing to find."""
    values = np.asarray(values, np.float64)
    values = values[values > -1]
    return float(values.mean()) if values.size else float('nan')


def _without_detections(COCO, truth):
    found = COCO()
    found.dataset = {**truth.dataset, 'annotations': []}
    found.createIndex()
    return found


# ---------------------------------------------------------------------- the annotation file

# flag: the row of a text that iscrowd has and that means nothing, -1 for none; outline: the box is that of a polygon
_OBJECT = np.dtype(
    [('id', 'i8'), ('image_id', 'i8'), ('category_id', 'i8'), ('crowd', '?'), ('flag', 'i4'), ('outline', '?')]
    + [('area', 'f8')]
    + [(k, 'f8') for k in 'xywh']
)
_KEPT = np.dtype([(name, _OBJECT[name]) for name in _OBJECT.names or () if name not in ('image_id', 'category_id')])
_INT64 = np.iinfo(np.int64)
_FIRST_TEXT = -(2**50)  # our number of the first id that is a text; float64, in which results are kept, has it exactly
BACKGROUND = '__background__'


class _Notes:
    """What the arrays of objects cannot hold: ids that are texts, and crowd flags that mean nothing."""

    def __init__(self):
        self.texts: dict[int, str] = {}
        self.flags: list = []
        self._numbers: dict[str, int] = {}

    def number_of(self, value) -> int | None:
        """A whole number for an id: itself, that of its digits, or one of our own for a text; None if it is no id."""
        if type(value) is int:
            return value if _INT64.min <= value <= _INT64.max else None
        if type(value) is float and value.is_integer() and abs(value) < 2**53:
            return int(value)
        if type(value) is not str or not value.strip():
            return None
        if value not in self._numbers:
            plain = value.isascii() and value.isdigit() and len(value) < 18 and str(int(value)) == value
            number = int(value) if plain else _FIRST_TEXT - len(self.texts)
            self._numbers[value] = number
            if not plain:
                self.texts[number] = value
        return self._numbers[value]

    def compact(self, pairs: list[tuple]):
        """An annotation as a tuple of what is used of it; any other JSON object as a dictionary."""
        entry = dict(pairs)
        if 'image_id' not in entry:
            return entry
        box, outline = entry.get('bbox'), False
        try:
            if box is None or len(box) == 0:
                box, outline = _bounds(entry.get('segmentation')), True
            x, y, w, h = (float(v) for v in box)
            image_id, category_id = self.number_of(entry['image_id']), self.number_of(entry['category_id'])
            if image_id is None or category_id is None:
                return entry
            number = self.number_of(entry.get('id', 0))
            area = entry.get('area')
            area = w * h if area is None else float(area)
        except (TypeError, ValueError, KeyError, OverflowError):
            return entry
        crowd, flag = flag_value(entry.get('iscrowd')), -1
        if crowd is None:
            self.flags.append(entry['iscrowd'])
            crowd, flag = False, len(self.flags) - 1
        return (number or 0, image_id, category_id, crowd, flag, outline, area, x, y, w, h)


def _bounds(polygons) -> tuple[float, float, float, float]:
    """x, y, w, h of the box around polygons [[x, y, x, y, ...], ...]. Raises an error if they are none."""
    points = np.array([float(v) for polygon in polygons for v in polygon]).reshape(-1, 2)
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return x1, y1, x2 - x1, y2 - y1


def _load(path: str) -> tuple[list[dict], np.ndarray, list[dict], _Notes]:
    """(images, objects as an array of _OBJECT, categories, notes) of an annotation file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no annotation file {path}; expected a JSON file in COCO's format")
    notes = _Notes()
    try:
        with open(path, encoding='utf-8-sig') as f:  # a byte order mark, which some tools write, is skipped
            # Objects become tuples as they are parsed: as dictionaries, those of COCO would need 3 GB.
            content = json.load(f, object_pairs_hook=notes.compact)
    except (ValueError, RecursionError) as e:
        raise ValueError(f'{path}: not a JSON file ({e})') from None
    if not isinstance(content, dict) or not isinstance(content.get('images'), list) or 'categories' not in content:
        raise ValueError(
            f"{path}: not in COCO's format: expected an object with the lists {', '.join(KEYS)} at its top"
        )
    images = content['images']
    annotations = content.get('annotations', [])
    if not isinstance(annotations, list):
        raise ValueError(f"{path}: not in COCO's format: annotations is {str(annotations)[:100]}, expected a list")
    _check_entries(path, 'images', images, ('file_name',), notes)
    if not images:
        raise ValueError(f'{path}: it describes no image')
    for k, image in enumerate(images):
        image['width'], image['height'] = _stated_size(path, k, image)
    for k, each in enumerate(annotations):
        if not isinstance(each, tuple):
            raise ValueError(
                f'{path}: annotations[{k}] is {str(each)[:100]}; expected image_id, category_id (whole '
                f'numbers or texts) and bbox (x, y, width, height), or a segmentation of polygons'
            )
    objects = np.array(annotations, _OBJECT)
    return images, objects, _categories(path, content['categories'], objects, notes), notes


def _categories(path: str, categories, objects: np.ndarray, notes: _Notes) -> list[dict]:
    """The categories but the background, which is no class of an object; names without blanks about them."""
    _check_entries(path, 'categories', categories, ('name',), notes)
    categories = [{**c, 'name': c['name'].strip()} for c in categories]
    for c in categories:
        n = int((objects['category_id'] == notes.number_of(c['id'])).sum())
        if c['name'] == BACKGROUND and n:
            raise ValueError(
                f'{path}: {n} annotations are of the category {BACKGROUND}, which is no class of an object: it is what '
                'lies outside all boxes. Give the category another name, or take them out'
            )
    categories = [c for c in categories if c['name'] != BACKGROUND]
    names, ids = [c['name'] for c in categories], [notes.number_of(c['id']) for c in categories]
    if len(set(names)) < len(names) or len(set(ids)) < len(ids) or not names or not all(names):
        raise ValueError(f'{path}: expected categories of different ids and names; got {ids} and {names}')
    check_names_differ(names, path, 'Give their annotations one category_id, or the categories names that differ')
    return categories


def _stated_size(path: str, k: int, image: dict) -> tuple[int, int]:
    """(width, height) as the file has it, (0, 0) where it has none."""
    size = image.get('width'), image.get('height')
    if size == (None, None):
        return 0, 0
    width, height = map(_whole_pixels, size)
    if not (width and height):
        raise ValueError(
            f'{path}: images[{k}], {image["file_name"]}, has width {size[0]} and height {size[1]}; '
            'expected its size in pixels, or neither: then it is measured'
        )
    return width, height


def _whole_pixels(value: object) -> int:
    """A side in pixels, 0 if the value is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**31 and value == int(value):
        return int(value)
    return 0


def _check_entries(path: str, key: str, entries, texts: Sequence[str], notes: _Notes) -> None:
    if not isinstance(entries, list):
        raise ValueError(f"{path}: not in COCO's format: {key} is no list")
    for k, entry in enumerate(entries):
        value = entry.get('id') if isinstance(entry, dict) else None
        if notes.number_of(value) is None:
            raise ValueError(f'{path}: {key}[{k}] has id {value!r}; expected a whole number of 64 bits, or a text')
        for name in texts:
            if type(entry.get(name)) is not str:
                raise ValueError(f'{path}: {key}[{k}] has {name} {entry.get(name)!r}; expected a text')


def _in_any_case(path: str) -> str | None:
    """The one file whose path differs from `path` in the case of its name alone, None if there is none."""
    folder, name = os.path.split(path)
    try:
        found = [file for file in os.listdir(folder) if file.lower() == name.lower()]
    except OSError:
        return None
    return os.path.join(folder, found[0]) if len(found) == 1 else None
