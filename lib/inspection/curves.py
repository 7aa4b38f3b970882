"""Curves of training runs, out of their records (`record`), several over one another."""

import graphlib
import json
import os
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

import whole_file
from detection_data.curves import literal, shortened
from detection_data.palette import OKABE_ITO, class_colour, hexadecimal
from fast_rcnn.record import PARTS

# Okabe and Ito: told apart by colour-blind people; a run also has a mark of its own
COLOURS = (*(hexadecimal(OKABE_ITO[i]) for i in (4, 5, 2, 6, 0, 1)), '#000000')
_MARKS = 'os^Dv<x'
_PART_COLOURS = {part: COLOURS[i] for part, i in (('data', 4), ('forward', 5), ('mining', 1), ('backward', 0))}


def read_per_roi(path: str) -> dict[str, dict[int, float]]:
    """{sampling: {iteration: mean loss per RoI}} in a loss_per_roi.json. Raises ValueError if it is none."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no file {path}; experiments/loss_per_roi.py writes loss_per_roi.json')
    try:
        with open(path, encoding='utf-8') as stream:
            curves = json.load(stream)['curves']
        return {name: {int(i): float(each['loss']) for i, each in curve.items()} for name, curve in curves.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: not a loss_per_roi.json of experiments/loss_per_roi.py ({error!r})') from None


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Means over the last `window` values, fewer at the start; (n,) to (n,). NaN stands for no value."""
    if window == 1:
        return values
    known = np.isfinite(values)
    sums = np.cumsum(np.where(known, values, 0.0))
    counts = np.cumsum(known)
    sums[window:], counts[window:] = sums[window:] - sums[:-window], counts[window:] - counts[:-window]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def draw_curves(path: str, runs: dict[str, list[dict]], window: int, per_roi: dict[str, dict[int, float]]) -> None:
    """Draw runs {name: lines of its record} and `per_roi` (see `read_per_roi`) to the PNG `path`.

    What no run has recorded has no panel.
    """
    panels: list[Callable] = [lambda ax: _per_roi(ax, per_roi)] if per_roi else []

    def compare(title: str, value: Callable, window: int = window, **style) -> None:
        if any(_known(value(entry)) for entries in runs.values() for entry in entries):
            panels.append(lambda ax: _compare(ax, runs, window, title, value, **style))

    if any(_known(entry.get('val', {}).get('mAP')) for entries in runs.values() for entry in entries):
        panels.append(lambda ax: _validated(ax, runs))
    compare('Mean loss of all RoIs scored', _of('all', 'loss'))
    compare('Mean loss of the RoIs mined', _of('mined', 'loss'))
    compare('Loss as Caffe reports it', _reported)
    compare('Objects among the RoIs learned from', _objects, percent=True)
    mining = [name for name, entries in runs.items() if any(e.get('all', {}).get('by_class') for e in entries)]
    if mining:
        of = f', {_shortened(mining[-1], 24)}' if len(runs) > 1 else ''
        panels.append(lambda ax: _by_class(ax, runs[mining[-1]], window, literal(f'Loss of all RoIs by class{of}')))
        panels.append(lambda ax: _parts(ax, runs, window))
    if runs:
        panels.append(lambda ax: _seconds(ax, runs))
    compare('Learning rate', lambda e: e.get('lr'), 1, log=True)
    compare('Loss of the anchors: object or not', _of('loss', 'rpn_cls_loss'))
    compare('Loss of the anchors: boxes', _of('loss', 'rpn_loss_bbox'))
    compare('Objects that proposals cover', _covered, percent=True)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.5 * rows + 0.4), layout='constrained')
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for ax, draw in zip(axes, panels, strict=False):
        draw(ax)
        ax.spines[['top', 'right']].set_visible(False)
        ax.title.set_fontsize(11)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    if len(runs) > 1:
        figure.legend(
            handles=[Line2D([], [], label=literal(_shortened(name, 60)), **_style(i)) for i, name in enumerate(runs)],
            loc='outside upper center',
            ncols=min(len(runs), 4),
            frameon=False,
        )
    elif runs:
        figure.suptitle(literal(_shortened(next(iter(runs)), 100)), fontsize=12)
    with whole_file.in_memory(path) as file:
        figure.savefig(file, dpi=110, format='png')


def _style(run: int) -> dict:
    return {'color': COLOURS[run % 7], 'marker': _MARKS[run % 7], 'markersize': 4, 'linewidth': 1.4}


def _known(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def classes_in(entries: list[dict]) -> list[str]:
    """The classes in a record, the background first, in the data set's order as far as lines tell: a line has those of
    its RoIs in that order, and not all of them.
    """
    before: dict[str, set[str]] = {}
    for entry in entries:
        line = list(entry.get('all', {}).get('by_class', {}))
        for previous, name in zip([None, *line], line, strict=False):
            before.setdefault(name, set()).update([] if previous is None else [previous])
    try:
        return list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError:  # lines of two data sets
        return list(before)


def _of(*keys) -> Callable[[dict], float | None]:
    def value(entry):
        for key in keys:
            entry = entry.get(key) if isinstance(entry, dict) else None
        return entry

    return value


def _reported(entry: dict) -> float | None:
    losses = entry['loss'].values()
    return None if None in losses else sum(losses)


def _objects(entry: dict) -> float | None:
    mined = entry.get('mined')
    return 100 * mined['fg'] / mined['rois'] if mined and mined['rois'] else None


def _covered(entry: dict) -> float | None:
    recall = entry.get('proposals', {}).get('recall')
    return None if recall is None else 100 * recall


def _series(entries: list[dict], value, window: int) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([np.nan if v is None else v for v in map(value, entries)], dtype=float)
    return np.array([e['iteration'] for e in entries]), smoothed(values, window)


def _compare(ax, runs, window, title, value, percent=False, log=False) -> None:
    """One line a run."""
    ax.set_title(title)
    for i, entries in enumerate(runs.values()):
        x, y = _series(entries, value, window)
        every = max(len(x) // 8, 1)
        ax.plot(x, y, markevery=(i * every // 4, every), **_style(i))
    ax.set_xlabel('iteration')
    ax.grid(alpha=0.3)
    if log:
        ax.set_yscale('log')
        low, high = ax.dataLim.intervaly
        ax.set_ylim(low / 3, high * 3)
    else:
        ax.set_ylim(bottom=0)
        if percent:
            ax.yaxis.set_major_formatter('{x:g} %')


def _validated(ax, runs) -> None:
    """mAP after each validation; the best of a run has a ring, and its number beside it."""
    ax.set_title('mAP on the validation set')
    for i, entries in enumerate(runs.values()):
        found = [entry['val'] for entry in entries if 'val' in entry]
        found = [each for each in found if each.get('mAP') is not None]
        if not found:
            continue
        x, y = [each['iteration'] for each in found], [each['mAP'] for each in found]
        ax.plot(x, y, **_style(i))
        best = int(np.argmax(y))
        ax.plot(x[best], y[best], 'o', color=COLOURS[i % 7], markersize=10, fillstyle='none')
        ax.annotate(
            f'{y[best]:.3f}', (x[best], y[best]), xytext=(0, 8), textcoords='offset points', ha='center', fontsize=8.5
        )
    ax.set_xlabel('iteration')
    ax.margins(y=0.15)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)


def _by_class(ax, entries: list[dict], window: int, title: str, most: int = 7) -> None:
    """The classes of most loss, each by the mean of its RoIs."""
    ax.set_title(title)
    total: dict[str, float] = {}
    for entry in entries:
        for name, each in entry.get('all', {}).get('by_class', {}).items():
            total[name] = total.get(name, 0.0) + each['rois'] * (each['cls'] + each['bbox'])
    colours = {name: hexadecimal(class_colour(c)) for c, name in enumerate(classes_in(entries))}
    for i, name in enumerate(sorted(total, key=total.__getitem__, reverse=True)[:most]):

        def loss(entry, name=name):
            each = entry.get('all', {}).get('by_class', {}).get(name)
            return None if each is None else each['cls'] + each['bbox']

        x, y = _series(entries, loss, window)
        every = max(len(x) // 8, 1)
        marks = {'marker': _MARKS[i], 'markevery': (i * every // 7, every), 'markersize': 4}
        line = ax.plot(x, y, color=colours[name], label=literal(shortened(name)), linewidth=1.3, **marks)
        line[0].set_path_effects([withStroke(linewidth=2, foreground='#444444')])  # yellow is not seen on white
    ax.set_xlabel('iteration')
    ax.grid(alpha=0.3)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=8, title=f'the {most} of most loss' if len(total) > most else None)


def _parts(ax, runs, window) -> None:
    """Classification and box loss of the RoIs mined."""
    ax.set_title('Mined: class (full) and box (dashed) loss')
    for i, entries in enumerate(runs.values()):
        for part, style in (('cls', '-'), ('bbox', '--')):
            x, y = _series(entries, _of('mined', part), window)
            ax.plot(x, y, color=COLOURS[i % 7], linestyle=style, linewidth=1.4)
    ax.set_xlabel('iteration')
    ax.grid(alpha=0.3)
    ax.set_ylim(bottom=0)


def _seconds(ax, runs) -> None:
    """A bar a run: the median seconds of a step, by part; its peak memory beside it."""
    ax.set_title('Seconds of a step (median), most memory')
    names = list(runs)
    left = np.zeros(len(names))
    for part in PARTS:
        medians = [np.median([e['seconds'].get(part) or 0.0 for e in entries]) for entries in runs.values()]
        ax.barh(range(len(names)), medians, left=left, color=_PART_COLOURS[part], label=part, height=0.5)
        left += medians
    rest = [np.median([e['seconds']['step'] for e in entries]) for entries in runs.values()] - left
    ax.barh(range(len(names)), np.maximum(rest, 0), left=left, color='#bbbbbb', label='rest', height=0.5)
    for k, (name, entries) in enumerate(runs.items()):
        memory = entries[-1]['memory']
        said = f'{memory["host_peak_mb"] / 1024:.2f} GB'
        if memory.get('gpu_peak_mb') is not None:
            said += f', GPU {memory["gpu_peak_mb"] / 1024:.2f} GB'
        ax.text(0, k - 0.3, f'{literal(_shortened(name))}: {said}', fontsize=8.5, va='bottom')
    ax.set_yticks([])
    ax.set_ylim(max(len(names), 3) - 0.2, -0.85)
    ax.set_xlabel('seconds')
    ax.legend(frameon=False, fontsize=8, ncols=5, loc='upper center', columnspacing=0.9, handlelength=1.2)


def _per_roi(ax, per_roi) -> None:
    ax.set_title('Mean loss per RoI over the training set, all RoIs')
    for i, (name, curve) in enumerate(per_roi.items()):
        ax.plot(
            list(curve),
            list(curve.values()),
            color=COLOURS[i % 7],
            marker=_MARKS[i % 7],
            label=literal(_shortened(name)),
        )
    ax.set_ylim(bottom=0)
    ax.set_xlabel('iteration')
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=8)


def _shortened(name: str, most: int = 36) -> str:
    return name if len(name) <= most else '…' + name[-most + 1 :]
