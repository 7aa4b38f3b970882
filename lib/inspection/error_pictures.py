"""Pictures of detection mistakes: sheets of examples, and a chart of their numbers."""

import os
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import whole_file
from detection_data.curves import literal
from detection_data.palette import OKABE_ITO, class_colour, hexadecimal
from roi_data_layer.image_blob import read_image

_OF_KIND = [hexadecimal(OKABE_ITO[i]) for i in (0, 1, 3, 5, 4)]  # one a kind of mistake
_NAME_LENGTH = 34  # of a file, in letters: wider than its crop is not legible


def draw_sheet(
    path: str, mistakes: Sequence[dict], kind: str, total: int, classes: Sequence[str], columns: int = 4
) -> None:
    """Crops, a mistake each, in one PNG `path`: the detection in its class's colour, the object in white dashes.

    `mistakes`: dictionaries as in errors.json of tools/visualize_errors.py, the worst first. `classes`, the background
    first. Below what a crop shows stands its file.
    """
    columns = min(columns, len(mistakes))
    rows = -(-len(mistakes) // columns)
    with matplotlib.rc_context({'font.size': 9}):
        figure = Figure(figsize=(max(2.6 * columns, 4), 3.05 * rows + 0.6), layout='constrained')
        axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, mistake in zip(axes, mistakes, strict=False):
            _draw_crop(ax, mistake, classes)
        shown = f'{len(mistakes)} of {total}' if len(mistakes) < total else f'{total}'
        legend = '' if kind == 'missed' else 'coloured: detection; '
        figure.suptitle(f'{kind}: {shown}  ({legend}dashed: object)', fontsize=11)
        _save(figure, path, bbox_inches='tight', pad_inches=0.08)  # the layout does not reckon with names below crops


def draw_counts(path: str, counts: dict[str, dict[str, int]], kinds: Sequence[str]) -> None:
    """A bar for each class of `counts`, parted by kind of mistake, to the PNG `path`."""
    figure = Figure(figsize=(8, 1.4 + 0.42 * len(counts)), layout='constrained')
    ax = figure.subplots()
    left = np.zeros(len(counts))
    for kind, colour in zip(kinds, _OF_KIND, strict=True):
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


def _draw_crop(ax, mistake: dict, classes: Sequence[str]) -> None:
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
    missed = mistake['score'] is None
    if not missed:
        _rectangle(ax, mistake['box'], hexadecimal(class_colour(list(classes).index(mistake['class']))), '-', 2.2)
    if mistake['object_box'] is not None:
        _rectangle(ax, mistake['object_box'], 'white', (0, (3, 3)), 1.4)
    of = 'no object' if mistake['object_class'] is None else f'{mistake["object_class"]}, IoU {mistake["iou"]:.2f}'
    said = (mistake['class'], mistake['why_in_words']) if missed else (f'{mistake["class"]} {mistake["score"]:.2f}', of)
    ax.set_title(literal('\n'.join(said)), fontsize=9)
    name = os.path.basename(mistake['image'])
    ax.text(
        0.5, -0.02, literal(name if len(name) <= _NAME_LENGTH else f'…{name[1 - _NAME_LENGTH :]}'),
        transform=ax.transAxes, ha='center', va='top', fontsize=7.5, color='#5b6470',
    )  # fmt: skip


def _rectangle(ax, box, colour: str, style, line: float) -> None:
    x1, y1, x2, y2 = box
    for width, ink in ((line + 1.8, 'black'), (line, colour)):  # a dark rim, seen on any ground
        ax.plot(
            [x1 - 0.5, x2 + 0.5, x2 + 0.5, x1 - 0.5, x1 - 0.5],
            [y1 - 0.5, y1 - 0.5, y2 + 0.5, y2 + 0.5, y1 - 0.5],
            linestyle=style if ink == colour else '-',
            color=ink,
            linewidth=width,
            alpha=1 if ink == colour else 0.6,
        )


def _save(figure: Figure, path: str, **how) -> None:
    with whole_file.in_memory(path) as file:
        figure.savefig(file, dpi=110, format='png', **how)
