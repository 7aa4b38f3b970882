"""The bar that a training shows on a terminal."""

import collections

import numpy as np
from tqdm import tqdm

_SHORTEST_BAR = 8  # columns


class Progress:
    """On a terminal, a bar: iteration, time left, smoothed losses, images/s, the last mAP; elsewhere nothing.

    Losses are means over the last `average_loss` iterations, as Caffe smooths them: of all RoIs and of those
    mined, or of those sampled if nothing is mined. What a narrow terminal has no room for is left out.
    """

    def __init__(self, max_iters: int, start: int, average_loss: int):
        self._recent: collections.deque[tuple] = collections.deque(maxlen=max(average_loss, 1))
        self._mean_ap = None
        self._bar = tqdm(
            total=max_iters,
            initial=start,
            unit='iter',
            disable=None,
            dynamic_ncols=True,
            bar_format='{n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}',
        )

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def show(self, entry: dict) -> None:
        """Counts an iteration; `entry` is its line of the record."""
        self._bar.update()
        if self._bar.disable:
            return
        self._mean_ap = entry.get('val', {}).get('mAP', self._mean_ap)
        seconds = entry['seconds']['step'] / max(entry['images'], 1)
        if 'all' in entry:
            self._recent.append((entry['all']['loss'], entry['mined']['loss'], seconds))
        else:
            self._recent.append((sum(entry['loss'].values()), seconds))
        *losses, seconds = np.mean(self._recent, axis=0).tolist()
        self._bar.set_postfix_str(fitting(losses, 1 / seconds, self._mean_ap, self._room()), refresh=False)

    def _room(self) -> int:
        """Columns that are left for what follows the time."""
        now = self._bar.format_dict
        speed = now['rate'] or (now['n'] - now['initial']) / max(now['elapsed'], 1e-6) or 1
        left = tqdm.format_interval((now['total'] - now['n']) / speed)
        counts = f'{now["total"]}/{now["total"]} |' + '| ' + f'{left} left' + ', '
        return (now['ncols'] or 80) - len(counts) - _SHORTEST_BAR


def fitting(losses: list[float], images_a_second: float, mean_ap: float | None, columns: int) -> str:
    """What is said of a training in so many columns. losses: of all RoIs and of those mined, or one."""
    named = ' '.join(f'{name} {value:.3f},' for name, value in zip(('all', 'mined'), losses, strict=False))
    named = (named if len(losses) == 2 else f'{losses[0]:.3f},')[:-1]
    speed = f'{images_a_second:.1f}'
    found = '' if mean_ap is None else f', mAP {mean_ap:.3f}'
    choices = [
        f'loss {named}, {speed} images/s{found}',
        f'loss {named}, {speed}/s{found}',
        f'loss {named}{found}',
        f'{named}{found}',
        f'{losses[-1]:.3f}{found}',
        f'{losses[-1]:.3f}',
    ]
    return next((choice for choice in choices if len(choice) <= columns), '')
