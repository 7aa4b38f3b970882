#!/usr/bin/env python3
"""Reads damaged files of every kind, and counts what comes of it.

tests/robustness/reading.py --inputs 20000             all kinds, so many files in all
tests/robustness/reading.py --kinds lmdb photo_bmp --inputs 1000 --seed 7

Each kind has a process of its own, which reads file after file; when it dies, hangs for 20 s or its memory grows by
more than 1 GB, that file is counted so, kept in --keep, and another process goes on with the next. Counted are:

    read      the damage was not met, or does not matter
    clear     one error of the project's own kind (ValueError, OSError, RuntimeError), which names the file
    raw       any other exception, or one that does not name the file
    crash     the process died
    hang      no answer in 20 s
    memory    more than 1 GB beside what a valid file takes

Ends with status 1 unless the last four are 0.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import queue
import random
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'lib'), str(Path(__file__).parent)]

OUTCOMES = ('read', 'clear', 'raw', 'crash', 'hang', 'memory')
PATIENCE = 20  # seconds
SLICE = 0.2  # of them
MEMORY = 2**30
ENOUGH = 40  # of what must not be, and a kind is given up


def judged(error: BaseException, path: Path, folder: Path) -> tuple[str, str]:
    """('clear' or 'raw', a line that says what it was)."""
    said = ' '.join([str(error), *getattr(error, '__notes__', [])])
    line = f'{type(error).__name__}: {said}'[:300]
    foreseen = isinstance(error, ValueError | OSError | RuntimeError) and not isinstance(
        error, RecursionError | NotImplementedError | UnicodeError
    )
    named = path.name in said or str(folder) in said  # the file, or what it speaks of
    return ('clear' if foreseen and named else 'raw'), line


def _peak() -> int:
    with open('/proc/self/status', encoding='ascii') as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith('VmHWM'))


def _reader(kind: str, folder: str, jobs, answers) -> None:
    """In a process of its own: reads each damaged file that it is given, and says what came of it."""
    os.environ['GLOG_minloglevel'] = '3'  # noqa: SIM112 - glog's own name
    warnings.simplefilter('ignore')
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    import torch

    torch.set_num_threads(1)
    from kinds import KINDS

    path, read = KINDS[kind](Path(folder))
    whole = path.read_bytes()
    read()
    answers.put(('ready', whole))
    base = _peak()
    for data in iter(jobs.get, None):
        path.write_bytes(data)
        try:
            with open('/proc/self/clear_refs', 'w', encoding='ascii') as reset:
                reset.write('5')  # VmHWM begins anew
        except OSError:
            pass
        try:
            read()
            answer = ('read', '')
        except Exception as error:
            answer = judged(error, path, Path(folder))
        if _peak() > base + MEMORY:
            answer = ('memory', f'{(_peak() - base) / 2**30:.1f} GB; {answer[1]}')
        answers.put(answer)


class Reader:
    """A process that reads files of one kind."""

    def __init__(self, kind: str):
        self._kind, self._process = kind, None
        self.whole = self._start()

    def _start(self) -> bytes:
        context = multiprocessing.get_context('spawn')
        self._folder = tempfile.mkdtemp(prefix='robustness-')
        self._jobs, self._answers = context.Queue(), context.Queue()
        self._process = context.Process(target=_reader, args=(self._kind, self._folder, self._jobs, self._answers))
        self._process.start()
        word, whole = self._wait(120)
        if word != 'ready':
            raise RuntimeError(f'{self._kind}: a valid file is not read: {whole}')
        return whole

    def _wait(self, seconds: float) -> tuple:
        for _ in range(int(seconds / SLICE)):  # in slices: a machine that stood still meanwhile is no hang
            try:
                return self._answers.get(timeout=SLICE)
            except queue.Empty:
                if not self._process.is_alive():
                    return 'crash', f'exit status {self._process.exitcode}'
        return 'hang', f'no answer in {seconds} s'

    def read(self, data: bytes) -> tuple[str, str]:
        self._jobs.put(data)
        outcome = self._wait(PATIENCE)
        if outcome[0] in ('crash', 'hang', 'memory'):
            self.close()
            self._start()
        return outcome

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        shutil.rmtree(self._folder, ignore_errors=True)


def count(kind: str, inputs: int, seed: int, keep: Path | None = None) -> tuple[collections.Counter, list[str]]:
    """What became of so many damaged files of a kind, and what was said of those that should not be."""
    from mutations import mutated

    reader, counts, wrong = Reader(kind), collections.Counter(), []
    try:
        for n in range(inputs):
            data = mutated(reader.whole, random.Random(f'{kind} {seed} {n}'))
            outcome, line = reader.read(data)
            counts[outcome] += 1
            if outcome not in ('read', 'clear'):
                wrong.append(f'{kind} {n}: {outcome}: {line}')
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f'{kind}_{n}_{outcome}').write_bytes(data)
                if len(wrong) >= ENOUGH:
                    wrong.append(f'{kind}: given up after {n + 1} files')
                    break
    finally:
        reader.close()
    return counts, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--inputs', type=int, default=3100, help='damaged files in all (default: 3100)')
    parser.add_argument('--kinds', nargs='+', help='these alone')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--keep', type=Path, help='folder for files that are not met with a clear error')
    parser.add_argument('--json', type=Path, help='write the counts here too')
    args = parser.parse_args()
    from kinds import KINDS

    kinds = args.kinds or list(KINDS)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or args.inputs < 1:
        wrong = f'no kind {", ".join(unknown)}; there are {", ".join(KINDS)}' if unknown else '--inputs is below 1'
        parser.error(wrong)
    total, rows, said = collections.Counter(), {}, []
    print(f'{"kind":<18}' + ''.join(f'{name:>8}' for name in OUTCOMES), flush=True)
    for kind in kinds:
        counts, wrong = count(kind, max(1, args.inputs // len(kinds)), args.seed, args.keep)
        rows[kind] = dict(counts)
        print(f'{kind:<18}' + ''.join(f'{counts[name]:8d}' for name in OUTCOMES), flush=True)
        total += counts
        said += wrong
    print(f'{"all":<18}' + ''.join(f'{total[name]:8d}' for name in OUTCOMES))
    print('\n'.join(said))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return 1 if any(total[name] for name in OUTCOMES[2:]) else 0


if __name__ == '__main__':
    sys.exit(main())
