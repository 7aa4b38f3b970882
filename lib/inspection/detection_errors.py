"""A test set's detections sorted: right ones, and mistakes by kind.

The kinds are those of Bolya et al.: TIDE, ECCV 2020 (and of Hoiem, Chodpathumwan and Dai: Diagnosing Error
in Object Detectors, ECCV 2012). Right and ignored detections are those of PASCAL VOC's protocol
(`detection_data.voc_eval`). Any other one is the first of

* duplicate: its IoU with an object of its class is above `iou_threshold`, but a higher-scoring one has
  found that.
* confusion: its IoU with an object of another class is above `iou_threshold`.
* localisation: its IoU with an object of its class is at least `touch`.
* background: none of these.

An object that no right detection finds is missed, for the first of these reasons that holds (`why_missed`):

* wrong class: a detection of another class, of a score that counts, lies on it.
* low score: one of its own class lies on it, with a score too low to count.
* found with another: one of its own class lies on it and counts, but lies better on a neighbour.
* no proposal: no proposed box lies on it.
* box off: one of its own class that counts touches it, with too low an IoU.
* low score, again: it was proposed, and no score of its class was high enough to be written down, or NMS took its
  detection for a repetition of a neighbour's. Where proposals are not known: one of these, or no proposal.
"""

from collections.abc import Sequence

import numpy as np

from detection_data.voc_eval import IGNORED, TRUE_POSITIVE, iou_matrix, match_detections

WRONG_CLASS, LOW_SCORE, WITH_ANOTHER, NO_PROPOSAL, BOX_OFF, NOT_KNOWN = REASONS = (
    'wrong class',
    'low score',
    'found with another',
    'no proposal',
    'box off',
    'no proposal, or low score',
)
KINDS = ('confusion', 'localisation', 'duplicate', 'background', 'missed')


def sort_detections(
    detections: Sequence[np.ndarray],
    boxes: np.ndarray,
    gt_classes: np.ndarray,
    difficult: np.ndarray,
    iou_threshold: float = 0.5,
    touch: float = 0.1,
) -> list[dict]:
    """What became of one image's detections and objects.

    `detections[c]` (n, 5) = x1, y1, x2, y2, score of class c (c = 0, the background, is not looked at);
    `boxes` (m, 4), `gt_classes` (m,) > 0 and `difficult` bool (m,) are the objects. Returns a dictionary
    for every detection and every missed object:

        kind     'right', 'ignored' (of a difficult object) or one of KINDS
        cls      class of the detection, or of the missed object
        score    None for a missed object
        box      [x1, y1, x2, y2] of the detection, or of the missed object
        object   index of the object that it was compared with; None for background
        iou      with that object; of a missed object: the highest of any detection of its class
    """
    boxes, gt_classes = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(gt_classes)
    difficult = np.asarray(difficult, dtype=bool)
    found, best_seen, entries = np.zeros(len(boxes), bool), np.zeros(len(boxes)), []
    for cls in range(1, len(detections)):
        dets = np.asarray(detections[cls], np.float64).reshape(-1, 5)
        dets = dets[np.argsort(-dets[:, 4], kind='stable')]
        own = np.flatnonzero(gt_classes == cls)
        _, outcome = match_detections([dets], [boxes[own]], [difficult[own]], iou_threshold)
        iou = iou_matrix(dets[:, :4], boxes)
        if len(own):
            best_seen[own] = iou[:, own].max(axis=0, initial=0)
        for row, det in enumerate(dets):
            kind, nearest = _kind(outcome[row], iou[row], own, iou_threshold, touch)
            if kind == 'right':
                found[nearest] = True
            entries.append(
                {
                    'kind': kind,
                    'cls': cls,
                    'score': float(det[4]),
                    'box': det[:4].tolist(),
                    'object': nearest,
                    'iou': 0.0 if nearest is None else float(iou[row, nearest]),
                }
            )
    for i in np.flatnonzero(~found & ~difficult).tolist():
        entries.append(
            {
                'kind': 'missed',
                'cls': int(gt_classes[i]),
                'score': None,
                'box': boxes[i].tolist(),
                'object': i,
                'iou': float(best_seen[i]),
            }
        )
    return entries


def why_missed(
    box: np.ndarray,
    cls: int,
    detections: Sequence[np.ndarray],
    classes: Sequence[str],
    score_threshold: float,
    proposals: np.ndarray | None,
    iou_threshold: float = 0.5,
    touch: float = 0.1,
) -> tuple[str, str]:
    """Why an object was missed, one of REASONS, and the same in a few words with its number.

    `box` (4,) and `cls` are the object's; `detections[c]` (n, 5) all that were written down of its image, those below
    `score_threshold` too; `proposals` (m, 4) of the image, None if they are not known.
    """
    own_iou, own_score = np.zeros(0), np.zeros(0)
    other, other_class = 0.0, ''
    for c in range(1, len(detections)):
        dets = np.asarray(detections[c], np.float64).reshape(-1, 5)
        iou = iou_matrix(dets[:, :4], np.asarray(box, np.float64)[None]).ravel()
        if c == cls:
            own_iou, own_score = iou, dets[:, 4]
            continue
        on_it = dets[iou > iou_threshold, 4].max(initial=0)
        if on_it >= score_threshold and on_it > other:
            other, other_class = float(on_it), str(classes[c])
    if other_class:
        return WRONG_CLASS, f'taken for {other_class} {other:.2f}'
    on_it = own_score[own_iou > iou_threshold]
    if len(on_it):
        best = float(on_it.max())
        if best >= score_threshold:
            return WITH_ANOTHER, f"its detection ({best:.2f}) is a neighbour's"
        return LOW_SCORE, f'low score {best:.2f}'
    best = 1.0
    if proposals is not None:
        best = float(iou_matrix(np.asarray(proposals, np.float64), np.asarray(box, np.float64)[None]).max(initial=0))
    if best <= iou_threshold:
        return NO_PROPOSAL, f'no proposal (best IoU {best:.2f})'
    touching = own_iou[own_score >= score_threshold].max(initial=0)
    if touching >= touch:
        return BOX_OFF, f'box off (IoU {touching:.2f})'
    return (NOT_KNOWN, 'no proposal, or low score') if proposals is None else (LOW_SCORE, 'low score, or NMS')


def _kind(outcome: int, iou: np.ndarray, own: np.ndarray, threshold: float, touch: float) -> tuple[str, int | None]:
    """A detection's kind and the object it was compared with. `iou` (m,), `own` the objects of its class."""
    nearest_own = int(own[iou[own].argmax()]) if len(own) else None
    if outcome in (TRUE_POSITIVE, IGNORED):
        return ('right' if outcome == TRUE_POSITIVE else 'ignored'), nearest_own
    if nearest_own is not None and iou[nearest_own] > threshold:
        return 'duplicate', nearest_own
    nearest = int(iou.argmax()) if len(iou) else None
    if nearest is not None and iou[nearest] > threshold:
        return 'confusion', nearest
    if nearest_own is not None and iou[nearest_own] >= touch:
        return 'localisation', nearest_own
    return 'background', None
