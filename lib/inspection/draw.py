"""Pictures of RoIs, objects and detections, drawn with OpenCV. Colours are told apart by colour-blind people too.

Classes have the colours of `detection_data.palette`, losses those of viridis, dark to yellow; beside them the ground
truth is thin dashes of white on black. Small images are enlarged, and lines and letters grow with large ones, so that
they stay legible when the picture is looked at whole; a label that would cover another one moves, or is left out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from detection_data.palette import OKABE_ITO, class_colour

Colour = tuple[int, int, int]  # B, G, R

COLOURS: tuple[Colour, ...] = tuple((b, g, r) for r, g, b in OKABE_ITO)
OBJECTS = 'objects'  # stands for the dashes of an object in a legend
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SHORT_SIDE = 480  # of the picture, in pixels; images of more are left as they are
_LONG_SIDE = 1600  # a panorama is enlarged no further, so that it can be looked at whole
_SCREEN = (1400, 900)  # what a picture is looked at on
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PIXELS_A_BOX, _FEWEST, _MOST = 1000, 30, 200


class Part(NamedTuple):
    """A part of a legend."""

    text: str
    colours: Any = None
    """Of a patch before the text: (B, G, R) each, or OBJECTS."""
    before: str = ''
    """A text before the patch."""


def shown_at_once(width: int, height: int) -> int:
    """How many boxes an image of this size is drawn with, the hardest, before they hide it and one another."""
    return min(max(_FEWEST, width * height // _PIXELS_A_BOX), _MOST)


def loss_palette(count: int) -> list[Colour]:
    """`count` colours (B, G, R) from viridis, the lowest loss first."""
    ramp = cv2.applyColorMap(np.linspace(0, 255, count).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return [(int(b), int(g), int(r)) for b, g, r in ramp.reshape(-1, 3)]


def scale_end(values: np.ndarray) -> float:
    """Where a scale of colours for `values` (n,) ends: their 99th percentile, rounded up to two digits, so that the
    number beside it is the number.
    """
    top = max(float(np.percentile(values, 99)) if len(values) else 0.0, 1e-6)
    unit = 10.0 ** (np.floor(np.log10(top)) - 1)
    return float(f'{np.ceil(round(top / unit, 6)) * unit:.2g}')


def draw_detections(
    image: np.ndarray, detections: Sequence[dict], classes: Sequence[str], objects: np.ndarray | None = None
) -> np.ndarray:
    """A picture of labelled boxes on `image` (H, W, 3), BGR, uint8, under a legend.

    `detections`: dictionaries with class (one of `classes`, which are without the background), score and box (x1, y1,
    x2, y2), the best drawn on top. `objects` (n, 4 or more): the ground truth, if it is known.
    """
    picture, scale = _enlarged(image)
    thickness = _line(picture)
    numbers = {name: i + 1 for i, name in enumerate(classes)}
    labels, counts = [], dict.fromkeys(range(1, len(classes) + 1), 0)
    for d in sorted(detections, key=lambda d: d['score']):
        if d['class'] not in numbers:
            raise ValueError(f'a detection of class {d["class"]!r}; the classes are {", ".join(classes)}')
        counts[numbers[d['class']]] += 1
        colour = _of_class(numbers[d['class']])
        box = _scaled(d['box'], scale)
        _rectangle(picture, box, colour, thickness)
        labels.append((f'{d["class"]} {d["score"]:.2f}', box, colour))
    _draw_objects(picture, objects, scale)
    _draw_labels(picture, labels[::-1])
    legend = [Part(f'{counts[c]} {name}', [_of_class(c)]) for name, c in numbers.items() if counts[c]]
    return _titled(picture, [*(legend or [Part('no detections')]), *_legend_of(objects)])


def draw_objects(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The objects (n, 4) of `image`, `labels` (n,) int into `classes`, the background first, under a legend."""
    picture, scale = _enlarged(image)
    named = []
    for box, label in zip(boxes, labels, strict=True):
        corners = _scaled(box, scale)
        _rectangle(picture, corners, _of_class(int(label)), _line(picture))
        named.append((str(classes[int(label)]), corners, _of_class(int(label))))
    _draw_labels(picture, named)
    return _titled(picture, _counted(labels, classes) or [Part('no objects')])


def draw_by_loss(
    image: np.ndarray,
    boxes: np.ndarray,
    loss: np.ndarray,
    objects: np.ndarray | None = None,
    most: int | None = None,
    panels: int = 1,
) -> np.ndarray:
    """Boxes (R, 4) coloured by `loss` (R,), the hardest on top, under a scale of the colours that ends at `scale_end`.

    The `most` hardest are drawn, by default as many as `shown_at_once` says. `objects` (n, 4 or more) are the ground
    truth. `panels`: how many pictures will stand side by side, for the size of letters.
    """
    most = shown_at_once(image.shape[1], image.shape[0]) if most is None else most
    top = scale_end(loss)
    drawn = _highest(loss, most)
    what = f'all {len(boxes)} RoIs' if len(drawn) == len(boxes) else f'the {len(drawn)} hardest of {len(boxes)} RoIs'
    more = ' and more' if (loss > top).any() else ''
    return _coloured(image, boxes[drawn], loss[drawn], top, f'{what} by loss:', f'{top:g}{more}', objects, panels)


def draw_by_score(
    image: np.ndarray,
    boxes: np.ndarray,
    score: np.ndarray,
    objects: np.ndarray | None = None,
    most: int | None = None,
    panels: int = 1,
) -> np.ndarray:
    """The proposals (R, 4) of an RPN coloured by `score` (R,) from 0 to 1, the best on top, under a scale of colours.

    Boxes whose score is NaN were not proposed, and are left out. The rest as in `draw_by_loss`.
    """
    most = shown_at_once(image.shape[1], image.shape[0]) if most is None else most
    proposed = np.flatnonzero(~np.isnan(score))
    drawn = proposed[_highest(score[proposed], most)]
    of = '' if len(drawn) == len(proposed) else f' best of {len(proposed)}'
    what = f"{len(drawn)}{of} proposals by the RPN's score:"
    return _coloured(image, boxes[drawn], score[drawn], 1.0, what, '1', objects, panels)


def _highest(values: np.ndarray, most: int) -> np.ndarray:
    """The indices of the `most` highest of `values` (n,), the highest last."""
    return np.argsort(values, kind='stable')[max(len(values) - most, 0) :]


def _coloured(image, boxes, values, top: float, what: str, high: str, objects, panels: int) -> np.ndarray:
    """`boxes` (R, 4) coloured by `values` (R,) from 0 to `top`, in their order, under `what` they are and a scale."""
    picture, scale = _enlarged(image, 0.6)
    palette = loss_palette(256)
    for box, value in zip(boxes, values, strict=True):
        _outline(picture, _scaled(box, scale), palette[int(255 * min(value / top, 1.0))], _line(picture, panels) // 2)
    _draw_objects(picture, objects, scale, panels)
    return _titled(picture, [Part(what), Part(high, palette, '0'), *_legend_of(objects)], panels)


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
    objects: np.ndarray | None = None,
    panels: int = 1,
) -> np.ndarray:
    """The boxes `chosen` (indices, the first ones on top) in the colours of their classes, grey for background.

    The first `named` of them say their class and loss. `labels` (R,) int into `classes`, 0 the background. With `score`
    (R,) they say that of the RPN too, after a stroke; one that was not proposed has NaN. `objects`, `panels` as in
    `draw_by_loss`.
    """
    picture, scale = _enlarged(image, 0.6)
    line, names = _line(picture, panels), []
    for rank, i in reversed(list(enumerate(chosen))):
        colour = _of_class(int(labels[i]))
        box = _scaled(boxes[i], scale)
        if rank >= named:
            _outline(picture, box, colour, line // 2)
        else:
            _rectangle(picture, box, colour, line)
            proposed = '' if score is None or np.isnan(score[i]) else f' / {score[i]:.2f}'
            names.append((f'{classes[int(labels[i])].strip("_")} {loss[i]:.2f}{proposed}', box, colour))
    _draw_objects(picture, objects, scale, panels)
    _draw_labels(picture, names[::-1], panels)
    legend = _counted(np.asarray(labels)[chosen], classes) or [Part('none')]
    title += '' if score is None else ' (loss / RPN)'
    return _titled(picture, [Part(f'{title}:'), *legend, *_legend_of(objects)], panels)


def draw_repeats(image: np.ndarray, boxes: np.ndarray, by: np.ndarray, kept: np.ndarray, most: int = 5) -> np.ndarray:
    """What NMS removed, and for whose sake: the `most` kept boxes that removed the most, and what that was.

    `by` (R,): the box for whose sake each one was removed, or itself. Each kept box has a colour and a
    heavy line, those that it removed have fine lines of its colour.
    """
    picture, scale = _enlarged(image, 0.6)
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
    return _titled(picture, [Part(title)])


def draw_mined_rois(batch: Any, image: int, classes: Sequence[str]) -> np.ndarray:
    """The hardest RoIs of an image by loss, and those mined: two panels, both with the objects.

    batch: a `hard_rois.MiniBatch`. The panels are side by side; of a wide image one is below the other. Of a net with
    an RPN, a panel of its proposals by score comes first.
    """
    rows = batch.rows(image)
    place = {int(row): k for k, row in enumerate(rows)}
    chosen = np.array([place[int(row)] for row in batch.kept if int(row) in place], dtype=int)
    boxes, loss, labels = batch.rois[rows, 1:], batch.loss[rows], batch.labels[rows]
    pixels = batch.images[image]
    score = None if batch.score is None else batch.score[rows]
    wide = pixels.shape[1] > 2 * pixels.shape[0]
    given: dict[str, Any] = {
        'objects': batch.objects[image] if batch.objects else None,
        'panels': 1 if wide else 2 if score is None else 3,
    }
    panels = [] if score is None else [draw_by_score(pixels, boxes, score, **given)]
    panels += [
        draw_by_loss(pixels, boxes, loss, **given),
        draw_chosen(pixels, boxes, loss, labels, chosen, classes, score=score, **given),
    ]
    return np.vstack(panels) if wide else beside(*panels)


def beside(*panels: np.ndarray) -> np.ndarray:
    """Pictures side by side, on white, with a gap; their lower edges are level, whatever the lines of their legends."""
    height = max(panel.shape[0] for panel in panels)
    parts = []
    for panel in panels:
        parts.append(cv2.copyMakeBorder(panel, height - panel.shape[0], 0, 0, 8, cv2.BORDER_CONSTANT, value=_WHITE))
    return np.hstack(parts)[:, :-8]


def _enlarged(image: np.ndarray, light: float = 1.0) -> tuple[np.ndarray, float]:
    """A picture to draw on, and by how much the image is enlarged in it. A narrow one gets a margin for labels.

    With `light` below 1 it is that much darker, so that boxes stand out.
    """
    scale = max(1.0, min(_SHORT_SIDE / min(image.shape[:2]), _LONG_SIDE / max(image.shape[:2])))
    picture = image if scale == 1.0 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    if light < 1:
        picture = (picture * light).astype(np.uint8)
    margin = max(_SHORT_SIDE - picture.shape[1], 0)
    return cv2.copyMakeBorder(picture, 0, 0, 0, margin, cv2.BORDER_CONSTANT, value=_WHITE), scale


def _of_class(index: int) -> Colour:
    r, g, b = class_colour(index)
    return b, g, r


def _counted(labels: np.ndarray, classes: Sequence[str]) -> list[Part]:
    """A legend: how many `labels` (n,) there are of each class that occurs, the background last."""
    counts = np.bincount(np.asarray(labels, int), minlength=len(classes))
    order = [*range(1, len(counts)), 0]
    return [Part(f'{counts[c]} {str(classes[c]).strip("_")}', [_of_class(c)]) for c in order if counts[c]]


def _legend_of(objects: np.ndarray | None) -> list[Part]:
    return [] if objects is None or len(objects) == 0 else [Part('labelled object', OBJECTS)]


def _letters(picture: np.ndarray, panels: int = 1) -> float:
    """OpenCV's size of letters that stay legible when the picture, one of `panels` side by side, is shown whole."""
    height, width = picture.shape[:2]
    return 0.5 * max(1.0, min(height, width) / 600, width * panels / _SCREEN[0], height / _SCREEN[1])


def _line(picture: np.ndarray, panels: int = 1) -> int:
    """Thickness of a line that stays visible then."""
    return max(2, round(4 * _letters(picture, panels)))


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


def _draw_objects(picture: np.ndarray, objects: np.ndarray | None, scale: float, panels: int = 1) -> None:
    """Thin rectangles of white dashes on black, seen on any ground and beside any colour."""
    thin = max(1, _line(picture, panels) // 2)
    for box in () if objects is None else objects:
        x1, y1, x2, y2 = _scaled(box[:4], scale)
        for start, end in (((x1, y1), (x2, y1)), ((x1, y2), (x2, y2)), ((x1, y1), (x1, y2)), ((x2, y1), (x2, y2))):
            _dashes(picture, start, end, thin)


def _dashes(picture: np.ndarray, start: Sequence[int], end: Sequence[int], thin: int) -> None:
    """A level or upright line of white dashes on black."""
    a, b = np.array(start), np.array(end)
    cv2.line(picture, start, end, _BLACK, thin)
    length, dash = int(np.abs(b - a).max()), 4 * thin
    along = np.sign(b - a)
    for at in range(0, length, 2 * dash):
        cv2.line(picture, (a + along * at).tolist(), (a + along * min(at + dash, length)).tolist(), _WHITE, thin)


def _draw_labels(picture: np.ndarray, labels, panels: int = 1) -> None:
    """Labels at their boxes, the first ones first; a label that would cover another moves, or is left out."""
    size = _letters(picture, panels)
    thickness = max(1, round(size * 1.6))
    taken: list[tuple[int, int, int, int]] = []
    for text, (x1, y1, x2, y2), colour in labels:
        (w, h), base = cv2.getTextSize(drawable(text), _FONT, size, thickness)
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
        cv2.putText(picture, drawable(text), (x + 3, y + h - base - 1), _FONT, size, ink, thickness, cv2.LINE_AA)


def drawable(text: str) -> str:
    """A text as OpenCV can draw it: halves of letters, as names that are not UTF-8 have, end the process."""
    return text.encode(errors='replace').decode()


def _titled(panel: np.ndarray, parts: Sequence[Part], panels: int = 1) -> np.ndarray:
    """`panel` under the lines of a legend.

    What does not fit in a line goes to the next one; letters shrink only where a single part is too long.
    """
    size = 1.1 * _letters(panel, panels)
    lines, end = _laid_out(parts, size, panel.shape[1])
    while end > panel.shape[1] and size > 0.2:
        size *= 0.95
        lines, end = _laid_out(parts, size, panel.shape[1])
    thickness = max(1, round(size * 1.5))
    height = round(30 * max(size, 0.4) / 0.55)
    letter = cv2.getTextSize('A', _FONT, size, thickness)[0][1]
    bar = np.full((height * len(lines), panel.shape[1], 3), 255, np.uint8)
    for row, line in enumerate(lines):
        baseline = row * height + (height + letter) // 2
        for part, (before, patch, text, _) in line:
            colours, width = part.colours, text - patch - round(6 * size / 0.55)
            if colours == OBJECTS:
                middle = baseline - letter // 2
                _dashes(bar, (patch, middle), (patch + width, middle), max(1, _line(panel, panels) // 2))
            elif colours is not None:
                ramp = np.array([colours[k * len(colours) // width] for k in range(width)], np.uint8)
                bar[baseline - letter : baseline + 1, patch : patch + width] = ramp[: max(panel.shape[1] - patch, 0)]
            for words, x in ((part.before, before), (part.text, text)):
                cv2.putText(bar, drawable(words), (x, baseline), _FONT, size, _BLACK, thickness, cv2.LINE_AA)
    return np.vstack([bar, panel])


def _laid_out(parts: Sequence[Part], size: float, width: int) -> tuple[list[list[tuple]], int]:
    """Lines of (part, x of what stands before its patch, of the patch, of its text, and its end); the longest's end."""
    unit, thickness = size / 0.55, max(1, round(size * 1.5))
    margin, gap, between = round(8 * unit), round(6 * unit), round(14 * unit)
    lines: list[list[tuple]] = [[]]
    x, longest = margin, 0
    for part in parts:
        sizes = (cv2.getTextSize(drawable(words), _FONT, size, thickness) for words in (part.before, part.text))
        before, text = (each[0][0] for each in sizes)
        patch = 0
        if part.colours is not None:
            patch = round(unit * (34 if part.colours == OBJECTS else 110 if len(part.colours) > 9 else 16))
        length = (before + gap if before else 0) + (patch + gap if patch else 0) + text
        if lines[-1] and x + length > width:
            lines.append([])
            x = margin
        at = x + (before + gap if before else 0)
        lines[-1].append((part, (x, at, x + length - text, x + length)))
        longest = max(longest, x + length)
        x += length + between
    return lines, longest
