"""The blobs of one training mini-batch, as in Fast R-CNN's and OHEM's roi_data_layer/minibatch.py."""

from collections.abc import Mapping

import numpy as np

from fast_rcnn.bbox_transform import targets_by_class
from fast_rcnn.config import ConfigError, cfg, regression_classes, rois_of_an_image
from roi_data_layer.augmentation import change_look, change_shape
from roi_data_layer.image_blob import image_scale, read_image, resized, stacked


def get_minibatch(entries: list[dict], num_classes: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Blobs for the images of `entries` (see `roidb.Roidb` for their keys).

    Without OHEM the RoIs are a random sample, foreground and background in the ratio cfg.TRAIN.FG_FRACTION
    (Girshick: Fast R-CNN, ICCV 2015, section 2.3); with cfg.TRAIN.USE_OHEM they are all RoIs. Within an
    image, foreground comes first. Every random choice is drawn from `rng`.

    With cfg.TRAIN.HAS_RPN there are no RoIs: see `_with_objects`. Else it returns, all float32: data (N, 3, H, W);
    rois (R, 5) = (image, x1, y1, x2, y2) in pixels of `data`; labels (R,); and if cfg.TRAIN.BBOX_REG, bbox_targets,
    bbox_inside_weights, bbox_outside_weights, each (R, 4 * num_classes), zero but for the four columns of the RoI's
    class; with cfg.TRAIN.AGNOSTIC (R, 8), and class 1 is any object. Raises ValueError, naming the image, if it cannot
    be used.
    """
    check_settings(len(entries))
    target_sizes = np.asarray(cfg.TRAIN.SCALES)[rng.integers(len(cfg.TRAIN.SCALES), size=len(entries))]
    if cfg.TRAIN.HAS_RPN:
        return _with_objects(entries, target_sizes)
    images, rois, labels, targets = [], [], [], []
    for i, (entry, target_size) in enumerate(zip(entries, target_sizes, strict=True)):
        image, scale = _network_image(entry, target_size)
        chosen, foreground = _choose_rois(entry, len(entries), rng)
        images.append(image)
        rois.append(np.column_stack((np.full(len(chosen), i), entry['boxes'][chosen] * np.float64(scale))))
        labels.append(np.where(np.arange(len(chosen)) < foreground, entry['max_classes'][chosen], 0))
        if cfg.TRAIN.BBOX_REG:
            targets.append(entry['bbox_targets'][chosen])

    blobs = {
        'data': stacked(images),
        'rois': np.concatenate(rois).astype(np.float32),
        'labels': np.concatenate(labels).astype(np.float32),
    }
    if cfg.TRAIN.BBOX_REG:
        numbered = np.concatenate(targets)
        if cfg.TRAIN.AGNOSTIC:
            numbered[:, 0] = numbered[:, 0] > 0
        columns = regression_classes(num_classes)
        expanded, inside = targets_by_class(numbered, columns, cfg.TRAIN.BBOX_INSIDE_WEIGHTS)
        blobs['bbox_targets'] = expanded
        blobs['bbox_inside_weights'] = inside
        blobs['bbox_outside_weights'] = (inside > 0).astype(np.float32)
    return blobs


def _with_objects(entries: list[dict], target_sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Blobs for a net that proposes boxes itself: images, their sizes, and the objects in them.

    All float32: data (N, 3, H, W); im_info (N, 3) = (height, width, scale) of each image in `data`; gt_boxes, in
    pixels of `data`: (G, 5) = (x1, y1, x2, y2, class) for a single image, as in py-faster-rcnn, and (G, 6) = (image,
    x1, y1, x2, y2, class) for several. G may be 0.
    """
    images, scales = zip(*map(_network_image, entries, target_sizes), strict=True)
    objects = []
    for i, (entry, scale) in enumerate(zip(entries, scales, strict=True)):
        rows = np.flatnonzero(entry['gt_classes'])
        boxes = entry['boxes'][rows] * np.float64(scale)
        objects.append(np.column_stack((np.full(len(rows), i), boxes, entry['gt_classes'][rows])))
    gt_boxes = np.concatenate(objects).astype(np.float32)
    return {
        'data': stacked(images),
        'im_info': np.array([(*im.shape[:2], scale) for im, scale in zip(images, scales, strict=True)], np.float32),
        'gt_boxes': gt_boxes[:, 1:] if len(entries) == 1 else gt_boxes,
    }


def image_in(blobs: Mapping[str, np.ndarray], i: int, entry: dict) -> tuple[np.ndarray, float]:
    """Image `i` of a mini-batch as the net sees it, (H, W, 3) uint8, BGR, and by how much it is larger than `entry`'s.

    `blobs` as `get_minibatch` makes them: data, and im_info, or else rois.
    """
    if 'im_info' in blobs:
        scale = float(blobs['im_info'][i, 2])
    else:
        rois = blobs['rois'][blobs['rois'][:, 0] == i, 1:]
        scales = [_network_scale(entry, entry['height'], entry['width'], size) for size in cfg.TRAIN.SCALES]
        scale = scales[0]
        if len(scales) > 1 and len(rois):  # the one that fits the RoIs
            scale = min(scales, key=lambda s: np.abs(rois[0] / s - entry['boxes']).max(axis=1).min())
    height, width = round(entry['height'] * scale), round(entry['width'] * scale)
    pixels = blobs['data'][i, :, :height, :width].transpose(1, 2, 0) + cfg.PIXEL_MEANS
    return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)), scale


def check_settings(num_images: int) -> None:
    """Raise ConfigError if the settings do not go together for mini-batches of `num_images` images."""
    if cfg.TRAIN.BATCH_SIZE != -1 and cfg.TRAIN.BATCH_SIZE % num_images:
        raise ConfigError(
            f'TRAIN.BATCH_SIZE, {cfg.TRAIN.BATCH_SIZE}, must be a multiple of TRAIN.IMS_PER_BATCH, {num_images}'
        )
    if cfg.TRAIN.USE_OHEM and cfg.TRAIN.BG_THRESH_LO != 0:
        raise ConfigError(
            f'TRAIN.USE_OHEM mines among all RoIs: set TRAIN.BG_THRESH_LO to 0.0, not {cfg.TRAIN.BG_THRESH_LO}'
        )
    measured = cfg.TRAIN.BBOX_NORMALIZE_TARGETS and not cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED
    if cfg.TRAIN.HAS_RPN and cfg.TRAIN.BBOX_REG and measured:
        raise ConfigError(
            'TRAIN.HAS_RPN makes RoIs as training goes, so their targets cannot be measured before: set '
            'TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED True, or TRAIN.BBOX_NORMALIZE_TARGETS False'
        )


def _network_image(entry: dict, target_size: int) -> tuple[np.ndarray, float]:
    """The image of `entry`, mirrored and changed if it says so, as network input (H, W, 3), and its scale."""
    change = entry.get('change')
    stated = (entry['width'], entry['height']) if 'width' in entry else None
    image = read_image(entry['image'], entry.get('stored', stated))
    if entry['flipped']:
        image = image[:, ::-1]
    if change is not None:
        image = change_shape(image, change)
    scale = _network_scale(entry, image.shape[0], image.shape[1], target_size)
    pixels = resized(image, scale, cfg.PIXEL_MEANS)
    return (pixels if change is None else change_look(pixels, change, cfg.PIXEL_MEANS)), scale


def _network_scale(entry: dict, height: int, width: int, target_size: int) -> float:
    """By how much the image of `entry`, of `height` x `width` pixels, is scaled for one of cfg.TRAIN.SCALES."""
    zoom = entry['change'].zoom if 'change' in entry else 1
    return image_scale(height, width, target_size if zoom == 1 else max(target_size * zoom, 1), cfg.TRAIN.MAX_SIZE)


def _choose_rois(entry: dict, num_images: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Indices of the RoIs of `entry` that go into the mini-batch, foreground first, and how many are foreground."""
    overlaps = entry['max_overlaps']
    low = -np.inf if cfg.TRAIN.USE_OHEM else cfg.TRAIN.BG_THRESH_LO
    foreground = np.flatnonzero(overlaps >= cfg.TRAIN.FG_THRESH)
    background = np.flatnonzero((overlaps < cfg.TRAIN.BG_THRESH_HI) & (overlaps >= low))
    if not cfg.TRAIN.USE_OHEM:
        quota = rois_of_an_image(num_images)
        foreground = _sample(foreground, int(np.round(cfg.TRAIN.FG_FRACTION * quota)), rng)
        background = _sample(background, quota - len(foreground), rng)
    chosen = np.concatenate((foreground, background))
    if len(chosen) == 0:
        raise ValueError(
            f'{entry["image"]}: none of its {len(overlaps)} RoIs is foreground (IoU >= {cfg.TRAIN.FG_THRESH}) '
            f'or background (IoU in [{cfg.TRAIN.BG_THRESH_LO}, {cfg.TRAIN.BG_THRESH_HI})); leave the image out'
        )
    return chosen, len(foreground)


def _sample(indices: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of `indices` without repetition, or all of them (in random order) if there are fewer."""
    return rng.choice(indices, size=min(size, len(indices)), replace=False)
