"""Why a training step went wrong: the first blob that is not finite, and why no box is ever learned."""

import json
import math
import os
from typing import Any

import cv2
import numpy as np

import caffe
import whole_file
from fast_rcnn.config import cfg
from whole_file.picture import write_picture

# A net that scores two classes by chance loses ln 2 an RoI. Runs that have learned start far below it, and a single
# hard mini-batch of theirs is no explosion.
_BY_CHANCE = math.log(2)
_TIMES, _FIRST = 20, 10


class Explosion:
    """Watches the losses of a run for one that is many times what the run began with."""

    def __init__(self):
        self._first: list[float] = []
        self._said = False

    def told(self, loss: float) -> str | None:
        """What to say of an iteration's loss, once: that it is 20 times the mean of the first ten, or more."""
        usual = max(sum(self._first) / len(self._first), _BY_CHANCE) if self._first else math.inf
        if not self._said and loss >= _TIMES * usual:
            self._said = True
            return f'the loss is {loss:.4g}, {loss / usual:.0f} times the {usual:.3g} of the first iterations'
        if len(self._first) < _FIRST:
            self._first.append(loss)
        return None


def what_to_try(solver: str, base_lr: float, clip_gradients: float, state: str | None) -> str:
    """What helps against a loss that explodes. solver: its file; state: the newest to resume from, if there is one."""
    clip = '' if clip_gradients > 0 else ', or clip_gradients: 10 beside it'
    start = 'start again' if state is None else f'start again, or resume from an earlier snapshot ({state})'
    return f'Usually base_lr is too high: it is {base_lr:g} in {solver}; try {base_lr / 10:g}{clip}, and {start}.'


def what_to_try_after_resuming(state: str, updates: int, rate: float, earlier: str | None) -> str:
    """What helps a run that went on from `state`, at no higher a learning rate, and went wrong so few updates later.

    rate: the learning rate. earlier: a state from before that one, if there is one.
    """
    start = 'start anew from its weights (--weights)'
    start = start if earlier is None else f'resume from an earlier snapshot ({earlier}), or {start}'
    return (
        f'The run was resumed {updates} update{"s" * (updates != 1)} before, with a learning rate no higher than it '
        f'had then, {rate:g}: so base_lr is not the likely cause, but {state}, whose history moves the weights. '
        f'{start[0].upper()}{start[1:]}.'
    )


def not_finite(net: caffe.Net, shown: list[str], folder: str, weights_are_old: bool) -> str:
    """Says which blob of `net` is the first that is not finite, for which image and box; and dumps it.

    `shown` names the images of the mini-batch. `weights_are_old`: the update of this iteration has not been
    applied, so that weights which are not finite are the cause. Written to `folder`: blobs.npz (the blob,
    rois, labels and whatever else has a row an RoI), summary.json and, if it is known, the image with the
    box (image.png).
    """
    bad = next((name for name, blob in net.blobs.items() if not np.isfinite(blob.data).all()), None)
    if bad is None:
        return 'no blob of the net is infinite or NaN now'
    value = net.blobs[bad].data
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
    said = f'the first blob that is not finite is {bad}, at {list(first)} of {list(value.shape)}'
    summary: dict[str, Any] = {'blob': bad, 'shape': list(value.shape), 'first': list(first), 'images': shown}
    summary['not_finite'] = int((~np.isfinite(value)).sum())
    if weights_are_old:
        spoilt = [
            name
            for name, blobs in net.params.items()
            if not all(np.isfinite(blobs[i].data).all() for i in range(len(blobs)))
        ]
        summary['weights_not_finite'] = spoilt
        if spoilt:
            said += f'; the weights of {", ".join(spoilt)} were not finite before'
    image, box = _place(net, value, first)
    if image is not None and image < len(shown):
        said += f'; image {shown[image]}'
        summary['image'] = shown[image]
        if box is not None:
            said += f', box ({", ".join(f"{v:.1f}" for v in box)}) in network pixels'
            summary['box'] = [float(v) for v in box]
        picture = _drawn(net.blobs['data'].data[image], box)
    else:
        picture = None
        said += f'; images {", ".join(shown)}'
    rows = net.blobs['rois'].data.shape[0] if 'rois' in net.blobs else 0
    arrays = {
        name.replace('/', '_'): blob.data
        for name, blob in net.blobs.items()
        if name == bad or (blob.data.ndim in (1, 2) and blob.data.shape[0] == rows and blob.data.shape[-1] <= 4096)
    }
    try:
        _dump(folder, summary, arrays, picture)
    except OSError as error:  # the rest is reported without it
        return f'{said}. More would be in {folder}, but {error}'
    return f'{said}. Look at {folder}'


def no_box_loss(net: caffe.Net) -> str | None:
    """Why loss_bbox is exactly 0 although there are foreground RoIs; None if there are none."""
    # of OHEM's nets those that were mined: the original's, and R-FCN's
    suffix = next((ending for ending in ('_hard', '_ohem') if f'labels{ending}' in net.blobs), '')

    def blob(name):
        name = name + suffix if name + suffix in net.blobs else name
        return net.blobs[name].data if name in net.blobs else None

    labels = blob('labels')
    if labels is None or not (labels > 0).any():
        return None
    inside, outside = blob('bbox_inside_weights'), blob('bbox_outside_weights')
    if inside is not None and not inside.any():
        if not any(cfg.TRAIN.BBOX_INSIDE_WEIGHTS):
            return 'TRAIN.BBOX_INSIDE_WEIGHTS is all 0'
        return f'no foreground RoI reaches TRAIN.BBOX_THRESH, {cfg.TRAIN.BBOX_THRESH}: all inside weights are 0'
    if outside is not None and not outside.any():
        return 'all outside weights are 0'
    bottoms = getattr(net, 'bottom_names', {}).get('loss_bbox') if hasattr(net, 'bottom_names') else None
    if bottoms is not None and len(bottoms) == 4:
        expected = ('bbox_pred', 'bbox_targets', 'bbox_inside_weights', 'bbox_outside_weights')
        if not all(name.startswith(prefix) for name, prefix in zip(bottoms, expected, strict=True)):
            return f'the bottoms of loss_bbox are {", ".join(bottoms)}; expected are {", ".join(expected)}'
    return 'are the bottoms of loss_bbox in order: bbox_pred, targets, inside weights, outside weights?'


def _place(net, value: np.ndarray, first: tuple) -> tuple[int | None, np.ndarray | None]:
    """The image, and the box (4,) in it, that row `first[0]` of a blob belongs to; None if not known."""
    rois_name = next(
        (name for name in ('rois', 'rois_hard') if name in net.blobs and _rows(value, net.blobs[name].data)),
        None,
    )
    if rois_name is not None:
        roi = net.blobs[rois_name].data[first[0]]
        if np.isfinite(roi).all():
            return int(roi[0]), roi[1:]
    if 'data' in net.blobs and value.ndim == 4 and value.shape[0] == net.blobs['data'].data.shape[0]:
        return first[0], None
    return None, None


def _rows(value: np.ndarray, rois: np.ndarray) -> bool:
    return value.ndim > 0 and value.shape[0] == rois.shape[0]


def _dump(folder: str, summary: dict, arrays: dict[str, np.ndarray], picture: np.ndarray | None) -> None:
    os.makedirs(folder, exist_ok=True)
    whole_file.write_text(os.path.join(folder, 'summary.json'), json.dumps(summary, indent=1))
    if picture is not None:
        write_picture(os.path.join(folder, 'image.png'), picture)
    with whole_file.in_memory(os.path.join(folder, 'blobs.npz')) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _drawn(data: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    pixels = np.nan_to_num(data.transpose(1, 2, 0)) + cfg.PIXEL_MEANS
    image = np.ascontiguousarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if box is not None:
        x1, y1, x2, y2 = (round(float(np.clip(v, -1e4, 1e4))) for v in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), (0, 0, 0), 4)
        cv2.rectangle(image, (x1, y1), (x2, y2), (66, 228, 240), 2)
    return image
