"""The interface of a data set, `imdb` (image database), and sets joined by '+'.

The name and the attributes are those of Fast R-CNN's `lib/datasets/imdb.py`. What differs is that nothing
is loaded for the whole set: annotations are parsed and proposals are read for the image that is asked for.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

import whole_file
from detection_data import proposals_mat, voc_eval
from detection_data.curves import draw_curves
from detection_data.image_file import read_image_size
from detection_data.labels import KINDS, PUT_RIGHT, RawObject, Style, judge, refuse
from detection_data.proposals import Proposals

BACKGROUND = '__background__'
_NO_FILE_NAME = r'[/\\\x00-\x1f]'  # classes in COCO's format may have such names
KEPT_ANNOTATIONS = 4096  # parsed ones held at a time, the oldest dropped first


class imdb:
    """A set of images with ground truth and region proposals.

    A subclass says where things are: `image_path_at`, `_read_annotation` and `proposals_path`.

    Attributes:
        name: usable as the name of a folder (outputs go there).
        spec: what `factory.get_imdb` was asked for; for most sets the same as the name.
        classes: tuple of names; index 0 is the background.
        image_index: list of image ids, in order.
        use_07_metric: whether AP is the 11-point one unless asked otherwise.
        withheld: the ground truth is not there, only the evaluation server has it (VOC 2008 ... 2012 test).
        proposal_method: 'selective_search' unless `set_proposal_method` says otherwise; 'gt' means none at
            all.
    """

    def __init__(self, name: str, classes: Sequence[str], image_index: Sequence[str]):
        self.name = name
        self.spec = name
        self.classes = (BACKGROUND, *classes)
        self.image_index = list(image_index)
        self.use_07_metric = False
        self.withheld = False
        self.proposal_method = 'selective_search'
        self._annotations: dict[int, dict] = {}
        self._put_right: dict[str, tuple[str, set[int]]] = {}  # kind -> the first message, the images
        self._said: set[str] = set()
        self._proposals: Proposals | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.classes)

    def set_class_order(self, classes: Sequence[str]) -> None:
        """Number the classes in this order from now on: the same names, the background first.

        A model's scores are numbers of classes; its names decide what they mean (see `fast_rcnn.model_card`). Raises
        `ValueError` for other names.
        """
        if sorted(classes) != sorted(self.classes) or classes[0] != BACKGROUND:
            raise ValueError(f'{self.name} has the classes {list(self.classes)}, and is to number {list(classes)}')
        self.classes = tuple(classes)
        self._annotations.clear()

    @property
    def num_images(self) -> int:
        return len(self.image_index)

    def __len__(self) -> int:
        return self.num_images

    def __repr__(self) -> str:
        return f'<imdb {self.name}: {self.num_images} images, {self.num_classes - 1} classes>'

    def __getstate__(self) -> dict:
        # Parsed annotations stay behind: a loader process parses what it meets.
        return {**self.__dict__, '_annotations': {}, '_put_right': {}}

    # ------------------------------------------------------------------ one image

    def image_path_at(self, i: int) -> str:
        """Path of image `i`. Raises `AnnotationError` if there is no such file."""
        raise NotImplementedError

    def _read_annotation(self, i: int) -> dict:
        """As `annotation`, read anew."""
        raise NotImplementedError

    def _judge(self, i: int, objects: Sequence[RawObject], size: tuple[int, int], style: Style) -> None:
        """Raise AnnotationError for what is refused in the objects of image `i`; note what is put right."""
        found = judge(objects, {name: k for k, name in enumerate(self.classes)}, size, style)
        refuse(found)
        for kind, message in found:
            if KINDS[kind][1] == PUT_RIGHT:
                self._note(kind, i, message)

    def _note(self, kind: str, i: int, message: str) -> None:
        self._put_right.setdefault(kind, (message, set()))[1].add(i)

    def _measured_size(self, i: int) -> tuple[int, int]:
        """(width, height) of image `i` by its file, for an annotation that does not say."""
        path = self.image_path_at(i)
        self._note('no size', i, path)
        return read_image_size(path)

    def put_right(self) -> list[str]:
        """What has been put right in the annotations read so far: a line a kind, each said once."""
        fresh = [kind for kind in self._put_right if kind not in self._said]
        self._said.update(fresh)
        lines = []
        for kind in fresh:
            first, images = self._put_right[kind]
            lines.append(f'{self.name}: {KINDS[kind][0]}, in {len(images)} of its images: {first}')
        return lines

    def digest(self, proposals: bool) -> str:
        """A digest of what the set is made of: classes, ids, labels as they stand in their files and, if asked for,
        proposals (of these, how many each image has, and every so many-th image's). Nothing is parsed.
        """
        found = hashlib.sha256(json.dumps([self.classes, self.image_index]).encode())
        self._add_labels(found)
        if proposals and self.proposal_method != 'gt':
            self.proposals.add_to(found)
        return found.hexdigest()[:16]

    def _add_labels(self, digest) -> None:
        """Updates a digest of hashlib with what the labels of all images are made of."""

    def notes(self) -> list:
        """What has been put right so far, for another process to ``add_notes``."""
        return [[kind, message, sorted(images)] for kind, (message, images) in self._put_right.items()]

    def add_notes(self, notes: list) -> None:
        """Adds what another process has put right in other images."""
        for kind, message, images in notes:
            for i in images:
                self._note(kind, i, message)

    def annotation(self, i: int) -> dict:
        """Ground truth of image `i`, parsed when first asked for.

        Returns a dictionary (shared: do not change its arrays):
            boxes: float32 (n, 4), 0-based inclusive pixels.
            gt_classes: int32 (n,), indices into `classes`.
            difficult: bool (n,); such objects are no training examples and are ignored by the evaluation.
            width, height: of the image in pixels, as annotated; measured where the annotation does not say.

        Raises `AnnotationError` naming file and object if the annotation makes no sense: `labels.judge` decides.
        """
        if i not in self._annotations:
            annotation = self._read_annotation(i)
            if len(self._annotations) >= KEPT_ANNOTATIONS:
                del self._annotations[next(iter(self._annotations))]
            self._annotations[i] = annotation
        return self._annotations[i]

    def image_size(self, i: int) -> tuple[int, int]:
        """(width, height) of image `i` in pixels, as annotated; of its file where the ground truth is withheld."""
        if self.withheld:
            return read_image_size(self.image_path_at(i))
        annotation = self.annotation(i)
        return annotation['width'], annotation['height']

    def gt_roidb(self) -> list[dict]:
        """The objects to train on (no difficult ones), for each image: boxes, gt_classes, flipped."""
        return [self._gt_entry(i) for i in range(self.num_images)]

    def _gt_entry(self, i: int) -> dict:
        annotation = self.annotation(i)
        keep = ~annotation['difficult']
        return {
            'boxes': annotation['boxes'][keep],
            'gt_classes': annotation['gt_classes'][keep],
            'flipped': False,
        }

    # ------------------------------------------------------------------ proposals

    def proposals_path(self, method: str | None = None) -> str:
        """Where the proposals by `method` (this set's own if None) are, or would be: an .h5 file."""
        raise NotImplementedError

    def set_proposal_method(self, method: str, path: str | None = None) -> None:
        """Choose the proposals: a method of tools/make_proposals.py, or 'gt' for none.

        `path`: the proposals file to take, instead of the one at `proposals_path`.
        """
        self.proposal_method = method
        self._proposals = None if path is None else Proposals(path, made_for=self.spec, method=method)

    @property
    def proposals(self) -> Proposals:
        """The proposals file, opened when first asked for.

        If it is missing but the .mat file published with Fast R-CNN is there under the same name, that one is
        converted, and again whenever its content has changed. Raises `ProposalsError` if there is neither,
        or if it is broken.
        """
        if self._proposals is None:
            path = self.proposals_path()
            published = os.path.splitext(path)[0] + '.mat'
            if os.path.isfile(published) and not (os.path.isfile(path) and proposals_mat.is_of(path, published)):
                proposals_mat.convert(published, path, self.image_index, self.proposal_method, self.image_size)
            self._proposals = Proposals(path, made_for=self.spec, method=self.proposal_method)
        return self._proposals

    def proposals_of(self, i: int) -> np.ndarray:
        """Proposed boxes of image `i`: float32 (m, 4), 0-based inclusive pixels; none with method 'gt'."""
        if self.proposal_method == 'gt':
            return np.zeros((0, 4), np.float32)
        return self.proposals.of(self.image_index[i], self.image_size(i))

    # ------------------------------------------------------------------ evaluation

    def evaluate_detections(
        self,
        all_boxes: Sequence[Sequence[np.ndarray]],
        output_dir: str,
        iou_threshold: float = 0.5,
        use_07_metric: bool | None = None,
        quiet: bool = False,
    ) -> dict:
        """Average precision of detections; writes them, and the results, into `output_dir`.

        * all_boxes: `all_boxes[class][image]` is (n, 5): x1, y1, x2, y2, score, 0-based inclusive. Class 0 is
          ignored.
        * output_dir: gets `comp4_det_test_<class>.txt` in the format of the VOC development kit (image id, score, x1,
          y1, x2, y2, 1-based), `results.json` and `precision_recall.png`.
        * iou_threshold: a match needs an IoU greater than this.
        * use_07_metric: 11-point AP or the area; None is what this set's year used.
        * quiet: print no table and draw no curves.

        Returns a dictionary: `mAP`, `mAP_07`, `mAP_area`, `metric` ('11-point' or 'area'), `iou_threshold`,
        `imdb`, `images`, `without_ground_truth` (classes left out of the means), and `classes`: name -> `ap`,
        `ap_07`, `ap_area`, `ground_truth`, `difficult`, `detections`. The AP of a class without ground truth
        is nan (null in the file). Of a set whose ground truth is withheld: `mAP` None, `withheld` True, `imdb`
        and `images`.
        """
        detections = self._checked_detections(all_boxes)
        self.write_voc_results(detections, output_dir)
        if self.withheld:
            results = {'imdb': self.name, 'images': self.num_images, 'mAP': None, 'withheld': True}
            whole_file.write_text(os.path.join(output_dir, 'results.json'), json.dumps(results, indent=2))
            if not quiet:
                print(f'{self.name}: only the VOC server has its ground truth; submit {output_dir}/comp4_*')
            return results
        use_07 = self.use_07_metric if use_07_metric is None else use_07_metric

        classes, curves = {}, {}
        annotations = [self.annotation(i) for i in range(self.num_images)]
        for c, name in enumerate(self.classes[1:], start=1):
            of_class = [a['gt_classes'] == c for a in annotations]
            r = voc_eval.evaluate_class(
                detections[c],
                [a['boxes'][m] for a, m in zip(annotations, of_class, strict=True)],
                [a['difficult'][m] for a, m in zip(annotations, of_class, strict=True)],
                iou_threshold,
            )
            classes[name] = {
                'ap': r.ap_07 if use_07 else r.ap_area,
                'ap_07': r.ap_07,
                'ap_area': r.ap_area,
                'ground_truth': r.ground_truth,
                'difficult': r.difficult,
                'detections': r.detections,
            }
            if r.ground_truth:
                curves[name] = (r.recall, r.precision, classes[name]['ap'])
        counted = [r for r in classes.values() if r['ground_truth']]

        def mean(key: str) -> float:
            return float(np.mean([r[key] for r in counted])) if counted else float('nan')

        results = {
            'imdb': self.name,
            'images': self.num_images,
            'iou_threshold': float(iou_threshold),
            'metric': '11-point' if use_07 else 'area',
            'mAP': mean('ap'),
            'mAP_07': mean('ap_07'),
            'mAP_area': mean('ap_area'),
            'classes': classes,
            'without_ground_truth': [name for name, r in classes.items() if not r['ground_truth']],
        }
        text = json.dumps(nan_to_null(results), indent=2, allow_nan=False) + '\n'
        whole_file.write_text(os.path.join(output_dir, 'results.json'), text)
        if not quiet:
            print(voc_eval.format_table(results))
            title = f'{self.name}, IoU > {iou_threshold:g}: mAP {results["mAP"]:.4f} ({results["metric"]})'
            draw_curves(curves, os.path.join(output_dir, 'precision_recall.png'), title)
        return results

    def _checked_detections(self, all_boxes: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        if len(all_boxes) != self.num_classes:
            raise ValueError(
                f'all_boxes has {len(all_boxes)} classes but {self.name} has {self.num_classes}, the '
                f'background included: were these detections made for another set?'
            )
        checked = []
        for c, per_image in enumerate(all_boxes):
            if c and len(per_image) != self.num_images:
                raise ValueError(
                    f'all_boxes[{c}] ({self.classes[c]}) has {len(per_image)} images but {self.name} has '
                    f'{self.num_images}: were these detections made for another set?'
                )
            arrays = []
            for i, dets in enumerate(per_image if c else []):
                array = np.asarray(dets, np.float64)
                if array.size == 0:
                    array = np.zeros((0, 5))
                if array.ndim != 2 or array.shape[1] != 5 or not np.isfinite(array).all():
                    problem = f'shape {array.shape}' if array.shape[1:] != (5,) else 'a number that is not finite'
                    raise ValueError(
                        f'all_boxes[{c}][{i}] ({self.classes[c]}, image {self.image_index[i]}) has {problem}'
                        f'; expected finite (n, 5): x1, y1, x2, y2, score'
                    )
                arrays.append(array)
            checked.append(arrays)
        return checked

    def write_voc_results(self, all_boxes: Sequence[Sequence[np.ndarray]], output_dir: str) -> None:
        """Write `comp4_det_test_<class>.txt` files, as the VOC server and development kit read them."""
        os.makedirs(output_dir, exist_ok=True)
        for c, name in enumerate(self.classes[1:], start=1):
            lines = [
                f'{image_id} {score:.6f} {x1 + 1:.2f} {y1 + 1:.2f} {x2 + 1:.2f} {y2 + 1:.2f}\n'
                for image_id, dets in zip(self.image_index, all_boxes[c], strict=True)
                for x1, y1, x2, y2, score in np.asarray(dets, np.float64).reshape(-1, 5)
            ]
            path = os.path.join(output_dir, f'comp4_det_test_{re.sub(_NO_FILE_NAME, "_", name)}.txt')
            whole_file.write_text(path, ''.join(lines))


class JoinedImdb(imdb):
    """Several sets, one after the other, as one. All must have the same classes in the same order."""

    def __init__(self, parts: Sequence[imdb]):
        first = parts[0]
        for part in parts[1:]:
            if part.classes != first.classes:
                raise ValueError(
                    f'cannot join {first.name} and {part.name}: their classes differ, '
                    f'{list(first.classes[1:])} and {list(part.classes[1:])}'
                )
        ids = [image_id for part in parts for image_id in part.image_index]
        super().__init__('+'.join(part.name for part in parts), first.classes[1:], ids)
        self.parts = list(parts)
        self.use_07_metric = all(part.use_07_metric for part in parts)
        self._starts = [0, *np.cumsum([part.num_images for part in parts]).tolist()]

    def _locate(self, i: int) -> tuple[imdb, int]:
        if not 0 <= i < self.num_images:
            raise IndexError(f'image {i} of {self.name}, which has {self.num_images}')
        p = bisect.bisect_right(self._starts, i) - 1
        return self.parts[p], i - self._starts[p]

    def image_path_at(self, i: int) -> str:
        part, j = self._locate(i)
        return part.image_path_at(j)

    def annotation(self, i: int) -> dict:
        part, j = self._locate(i)
        return part.annotation(j)

    def set_class_order(self, classes: Sequence[str]) -> None:
        super().set_class_order(classes)
        for part in self.parts:
            part.set_class_order(classes)

    def image_size(self, i: int) -> tuple[int, int]:
        part, j = self._locate(i)
        return part.image_size(j)

    def put_right(self) -> list[str]:
        return [line for part in self.parts for line in part.put_right()]

    def digest(self, proposals: bool) -> str:
        return ' '.join(part.digest(proposals) for part in self.parts)

    def notes(self) -> list:
        return [part.notes() for part in self.parts]

    def add_notes(self, notes: list) -> None:
        for part, of_part in zip(self.parts, notes, strict=True):
            part.add_notes(of_part)

    def set_proposal_method(self, method: str, path: str | None = None) -> None:
        self.proposal_method = method
        for part in self.parts:
            part.set_proposal_method(method, path)

    @property
    def proposals(self) -> Proposals:
        raise AttributeError(f'{self.name} is a joined set; each of its .parts has proposals of its own')

    def proposals_of(self, i: int) -> np.ndarray:
        part, j = self._locate(i)
        return part.proposals_of(j)

    def proposals_path(self, method: str | None = None) -> str:
        raise ValueError(f'{self.name} is a joined set; make the proposals of each part by itself')

    def write_voc_results(self, all_boxes: Sequence[Sequence[np.ndarray]], output_dir: str) -> None:
        """As for a single set, into a folder for each part: image ids need not be unique over the parts."""
        for part, start in zip(self.parts, self._starts, strict=False):
            part_boxes = [of_class[start : start + part.num_images] for of_class in all_boxes]
            part.write_voc_results(part_boxes, os.path.join(output_dir, part.name))


def nan_to_null(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, dict):
        return {k: nan_to_null(v) for k, v in value.items()}
    if isinstance(value, list):
        return [nan_to_null(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
