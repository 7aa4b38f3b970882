"""What a label must be: for all formats the one place where it is accepted, put right, or refused.

Each format reads its files into `RawObject`s, as they stand; `judge` says what is wrong with them, and
`edges_used` makes the boxes that training gets. Reading for training, and for a project, raises the first finding
that is refused and counts those that are put right; `findings` lists them all.

Boxes are judged by their edges, (left, top, right, bottom) in pixels from the image's corner: the object covers what
lies between them. A box of inclusive pixels (x1, y1, x2, y2), counted from 0, has the edges (x1, y1, x2 + 1, y2 + 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

STRAY = 1.0  # pixels by which a box may reach out of its image: labelling tools round

REFUSED, PUT_RIGHT, NOTED = 'refuses', 'put right', 'goes on'

# kind -> (what it is, what becomes of it)
KINDS = {
    'class': ('object of an unknown class', REFUSED),
    'flag': ('object whose difficult, truncated, occluded or iscrowd means nothing', REFUSED),
    'no box': ('object without four numbers for its box', REFUSED),
    'zero size': ('box of zero width or height', REFUSED),
    'relative': ('box in shares of its image, from 0 to 1, where pixels are expected', REFUSED),
    'out of frame': ('box that reaches out of its image', REFUSED),
    'swapped': ('box with swapped corners: put in order', PUT_RIGHT),
    'begins at 0': ('box that begins at pixel 0, where VOC counts from 1: cut off', PUT_RIGHT),
    'clipped': ('box that reaches out of its image by a pixel at most: cut off', PUT_RIGHT),
    'outline': ('polygon or rotated box: its bounding box is taken', PUT_RIGHT),
    'no size': ('image whose annotation states no size: measured', PUT_RIGHT),
    'twice': ('object given twice: same class, same box', NOTED),
}

_TRUE, _FALSE = ('1', 'true', 'yes', 'y', 't'), ('', '0', 'false', 'no', 'n', 'f', 'unspecified', 'none', 'null')


class AnnotationError(ValueError):
    """An annotation that cannot be used; the message names the file, the object and what is wrong."""


class Style(NamedTuple):
    """How a format writes boxes."""

    fields: str
    """Names of the four numbers, for messages."""
    edges: Callable[[Sequence[float]], tuple[float, float, float, float]]
    """The four numbers -> left, top, right, bottom."""
    least: float
    """A box has to be wider and higher than this."""
    counts: str
    """How pixels are counted, for messages; may be empty."""
    remedy: str
    corners: bool = False
    """The numbers are two opposite corners: in another order they mean the same box. A width below 0 means none."""
    shares: bool = False
    """The numbers are shares of the image, not pixels."""


class RawObject(NamedTuple):
    """An object as its file has it."""

    where: str
    """File and number."""
    name: str
    numbers: tuple[float, ...] | None
    """Of its box, as the format writes it; None if there are no four numbers."""
    problem: str = ''
    """Why there are none."""
    flags: Mapping[str, object] = MappingProxyType({})
    """difficult, truncated ... -> the text or value that the file has."""
    place_of: Callable[[str], str] | None = None
    """Where in the file a flag is."""
    outline: bool = False
    """The numbers are the bounding box of a polygon, or of a rotated box."""


class Finding(NamedTuple):
    """Something about an object: its kind (see KINDS), and the sentence that says so."""

    kind: str
    message: str


def judge(
    objects: Iterable[RawObject], classes: dict[str, int] | None, size: tuple[int, int] | None, style: Style
) -> list[Finding]:
    """What is to be said of the objects of an image, in their order.

    * objects: of one image.
    * classes: name -> index, 0 the background; None if the classes are what the objects say.
    * size: (width, height) of the image; None if it is not known.
    * style: of the format.
    """
    found, before = [], set()
    for each in objects:
        problem = _class_problem(each.name, classes)
        if problem:
            found.append(Finding('class', f'{each.where} {problem}; {style.remedy}'))
        for flag, value in each.flags.items():
            if flag_value(value, share=flag in ('truncated', 'occluded')) is None:
                place = each.place_of(flag) if each.place_of else each.where
                found.append(
                    Finding(
                        'flag',
                        f'{place}: {flag} is {value!r}, which means neither yes nor no; expected 0 or 1; '
                        f'{style.remedy}',
                    )
                )
        where = f'{each.where} ({each.name})'
        if each.numbers is None:
            found.append(Finding('no box', f'{where}{each.problem}; {style.remedy}'))
            continue
        of_box = _box_findings(each.numbers, each.outline, size, style)
        found += [Finding(kind, f'{where}: {said}') for kind, said in of_box]
        if (each.name, each.numbers) in before:
            found.append(Finding('twice', f'{where}: box {_shown(each.numbers)} is given twice'))
        before.add((each.name, each.numbers))
    return found


def refuse(found: Iterable[Finding]) -> None:
    """Raise AnnotationError for the first finding that is refused."""
    for kind, message in found:
        if KINDS[kind][1] == REFUSED:
            raise AnnotationError(message)


def edges_used(numbers: np.ndarray, size: tuple[int, int] | None, style: Style) -> np.ndarray:
    """The boxes that are used of those that `judge` accepts: corners in order, cut to their image.

    numbers: (n, 4), as the format writes them. size: (width, height) of the image; None if it is not known. Returns
    edges, float64 (n, 4).
    """
    columns = np.asarray(numbers, np.float64).reshape(-1, 4).T
    if style.corners:
        columns = np.vstack([np.minimum(columns[:2], columns[2:]), np.maximum(columns[:2], columns[2:])])
    return np.clip(np.stack(style.edges(columns), axis=1), 0, [*(size or (np.inf, np.inf))] * 2)


def flag_value(value: Any, share: bool = False) -> bool | None:
    """What a flag of an object means: True, False, or None if it means nothing.

    0, false, no, unspecified, none and an empty text are False, 1, true and yes True, in any case. `share`: a number
    from 0 to 1 or a level from 0 on, as some tools write for truncated and occluded, says yes unless it is 0.
    """
    text = '' if value is None else str(value).strip().casefold()
    if text in _FALSE:
        return False
    if text in _TRUE:
        return True
    try:
        number = float(text)
    except ValueError:
        return None
    if number in (0, 1) or (share and math.isfinite(number) and number > 0):
        return number != 0
    return None


def same_but_for_case(name: str, others: Iterable[str]) -> str | None:
    """The first of `others` that differs from `name` in case or blanks alone."""
    return next((other for other in others if other != name and _bare(other) == _bare(name)), None)


def check_names_differ(names: Sequence[str], where: str, remedy: str) -> None:
    """Raise AnnotationError if two class names differ in case or blanks alone."""
    for k, name in enumerate(names):
        other = same_but_for_case(name, names[:k])
        if other:
            raise AnnotationError(
                f'{where}: the classes {other!r} and {name!r} differ in case or blanks alone. Are they one? {remedy}'
            )


def _bare(name: str) -> str:
    return ''.join(name.casefold().split())


def _class_problem(name: str, classes: dict[str, int] | None) -> str | None:
    if classes is None:
        return None if name else 'has no class'
    if classes.get(name, 0) > 0:
        return None
    known = [c for c, index in classes.items() if index]
    near = same_but_for_case(name, known)
    alike = f', which differs from {near!r} in case or blanks alone' if near else ''
    return f'is of class {name!r}{alike}; the classes of this set are: {", ".join(known)}'


def _box_findings(
    numbers: tuple[float, ...], outline: bool, size: tuple[int, int] | None, style: Style
) -> list[tuple[str, str]]:
    """(kind, sentence): the worst of what is wrong with a box, and how it came about."""
    found = [('outline', f'a polygon or rotated box, its bounding box is {_shown(numbers)}')] * outline
    shown = f'box {_shown(numbers)} {style.fields}'
    width, height = size or (math.inf, math.inf)
    if not style.shares and min(width, height) > 1 and min(numbers) >= 0 and max(numbers) <= 1:
        said = f'{shown} lies between 0 and 1: in shares of the image? Expected pixels, of {_size(size)}'
        return [*found, ('relative', f'{said}; {style.remedy}')]
    if style.shares and max(map(abs, numbers)) > 2:
        said = f'{shown} lies outside its image: expected shares of it, from 0 to 1'
        return [*found, ('out of frame', f'{said}; {style.remedy}')]
    ordered = _in_order(numbers) if style.corners else tuple(numbers)
    left, top, right, bottom = style.edges(ordered)
    if right - left <= style.least or bottom - top <= style.least:
        return [*found, ('zero size', f'{shown} has zero or negative size; {style.remedy}')]
    if ordered != tuple(numbers):
        found.append(('swapped', f'{shown} has its corners in another order. Is it x, y, width, height?'))
    beyond = max(-left, -top, right - width, bottom - height)
    if beyond <= 0:
        return found
    outside = f'{shown} lies outside its image ({_size(size)}{style.counts})'
    kept = min(right, width) - max(left, 0), min(bottom, height) - max(top, 0)
    if beyond > STRAY or min(kept) <= style.least:
        return [*found, ('out of frame', f'{outside}; {style.remedy}')]
    return [*found, ('begins at 0' if style.counts and min(left, top) < 0 else 'clipped', outside)]


def _in_order(corners: Sequence[float]) -> tuple[float, ...]:
    (x1, x2), (y1, y2) = sorted(corners[0::2]), sorted(corners[1::2])
    return x1, y1, x2, y2


def _shown(numbers: Sequence[float]) -> str:
    return f'({", ".join(f"{v:g}" for v in numbers)})'


def _size(size: tuple[int, int] | None) -> str:
    return f'{size[0]}x{size[1]}' if size else 'unknown size'
