"""Precision-recall curves as a picture: one small plot a class."""

from __future__ import annotations

import math

import numpy as np

import whole_file
from detection_data.palette import class_colour, hexadecimal

COLUMNS = 5
NAME_LENGTH = 20


def literal(text: str) -> str:
    """The text as Matplotlib shows it letter by letter: between two dollar signs it would read mathematics.

    Halves of letters, as names that are not UTF-8 have, become question marks.
    """
    return text.encode(errors='replace').decode().replace('$', r'\$')


def shortened(name: str) -> str:
    """So that it stays above its own plot."""
    return name if len(name) <= NAME_LENGTH else f'{name[: NAME_LENGTH - 8]}…{name[-7:]}'


def draw_curves(curves: dict[str, tuple[np.ndarray, np.ndarray, float]], path: str, title: str) -> None:
    """Draw the curves into a PNG file, each in its class's colour.

    curves: the classes in their order, name -> (recall (n,), precision (n,), AP). The precision may zigzag; it is
    drawn as measured. Without detections there is no curve. path: of the file; it appears when it is complete. title:
    above the plots.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(len(curves), 1))
    rows = max(math.ceil(len(curves) / columns), 1)
    figure = Figure(figsize=(max(2.2 * columns, 5), 2.2 * rows + 0.5), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for c, (axis, (name, (recall, precision, ap))) in enumerate(zip(axes, curves.items(), strict=False), 1):
        if len(recall):
            x, y = [0.0, *recall], [*precision[:1], *precision]
            axis.fill_between(x, y, color=hexadecimal(class_colour(c)), alpha=0.6, linewidth=0)
            axis.plot(x, y, color='#333333', linewidth=1.1)
        axis.set_title(literal(f'{shortened(name)}  {ap:.3f}'), fontsize=9)
        axis.set(xlim=(0, 1.02), ylim=(0, 1.02))
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=7)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    figure.supxlabel('recall', fontsize=9)
    figure.supylabel('precision', fontsize=9)
    with whole_file.in_memory(path) as file:
        figure.savefig(file, format='png', dpi=100)
