"""Pictures of the cells that an adversary dropped, drawn with OpenCV."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from inspection.draw import beside, drawable, loss_palette

_TILE = 180  # side of a picture of one RoI
_BAR = 30  # height of the line above it


def draw_dropped_cells(found: Any, image: np.ndarray, number: int, classes: Sequence[str], most: int = 6) -> np.ndarray:
    """The objects of an image that lost most by the cells dropped: three panels each.

    found: a `dropped_cells.DroppedCells`; `image` (H, W, 3), BGR, uint8, is its number `number`. The RoI; how much the
    adversary thinks that each cell is needed, from dark, of all its cells the least, to yellow; the RoI without the
    cells dropped. Above it stands its class, with the probability before and after; one that the adversary learns from
    is marked with an asterisk.
    """
    tiles = []
    palette = np.array(loss_palette(256), np.uint8)
    for row in found.most_deceived(number, most):
        crop = _crop(image, found.rois[row, 1:])
        need = found.need[row] - found.need[row].min()
        cells = (255 * need / max(need.max(), 1e-12)).astype(np.uint8)
        heat = cv2.addWeighted(_as_large(palette[cells], crop), 0.65, crop, 0.35, 0)
        gone = _as_large(found.dropped[row].astype(np.uint8), crop).astype(bool)
        without = crop.copy()
        without[gone] = without[gone] // 6
        for panel in (heat, without):
            _grid(panel, len(cells))
        said = f'{classes[found.labels[row]]}{"*" if found.taught[row] else ""}'
        said += f': {found.before[row]:.2f}, without the dark cells {found.after[row]:.2f}'
        tiles.append(_titled(beside(crop, heat, without), said))
    if not tiles:
        return _titled(image.copy(), 'no object among the RoIs')
    if len(tiles) == 1:
        return tiles[0]
    blank = np.full_like(tiles[0], 255)
    rows = [beside(*(tiles[i : i + 2] + [blank])[:2]) for i in range(0, len(tiles), 2)]
    return np.vstack(rows)


def _crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A box of an image as a square picture."""
    x1, y1 = (max(int(v), 0) for v in box[:2])
    x2, y2 = int(np.ceil(box[2])) + 1, int(np.ceil(box[3])) + 1
    part = image[min(y1, len(image) - 1) : y2, min(x1, image.shape[1] - 1) : x2]
    return cv2.resize(part, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)


def _as_large(cells: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A value a cell, (P, P) or (P, P, 3), as large as `picture`."""
    return cv2.resize(cells, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def _grid(picture: np.ndarray, cells: int) -> None:
    """Fine lines between the cells."""
    for at in np.linspace(0, len(picture), cells + 1)[1:-1].round().astype(int):
        picture[at, :] = picture[at, :] // 2 + 64
        picture[:, at] = picture[:, at] // 2 + 64


def _titled(picture: np.ndarray, text: str) -> np.ndarray:
    """`picture` under a line of text."""
    bar = np.full((_BAR, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, drawable(text), (8, _BAR - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, picture])
