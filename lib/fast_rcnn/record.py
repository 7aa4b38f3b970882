"""The record of a training run: <prefix>_record.jsonl, one JSON object a line, one line an iteration.

    iteration  0, 1, ...; lr  its learning rate (null where Caffe does not tell); images  in its mini-batches
    loss       {blob: weighted loss} as Caffe reports it: of the last sub-iteration, dropout included
    all        of all RoIs that were scored, over all sub-iterations (OHEM only): rois, fg their numbers;
               cls, bbox, loss (= cls + bbox) their means; by_class {class: rois, cls, bbox}, classes that
               occur
    mined      of the RoIs learned from: rois, fg, bg their numbers and, with OHEM, cls, bbox, loss as scored
    proposals  of the net itself, over all sub-iterations (nets with an RPN and a RoI network only): rois their
               number, objects that of the objects in the images, recall the share of those that a proposal covers
               with an IoU of 0.5 or more (null without objects)
    seconds    step, the whole; of it data and mining (the Python layers), forward (the rest of it) and
               backward
    memory     host_peak_mb, and gpu_peak_mb on a GPU: the most so far
    val        where the net was tested after this iteration (see `validation`): iteration, the number of updates made,
               as in snapshots' names; mAP (of sets in COCO's format AP50 too), ap {class: AP}, null without objects;
               images; seconds
    sent_mb, as_matrices_mb  of several ranks: MiB of gradients that rank 0 has sent so far, and what it would have
               sent had large gradients not travelled as two factors
    scale_batch  of several ranks, where each makes a whole mini-batch: how many

What several ranks have seen is in one line, in the order of their passes; seconds and memory are rank 0's. Times are
the host's: what a GPU still computes is counted where it is waited for. A run that resumes from iteration N keeps the
lines before N and goes on after them; one that begins anew, or comes from elsewhere, sets the record of an earlier run
aside, as <prefix>_record_of_earlier_run.jsonl, ..._2.jsonl and so on. A record that cannot be written, on a full disk,
does not stop training: that is said once, and the lines follow when there is room again.
"""

import contextlib
import importlib
import json
import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

import whole_file
from fast_rcnn.output_folder import set_aside, set_aside_before

_LONGEST = 2**22  # letters of a line: thousands of classes have room

PARTS = ('data', 'forward', 'mining', 'backward')


def find_record(path: str) -> str:
    """`path`, or the record in it if it is a folder. Raises ValueError if it holds several."""
    if not os.path.isdir(path):
        return path
    found = sorted(name for name in os.listdir(path) if name.endswith('_record.jsonl'))
    if len(found) > 1:
        raise ValueError(f'{path} holds {len(found)} records, {", ".join(found)}: name one')
    return os.path.join(path, found[0] if found else '<prefix>_record.jsonl')


def read_record(path: str, needed: Sequence[str] = ()) -> list[dict]:
    """The lines of a record, in order. A last line that was cut off, by a crash, is left out.

    `needed` are groups, such as 'loss', that every line has to have. Raises FileNotFoundError, or
    ValueError naming the file and the line.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no training record {path}; tools/train_net.py writes <prefix>_record.jsonl')
    lines = list(_lines_of(path))
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            _check_entry(entry, needed)
        except (ValueError, RecursionError) as error:
            is_log = number == 1 and not line.lstrip('\0 ').startswith('{')
            if number == len(lines) and not is_log:  # a whole line ends in a newline
                break
            if is_log:
                raise ValueError(
                    f'{path}, line {number}: not a line of a training record, which train_net.py writes beside its '
                    'snapshots as <prefix>_record.jsonl. Is it a log? That has no numbers of single RoIs'
                ) from None
            words = 'nested too deeply' if isinstance(error, RecursionError) else error
            raise ValueError(f'{path}, line {number}: not a line of a training record: {words}') from None
        entries.append(entry)
    return entries


def _lines_of(path: str) -> Iterator[str]:
    """The lines of a text, without their ends; the last is empty if the text ends in one. Raises ValueError."""
    with open(path, encoding='utf-8', errors='replace', newline='\n') as stream:
        number, line = 0, '\n'
        while line.endswith('\n'):
            number, line = number + 1, stream.readline(_LONGEST + 1)
            if len(line) > _LONGEST:
                raise ValueError(f'{path}, line {number}: longer than {_LONGEST} letters: not a training record')
            yield line.removesuffix('\n')


def lines_before(path: str, iteration: int) -> list[dict]:
    """The lines of a record that a run keeps which goes on from `iteration`; none if there is no record yet.

    Where they end too early, because a run was begun anew in between, they are those of a record that was set aside, if
    one reaches that far.
    """
    return _kept_lines(path, iteration)[0]


def _kept_lines(path: str, iteration: int) -> tuple[list[dict], str]:
    """`lines_before`, and the file in which they are."""
    if iteration < 1 or not os.path.exists(path):
        return [], path
    kept = [entry for entry in read_record(path) if entry['iteration'] < iteration]
    if not _reach(kept, iteration):
        for earlier in set_aside_before(path):
            with contextlib.suppress(ValueError):  # a damaged one is of no use
                lines = [entry for entry in read_record(earlier) if entry['iteration'] < iteration]
                if _reach(lines, iteration):
                    return lines, earlier
    return kept, path


def _reach(lines: list[dict], iteration: int) -> bool:
    return bool(lines) and lines[-1]['iteration'] == iteration - 1


# Blobs of R-FCN's nets with OHEM: labels of all RoIs, -1 where one does not count, and each RoI's two losses
_OF_RFCN = ('labels', 'labels_ohem', 'per_roi_loss_cls', 'per_roi_loss_bbox')

# Group of a line -> the numbers that it always has
_NUMBERS = {
    'loss': (),
    'all': ('rois', 'fg'),
    'mined': ('rois', 'fg'),
    'proposals': (),
    'seconds': ('step',),
    'memory': ('host_peak_mb',),
    'val': ('iteration',),
}


def _check_entry(entry, needed: Sequence[str]) -> None:
    """Raise ValueError if a line of a record is not made up as the module says."""
    if not isinstance(entry, dict) or type(entry.get('iteration')) is not int:
        raise ValueError('no whole number "iteration"')
    if not _is_number(entry['iteration']):
        raise ValueError(f'iteration is {_cut(entry["iteration"])}, expected a number below 2^63')
    if not _is_number(entry.get('lr')):
        raise ValueError(f'lr is {_cut(entry["lr"])}, expected a number')
    for group, keys in _NUMBERS.items():
        if group not in entry and group not in needed:
            continue
        values = entry.get(group)
        if not isinstance(values, dict):
            raise ValueError(f'{group} is {_cut(values)}, expected numbers by name')
        by_class = values.get('by_class', {})
        classes = by_class.items() if isinstance(by_class, dict) else [('', by_class)]
        numbers = {name: value for name, value in values.items() if name not in ('by_class', 'ap')}
        for place, found, expected in (
            (group, numbers, keys),
            (f'{group}.ap', values.get('ap', {}), ()),
            *((f'{group}.by_class.{name}', each, ('rois', 'cls', 'bbox')) for name, each in classes),
        ):
            if not isinstance(found, dict):
                raise ValueError(f'{place} is {_cut(found)}, expected numbers by name')
            missing = [key for key in expected if found.get(key) is None]
            if missing:
                raise ValueError(f'{place} lacks {", ".join(missing)}')
            wrong = [key for key, value in found.items() if not _is_number(value)]
            if wrong:
                raise ValueError(f'{place}.{wrong[0]} is {_cut(found[wrong[0]])}, expected a number')


MOST = 1e100
"""Beyond what float32 gives, and sums and products of it: no curve can be drawn through more."""


def _is_number(value) -> bool:
    """Whether it is a number, or null, which stands for one that is not known."""
    if type(value) is int:
        return abs(value) < 2**63
    return value is None or (type(value) is float and not MOST < abs(value) < math.inf)


def _cut(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


class TrainingRecord:
    """Watches a solver by pycaffe's public names, and writes a line for each `start`, step, `finish`.

    `data_layer`, `mining_layer` and `roi_layer`, which samples among the net's own proposals, are the net's (None: it
    has none; what R-FCN's mines is read from its blobs); `classes` the names of the classes, background first. Lines of
    `path` from the solver's present iteration on are dropped, unless it does not `go_on`: then all are set aside. With
    a folder `tensorboard`, event files go there too. `on_not_finite()` is called when the loss of a scored RoI is not
    finite, with the blobs as they are. Without a `path` it only watches: another rank writes what `passes` returns.
    """

    def __init__(
        self,
        path,
        solver,
        data_layer,
        mining_layer=None,
        classes=(),
        tensorboard=None,
        on_not_finite=None,
        roi_layer=None,
        goes_on=True,
    ):
        self._solver, self._mining, self._rois = solver, mining_layer, roi_layer
        self._classes = [str(name).strip('_') for name in classes]
        self._on_not_finite = on_not_finite
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._batches = []  # of each sub-iteration: labels, cls_loss, bbox_loss, kept
        self._labels = []
        self._proposals = []
        self._images = 0
        self._watched = []
        self._watch(data_layer, 'data', self._after_data)
        if roi_layer is not None:
            self._watch(roi_layer, 'data', self._after_rois)
        if mining_layer is not None:
            self._watch(mining_layer, 'mining', self._after_mining)
        blobs = getattr(solver.net, 'blobs', ())
        self._annotated = mining_layer is None and all(name in blobs for name in _OF_RFCN)
        self._has_hooks = all(hasattr(solver.net, name) for name in ('before_forward', 'after_backward'))
        if self._has_hooks:
            self._add_hooks(solver.net)
        self._events = None if tensorboard is None else _event_writer(tensorboard)
        self._path = path
        self.validated_at: int | None = None
        """The last iteration after which the lines that were kept tell of a validation."""
        self._file = None if path is None else self._opened_at(path, solver.iter, goes_on)
        self._waiting = []  # lines that the disk has not taken

    def start(self) -> None:
        """To be called before an iteration."""
        for part in PARTS:
            self._seconds[part] = 0.0
        self._batches, self._labels, self._proposals, self._images = [], [], [], 0
        self._iteration = self._solver.iter
        self._lr = getattr(self._solver, 'lr', None)
        self._started = time.perf_counter()

    def passes(self) -> dict:
        """What was seen in the passes of this process since `start`."""
        return {
            'images': self._images,
            'batches': self._batches,
            'labels': self._labels,
            'proposals': self._proposals,
        }

    def finish(self, losses: dict[str, float], passes: list[dict] | None = None, more: dict | None = None) -> dict:
        """To be called after it; writes its line and returns that. See `line`."""
        entry = self.line(losses, passes, more)
        self.add(entry)
        return entry

    def line(self, losses: dict[str, float], passes: list[dict] | None = None, more: dict | None = None) -> dict:
        """The line of an iteration that has just ended, with its weighted losses by blob, to be written by `add`.

        passes: what `passes` returned at all ranks, where there are several; more: to be added to the line.
        """
        passes = [self.passes()] if passes is None else passes
        self._images = sum(each['images'] for each in passes)
        self._batches = [batch for each in passes for batch in each['batches']]
        self._labels = [labels for each in passes for labels in each['labels']]
        self._proposals = [counts for each in passes for counts in each['proposals']]
        entry: dict[str, Any] = {
            'iteration': int(self._iteration),
            'lr': _short(self._lr),
            'images': self._images,
            'loss': {name: _short(value) for name, value in losses.items()},
        }
        if self._batches:
            entry |= self._of_mining()
        else:
            labels = np.concatenate([*self._labels, np.zeros(0)])
            entry['mined'] = {'rois': len(labels), **_fg_bg(labels)}
        if self._proposals:
            rois, objects, found = np.sum(self._proposals, axis=0).tolist()
            entry['proposals'] = {
                'rois': rois,
                'objects': objects,
                'recall': _short(found / objects if objects else None),
            }
        seconds = {'step': time.perf_counter() - self._started, **self._seconds}
        if self._has_hooks:
            seconds['forward'] = max(seconds['forward'] - seconds['data'] - seconds['mining'], 0.0)
        else:
            del seconds['forward'], seconds['backward']
        entry['seconds'] = {part: round(value, 6) for part, value in seconds.items()}
        entry['memory'] = _peak_memory()
        return entry | (more or {})

    def add(self, entry: dict) -> None:
        """Writes a line."""
        self._write(_line(entry))
        if self._events is not None:
            for tag, value in scalars(entry):
                self._events.add_scalar(tag, value, entry['iteration'])

    def complete(self, found: dict) -> None:
        """Has the last line that was kept tell of the validation that was due after its iteration."""
        if self._file is None:
            return
        self._file.close()
        entries = read_record(self._path)
        if entries:
            entries[-1]['val'] = found
        whole_file.write_text(self._path, ''.join(map(_line, entries)))
        self._file = whole_file.GrowingFile(self._path)
        if self._events is not None:
            for tag, value in scalars({'val': found}):
                self._events.add_scalar(tag, value, found['iteration'] - 1)

    def _write(self, line: str) -> None:
        """Adds a line, and those that have waited. A snapshot is worth more than its record: failing is no error."""
        assert self._file is not None
        had_failed = bool(self._waiting)
        self._waiting.append(line)
        try:
            self._file.add(''.join(self._waiting).encode())
        except OSError as error:
            if not had_failed:
                _warn(f'{error}. Training goes on; the lines that are missing follow when there is room')
        else:
            self._waiting.clear()

    def _opened_at(self, path: str, iteration: int, goes_on: bool) -> whole_file.GrowingFile:
        """`path`, open for appending, with the lines before `iteration` alone, of this run."""
        kept, source = _kept_lines(path, iteration) if goes_on else ([], path)
        if (not kept or source != path) and os.path.isfile(path) and os.path.getsize(path):
            set_aside(path)
        if source != path:
            print(f'{path} begins with the lines of {source} before iteration {iteration}, from which this run goes on')
        elif kept and not _reach(kept, iteration):
            print(f'Note: {path} lacks the iterations {kept[-1]["iteration"] + 1} to {iteration - 1}')
        self.validated_at = max((entry['val']['iteration'] for entry in kept if 'val' in entry), default=None)
        whole_file.write_text(path, ''.join(map(_line, kept)))
        return whole_file.GrowingFile(path)

    def close(self) -> None:
        """Leave the layers as they were, and close the files."""
        for layer in self._watched:
            layer.__dict__.pop('forward', None)
        if self._file is None:
            return
        try:
            if self._waiting:
                self._file.add(''.join(self._waiting).encode())
            self._file.close()
        except OSError as error:
            _warn(f'{error}. The record lacks its last {len(self._waiting)} iterations')
        if self._events is not None:
            self._events.close()

    def _watch(self, layer, part: str, after) -> None:
        forward = layer.forward

        def watched(bottom, top):
            if len(bottom):
                bottom[0].data  # noqa: B018  read by the mining anyway; a GPU's work up to here counts as forward
            started = time.perf_counter()
            forward(bottom, top)
            self._seconds[part] += time.perf_counter() - started
            after(bottom, top)

        layer.forward = watched
        self._watched.append(layer)

    def _add_hooks(self, net) -> None:
        last, mark = len(net.layers) - 1, [0.0]

        def passed(part):
            now = time.perf_counter()
            self._seconds[part] += now - mark[0]
            mark[0] = now

        def begin(i):
            if i == 0:
                mark[0] = time.perf_counter()

        net.before_forward(begin)

        def end(i):
            if i == last:
                passed('forward')
                if self._annotated:
                    self._after_annotation(net)

        net.after_forward(end)
        net.after_backward(lambda i: passed('backward') if i == 0 else None)

    def _after_data(self, bottom, top) -> None:
        self._images += len(top[0].data)
        if self._mining is None and top[2].data.ndim == 1:  # labels; with an RPN it has objects, (G, 5) or (G, 6)
            self._labels.append(top[2].data.copy())

    def _after_rois(self, bottom, top) -> None:
        last = self._rois.last
        self._proposals.append((last['rois'], last['objects'], last['found']))
        if self._mining is None:
            self._labels.append(top[1].data.copy())

    def _after_mining(self, bottom, top) -> None:
        last = self._mining.last
        self._batches.append((bottom[3].data.astype(np.int64), last['cls_loss'], last['bbox_loss'], last['kept']))
        if self._on_not_finite is not None and not np.isfinite(last['loss']).all():
            self._on_not_finite()

    def _after_annotation(self, net) -> None:
        labels, annotated, cls, bbox = (net.blobs[name].data.reshape(-1).copy() for name in _OF_RFCN)
        self._batches.append((labels.astype(np.int64), cls, bbox, np.flatnonzero(annotated >= 0)))

    def _of_mining(self) -> dict:
        labels, cls, bbox = (np.concatenate([batch[k] for batch in self._batches]) for k in range(3))
        starts = np.cumsum([0] + [len(batch[0]) for batch in self._batches])
        kept = np.concatenate([start + batch[3] for start, batch in zip(starts, self._batches, strict=False)])
        counts = np.bincount(labels)
        sums = {'cls': np.bincount(labels, cls), 'bbox': np.bincount(labels, bbox)}
        by_class = {
            self._name(c): {
                'rois': int(counts[c]),
                **{part: _short(of_class[c] / counts[c]) for part, of_class in sums.items()},
            }
            for c in np.flatnonzero(counts).tolist()
        }
        return {
            'all': {
                'rois': len(labels),
                'fg': int((labels > 0).sum()),
                **_means(cls, bbox),
                'by_class': by_class,
            },
            'mined': {'rois': len(kept), **_fg_bg(labels[kept]), **_means(cls[kept], bbox[kept])},
        }

    def _name(self, c: int) -> str:
        return self._classes[c] if c < len(self._classes) else str(c)


def scalars(entry: dict) -> list[tuple[str, float]]:
    """The numbers of a line under names such as all/by_class/cat/cls, as TensorBoard shows them."""
    found = []

    def visit(name, value):
        if isinstance(value, dict):
            for key, item in value.items():
                visit(f'{name}/{key}' if name else str(key), item)
        elif value is not None and name.rpartition('/')[2] != 'iteration':
            found.append((name, float(value)))

    visit('', entry)
    return found


def _line(entry: dict) -> str:
    return json.dumps(entry, separators=(',', ':')) + '\n'


def _warn(message: str) -> None:
    with tqdm.external_write_mode(file=sys.stderr):  # hides a progress bar while it prints
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def _event_writer(folder: str):
    try:
        return importlib.import_module('tensorboard.summary').Writer(folder)
    except ImportError as error:
        raise ImportError(
            f'TensorBoard event files need the package tensorboard: pip install tensorboard ({error})'
        ) from None


def _means(cls: np.ndarray, bbox: np.ndarray) -> dict[str, float | None]:
    cls_mean, bbox_mean = (float(x.mean()) if len(x) else 0.0 for x in (cls, bbox))
    return {'loss': _short(cls_mean + bbox_mean), 'cls': _short(cls_mean), 'bbox': _short(bbox_mean)}


def _fg_bg(labels: np.ndarray) -> dict[str, int]:
    foreground = int((labels > 0).sum())
    return {'fg': foreground, 'bg': len(labels) - foreground}


def _short(value) -> float | None:
    """Six digits are enough, and keep the file small."""
    return None if value is None else float(f'{value:.6g}')


def _peak_memory() -> dict[str, float]:
    unit = 2**20 if sys.platform == 'darwin' else 2**10
    memory = {'host_peak_mb': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}
    cuda = getattr(sys.modules.get('torch'), 'cuda', None)  # there if it is torch that computes
    if cuda is not None and cuda.is_initialized():
        memory['gpu_peak_mb'] = round(cuda.max_memory_allocated() / 2**20, 1)
    return memory
