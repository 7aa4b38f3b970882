"""The training set as a sequence of entries: each an image, its RoIs, and what these should be recognised as.

Entries are made on demand: what is kept for each image is its size, so memory does not grow with the number
of proposals. As Fast R-CNN's roi_data_layer/roidb.py, prepare_roidb and add_bbox_regression_targets.
"""

from collections.abc import Sequence

import numpy as np

import ranks
from detection_data.image_file import ImageError, image_scale
from fast_rcnn.bbox_transform import bbox_overlaps, bbox_transform
from fast_rcnn.config import cfg, regression_classes

CROWD_SHARE = 0.7
PART = 1024
"""Images that one rank looks at: their targets are summed up first, so that the sums do not depend on the ranks."""

_NAMED = 5  # images that are left out


class Roidb(Sequence):
    """The training entries of a data set: first every image, then, with `use_flipped`, every image mirrored.

    `imdb` offers num_images, num_classes, name, image_path_at(i), annotation(i) and proposals_of(i) (see
    `detection_data.imdb`). `use_flipped` is cfg.TRAIN.USE_FLIPPED unless given. The images are gone through once,
    to leave out those that have no RoI to train on and to measure the regression targets; with `by_ranks` each rank
    goes through a part, and tells the others. With cfg.TRAIN.HAS_RPN proposals are not looked at, and all images stay,
    even those without objects: there is background in each.

    roidb[i] is a dictionary:
        image: path of the image file.
        width, height: of the image in pixels.
        flipped: bool: mirror the image (the boxes are mirrored already).
        boxes: (n, 4) float32, ground truth first, then proposals.
        gt_classes: (n,) int32, the class of a ground-truth box, 0 for a proposal.
        max_overlaps: (n,) float32, highest IoU with a ground-truth box.
        max_classes: (n,) int32, the class of that ground-truth box, 0 where the overlap is 0.
        bbox_targets: (n, 5) float32, class and normalised (dx, dy, dw, dh), all 0 below an IoU of BBOX_THRESH.

    Attributes: name, of the data set; num_classes; classes, their names; widths, heights (len(roidb),);
    bbox_means, bbox_stds (num_classes, 4), by which targets are normalised if cfg.TRAIN.BBOX_NORMALIZE_TARGETS; with
    cfg.TRAIN.AGNOSTIC (2, 4), of the background and of all objects.
    """

    def __init__(self, imdb, use_flipped: bool | None = None, by_ranks: bool = False):
        self._imdb = imdb
        self.name = imdb.name
        self.num_classes = imdb.num_classes
        self.classes = tuple(imdb.classes)
        self._flipped = cfg.TRAIN.USE_FLIPPED if use_flipped is None else use_flipped
        found = self._survey(by_ranks)
        self._images = np.concatenate([part['images'] for part in found])
        sizes = np.concatenate([part['sizes'] for part in found])
        objects, left_out = (sum(part[key] for part in found) for key in ('objects', 'left_out'))
        self._objects = objects
        moments = _Moments(regression_classes(imdb.num_classes))
        for part in found:
            moments.add_sums(part['moments'])
        for line in imdb.put_right() if hasattr(imdb, 'put_right') else ():
            print(line)
        _say_what_is_not_learned(imdb.name, self.classes, objects, left_out)
        if len(self._images) < imdb.num_images:
            unusable = imdb.num_images - len(self._images)
            named = ', '.join([name for part in found for name in part['unusable']][:_NAMED])
            named += ', ...' if unusable > _NAMED else ''
            print(
                f'{imdb.name}: {unusable} of {imdb.num_images} images left out: they have no RoI to train on, '
                f'which needs an IoU of at least {cfg.TRAIN.FG_THRESH}, or in [{cfg.TRAIN.BG_THRESH_LO}, '
                f'{cfg.TRAIN.BG_THRESH_HI}): {named}'
            )
        if not len(self._images):
            raise ValueError(
                f'{imdb.name}: no image to train on: of {imdb.num_images} images none has an RoI whose IoU with an '
                f'object is at least {cfg.TRAIN.FG_THRESH}, or in '
                f'[{cfg.TRAIN.BG_THRESH_LO}, {cfg.TRAIN.BG_THRESH_HI})'
            )
        if not objects.sum():
            raise ValueError(f'{imdb.name}: no object in any of its images: there is nothing to learn but background')
        self.widths, self.heights = np.tile(sizes.T, 2 if self._flipped else 1)
        self._normalise = cfg.TRAIN.BBOX_NORMALIZE_TARGETS
        self.bbox_means, self.bbox_stds = _precomputed(regression_classes(imdb.num_classes)) or moments.mean_and_std(
            self._flipped
        )

    def class_list(self) -> str:
        """The classes, and where the rarest of them is: a misspelt label makes one of its own. For messages."""
        names = self.classes[1:]
        listed = ', '.join(names[:20]) + (f', ... ({len(names)})' if len(names) > 20 else '')
        rarest = min(range(1, self.num_classes), key=lambda k: self._objects[k])
        number = self._objects[rarest]
        if len(names) < 2 or not number:
            return f': {listed}'
        annotations = ((i, self._imdb.annotation(i)['gt_classes']) for i in range(self._imdb.num_images))
        place = next(self._imdb.image_path_at(i) for i, classes in annotations if rarest in classes)
        return f': {listed}; the rarest, {self.classes[rarest]}, has {number} objects, the first in {place}'

    _normalise = False  # until the statistics are known

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, i: int) -> dict:  # type: ignore[override]
        if not -len(self) <= i < len(self):
            raise IndexError(f'roidb entry {i} of {len(self)}')
        i %= len(self)
        entry = self._entry(int(self._images[i % len(self._images)]), flipped=i >= len(self._images))
        if self._normalise:
            entry['bbox_targets'] = normalised(entry['bbox_targets'], self.bbox_means, self.bbox_stds)
        return entry

    def path(self, i: int) -> str:
        """The image file of entry `i`, without the entry being made."""
        return self._imdb.image_path_at(int(self._images[i % len(self._images)]))

    def digest(self) -> str:
        """A digest of the data set's files, pixels aside; '' where the set does not tell (see `imdb.digest`)."""
        return self._imdb.digest(proposals=not cfg.TRAIN.HAS_RPN) if hasattr(self._imdb, 'digest') else ''

    def _survey(self, by_ranks: bool) -> list[dict]:
        """What `_looked_at` finds, part after part of the set, whichever rank looked at it."""
        parts = [range(first, first + PART) for first in range(0, self._imdb.num_images, PART)]
        if not by_ranks or ranks.count() == 1:
            return [self._looked_at(part) for part in parts]
        of_ranks = ranks.share([self._looked_at(part) for part in ranks.mine(parts)])
        if hasattr(self._imdb, 'notes'):
            for rank, notes in enumerate(ranks.share(self._imdb.notes())):
                if rank != ranks.rank():
                    self._imdb.add_notes(notes)
        return [found for of_rank in of_ranks for found in of_rank]

    def _looked_at(self, part: range) -> dict:
        """What there is in images `part` of the set; a rank can tell it to the others.

        images, sizes: those to train on, (n,) int32 and (n, 2) int32; unusable: names of the first others; objects,
        left_out: (num_classes,) int64, objects, and those of them that are difficult; moments: see `_Moments`.
        """
        imdb = self._imdb
        images: list[int] = []
        sizes: list[tuple[int, int]] = []
        unusable: list[str] = []
        moments = _Moments(regression_classes(imdb.num_classes))
        objects, left_out = np.zeros((2, imdb.num_classes), np.int64)
        for i in part:
            if i >= imdb.num_images:
                break
            entry = self._entry(i, flipped=False)
            _check_scales(entry)
            annotation = imdb.annotation(i)
            objects += np.bincount(annotation['gt_classes'], minlength=imdb.num_classes)
            hidden = annotation['gt_classes'][np.asarray(annotation['difficult'], bool)]
            left_out += np.bincount(hidden, minlength=imdb.num_classes)
            if cfg.TRAIN.HAS_RPN or trainable(entry['max_overlaps']):
                images.append(i)
                sizes.append((entry['width'], entry['height']))
                moments.add(entry['bbox_targets'])
            elif len(unusable) < _NAMED:
                unusable.append(f'{entry["image"]} ({_what_it_has(entry["max_overlaps"])})')
        return {
            'images': np.array(images, np.int32),
            'sizes': np.array(sizes, np.int32).reshape(-1, 2),
            'unusable': unusable,
            'objects': objects,
            'left_out': left_out,
            'moments': moments.sums,
        }

    def _entry(self, i: int, flipped: bool) -> dict:
        """The entry of image `i` of the data set, its targets not normalised."""
        annotation = self._imdb.annotation(i)
        known = ~np.asarray(annotation['difficult'], dtype=bool)
        gt_boxes = annotation['boxes'][known]
        proposals = np.zeros((0, 4), np.float32) if cfg.TRAIN.HAS_RPN else self._imdb.proposals_of(i)
        if 'crowd' in annotation:  # of COCO only
            proposals = outside(proposals, annotation['boxes'][annotation['crowd']])
        boxes = np.concatenate((gt_boxes.reshape(-1, 4), proposals.reshape(-1, 4))).astype(np.float32)
        if flipped:
            boxes = flip_boxes(boxes, annotation['width'])
        gt_classes = np.zeros(len(boxes), dtype=np.int32)
        gt_classes[: len(gt_boxes)] = annotation['gt_classes'][known]
        max_overlaps, max_classes, nearest = match(boxes, gt_classes)
        return {
            'image': self._imdb.image_path_at(i),
            'width': int(annotation['width']),
            'height': int(annotation['height']),
            'flipped': flipped,
            'boxes': boxes,
            'gt_classes': gt_classes,
            'max_overlaps': max_overlaps,
            'max_classes': max_classes,
            'bbox_targets': regression_targets(boxes, max_overlaps, max_classes, nearest),
        }


def path_of(roidb: Sequence[dict], i: int) -> str | None:
    """The image file of entry `i` of a `Roidb`, or of another sequence of such entries; None if it names none."""
    return roidb.path(i) if isinstance(roidb, Roidb) else roidb[i].get('image')


def add_bbox_regression_targets(roidb: Roidb) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of the regression targets, (4 * num_classes,) float64 each. The family's function."""
    return roidb.bbox_means.ravel(), roidb.bbox_stds.ravel()


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """`boxes` (n, 4) as they lie in the mirrored image: x1' = width - x2 - 1."""
    flipped = boxes.copy()
    flipped[:, 0] = width - boxes[:, 2] - 1
    flipped[:, 2] = width - boxes[:, 0] - 1
    return flipped


def outside(boxes: np.ndarray, crowds: np.ndarray) -> np.ndarray:
    """Those of `boxes` (n, 4) that are not mostly inside one of `crowds` (m, 4), regions of many objects.

    Such a box shows an object that nobody drew a box around, so it is no example of background. As
    py-faster-rcnn's lib/datasets/coco.py, _filter_crowd_proposals: at most CROWD_SHARE of its area is inside.
    """
    if len(crowds) == 0:
        return boxes
    a, b = boxes[:, None].astype(np.float64), crowds[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    inside = np.prod(np.maximum(sides, 0), axis=2) / np.prod(a[..., 2:] - a[..., :2] + 1, axis=2)
    return boxes[inside.max(axis=1) <= CROWD_SHARE]


def match(boxes: np.ndarray, gt_classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each box's best ground-truth box.

    `boxes` (n, 4), of which those with `gt_classes` > 0, (n,), are ground truth. Returns (n,) each: the
    highest IoU (float32), the class of the ground-truth box that has it (int32, 0 where the IoU is 0) and
    that box's row. The first one wins a tie; a ground-truth box is its own best.
    """
    gt = np.flatnonzero(gt_classes)
    if len(gt) == 0:
        return (
            np.zeros(len(boxes), np.float32),
            np.zeros(len(boxes), np.int32),
            np.zeros(len(boxes), np.int64),
        )
    overlaps = bbox_overlaps(boxes, boxes[gt])
    nearest = gt[overlaps.argmax(axis=1)]
    max_overlaps = overlaps.max(axis=1).astype(np.float32)
    nearest[gt] = gt
    return max_overlaps, np.where(max_overlaps > 0, gt_classes[nearest], 0).astype(np.int32), nearest


def regression_targets(
    boxes: np.ndarray, max_overlaps: np.ndarray, max_classes: np.ndarray, nearest: np.ndarray
) -> np.ndarray:
    """(n, 5) float32: class, dx, dy, dw, dh of each box towards box `nearest`; 0 where the IoU is below BBOX_THRESH."""
    targets = np.zeros((len(boxes), 5), dtype=np.float32)
    rows = np.flatnonzero((max_overlaps >= cfg.TRAIN.BBOX_THRESH) & (max_classes > 0))
    targets[rows, 0] = max_classes[rows]
    exact = boxes.astype(np.float64)
    targets[rows, 1:] = bbox_transform(exact[rows], exact[nearest[rows]])
    return targets


def normalised(targets: np.ndarray, means: np.ndarray, stds: np.ndarray) -> np.ndarray:
    """`targets` (n, 5), see `regression_targets`, less the `means` of their class, over its `stds`, (K, 4) each."""
    result = targets.copy()
    rows = np.flatnonzero(targets[:, 0] > 0)
    classes = _regressed(targets[rows, 0])
    result[rows, 1:] = (targets[rows, 1:] - means[classes]) / stds[classes]
    return result


def trainable(overlaps: np.ndarray) -> bool:
    """Whether an image with RoIs of these overlaps (n,) has any foreground or background to train on."""
    background = (overlaps >= cfg.TRAIN.BG_THRESH_LO) & (overlaps < cfg.TRAIN.BG_THRESH_HI)
    return bool(np.any(background | (overlaps >= cfg.TRAIN.FG_THRESH)))


def _check_scales(entry: dict) -> None:
    """Raise ImageError, naming the image, if a side of it would be 0 pixels at one of the scales to train at."""
    for target_size in cfg.TRAIN.SCALES:
        try:
            image_scale(entry['height'], entry['width'], target_size, cfg.TRAIN.MAX_SIZE)
        except ImageError as error:
            raise ImageError(f'{entry["image"]}: {error}') from None


def _say_what_is_not_learned(name: str, classes: Sequence[str], objects: np.ndarray, left_out: np.ndarray) -> None:
    """Print which classes have no object to learn from; ValueError if none has. Counts are by class."""
    if objects.sum() and objects.sum() == left_out.sum():
        raise ValueError(
            f'{name}: all of its {objects.sum()} objects are difficult, or crowds: there is nothing to learn but '
            'background. Is <difficult> (iscrowd) meant? tools/check_dataset.py shows what there is'
        )
    for c in range(1, len(classes)):
        if objects[c] and objects[c] == left_out[c]:
            print(f'{name}: all {objects[c]} objects of class {classes[c]} are difficult, or crowds: it is not learned')
    without = [classes[c] for c in range(1, len(classes)) if not objects[c]]
    if without:
        shown = ', '.join(without[:10]) + (f' and {len(without) - 10} more' if len(without) > 10 else '')
        print(f'{name}: no object of class {shown}: not learned')


def _what_it_has(overlaps: np.ndarray) -> str:
    if len(overlaps) == 0:
        return 'it has neither objects nor proposals'
    return f'{len(overlaps)} RoIs of IoU {overlaps.min():.2f} to {overlaps.max():.2f}'


def _precomputed(num_classes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The means and deviations that the settings prescribe, if they do."""
    if not cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED:
        return None
    return (
        np.tile(np.array(cfg.TRAIN.BBOX_NORMALIZE_MEANS, dtype=np.float64), (num_classes, 1)),
        np.tile(np.array(cfg.TRAIN.BBOX_NORMALIZE_STDS, dtype=np.float64), (num_classes, 1)),
    )


def _regressed(classes: np.ndarray) -> np.ndarray:
    """The rows of bbox_means that objects of `classes` (n,), above 0, are normalised by: int64."""
    return np.ones(len(classes), np.int64) if cfg.TRAIN.AGNOSTIC else classes.astype(np.int64)


class _Moments:
    """Count, sum and sum of squares of the regression targets of each class, image by image.

    sums: (num_classes, 9) float64: of each class the count, four sums, four sums of squares.
    """

    def __init__(self, num_classes: int):
        self.sums = np.zeros((num_classes, 9))

    def add(self, targets: np.ndarray) -> None:
        rows = targets[targets[:, 0] > 0].astype(np.float64)
        if len(rows):
            each = np.concatenate((np.ones((len(rows), 1)), rows[:, 1:], rows[:, 1:] ** 2), axis=1)
            np.add.at(self.sums, _regressed(rows[:, 0]), each)

    def add_sums(self, sums: np.ndarray) -> None:
        """Adds what another one has."""
        self.sums += sums

    def mean_and_std(self, flipped: bool) -> tuple[np.ndarray, np.ndarray]:
        """(num_classes, 4) each. A mirrored image has the same targets but for the sign of dx, so its dx mean is 0."""
        numbers, sums, squares = self.sums[:, :1], self.sums[:, 1:5], self.sums[:, 5:]
        counts = numbers + cfg.EPS
        means = sums / counts
        if flipped:
            means[:, 0] = 0
        stds = np.sqrt(np.maximum(squares / counts - means**2, 0))
        # A class whose targets are all alike: dividing by 0 would make them NaN. A class without any keeps its 0.
        stds[(stds < 1e-6) & (numbers > 0)] = 1
        return means, stds
