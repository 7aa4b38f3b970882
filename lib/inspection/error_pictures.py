"""Pictures of detection mistakes: sheets of examples, and a chart of their numbers."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import whole_file
from detection_data.curves import literal
from inspection.draw import COLOURS
from roi_data_layer.image_blob import read_image

# RGB of draw.COLOURS, one a kind of mistake
_HEX = ['#{:02x}{:02x}{:02x}'.format(*colour[::-1]) for colour in COLOURS]
_DETECTION, _OBJECT = _HEX[0], _HEX[1]


def draw_sheet(path: str, mistakes: Sequence[dict], kind: str, total: int, columns: int = 4) -> None:
    """Crops, a mistake each, in one PNG `path`: the detection in orange, the object in dashed blue.

    `mistakes`: dictionaries as in errors.json of tools/visualize_errors.py, the worst first.
    """
    rows = -(-len(mistakes) // columns)
    with matplotlib.rc_context({'font.size': 9}):
        figure = Figure(figsize=(2.6 * columns, 2.85 * rows + 0.6), layout='constrained')
        axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, mistake in zip(axes, mistakes, strict=False):
            _draw_crop(ax, mistake)
        shown = f'{len(mistakes)} of {total}' if len(mistakes) < total else f'{total}'
        legend = '' if kind == 'missed' else 'orange: detection; '
        figure.suptitle(f'{kind}: {shown}  ({legend}dashed blue: object)', fontsize=11)
        _save(figure, path)


def draw_counts(path: str, counts: dict[str, dict[str, int]], kinds: Sequence[str]) -> None:
    """A bar for each class of `counts`, parted by kind of mistake, to the PNG `path`."""
    figure = Figure(figsize=(8, 1.4 + 0.42 * len(counts)), layout='constrained')
    ax = figure.subplots()
    left = np.zeros(len(counts))
    for kind, colour in zip(kinds, [_HEX[i] for i in (0, 1, 3, 5, 4)], strict=True):
        values = np.array([of_class[kind] for of_class in counts.values()])
        bars = ax.barh(list(map(literal, counts)), values, left=left, color=colour, label=kind, edgecolor='white')
        labels = [str(v) if v >= 0.04 * max(1, _most(counts, kinds)) else '' for v in values]
        dark = kind in ('missed', 'background')
        ax.bar_label(bars, labels, label_type='center', fontsize=8, color='white' if dark else 'black')
        left += values
    ax.set_ylim(len(counts) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel('mistakes')
    ax.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside upper center', ncols=len(kinds), frameon=False)
    _save(figure, path)


def _most(counts, kinds) -> int:
    return max((sum(of_class[k] for k in kinds) for of_class in counts.values()), default=0)


def _draw_crop(ax, mistake: dict) -> None:
    image = read_image(mistake['image'])
    boxes = np.array([b for b in (mistake['box'], mistake['object_box']) if b is not None])
    x1, y1 = boxes[:, :2].min(axis=0)
    x2, y2 = boxes[:, 2:].max(axis=0)
    # a square around both boxes, with some of what is about them
    side = max(1.5 * max(x2 - x1, y2 - y1), 48)
    left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    ax.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), interpolation='bilinear')
    ax.set_xlim(max(left, -0.5), min(left + side, image.shape[1] - 0.5))
    ax.set_ylim(min(top + side, image.shape[0] - 0.5), max(top, -0.5))
    if mistake['object_box'] is not None:
        _rectangle(ax, mistake['object_box'], _OBJECT, '--')
    if mistake['score'] is None:
        ax.set_title(literal(f'{mistake["class"]}\nbest IoU of its class {mistake["iou"]:.2f}'), fontsize=9)
        return
    _rectangle(ax, mistake['box'], _DETECTION, '-')
    of = 'no object' if mistake['object_class'] is None else f'{mistake["object_class"]}, IoU {mistake["iou"]:.2f}'
    ax.set_title(literal(f'{mistake["class"]} {mistake["score"]:.2f}\n{of}'), fontsize=9)


def _rectangle(ax, box, colour: str, style: str) -> None:
    x1, y1, x2, y2 = box
    for width, ink in ((4, 'black'), (2.2, colour)):  # a dark rim, seen on any ground
        ax.plot(
            [x1 - 0.5, x2 + 0.5, x2 + 0.5, x1 - 0.5, x1 - 0.5],
            [y1 - 0.5, y1 - 0.5, y2 + 0.5, y2 + 0.5, y1 - 0.5],
            linestyle=style if ink == colour else '-',
            color=ink,
            linewidth=width,
            alpha=1 if ink == colour else 0.5,
        )


def _save(figure: Figure, path: str) -> None:
    with whole_file.in_memory(path) as file:
        figure.savefig(file, dpi=110, format='png')
