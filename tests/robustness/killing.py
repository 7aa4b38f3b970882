#!/usr/bin/env python3
"""Stops a training at each of its writes, by each signal, and counts what is left.

tests/robustness/killing.py                        SIGKILL at every write, the others at every fifth
tests/robustness/killing.py --signals 9 --every 4

A small training writes its solver, its record and two snapshots. For each write and signal: it is started, meets the
signal there, and is looked at. Files under their own names must be whole; the same command, or resuming where the
message says so, must end with the very bytes of a training that was never stopped; and nothing half-written may be
left then. SIGINT, SIGTERM and SIGHUP must end it with status 130 and no traceback. Ends with status 1 otherwise.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'lib')]
POLITE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ITERS = 4


class Training:
    """The command, on a data set that is made once."""

    def __init__(self, folder: Path):
        self.data = folder / 'tiny'
        self._run([ROOT / 'data/scripts/make_demo_data.py', '--out', self.data, '--train', 4, '--test', 1])
        imdb = f'folder:{self.data}:train'
        self._run([ROOT / 'tools/make_proposals.py', '--imdb', imdb, '--method', 'random', '--jobs', 1])

    def _run(self, command, **env) -> subprocess.CompletedProcess:
        path = [str(ROOT / 'lib'), *([str(Path(__file__).parent / 'at_write')] if env else [])]
        return subprocess.run(
            [sys.executable, *map(str, command)],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(path), 'OMP_NUM_THREADS': '1', **env},
            capture_output=True,
            text=True,
            timeout=300,
            cwd=ROOT,
        )

    def run(self, out: Path, *flags, **env) -> subprocess.CompletedProcess:
        settings = {
            'ROOT_DIR': out, 'EXP_DIR': 'e', 'TRAIN.SCALES': '(96,)', 'TRAIN.SNAPSHOT_ITERS': 2,
            'TRAIN.PROPOSAL_METHOD': 'random',
        }  # fmt: skip
        command = [
            ROOT / 'tools/train_net.py', '--gpu', 'cpu', '--iters', ITERS,
            '--solver', 'models/demo/small/fast_rcnn_ohem/solver.prototxt', '--imdb', f'folder:{self.data}:train',
            '--cfg', 'experiments/cfgs/demo_ohem.yml', *flags, '--set', *(w for pair in settings.items() for w in pair),
        ]  # fmt: skip
        return self._run(command, **env)

    def interrupted(self, out: Path, number: int, at: int) -> subprocess.CompletedProcess:
        return self.run(out, ROBUSTNESS_FOLDER=str(out), ROBUSTNESS_AT=str(at), ROBUSTNESS_SIGNAL=str(number))


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob('*')) if p.is_file()}


def final(out: Path) -> dict[str, bytes]:
    """The files that a finished training is judged by; a record's lines hold times, so only its iterations count."""
    return {name: data for name, data in files(out).items() if re.search(rf'iter_{ITERS}\.', name)}


def broken(out: Path) -> list[str]:
    """What is wrong with the files that stand under their own names."""
    from caffe.files import model_file
    from fast_rcnn.record import read_record

    wrong = []
    for path in sorted(out.rglob('*')):
        try:
            if path.name.startswith('.') or not path.is_file():
                continue
            if path.suffix == '.caffemodel':
                model_file.read_weights(path)
            elif path.suffix == '.solverstate':
                model_file.read_state(path)
            elif path.name.endswith('_record.jsonl') and path.stat().st_size:
                read_record(str(path))
        except Exception as error:
            wrong.append(f'{path.name} is not whole: {error}')
    return wrong


def judged(training: Training, out: Path, whole: dict[str, bytes], number: int, at: int) -> list[str]:
    """What is wrong after a training met this signal at this write."""
    done = training.interrupted(out, number, at)
    wrong = broken(out)
    if number in POLITE and done.returncode not in (0, 130, -number):  # before it begins, as any program ends
        wrong.append(f'status {done.returncode}: {done.stderr[-300:]}')
    if 'Traceback' in done.stderr:
        wrong.append(f'a traceback: {done.stderr[-300:]}')
    states = sorted(out.rglob('*_resume_iter_*.solverstate'), key=lambda p: int(re.findall(r'\d+', p.name)[-1]))
    flags = ['--snapshot', str(states[-1])] if states else []
    again = training.run(out, *flags)
    if again.returncode:
        wrong.append(f'going on failed: {again.stderr[-300:]}')
    elif final(out) != whole:
        wrong.append(f'going on ended elsewhere: {sorted(final(out))}')
    wrong += [f'{name} is left' for name in files(out) if re.search(r'half-written|\.part|\.tmp', name)]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--signals', type=int, nargs='+', default=[signal.SIGKILL, *POLITE])
    parser.add_argument('--every', type=int, help='write; default: 1 for SIGKILL, 5 for the others')
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix='killing-'))
    try:
        training = Training(work)
        counted = work / 'count'
        out = work / 'out'  # the same for all: a state names the file of its weights
        done = training.run(out, ROBUSTNESS_FOLDER=str(out), ROBUSTNESS_COUNT=str(counted))
        if done.returncode:
            raise RuntimeError(done.stderr)
        writes, whole = int(counted.read_text()), final(out)
        shutil.rmtree(out)
        print(f'a training of {ITERS} iterations makes {writes} writes', flush=True)
        counts, said = collections.Counter(), []
        for number in args.signals:
            name = signal.Signals(number).name
            step = args.every or (1 if number == signal.SIGKILL else 5)
            for at in range(1, writes + 1, step):
                wrong = judged(training, out, whole, number, at)
                counts[name, bool(wrong)] += 1
                said += [f'{name} at write {at}: {line}' for line in wrong]
                shutil.rmtree(out)
            print(
                f'{name}: {counts[name, False]} stopped and gone on as if never, {counts[name, True]} not', flush=True
            )
        print('\n'.join(said))
        return 1 if said else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    sys.exit(main())
