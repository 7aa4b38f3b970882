"""Data sets in COCO's format: one JSON file of annotations, and a folder of images.

What is kept of the file are a few arrays, so the 120,000 images of COCO cost some 30 MB. COCO's boxes are (x,
y, width, height), 0-based, with fractions; ours are their inclusive corners, (x, y, x + max(0, width - 1), y
+ max(0, height - 1)), cut to the image, as in py-faster-rcnn's ``lib/datasets/coco.py`` (which cut off the
fractions too). Crowds ("iscrowd") are ignored as difficult objects are, in training and by the evaluation.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Sequence

import numpy as np

import whole_file
from detection_data.imdb import imdb, nan_to_null
from detection_data.pascal_voc import AnnotationError

KEYS = ('images', 'annotations', 'categories')
STRAY = 1.0  # pixels by which a box may reach out of its image: labelling tools round
# What COCOeval.summarize reports, in its order: s, m, l are small, medium and large objects; a number
# after AR is the detections an image.
NUMBERS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl')


class coco(imdb):
    """One annotation file and its images.

    Args:
        name: of the set.
        annotation_file: in COCO's format ("instances"; or "image_info", which has no objects).
        image_dir: the folder that the file names of the annotation file are in.
        proposals_pattern: path of a proposals file, with ``{method}`` in it.
        published: one of COCO's own sets. Of these, the few objects of no area are left out, as
            py-faster-rcnn does; in one's own set they are an error.

    Raises ValueError if the file is not in COCO's format.
    """

    def __init__(
        self, name: str, annotation_file: str, image_dir: str, proposals_pattern: str, published: bool = False
    ):
        self.annotation_file = annotation_file
        self.image_dir = image_dir
        images, objects, categories = _load(annotation_file)
        super().__init__(name, [c['name'] for c in categories], [str(image['id']) for image in images])
        self._proposals_pattern = proposals_pattern
        self._published = published
        self._category_ids = np.array([c['id'] for c in categories], np.int64)
        self._image_ids = np.array([image['id'] for image in images], np.int64)
        self._file_names = [image['file_name'] for image in images]
        self._sizes = np.array([[image['width'], image['height']] for image in images], np.int32).reshape(-1, 2)
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
        self._objects, self._classes = objects[by_image], classes[by_image]
        self._starts = np.searchsorted(row[by_image], np.arange(self.num_images + 1))
        self._empty = ~(np.minimum(self._objects['w'], self._objects['h']) > 0)  # a nan is no size either
        self._empty |= self._objects['area'] == 0
        if self._published and self._empty.any():
            print(f'{self.name}: {self._empty.sum()} of {len(objects)} objects left out: they have no area')

    def set_class_order(self, classes: Sequence[str]) -> None:
        old = self.classes
        super().set_class_order(classes)
        self._category_ids = self._category_ids[[old.index(name) - 1 for name in classes[1:]]]
        self._classes = np.array([classes.index(name) for name in old], np.int16)[self._classes]

    def _check_unique(self, ids: np.ndarray, what: str) -> None:
        values, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(f'{self.annotation_file}: {what} {values[counts > 1][0]} is given twice')

    def _check_known(self, objects: np.ndarray, known: np.ndarray, key: str) -> None:
        if not known.all():
            wrong = objects[~known]
            raise ValueError(
                f'{self.annotation_file}: {len(wrong)} annotations, the first of id {wrong["id"][0]}, '
                f'have a {key} that the file does not describe ({wrong[key][0]})'
            )

    # ------------------------------------------------------------------ one image

    def image_path_at(self, i: int) -> str:
        path = os.path.join(self.image_dir, self._file_names[i])
        if not os.path.isfile(path):
            raise AnnotationError(
                f'{self.name}: image {self.image_index[i]} not found: there is no {path}; add the file, or '
                f'take the image out of {self.annotation_file}'
            )
        return path

    def file_name_at(self, i: int) -> str:
        """Name of the image file of image ``i``, as the annotation file gives it."""
        return self._file_names[i]

    def raw_objects(self, i: int) -> list[tuple[str, str, tuple[float, float, float, float]]]:
        """The objects of image ``i`` as they stand in the file: (where, class, (x, y, w, h))."""
        rows = slice(self._starts[i], self._starts[i + 1])
        return [
            (
                f'{self.annotation_file}: annotation {int(o["id"])} of image {self.image_index[i]}',
                self.classes[c],
                (float(o['x']), float(o['y']), float(o['w']), float(o['h'])),
            )
            for o, c, empty in zip(self._objects[rows], self._classes[rows], self._empty[rows], strict=True)
            if not (empty and self._published)
        ]

    def size_at(self, i: int) -> tuple[int, int]:
        """(width, height) of image ``i`` as annotated."""
        return int(self._sizes[i, 0]), int(self._sizes[i, 1])

    def _read_annotation(self, i: int) -> dict:
        """As for every imdb, and ``crowd``: bool (n,), the regions that hold many objects of a class."""
        width, height = self.size_at(i)
        if not self._published:
            for where, name, box in self.raw_objects(i):
                _check_box(box, width, height, f'{where} ({name})')
        rows = np.arange(self._starts[i], self._starts[i + 1])
        if self._published:
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

    def proposals_path(self, method: str | None = None) -> str:
        return self._proposals_pattern.format(method=method or self.proposal_method)

    # ------------------------------------------------------------------ evaluation

    def evaluate_detections(
        self,
        all_boxes: Sequence[Sequence[np.ndarray]],
        output_dir: str,
        iou_threshold: float = 0.5,
        use_07_metric: bool | None = None,
        quiet: bool = False,
    ) -> dict:
        """COCO's average precision, by pycocotools; writes detections and results into ``output_dir``.

        Args:
            all_boxes, quiet: as for every imdb.
            output_dir: gets ``detections_<name>_results.json``, which COCO's server takes, ``results.json``
                and ``precision_recall.png``.
            iou_threshold, use_07_metric: not used: COCO averages over IoU 0.50, 0.55, ..., 0.95.

        Returns:
            A dictionary: COCO's twelve numbers ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``,
            ``AR1``, ``AR10``, ``AR100``, ``ARs``, ``ARm``, ``ARl`` (in [0, 1]; nan, null in the file, where
            nothing is to be found), ``mAP`` (AP by another name), ``metric``, ``imdb``, ``images``,
            ``without_ground_truth``, and ``classes``: name -> ``ap``, ``ap_50``, ``ground_truth``,
            ``crowds``, ``detections``.
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
                    'image_id': int(image_id),
                    'category_id': int(category_id),
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
        kept = np.flatnonzero(~self._empty) if self._published else np.arange(len(self._objects))
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
        kept = ~self._empty if self._published else np.ones(len(self._objects), bool)
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


def corners(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """COCO's boxes (n, 4), x, y, w, h, as inclusive corners cut to an image of that size: float32 (n, 4)."""
    x, y, w, h = np.asarray(boxes, np.float64).reshape(-1, 4).T
    result = np.stack([x, y, x + np.maximum(w - 1, 0), y + np.maximum(h - 1, 0)], axis=1)
    return np.clip(result, 0, [width - 1, height - 1, width - 1, height - 1]).astype(np.float32)


def format_table(results: dict) -> str:
    """The table of a results dictionary (see ``coco.evaluate_detections``)."""
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


def _check_box(box: tuple[float, float, float, float], width: int, height: int, where: str) -> None:
    x, y, w, h = box
    shown = f'box ({x:g}, {y:g}, {w:g}, {h:g})'
    remedy = 'correct the file, or take the annotation out of it'
    if not all(map(math.isfinite, box)):
        raise AnnotationError(f'{where}: {shown} has a coordinate that is no number; {remedy}')
    if w <= 0 or h <= 0:
        raise AnnotationError(f'{where}: {shown} has zero or negative size (x, y, width, height); {remedy}')
    if x < -STRAY or y < -STRAY or x + w > width + STRAY or y + h > height + STRAY:
        raise AnnotationError(
            f'{where}: {shown} (x, y, width, height) lies outside its image, {width}x{height}; {remedy}'
        )


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

_OBJECT = np.dtype(
    [('id', 'i8'), ('image_id', 'i8'), ('category_id', 'i8'), ('crowd', '?'), ('area', 'f8')]
    + [(k, 'f8') for k in 'xywh']
)
_INT64 = np.iinfo(np.int64)


def _load(path: str) -> tuple[list[dict], np.ndarray, list[dict]]:
    """(images, objects as an array of _OBJECT, categories) of an annotation file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no annotation file {path}; expected a JSON file in COCO's format")
    try:
        with open(path, encoding='utf-8-sig') as f:  # a byte order mark, which some tools write, is skipped
            # Objects become tuples as they are parsed: as dictionaries, those of COCO would need 3 GB.
            content = json.load(f, object_pairs_hook=_compact)
    except (ValueError, RecursionError) as e:
        raise ValueError(f'{path}: not a JSON file ({e})') from None
    if not isinstance(content, dict) or not isinstance(content.get('images'), list) or 'categories' not in content:
        raise ValueError(
            f"{path}: not in COCO's format: expected an object with the lists {', '.join(KEYS)} at its top"
        )
    images, categories = content['images'], content['categories']
    annotations = content.get('annotations', [])
    if not isinstance(annotations, list):
        raise ValueError(f"{path}: not in COCO's format: annotations is {str(annotations)[:100]}, expected a list")
    _check_entries(path, 'images', images, {'id': int, 'file_name': str, 'width': int, 'height': int})
    _check_entries(path, 'categories', categories, {'id': int, 'name': str})
    names, ids = [c['name'] for c in categories], [c['id'] for c in categories]
    if len(set(names)) < len(names) or len(set(ids)) < len(ids) or not names:
        raise ValueError(f'{path}: expected categories of different ids and names; got {ids} and {names}')
    if not images:
        raise ValueError(f'{path}: it describes no image')
    for k, image in enumerate(images):
        if not all(0 < image[side] < 2**31 for side in ('width', 'height')):
            raise ValueError(
                f'{path}: images[{k}], {image["file_name"]}, has width {image["width"]} and height {image["height"]}; '
                'expected its size in pixels'
            )
    for k, each in enumerate(annotations):
        if not isinstance(each, tuple):
            raise ValueError(
                f'{path}: annotations[{k}] is {str(each)[:100]}; expected image_id, category_id (whole '
                f'numbers) and bbox (x, y, width, height)'
            )
    return images, np.array(annotations, _OBJECT), categories


def _compact(pairs: list[tuple]):
    """An annotation as a tuple of what is used of it; any other JSON object as a dictionary."""
    entry = dict(pairs)
    box = entry.get('bbox')
    if box is None or 'image_id' not in entry:
        return entry
    try:
        x, y, w, h = (float(v) for v in box)
        image_id, category_id = entry['image_id'], entry['category_id']
        if not (_is_id(image_id) and _is_id(category_id)):
            return entry
        number = entry.get('id', 0)
        area = entry.get('area')
        area = w * h if area is None else float(area)
        number, crowd = (number if _is_id(number) else 0), bool(entry.get('iscrowd', 0))
        return (number, image_id, category_id, crowd, area, x, y, w, h)
    except (TypeError, ValueError, KeyError):
        return entry


def _is_id(value) -> bool:
    return type(value) is int and _INT64.min <= value <= _INT64.max


def _check_entries(path: str, key: str, entries, types: dict[str, type]) -> None:
    if not isinstance(entries, list):
        raise ValueError(f"{path}: not in COCO's format: {key} is no list")
    for k, entry in enumerate(entries):
        for name, kind in types.items():
            value = entry.get(name) if isinstance(entry, dict) else None
            if not (_is_id(value) if kind is int else type(value) is kind):
                expected = 'a whole number of 64 bits' if kind is int else 'a text'
                raise ValueError(f'{path}: {key}[{k}] has {name} {value!r}; expected {expected}')
