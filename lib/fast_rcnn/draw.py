"""Pictures of RoIs and detections, drawn with OpenCV. Colours are Okabe & Ito's, told apart by colour-blind people too.

Small images are enlarged, so that lines and letters stay legible.
"""

from collections.abc import Sequence

import cv2
import numpy as np

# BGR
COLOURS = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
)
_SHORT_SIDE = 480  # of the picture, in pixels; images of more are left as they are
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_detections(image: np.ndarray, detections: Sequence[dict], classes: Sequence[str]) -> np.ndarray:
    """A picture of labelled boxes on `image` (H, W, 3), BGR, uint8.

    `detections`: dictionaries with class (one of `classes`), score and box (x1, y1, x2, y2), the best drawn on top.
    """
    picture, scale = _enlarged(image)
    labels = []
    for d in sorted(detections, key=lambda d: d['score']):
        colour = COLOURS[list(classes).index(d['class']) % len(COLOURS)]
        x1, y1, x2, y2 = _scaled(d['box'], scale)
        _rectangle(picture, (x1, y1, x2, y2), colour, 2)
        labels.append((f'{d["class"]} {d["score"]:.2f}', (x1, y1, x2, y2), colour))
    _draw_labels(picture, labels[::-1])
    return picture


def draw_mined_rois(
    image: np.ndarray,
    rois: np.ndarray,
    loss: np.ndarray,
    labels: np.ndarray,
    kept: np.ndarray,
    classes: Sequence[str],
    named: int = 6,
) -> np.ndarray:
    """Two panels side by side: all RoIs coloured by loss, and those that mining kept, the hardest few labelled.

    `image` (H, W, 3) BGR uint8; `rois` (R, 4) in its pixels; `loss` (R,); `labels` (R,) int into `classes`, 0 the
    background; `kept` indices of the mined RoIs, hardest first. Dark RoIs are easy, yellow ones hard.
    """
    everything, scale = _enlarged(image)
    mined = everything.copy()
    everything = (everything * 0.6).astype(np.uint8)
    shade = np.clip(loss / max(float(np.percentile(loss, 99)) if len(loss) else 1.0, 1e-6), 0, 1)
    palette = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS).reshape(256, 3)
    for i in np.argsort(loss, kind='stable'):
        colour = tuple(int(v) for v in palette[int(255 * shade[i])])
        cv2.rectangle(everything, *_corners(_scaled(rois[i], scale)), colour, 1, cv2.LINE_AA)
    names = []
    for rank, i in reversed(list(enumerate(kept))):
        foreground = labels[i] > 0
        colour = COLOURS[0] if foreground else COLOURS[1]
        box = _scaled(rois[i], scale)
        _rectangle(mined, box, colour, 2 if rank < named else 1)
        if rank < named:
            names.append((f'{classes[int(labels[i])].strip("_")} {loss[i]:.2f}', box, colour))
    _draw_labels(mined, names[::-1])
    titles = (
        f'all {len(rois)} RoIs, yellow = high loss',
        f'the {len(kept)} mined: orange = object, blue = background',
    )
    panels = [_titled(panel, title) for panel, title in zip((everything, mined), titles, strict=True)]
    return np.hstack([panels[0], np.full((panels[0].shape[0], 8, 3), 255, np.uint8), panels[1]])


def _enlarged(image: np.ndarray) -> tuple[np.ndarray, float]:
    scale = max(1.0, _SHORT_SIDE / min(image.shape[:2]))
    if scale == 1.0:
        return image.copy(), scale
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), scale


def _scaled(box, scale: float) -> tuple[int, int, int, int]:
    """Corners in the picture: a box takes in its last pixels whole."""
    x1, y1, x2, y2 = (float(v) for v in box)
    return tuple(round(v) for v in (x1 * scale, y1 * scale, (x2 + 1) * scale - 1, (y2 + 1) * scale - 1))


def _corners(box):
    return (box[0], box[1]), (box[2], box[3])


def _rectangle(picture, box, colour, thickness: int) -> None:
    """A rectangle with a dark rim, seen on any ground."""
    cv2.rectangle(picture, *_corners(box), (0, 0, 0), thickness + 2, cv2.LINE_AA)
    cv2.rectangle(picture, *_corners(box), colour, thickness, cv2.LINE_AA)


def _draw_labels(picture: np.ndarray, labels) -> None:
    """Labels at their boxes, the first ones first; a label that would cover another moves down, or is left out."""
    size = 0.5 * max(1.0, min(picture.shape[:2]) / 600)
    thickness = max(1, round(size * 1.6))
    taken: list[tuple[int, int, int, int]] = []
    for text, (x1, y1, _x2, y2), colour in labels:
        (w, h), base = cv2.getTextSize(text, _FONT, size, thickness)
        w, h = w + 6, h + base + 4
        x = int(np.clip(x1, 0, max(picture.shape[1] - w, 0)))
        for y in (y1 - h, y1, y2 - h, y2, y1 + h, y1 + 2 * h):
            y = int(np.clip(y, 0, max(picture.shape[0] - h, 0)))
            if all(x >= a + c or a >= x + w or y >= b + d or b >= y + h for a, b, c, d in taken):
                break
        else:
            continue
        taken.append((x, y, w, h))
        cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), colour, -1)
        cv2.putText(picture, text, (x + 3, y + h - base - 1), _FONT, size, (0, 0, 0), thickness, cv2.LINE_AA)


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    size = 0.55
    while cv2.getTextSize(title, _FONT, size, 1)[0][0] > panel.shape[1] - 12 and size > 0.25:
        size -= 0.05
    bar = np.full((30, panel.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, title, (6, 20), _FONT, size, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, panel])
