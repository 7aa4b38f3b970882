"""Running rows of tables.py: what a row comes to as settings, trained and tested in a folder of its own.

    output/reproduce/<place>/<row>_seed<k>_<hash>/
        cfg.yml  solver.prototxt  log.txt      all that the run was made of, and what the tools said
        <imdb>/                                snapshots
        test-<changes>_<hash>/                 results of testing the trained net in one way

The hash is of the settings. So a run is found again if anything would make the same one (another table,
another row of the same content), and made anew if a setting, a prototxt or a schedule has changed. Training
that was interrupted goes on from its last snapshot.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from google.protobuf import text_format
from tables import FASTER, FASTER_OHEM, FRCN, PLACES, Place, Row

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tools'))

import _init_paths  # noqa: E402, F401  a Caffe that is installed, or on PYTHONPATH, comes first

import whole_file  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402


class RunFailed(RuntimeError):
    """A tool ended with an error; the message is its own, and names the log."""


@dataclass(frozen=True)
class Run:
    """A row at a place with a seed. iters: of training; None for the place's."""

    row: Row
    on: str
    seed: int
    iters: int | None = None
    gpu: str = 'cpu'

    @property
    def place(self) -> Place:
        return PLACES[self.on]

    @property
    def models(self) -> Path:
        """The folder of the row's prototxts."""
        return ROOT / self.place.models / self.place.networks[self.row.network] / self.row.method

    @property
    def test_net(self) -> Path:
        """The net to test with: Fast R-CNN's, where a way of training has none of its own."""
        own = self.models / 'test.prototxt'
        return own if own.is_file() else self.models.with_name(FRCN) / 'test.prototxt'

    @property
    def iterations(self) -> int:
        return max(1, round((self.iters or self._schedule) * self.row.share))

    @property
    def _schedule(self) -> int:
        """The iterations that the method's solver is meant for."""
        return self.place.rpn_iters if self.row.method in (FASTER, FASTER_OHEM) else self.place.iters[self._data]

    @property
    def _data(self) -> str:
        if self.row.data not in self.place.train:
            raise ValueError(
                f'row {self.row.name} cannot be run on {self.on}: its training set is {self.row.data}, and '
                f'there are {", ".join(self.place.train)}'
            )
        return self.row.data

    # -- what it comes to

    def settings(self) -> dict:
        """The cfg of the run as a nested dictionary: the place's, changed as the row says."""
        tree = _read_yaml(_cfgs() / f'{self.place.cfgs[self.row.method]}.yml')
        for change in (*self.row.train, *self.row.test):
            own = _cfgs() / 'changes' / f'{self.place.prefix}{change}.yml'
            _merge(tree, _read_yaml(own if own.is_file() else _cfgs() / 'changes' / f'{change}.yml'))
        tree['RNG_SEED'] = self.seed
        if self.place.snapshots:
            tree.setdefault('TRAIN', {})['SNAPSHOT_ITERS'] = max(1, self.iterations // self.place.snapshots)
        return tree

    def solver(self) -> caffe_pb2.SolverParameter:
        """The method's solver with the row's learning rate and passes, its step in proportion to `iters`."""
        path = self.models / 'solver.prototxt'
        if not path.is_file():
            raise FileNotFoundError(f'no {path.relative_to(ROOT)}: {self.on} has no {self.row.method} for this network')
        param = text_format.Parse(path.read_text(), caffe_pb2.SolverParameter())
        param.base_lr *= self.row.lr
        if self.row.iter_size and self.row.iter_size != param.iter_size:  # an unset 1 stays unset: same hash
            param.iter_size = self.row.iter_size
        if param.lr_policy == 'step':
            param.stepsize = max(1, round(param.stepsize * (self.iters or self._schedule) / self._schedule))
        return param

    def _of_training(self) -> dict:
        """Everything that the trained net is a function of."""
        settings = self.settings()
        settings.pop('TEST', None)
        settings.pop('EXP_DIR', None)
        settings.get('TRAIN', {}).pop('SNAPSHOT_ITERS', None)
        start, adversary = self._run_of(self.row.start), self._run_of(self.row.adversary)
        what = {
            'cfg': settings,
            'solver': text_format.MessageToString(self.solver()),
            'net': (ROOT / self.solver().train_net).read_text(),
            'imdb': self.place.train[self._data],
            'iters': self.iterations,
            'weights': start._of_training() if start else self.place.weights,
        }
        if start and self.row.start_without != Row.start_without:
            what['without'] = self.row.start_without
        if adversary:
            what['adversary'] = [adversary._of_training(), self._surgery().read_text()]
        return what

    def _run_of(self, row: Row | None) -> Run | None:
        """The run of another row that this one starts from, if any; one of COCO is run in small where all is."""
        if row is None:
            return None
        on = 'coco' if (self.on, row.data) == ('pascal_voc', 'coco') else self.on
        return Run(row, on, self.seed, self.iters, self.gpu)

    def _surgery(self) -> Path:
        """What is joined to what, for tools/do_net_surgery.py."""
        return self.models / 'init_weights.json'

    def folder(self) -> Path:
        """Where the run is, or is to be."""
        parent, key = ROOT / 'output' / 'reproduce' / self.on, _hash(self._of_training())
        found = sorted(parent.glob(f'*_seed{self.seed}_{key}'))
        return found[0] if found else parent / f'{self.row.name}_seed{self.seed}_{key}'

    def weights(self) -> Path | None:
        """The trained net, if it is there."""
        return next(self.folder().glob(f'*/{self.solver().snapshot_prefix}_iter_{self.iterations}.caffemodel'), None)

    def snapshots(self) -> dict[int, Path]:
        """All nets for testing that the run has left: iteration -> .caffemodel."""
        found = self.folder().glob(f'*/{self.solver().snapshot_prefix}_iter_*.caffemodel')
        return dict(sorted((_iteration(path), path) for path in found))

    def results(self) -> dict | None:
        """The results.json of the test, if it is there."""
        found = next(self._test_folder().glob('*/*/results.json'), None)
        return json.loads(found.read_text()) if found else None

    def _test_folder(self) -> Path:
        settings = self.settings()
        prototxt = self.test_net.read_text()
        what = [
            {key: settings.get(key) for key in ('TEST', 'DEDUP_BOXES', 'PIXEL_MEANS')},
            prototxt,
            self.place.test[self._data],
            self.place.num_dets,
            self.place.det_thresh,
        ]
        return self.folder() / f'test-{"-".join(self.row.test) or "plain"}_{_hash(what)}'

    # -- doing it

    def train(self) -> Path:
        """Trains, unless that is done, from the last snapshot if there is one. Returns the trained net."""
        done = self.weights()
        if done:
            return done
        folder = self.folder()
        folder.mkdir(parents=True, exist_ok=True)
        cfg, solver = self.write_files(folder)
        prefix = self.solver().snapshot_prefix
        states = {_iteration(path): path for path in folder.glob(f'*/{prefix}_resume_iter_*.solverstate')}
        states = {n: path for n, path in states.items() if n < self.iterations}
        start = self._run_of(self.row.start)
        if states:
            begin = ['--snapshot', states[max(states)]]
        elif start:
            begin = ['--weights', self._joined(start, cfg, folder / 'start.caffemodel')]
        elif self.place.weights:
            network = self.place.networks[self.row.network]
            begin = ['--weights', ROOT / self.place.weights.format(network=network)]
        else:
            begin = []
        imdb = self.place.train[self._data]
        tool('tools/train_net.py', '--gpu', self.gpu, '--solver', solver, '--imdb', imdb,
             '--iters', self.iterations, *begin, '--cfg', cfg, log=folder / 'log.txt')  # fmt: skip
        return self.weights()

    def _joined(self, start: Run, cfg: Path, path: Path) -> Path:
        """Writes the weights to start from to `path`."""
        adversary, trained = self._run_of(self.row.adversary), start.train()
        if adversary is None:
            return without_layers(trained, self.row.start_without, path)
        models = []
        for step in json.loads(self._surgery().read_text()):
            of = adversary if Path(step['prototxt']).parent == adversary.models.relative_to(ROOT) else start
            models += ['--model', f'{step["prototxt"]}={of.train()}']
        tool('tools/do_net_surgery.py', '--gpu', 'cpu', '--out_net_def', self.models / 'train.prototxt',
             '--net_surgery_json', self._surgery(), *models, '--out_net_file', path, '--cfg', cfg,
             log=path.with_name('log.txt'))  # fmt: skip
        return path

    def test(self) -> dict:
        """Tests the trained net, unless that is done. Returns its results.json."""
        done = self.results()
        if done is not None:
            return done
        weights, folder = self.train(), self._test_folder()
        folder.mkdir(exist_ok=True)
        cfg, _ = self.write_files(folder)
        tool('tools/test_net.py', '--gpu', self.gpu, '--def', self.test_net, '--net', weights,
             '--imdb', self.place.test[self._data], '--num_dets', self.place.num_dets,
             '--det_thresh', self.place.det_thresh, '--cfg', cfg, log=folder / 'log.txt')  # fmt: skip
        return self.results()

    def write_files(self, folder: Path) -> tuple[Path, Path]:
        """Writes cfg.yml and solver.prototxt into `folder`, where tools that read them put their results."""
        settings = {**self.settings(), 'EXP_DIR': str(folder.relative_to(ROOT / 'output'))}
        cfg, solver = folder / 'cfg.yml', folder / 'solver.prototxt'
        whole_file.write_text(cfg, yaml.safe_dump(settings, sort_keys=False))
        whole_file.write_text(solver, text_format.MessageToString(self.solver()))
        return cfg, solver


def tool(*command, log: Path) -> None:
    """Runs a tool of the project, its output to the end of `log`. Raises RunFailed with its last line."""
    command = [sys.executable, *map(str, command)]
    with open(log, 'a', encoding='utf-8') as out:
        print(f'+ {" ".join(command)}  # {time.strftime("%Y-%m-%d %H:%M:%S")}', file=out, flush=True)
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        status = None
        while status is None:
            with contextlib.suppress(KeyboardInterrupt):  # the tool got it too, and is writing its snapshot
                status = process.wait()
    if status == 130:
        raise KeyboardInterrupt('stopped; the same command goes on from the last snapshot')
    if status:
        last = (log.read_text(encoding='utf-8', errors='replace').strip() or '?').splitlines()[-1]
        raise RunFailed(f'{last} [{os.path.relpath(log, ROOT)}]')


def without_layers(caffemodel: Path, names: tuple[str, ...], path: Path) -> Path:
    """Writes `caffemodel` without the layers of these names to `path`."""
    net = caffe_pb2.NetParameter.FromString(caffemodel.read_bytes())
    kept = [layer for layer in net.layer if layer.name not in names]
    del net.layer[:]
    net.layer.extend(kept)
    whole_file.write(path, net.SerializeToString())
    return path


def make_demo_data() -> None:
    """Makes the images and proposals of data/demo, where they are not there."""
    log = ROOT / 'experiments' / 'logs' / 'demo_data.txt'
    log.parent.mkdir(exist_ok=True)
    if not (ROOT / 'data/demo/ImageSets/Main/test.txt').is_file():
        print("making the demo's images ...", flush=True)
        tool('data/scripts/make_demo_data.py', '--out', 'data/demo', log=log)
    for split in ('train', 'test'):
        if not list((ROOT / 'data/demo/proposals').glob(f'*_{split}.h5')):
            print(f"finding the demo's proposals ({split}) ...", flush=True)
            tool('tools/make_proposals.py', '--imdb', f'folder:data/demo:{split}', log=log)


def write(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole_file.write_text(path, text)


def _cfgs() -> Path:
    return ROOT / 'experiments' / 'cfgs'


def _read_yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding='utf-8')) or {}


def _merge(tree: dict, changes: dict) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(tree.setdefault(key, {}), value)
        else:
            tree[key] = value


def _hash(what) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def _iteration(path: Path) -> int:
    return int(path.name.split('_iter_')[1].split('.')[0])
