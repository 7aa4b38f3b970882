"""Which of a training's snapshots stay on disk."""

import contextlib
import glob
import os
import re

_NAME = r'_(?:resume_)?iter_(\d+)\.(?:caffemodel|solverstate)(?:\.h5)?'


def snapshots(prefix: str) -> dict[int, list[str]]:
    """The snapshots <prefix>_iter_N.caffemodel and <prefix>_resume_iter_N.* that are there: N -> paths, states first.

    States come first, to be removed first: weights without their state do no harm, a state without weights does.
    """
    found: dict[int, list[str]] = {}
    for path in sorted(glob.glob(f'{glob.escape(prefix)}_*iter_*'), key=lambda path: '.solverstate' not in path):
        match = re.fullmatch(re.escape(os.path.basename(prefix)) + _NAME, os.path.basename(path))
        if match:
            found.setdefault(int(match[1]), []).append(path)
    return dict(sorted(found.items()))


def newest_state(prefix: str, of_this_run: set[int]) -> str | None:
    """The state of the most of these iterations, to resume from; None without any."""
    there = snapshots(prefix)
    states = [there[n][0] for n in sorted(of_this_run & set(there)) if '.solverstate' in there[n][0]]
    return states[-1] if states else None


def thin_out(prefix: str, of_this_run: set[int], kept: int) -> set[int]:
    """Removes all but the newest `kept` of a run's snapshots; returns the iterations of those removed.

    of_this_run: the iterations of the snapshots that the run has written: those of other runs in the folder stay.
    kept: 0 for all. A file that cannot be removed stays.
    """
    there = {n: paths for n, paths in snapshots(prefix).items() if n in of_this_run}
    gone = sorted(there)[: max(len(there) - kept, 0)] if kept else []
    for path in (path for n in gone for path in there[n]):
        with contextlib.suppress(OSError):
            os.remove(path)
    return set(gone)
