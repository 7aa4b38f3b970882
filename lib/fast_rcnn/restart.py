"""Going on from the last snapshot when a launcher, such as torchrun --max-restarts, starts a job anew.

At its first start a job notes which states lie in its folder already: they are of other runs, and are not gone on from.
"""

import glob
import json
import os
import re

import ranks
import whole_file


def state_to_go_on_from(prefix: str) -> str | None:
    """The newest state that an earlier start of this job has written, at every rank; None if this is the first start.

    prefix: of the files, as in <prefix>_resume_iter_N.solverstate. All ranks have to call it, before any is written.
    """
    found = _newest_or_note(prefix) if ranks.is_root() else None
    return ranks.from_root(found)


def _newest_or_note(prefix: str) -> str | None:
    note = f'{prefix}_job.json'
    job = ranks.place().job.rpartition('/')[0]
    if ranks.place().restarts == 0:
        if os.path.exists(note):
            os.remove(note)
        if 'TORCHELASTIC_RUN_ID' in os.environ:
            os.makedirs(os.path.dirname(prefix), exist_ok=True)
            whole_file.write_text(note, json.dumps({'job': job, 'before': _states(prefix)}) + '\n')
        return None
    try:
        with open(note, encoding='utf-8') as file:
            noted = json.load(file)
    except (OSError, ValueError):
        return None
    if noted.get('job') != job:
        return None
    own = [path for path, what in _states(prefix).items() if noted['before'].get(path) != what]
    return max(own, key=_iteration, default=None)


def _states(prefix: str) -> dict[str, list[int]]:
    """path -> [time of writing, size], of the states that are there."""
    paths = glob.glob(f'{glob.escape(prefix)}_resume_iter_*.solverstate*')
    return {path: [os.stat(path).st_mtime_ns, os.stat(path).st_size] for path in sorted(paths) if _iteration(path) >= 0}


def _iteration(path: str) -> int:
    found = re.search(r'_iter_(\d+)\.solverstate(\.h5)?$', path)
    return int(found[1]) if found else -1
