"""Images changed anew each time they are trained on, by cfg.TRAIN.AUGMENT: part, quarter turn, size, colours, blur.

What becomes of an image is a pure function of (RNG_SEED, n, image), n being the number of the mini-batch. So loader
processes, ranks, stopping and resuming change nothing. An image's mirrored copy is another entry of the roidb
(`roidb.Roidb`), and is changed after it was mirrored.

`drawn_change` draws the numbers, `changed` makes the entry of the changed image (boxes follow, targets are made anew),
`change_shape` and `change_look` do the same to its pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from fast_rcnn.config import ConfigError, cfg
from roi_data_layer.order import augmenting_rng
from roi_data_layer.roidb import match, normalised, regression_targets, trainable

_TRIES = 100  # windows drawn of an image, the first of which that serves is taken
_HELD = 0.5  # of a proposal's area at least is inside the window, or it is left out
_GREY = np.array([0.114, 0.587, 0.299])  # shares of B, G, R


@dataclass(frozen=True)
class Change:
    """What becomes of an image. Without arguments it stays as it is."""

    window: tuple[int, int, int, int] | None = None
    """(x1, y1, x2, y2): the part that is taken, inclusive pixels; None: all of it."""
    turns: int = 0
    """Quarter turns, counter-clockwise, after that: 0 to 3."""
    zoom: float = 1.0
    """By which cfg.TRAIN.SCALES is multiplied."""
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    """The factor of each."""
    hue: float = 0.0
    """In degrees."""
    blur: float = 0.0
    """The standard deviation of a Gaussian, in pixels of the scaled image."""

    def __str__(self) -> str:
        factors = (self.brightness, self.contrast, self.saturation)
        parts = [
            (self.window is not None, _window_text(self.window)),
            (self.turns != 0, f'turned by {90 * self.turns}'),
            (self.zoom != 1, f'size x {self.zoom:.2f}'),
            (factors != (1, 1, 1), 'colours x ' + '/'.join(f'{v:.2f}' for v in factors)),
            (self.hue != 0, f'hue {self.hue:+.0f}'),
            (self.blur != 0, f'blur {self.blur:.1f}'),
        ]
        return ', '.join(text for applies, text in parts if applies)


def is_on() -> bool:
    """Whether the settings change any image."""
    a = cfg.TRAIN.AUGMENT
    return tuple(a.SCALE_JITTER) != (1, 1) or a.CROP < 1 or a.TURN or a.COLOUR > 0 or a.HUE > 0 or a.BLUR > 0


def entry_of(roidb: Any, i: int, n: int) -> dict:
    """The entry `i` of `roidb` as mini-batch `n` shows it; with the settings' defaults, roidb[i].

    A changed entry has 'change', a `Change`, and 'stored', the (width, height) of the image file. Its other keys
    describe the changed image, see `roidb.Roidb`. Raises ConfigError for a roidb that does not say how targets are
    normalised.
    """
    entry = roidb[i]
    if not is_on():
        return entry
    for change in drawn_change(entry, augmenting_rng(cfg.RNG_SEED, n, i)):
        new = changed(entry, change)
        if cfg.TRAIN.HAS_RPN or trainable(new['max_overlaps']):
            break
    if cfg.TRAIN.BBOX_NORMALIZE_TARGETS and cfg.TRAIN.BBOX_REG and not cfg.TRAIN.HAS_RPN:
        if not hasattr(roidb, 'bbox_means'):
            raise ConfigError(
                'TRAIN.AUGMENT makes regression targets anew, and needs to know how they are normalised: give a '
                f'roi_data_layer.roidb.Roidb, not a {type(roidb).__name__}, or set TRAIN.BBOX_NORMALIZE_TARGETS False'
            )
        new['bbox_targets'] = normalised(new['bbox_targets'], roidb.bbox_means, roidb.bbox_stds)
    return new


def named(entry: dict) -> str:
    """The image file of `entry` and what becomes of it, as 'a.jpg (mirrored, size x 0.90)'."""
    said = [text for text in ('mirrored' if entry['flipped'] else '', str(entry.get('change', ''))) if text]
    return entry['image'] + (f' ({", ".join(said)})' if said else '')


def drawn_change(entry: dict, rng: np.random.Generator) -> Iterator[Change]:
    """Changes for the image of `entry` by cfg.TRAIN.AUGMENT, the first one preferred; they differ in their windows.

    Only windows that cut no object badly are among them (see `_windows`). The last change takes the whole image.
    """
    a = cfg.TRAIN.AUGMENT
    # All are drawn, whatever is on: a setting changes what it is about, and nothing else
    zoom, turns, *factors, hue, blur = rng.random(7).tolist()
    low, high = a.SCALE_JITTER
    brightness, contrast, saturation = (1 + a.COLOUR * (2 * u - 1) for u in factors)
    whole = Change(
        turns=int(4 * turns) if a.TURN else 0,
        zoom=low + (high - low) * zoom,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=a.HUE * (2 * hue - 1),
        blur=a.BLUR * blur,
    )
    if a.CROP < 1:
        for window in _windows(entry, rng):
            yield replace(whole, window=window)
    yield whole


def changed(entry: dict, change: Change) -> dict:
    """The entry of the changed image. Its targets are not normalised.

    Objects outside the window are gone, those at its edge end there; so do proposals, of which those are left out that
    lie in it by less than half of their area.
    """
    boxes, classes = entry['boxes'].astype(np.float64), entry['gt_classes']
    width, height = entry['width'], entry['height']
    if change.window is not None:
        x1, y1, x2, y2 = change.window
        share = _share_inside(np.array([change.window]), boxes)[0]
        stay = np.where(classes > 0, share > 0, share >= _HELD)
        boxes, classes = np.clip(boxes[stay], [x1, y1] * 2, [x2, y2] * 2) - [x1, y1] * 2, classes[stay]
        width, height = x2 - x1 + 1, y2 - y1 + 1
    for _ in range(change.turns):
        boxes = np.column_stack((boxes[:, 1], width - 1 - boxes[:, 2], boxes[:, 3], width - 1 - boxes[:, 0]))
        width, height = height, width
    boxes = boxes.astype(np.float32)
    overlaps, max_classes, nearest = match(boxes, classes)
    return {
        **entry,
        'width': width,
        'height': height,
        'boxes': boxes,
        'gt_classes': classes,
        'max_overlaps': overlaps,
        'max_classes': max_classes,
        'bbox_targets': regression_targets(boxes, overlaps, max_classes, nearest),
        'change': change,
        'stored': (entry['width'], entry['height']),
    }


def change_shape(image: np.ndarray, change: Change) -> np.ndarray:
    """The window of `image` (H, W, 3), turned."""
    if change.window is not None:
        x1, y1, x2, y2 = change.window
        image = image[y1 : y2 + 1, x1 : x2 + 1]
    return np.ascontiguousarray(np.rot90(image, change.turns))


def change_look(pixels: np.ndarray, change: Change, pixel_means: np.ndarray) -> np.ndarray:
    """`pixels` (H, W, 3) float32, BGR, with `pixel_means` subtracted: their colours changed, and blurred.

    Brightness multiplies all three colours, contrast their distance from the grey of `pixel_means`, saturation that
    from the pixel's own grey; hue turns them about the axis of greys. Colours stay within 0 to 255.
    """
    if (change.brightness, change.contrast, change.saturation, change.hue) != (1, 1, 1, 0):
        means = np.asarray(pixel_means, np.float64).ravel()
        saturation = change.saturation * np.eye(3) + (1 - change.saturation) * np.outer(np.ones(3), _GREY)
        linear = change.brightness * change.contrast * _hue_rotation(change.hue) @ saturation
        grey = means.mean()
        offset = linear @ means + (1 - change.contrast) * grey - means
        pixels = cv2.transform(pixels, np.column_stack((linear, offset)))
        np.clip(pixels, -means, 255 - means, out=pixels, casting='unsafe')
    if change.blur > 0:
        pixels = cv2.GaussianBlur(pixels, (0, 0), change.blur)
    return pixels


def _window_text(window: tuple[int, int, int, int] | None) -> str:
    if window is None:
        return ''
    x1, y1, x2, y2 = window
    return f'{x2 - x1 + 1} x {y2 - y1 + 1} at {x1}, {y1}'


def _hue_rotation(degrees: float) -> np.ndarray:
    """(3, 3): turns colours about the axis of greys (Rodrigues' formula)."""
    angle = np.deg2rad(degrees)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) / 3 + np.sin(angle) * across


def _windows(entry: dict, rng: np.random.Generator) -> Iterator[tuple[int, int, int, int]]:
    """Windows of random size and place that hold at least one object, if there are any, and cut none badly.

    Each object has at least cfg.TRAIN.AUGMENT.CROP_HOLDS of its area inside, or nothing.
    """
    full = np.array([entry['width'], entry['height']])
    size = np.maximum(np.rint(full * (1 - (1 - cfg.TRAIN.AUGMENT.CROP) * rng.random((_TRIES, 2)))), 1).astype(int)
    corner = (rng.random((_TRIES, 2)) * (full - size + 1)).astype(int)
    windows = np.column_stack((corner, corner + size - 1))
    share = _share_inside(windows, entry['boxes'][entry['gt_classes'] > 0].astype(np.float64))
    held = share >= cfg.TRAIN.AUGMENT.CROP_HOLDS
    fine = (held | (share == 0)).all(axis=1) & (held.any(axis=1) | (share.shape[1] == 0))
    for row in np.flatnonzero(fine):
        x1, y1, x2, y2 = windows[row].tolist()
        yield x1, y1, x2, y2


def _share_inside(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(W, n) float64: how much of the area of each of `boxes` (n, 4) is inside each of `windows` (W, 4)."""
    a, b = windows[:, None], boxes[None]
    shared = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    return np.prod(np.maximum(shared, 0), axis=2) / np.prod(b[..., 2:] - b[..., :2] + 1, axis=2)
