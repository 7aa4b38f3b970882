"""Pictures of RoIs and detections, drawn with OpenCV. Colours are told apart by colour-blind people too.

Classes and kinds have Okabe and Ito's colours, losses those of viridis, dark to yellow. Small images are
enlarged, so that lines and letters stay legible; a label that would cover another one moves, or is left
out.
"""

from collections.abc import Sequence

import cv2
import numpy as np

# BGR: orange, sky blue, bluish green, yellow, blue, vermilion, reddish purple
COLOURS = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
)
_ORANGE, _BLUE = COLOURS[:2]
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SHORT_SIDE = 480  # of the picture, in pixels; images of more are left as they are
_LONG_SIDE = 1600  # a panorama is enlarged no further, so that it can be looked at whole
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def loss_palette(count: int) -> list[tuple[int, int, int]]:
    """`count` colours (B, G, R) from viridis, the lowest loss first."""
    ramp = cv2.applyColorMap(np.linspace(0, 255, count).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return [(int(b), int(g), int(r)) for b, g, r in ramp.reshape(-1, 3)]


def draw_detections(image: np.ndarray, detections: Sequence[dict], classes: Sequence[str]) -> np.ndarray:
    """A picture of labelled boxes on `image` (H, W, 3), BGR, uint8.

    `detections`: dictionaries with class (one of `classes`), score and box (x1, y1, x2, y2), the best drawn
    on top.
    """
    picture, scale = _enlarged(image)
    thickness = _line(picture)
    labels = []
    for d in sorted(detections, key=lambda d: d['score']):
        colour = COLOURS[list(classes).index(d['class']) % len(COLOURS)]
        box = _scaled(d['box'], scale)
        _rectangle(picture, box, colour, thickness)
        labels.append((f'{d["class"]} {d["score"]:.2f}', box, colour))
    _draw_labels(picture, labels[::-1])
    return picture


def draw_by_loss(image: np.ndarray, boxes: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """All boxes (R, 4) coloured by `loss` (R,), the hardest on top, under a scale of the colours.

    The scale ends at the 99th percentile of the loss.
    """
    top = max(float(np.percentile(loss, 99)) if len(loss) else 0.0, 1e-6)
    return _coloured(image, boxes, loss, top, f'all {len(boxes)} RoIs by loss:  0', f'{top:.1f}')


def draw_by_score(image: np.ndarray, boxes: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The proposals (R, 4) of an RPN coloured by `score` (R,) from 0 to 1, the best on top, under a scale of colours.

    Boxes whose score is NaN were not proposed, and are left out.
    """
    proposed = np.flatnonzero(~np.isnan(score))
    return _coloured(
        image, boxes[proposed], score[proposed], 1.0, f"{len(proposed)} proposals by the RPN's score:  0", '1'
    )


def _coloured(image: np.ndarray, boxes: np.ndarray, values: np.ndarray, top: float, low: str, high: str) -> np.ndarray:
    """`boxes` (R, 4) coloured by `values` (R,) from 0 to `top`, the largest on top; `low`, `high` end the scale."""
    picture, scale = _enlarged(image)
    picture = (picture * 0.6).astype(np.uint8)
    palette = loss_palette(256)
    for i in np.argsort(values, kind='stable'):
        colour = palette[int(255 * min(values[i] / top, 1.0))]
        _outline(picture, _scaled(boxes[i], scale), colour, _line(picture) // 2)
    return _titled(picture, [(low, None), (high, palette)])


def draw_chosen(
    image: np.ndarray,
    boxes: np.ndarray,
    loss: np.ndarray,
    labels: np.ndarray,
    chosen: np.ndarray,
    classes: Sequence[str],
    title: str = 'mined',
    named: int = 6,
    score: np.ndarray | None = None,
) -> np.ndarray:
    """The boxes `chosen` (indices, the first ones on top): orange for objects, blue for background.

    The first `named` of them say their class and loss. `labels` (R,) int into `classes`, 0 the background. With `score`
    (R,) they say that of the RPN too; one that was not proposed has NaN.
    """
    picture, scale = _enlarged(image)
    picture = (picture * 0.6).astype(np.uint8)
    names = []
    for rank, i in reversed(list(enumerate(chosen))):
        colour = _ORANGE if labels[i] > 0 else _BLUE
        box = _scaled(boxes[i], scale)
        if rank >= named:
            _outline(picture, box, colour, _line(picture) // 2)
        else:
            _rectangle(picture, box, colour, _line(picture))
            proposed = '' if score is None or np.isnan(score[i]) else f' (proposed {score[i]:.2f})'
            names.append((f'{classes[int(labels[i])].strip("_")} {loss[i]:.2f}{proposed}', box, colour))
    _draw_labels(picture, names[::-1])
    objects = int((labels[chosen] > 0).sum())
    parts = [(f'{objects} objects', [_ORANGE]), (f'{len(chosen) - objects} background', [_BLUE])]
    return _titled(picture, [(f'{title}:', None), *parts])


def draw_repeats(image: np.ndarray, boxes: np.ndarray, by: np.ndarray, kept: np.ndarray, most: int = 5) -> np.ndarray:
    """What NMS removed, and for whose sake: the `most` kept boxes that removed the most, and what that was.

    `by` (R,): the box for whose sake each one was removed, or itself. Each kept box has a colour and a
    heavy line, those that it removed have fine lines of its colour.
    """
    picture, scale = _enlarged(image)
    picture = (picture * 0.6).astype(np.uint8)
    removed = np.flatnonzero(by != np.arange(len(by)))
    counts = np.bincount(by[removed], minlength=len(by)) if len(removed) else np.zeros(len(by), int)
    order = sorted(np.asarray(kept).tolist(), key=lambda i: -counts[i])[:most]
    shown = [i for i in order if counts[i]]
    labels = []
    for rank, i in enumerate(shown):
        for j in removed[by[removed] == i]:
            _outline(picture, _scaled(boxes[j], scale), COLOURS[rank % 7], _line(picture) // 2)
    for rank, i in enumerate(shown):
        _rectangle(picture, _scaled(boxes[i], scale), COLOURS[rank % 7], _line(picture) + 1)
        labels.append((f'removed {counts[i]}', _scaled(boxes[i], scale), COLOURS[rank % 7]))
    _draw_labels(picture, labels)
    title = f'NMS removed {len(removed)} of {len(boxes)} (fine lines) for harder ones (heavy lines)'
    return _titled(picture, [(title, None)])


def draw_mined_rois(batch, image: int, classes: Sequence[str]) -> np.ndarray:
    """All RoIs of an image by loss, and those mined: two panels.

    batch: a `hard_rois.MiniBatch`. The panels are side by side; of a wide image one is below the other. Of a net with
    an RPN, a panel of its proposals by score comes first.
    """
    rows = batch.rows(image)
    place = {int(row): k for k, row in enumerate(rows)}
    chosen = np.array([place[int(row)] for row in batch.kept if int(row) in place], dtype=int)
    boxes, loss, labels = batch.rois[rows, 1:], batch.loss[rows], batch.labels[rows]
    pixels = batch.images[image]
    score = None if batch.score is None else batch.score[rows]
    panels = [] if score is None else [draw_by_score(pixels, boxes, score)]
    panels += [
        draw_by_loss(pixels, boxes, loss),
        draw_chosen(pixels, boxes, loss, labels, chosen, classes, score=score),
    ]
    return beside(*panels) if pixels.shape[1] <= 2 * pixels.shape[0] else np.vstack(panels)


def beside(*panels: np.ndarray) -> np.ndarray:
    """Pictures side by side, on white, with a gap."""
    height = max(panel.shape[0] for panel in panels)
    parts = []
    for panel in panels:
        parts.append(cv2.copyMakeBorder(panel, 0, height - panel.shape[0], 0, 8, cv2.BORDER_CONSTANT, value=_WHITE))
    return np.hstack(parts)[:, :-8]


def _enlarged(image: np.ndarray) -> tuple[np.ndarray, float]:
    """A picture to draw on, and by how much the image is enlarged in it. A narrow one gets a margin for labels."""
    scale = max(1.0, min(_SHORT_SIDE / min(image.shape[:2]), _LONG_SIDE / max(image.shape[:2])))
    picture = image if scale == 1.0 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    margin = max(_SHORT_SIDE - picture.shape[1], 0)
    return cv2.copyMakeBorder(picture, 0, 0, 0, margin, cv2.BORDER_CONSTANT, value=_WHITE), scale


def _line(picture: np.ndarray) -> int:
    """Thickness of a line that stays visible when the picture is shown whole on a screen."""
    return max(2, round(min(picture.shape[:2]) / 300))


def _scaled(box, scale: float) -> tuple[int, int, int, int]:
    """Corners in the picture: a box takes in its last pixels whole."""
    x1, y1, x2, y2 = (float(v) for v in box)
    return round(x1 * scale), round(y1 * scale), round((x2 + 1) * scale - 1), round((y2 + 1) * scale - 1)


def _outline(picture: np.ndarray, box: Sequence[int], colour: Sequence[int], thickness: int) -> None:
    cv2.rectangle(picture, (box[0], box[1]), (box[2], box[3]), colour, thickness, cv2.LINE_AA)


def _rectangle(picture, box, colour, thickness: int) -> None:
    """A rectangle with a dark rim, seen on any ground."""
    _outline(picture, box, _BLACK, thickness + 2)
    _outline(picture, box, colour, thickness)


def _draw_labels(picture: np.ndarray, labels) -> None:
    """Labels at their boxes, the first ones first; a label that would cover another moves, or is left out."""
    size = 0.5 * max(1.0, min(picture.shape[:2]) / 600)
    thickness = max(1, round(size * 1.6))
    taken: list[tuple[int, int, int, int]] = []
    for text, (x1, y1, x2, y2), colour in labels:
        (w, h), base = cv2.getTextSize(text, _FONT, size, thickness)
        w, h = w + 6, h + base + 4
        left, right = (int(np.clip(x, 0, max(picture.shape[1] - w, 0))) for x in (x1, x2 - w))
        spots = [(left, y1 - h), (left, y1), (left, y2 - h), (left, y2), (right, y1 - h), (right, y2)]
        for x, y in [*spots, (left, y1 + h), (left, y1 + 2 * h)]:
            y = int(np.clip(y, 0, max(picture.shape[0] - h, 0)))
            if all(x >= a + c or a >= x + w or y >= b + d or b >= y + h for a, b, c, d in taken):
                break
        else:
            continue
        taken.append((x, y, w, h))
        cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), colour, -1)
        # black on the light colours, white on the dark ones
        ink = _BLACK if np.dot(colour, (0.114, 0.587, 0.299)) > 110 else _WHITE
        cv2.putText(picture, text, (x + 3, y + h - base - 1), _FONT, size, ink, thickness, cv2.LINE_AA)


def _titled(panel: np.ndarray, parts: Sequence[tuple[str, Sequence | None]]) -> np.ndarray:
    """`panel` under a line of text; a part (text, colours) has a patch of these colours before its text."""
    size = 0.55 * max(1.0, min(panel.shape[:2]) / 600)
    thickness = max(1, round(size * 1.5))

    def lay_out(size):
        """Each part's (text, colours, x of the patch, its width, x of the text) and the end of the line."""
        x, placed = round(8 * size / 0.55), []
        for text, colours in parts:
            patch = 0 if colours is None else round((110 if len(colours) > 9 else 16) * size / 0.55)
            at = x + patch + (round(6 * size / 0.55) if patch else 0)
            placed.append((text, colours, x, patch, at))
            x = at + cv2.getTextSize(text, _FONT, size, thickness)[0][0] + round(9 * size / 0.55)
        return placed, x

    placed, end = lay_out(size)
    while end > panel.shape[1] and size > 0.2:
        size *= 0.95
        thickness = max(1, round(size * 1.5))
        placed, end = lay_out(size)
    height = round(30 * max(size, 0.4) / 0.55)
    bar = np.full((height, panel.shape[1], 3), 255, np.uint8)
    letter = cv2.getTextSize('A', _FONT, size, thickness)[0][1]
    baseline = (height + letter) // 2
    for text, colours, x, patch, at in placed:
        if patch:
            ramp = np.array([colours[k * len(colours) // patch] for k in range(patch)], np.uint8)
            bar[baseline - letter : baseline + 1, x : x + patch] = ramp
        cv2.putText(bar, text, (at, baseline), _FONT, size, _BLACK, thickness, cv2.LINE_AA)
    return np.vstack([bar, panel])
