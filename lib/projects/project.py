"""A project: one folder that says what to train on one's own data, and how.

projects/fruit/
  project.yml              what follows, and where the photographs and labels came from
  fruit_train.json ...     the labels of each split, in COCO's format; the photographs stay where they are
  ohem/  frcn/  faster/    train.prototxt, test.prototxt, solver.prototxt, settings.yml
  README.md                the commands that come next
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import yaml

from detection_data.image_file import ImageError, image_scale
from project_root import ROOT
from projects.anchors import fitted_anchors, set_anchors, smallest_side
from projects.photographs import ImageFolder, LabelError, Photograph, number_of
from projects.set_classes import set_classes
from projects.split import SPLITS

FOLDER = 'projects'
METHODS = {'ohem': 'fast_rcnn_ohem', 'frcn': 'fast_rcnn', 'faster': 'faster_rcnn_end2end_ohem'}
WITH_RPN = ('faster',)  # these propose boxes by themselves


class ProjectError(ValueError):
    """A project that is not there, not whole, or there already."""


@dataclasses.dataclass(frozen=True)
class Net:
    """A net to start from. folder: of its prototxts, with {method} in it; weights: to start from, '' for none."""

    folder: str
    stride: int
    weights: str = ''


NETS = {
    'small': Net('models/demo/small/{method}', 8),
    **{
        name: Net(f'models/pascal_voc/{name}/{{method}}', 16, f'data/imagenet_models/{name}.v2.caffemodel')
        for name in ('VGG_CNN_M_1024', 'VGG16')
    },
    **{
        name: Net(f'models/pascal_voc/{name}/{{method}}', 16, f'data/imagenet_models/{name}-folded.caffemodel')
        for name in ('ResNet-50', 'MobileNet-v2')
    },
}


@dataclasses.dataclass(frozen=True)
class Project:
    """What project.yml says. Paths in it are relative to the folder that the tools are called in, or absolute."""

    name: str
    net: str
    classes: tuple[str, ...]
    images: str
    labels: str
    seed: int
    iterations: int
    photographs: dict[str, int]
    folder: str = ''

    def path(self, *parts: str) -> str:
        """A file of the project."""
        return os.path.join(self.folder, *parts)

    def imdb(self, split: str) -> str:
        """The data set of a split, as --imdb takes it. Raises ProjectError if its labels are not there."""
        labels = self.path(f'{self.name}_{split}.json')
        if not os.path.isfile(labels):
            raise ProjectError(
                f'{self.folder}: there is no {labels}, the labels of the split {split}: make the project anew '
                '(remove the folder, then tools/new_project.py)'
            )
        return f'coco:{labels}:{self.images}'

    @property
    def splits(self) -> list[str]:
        """The splits that have photographs, in order."""
        return [split for split in SPLITS if self.photographs.get(split)]

    @property
    def weights(self) -> str | None:
        """The file that training starts from; None for a net that learns from scratch."""
        return os.path.join(ROOT, NETS[self.net].weights) if NETS[self.net].weights else None

    def iterations_of(self, method: str) -> int:
        """The iterations that a method trains for."""
        return _iterations_of(method, self.iterations)

    def model_to_test(self, output_dir: str, method: str, run: str | None = None) -> str:
        """The model of a method's last run: the best by its validation if it has one, else the newest snapshot.

        run: its name, part of output_dir already, for what is said if there is none.
        Raises ProjectError if it was not trained.
        """
        found = self._model_in(output_dir, method)
        if found is None:
            place = os.path.join(os.sep, self.name, method, '')
            before, _, after = output_dir.rpartition(place)
            others = [
                other
                for other in METHODS
                if other != method and before and self._model_in(os.path.join(before, self.name, other, after), other)
            ]
            named = f' --run {run}' if run else ''
            raise ProjectError(
                f'{output_dir} has no trained model of the method {method} yet: '
                + ''.join(f'there is one of: {other} (--method {other}); ' for other in others)
                + f'tools/train_net.py --project {self.name} --method {method}{named} makes one'
            )
        return found

    def _model_in(self, output_dir: str, method: str) -> str | None:
        solver = self.path(method, 'solver.prototxt')
        if not os.path.isfile(solver):
            return None
        with open(solver, encoding='utf-8') as stream:
            stated = re.search(r'^snapshot_prefix:\s*"([^"]*)"', stream.read(), re.MULTILINE)
        prefix = stated[1] if stated else method
        start = os.path.join(glob.escape(output_dir), f'{glob.escape(prefix)}*')
        found = [p for p in glob.glob(f'{start}_iter_*.caffemodel') if '_resume_iter_' not in p]
        ends = ((re.search(r'_iter_(\d+)\.caffemodel$', p), p) for p in found)
        numbered = [(os.path.getmtime(p), int(end[1]), p) for end, p in ends if end]
        # by time, for an earlier run may have gone on for longer; a new run sets the best model of that aside
        newest = max(numbered)[2] if numbered else None
        best = sorted(glob.glob(f'{start}_best.caffemodel'), key=os.path.getmtime)
        if newest is not None:
            of_its_run = re.sub(r'_iter_\d+\.caffemodel$', '_best.caffemodel', newest)
            return of_its_run if of_its_run in best else newest
        return best[-1] if best else None


def load_project(name: str) -> Project:
    """The project of that name, or in that folder. Raises ProjectError, which names those that are there."""
    folder = name if os.path.isfile(os.path.join(name, 'project.yml')) else os.path.join(FOLDER, name)
    path = os.path.join(folder, 'project.yml')
    if not os.path.isfile(path):
        there = sorted(
            os.path.basename(os.path.dirname(p)) for p in glob.glob(os.path.join(FOLDER, '*', 'project.yml'))
        )
        ours = os.path.join(ROOT, path)
        elsewhere = f'; there is {ours}: call the tool in {ROOT}' if os.path.isfile(ours) else ''
        raise ProjectError(
            f'there is no project {name!r} (looked for {path} in {os.getcwd()}{elsewhere}); '
            f'there are: {", ".join(there) or "none yet"}; tools/new_project.py makes one'
        )
    try:
        with open(path, encoding='utf-8') as file:
            content = yaml.safe_load(file)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ProjectError(f'{path}: not the description of a project ({error}): make it anew') from None
    _check_description(path, content)
    content['classes'] = tuple(map(str, content['classes']))
    project = Project(folder=folder, **content)
    if project.net not in NETS:
        raise ProjectError(f'{path}: there is no net {project.net!r}; there are: {", ".join(NETS)}')
    return project


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


# Key of project.yml -> what is expected, and whether a value is that
_KEYS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    'name': ('a text', _is_text),
    'net': ('the name of a net', _is_text),
    'classes': (
        'a list of names',
        lambda v: isinstance(v, list) and bool(v) and all(_is_text(c) or _is_number(c) for c in v),
    ),
    'images': ('a folder', _is_text),
    'labels': ('a path', _is_text),
    'seed': ('a whole number', _is_number),
    'iterations': ('a whole number above 0', lambda v: _is_number(v) and v > 0),
    'photographs': (
        'a whole number for each split, as in train: 70',
        lambda v: (
            isinstance(v, dict) and bool(v) and all(k in SPLITS and _is_number(n) and n >= 0 for k, n in v.items())
        ),
    ),
}


def _check_description(path: str, content: object) -> None:
    """Raise ProjectError, which names the key, unless this is what a project.yml holds."""
    anew = 'correct it, or make the project anew (tools/new_project.py)'
    if not isinstance(content, dict):
        what = 'it is empty' if content is None else f'it holds {_short(content)}'
        raise ProjectError(f'{path}: {what}; expected the keys {", ".join(_KEYS)}: {anew}')
    missing, unknown = [key for key in _KEYS if key not in content], [key for key in content if key not in _KEYS]
    if missing:
        raise ProjectError(f'{path}: {", ".join(missing)} missing: {anew}')
    if unknown:
        raise ProjectError(f'{path}: unknown key {_short(unknown[0])}; there are: {", ".join(_KEYS)}: {anew}')
    for key, (expected, is_one) in _KEYS.items():
        if not is_one(content[key]):
            raise ProjectError(f'{path}: {key} is {_short(content[key])}; expected {expected}: {anew}')


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


# ---- Making one


def check_classes(photographs: Sequence[Photograph]) -> list[str]:
    """The class names in the order of the alphabet. Raises LabelError for names that differ in case or blanks alone."""
    names = sorted({box.name for p in photographs for box in p.boxes})
    plain = Counter(re.sub(r'[\s_-]+', '', name.lower()) for name in names)
    alike = [[n for n in names if re.sub(r'[\s_-]+', '', n.lower()) == p] for p, count in plain.items() if count > 1]
    if alike:
        raise LabelError(
            f'these class names differ in case or blanks alone: {"; ".join(", ".join(map(repr, a)) for a in alike)}. '
            'If they are one class, say so: --rename OLD=NEW; if not, give them names that differ more'
        )
    if '__background__' in names:
        raise LabelError("'__background__' is the name of what is no object: give the class another name (--rename)")
    if not names:
        raise LabelError('no object in any label file: there is nothing to learn')
    useful = {box.name for p in photographs for box in p.boxes if not box.ignored}
    only_ignored = [name for name in names if name not in useful]
    if only_ignored:
        raise LabelError(
            f'all objects of these classes are difficult, which training passes over: {", ".join(only_ignored)}'
        )
    return names


def coco_json(photographs: Sequence[Photograph], root: str, classes: Sequence[str]) -> dict:
    """The labels in COCO's format, file names relative to root."""
    number = {name: k for k, name in enumerate(classes, start=1)}
    images: list[dict] = []
    annotations: list[dict] = []
    for i, p in enumerate(photographs, start=1):
        relative = os.path.relpath(p.path, root).replace(os.sep, '/')
        images.append({'id': i, 'file_name': relative, 'width': p.width, 'height': p.height})
        for box in p.boxes:
            w, h = box.right - box.left, box.bottom - box.top
            numbers = [round(v, 3) for v in (box.left, box.top, w, h)]
            annotations.append({
                'id': len(annotations) + 1, 'image_id': i, 'category_id': number[box.name],
                'bbox': numbers, 'area': round(w * h, 3), 'iscrowd': int(box.ignored),
            })  # fmt: skip
    categories = [{'id': k, 'name': name} for name, k in number.items()]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def fitted_scale(photographs: Sequence[Photograph], stride: int) -> tuple[int, int]:
    """(SCALES, MAX_SIZE): the length to bring the shorter side of images to, and the longest allowed longer side.

    So that nine in ten objects are two cells of the feature map or more across (sqrt of the area), within 192 and 800
    pixels, and never more than the photographs have.
    """
    shorter = np.median([min(p.width, p.height) for p in photographs])
    longer = np.median([max(p.width, p.height) for p in photographs])
    parts = [
        np.sqrt((b.right - b.left) * (b.bottom - b.top)) / min(p.width, p.height) for p in photographs for b in p.boxes
    ]
    needed = 2 * stride / max(float(np.quantile(parts, 0.1)), 1e-3)
    lowest = 192 if stride < 16 else 400
    scale = int(np.clip(needed, min(lowest, shorter), min(800, shorter)))
    return scale, int(np.ceil(scale * max(longer / shorter, 1) * 1.25))


def too_thin(photographs: Sequence[Photograph], net: str) -> list[str]:
    """The photographs of which a side would be 0 pixels at the project's scale, which training refuses."""
    scale, max_size = fitted_scale(photographs, NETS[net].stride)
    found = []
    for p in photographs:
        try:
            image_scale(p.height, p.width, scale, max_size)
        except ImageError:
            found.append(f'{p.path} ({p.width}x{p.height})')
    return found


def iterations_for(count: int) -> int:
    """A first number of iterations for so many photographs to train on: as Fast R-CNN's 40000 for VOC 2007's 5011.

    An iteration has two images, so each is seen 16 times. With fewer than 175 it is as many as the demo has.
    """
    return int(np.clip(8 * count, 1400, 40000) // 100 * 100)


def _iterations_of(method: str, iterations: int) -> int:
    """What a method needs where Fast R-CNN needs `iterations`: with an RPN 7/4, py-faster-rcnn's 70000 to 40000."""
    return iterations * 7 // 4 if method in WITH_RPN else iterations


def project_files(
    name: str,
    net: str,
    dealt: dict[str, list[Photograph]],
    images: ImageFolder,
    labels: Sequence[str],
    seed: int,
    said: Counter,
    kind: str,
) -> dict[str, str]:
    """The content of each file of a project, by its path below the project's folder."""  # fmt: skip
    everything = [p for part in dealt.values() for p in part]
    classes = check_classes(everything)
    folder = f'{FOLDER}/{name}'
    iterations = iterations_for(len(dealt['train']))
    files = {
        f'{name}_{split}.json': json.dumps(coco_json(part, images.root, classes), indent=1) + '\n'
        for split, part in dealt.items()
        if part
    }
    scale, max_size = fitted_scale(everything, NETS[net].stride)
    anchors, smallest = fitted_anchors(everything, scale), smallest_side(everything)
    for key, method in METHODS.items():
        source = os.path.join(ROOT, NETS[net].folder.format(method=method))
        for file in ('train.prototxt', 'test.prototxt'):
            with open(os.path.join(source, file), encoding='utf-8') as stream:
                text = set_classes(stream.read(), len(classes) + 1, os.path.join(source, file))
            if key in WITH_RPN:
                text = set_anchors(text, *anchors, os.path.join(source, file))
            files[f'{key}/{file}'] = text
        with open(os.path.join(source, 'solver.prototxt'), encoding='utf-8') as stream:
            steps = _iterations_of(key, iterations)
            files[f'{key}/solver.prototxt'] = _solver(stream.read(), f'{folder}/{key}', key, steps)
        files[f'{key}/settings.yml'] = _settings(name, key, net, scale, max_size, smallest, steps)
    counts = {split: len(part) for split, part in dealt.items()}
    description = {
        'name': name, 'net': net, 'classes': classes, 'images': images.root,
        'labels': ', '.join(map(os.path.abspath, labels)), 'seed': seed, 'iterations': iterations,
        'photographs': counts,
    }  # fmt: skip
    files['project.yml'] = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    files['README.md'] = _readme(name, net, dealt, classes, kind, scale, iterations, said, images.root)
    return files


def _solver(text: str, folder: str, key: str, iterations: int) -> str:
    text = re.sub(r'(train_net:\s*)"[^"]*"', rf'\g<1>"{folder}/train.prototxt"', text)
    text = re.sub(r'(stepsize:\s*)\d+', rf'\g<1>{max(iterations * 7 // 10, 1)}', text)
    return re.sub(r'(snapshot_prefix:\s*)"[^"]*"', rf'\g<1>"{key}"', text)


def _settings(name: str, key: str, net: str, scale: int, max_size: int, smallest: int, iterations: int) -> str:
    small = NETS[net].stride == 8
    rpn = key in WITH_RPN
    what = {'ohem': 'OHEM', 'frcn': 'The classic sampling', 'faster': 'Faster R-CNN with OHEM'}[key]
    lines = [f'# {what} on {name}', f'EXP_DIR: {name}/{key}', 'TRAIN:']
    lines += ['  # mAP on the validation set ten times a training; the best model is kept, and the last two snapshots']
    lines += [f'  VAL_ITERS: {max(iterations // 10, 1)}', f'  SNAPSHOT_ITERS: {max(iterations // 10, 1)}']
    lines += ['  SNAPSHOTS_KEPT: 2']
    lines += [f'  SCALES: [{scale}]', f'  MAX_SIZE: {max_size}']
    if small or key != 'frcn':  # one image and 64 RoIs at a time, twice an iteration: iter_size in the solver
        lines += ['  IMS_PER_BATCH: 2', '  BATCH_SIZE: 128'] if small else ['  IMS_PER_BATCH: 1', '  BATCH_SIZE: 64']
    if key != 'frcn':
        lines += ['  USE_OHEM: True', '  BG_THRESH_LO: 0.0']
        lines += [] if small else ['  ASPECT_GROUPING: False']
    if rpn:  # RoIs are not known before, so nothing can be measured on them
        lines += ['  HAS_RPN: True', '  PROPOSAL_METHOD: gt', '  BBOX_NORMALIZE_TARGETS_PRECOMPUTED: True']
        lines += [f'  RPN_MIN_SIZE: {smallest}', *(['  RPN_POST_NMS_TOP_N: 600'] if small else [])]
    lines += ['TEST:', f'  SCALES: [{scale}]', f'  MAX_SIZE: {max_size}']
    if rpn:
        lines += ['  HAS_RPN: True', f'  RPN_MIN_SIZE: {smallest}']
    elif small:
        lines += ["# the small net's features have a stride of 8 pixels", 'DEDUP_BOXES: 0.125']
    return '\n'.join(lines) + '\n'


def _where_weights_are(path: str) -> str:
    if path.endswith('-folded.caffemodel'):
        return "`tools/import_weights.py` makes them of torchvision's or timm's file"
    return '`data/scripts/fetch_imagenet_models.sh` fetches them'


def _readme(name, net, dealt, classes, kind, scale, iterations, said, root) -> str:
    counts = ', '.join(f'{len(part)} to {verb}' for verb, part in zip(
        ('train on', 'validate on', 'test on'), dealt.values(), strict=True) if part)  # fmt: skip
    weights = (
        ''
        if not NETS[net].weights
        else f'\n{net} starts from ImageNet weights: {_where_weights_are(NETS[net].weights)}.\n'
    )
    right = ''.join(f'- {n} x {what}\n' for what, n in said.items())
    splits = [split for split, part in dealt.items() if part]
    sets = {split: shlex.quote(f'coco:{FOLDER}/{name}/{name}_{split}.json:{root}') for split in splits}
    best = 'ohem_best' if dealt.get('val') else f'ohem_iter_{iterations}'
    model, tested = (
        f'output/{name}/ohem/{name}_train/{best}.caffemodel',
        f'output/{name}/ohem/{name}_{splits[-1]}/{best}',
    )
    validated = (
        'Ten times in a training the net is tested on the validation set; the best model is kept, and is the one that\n'
        'is tested and shown.'
        if dealt.get('val')
        else 'There is no validation set, so the newest model is the one that is tested and shown.'
    )
    test = f'.venv/bin/python tools/test_net.py --project {name}\n'
    errors = f'--imdb {sets[splits[-1]]} --out output/{name}/ohem/errors\n'
    errors = f'.venv/bin/python tools/visualize_errors.py {tested} {errors}'
    if splits == ['train']:
        test, errors = '', ''
        validated += '\nThere is no test set either: what a net finds in photographs that it learned from says little.'
    return f"""# {name}

{number_of(sum(map(len, dealt.values())), 'photograph')} ({counts}), labelled in {kind}; classes: {', '.join(classes)}.
{f'{chr(10)}Put right while reading:{chr(10)}{chr(10)}{right}' if right else ''}{weights}
Next, from the folder of the program:

```bash
.venv/bin/python tools/train_net.py --project {name}        # {iterations} iterations, with OHEM; --method frcn without
{test}.venv/bin/python tools/demo.py --project {name} photo.jpg
```

Results go to `output/{name}/`, a folder for each method; `--run NAME` gives a training one of its own.
{validated}

That is Fast R-CNN, on proposals of selective search. With `--method faster` it is Faster R-CNN with OHEM, which
proposes boxes by itself ({_iterations_of('faster', iterations)} iterations). Its anchors are fitted to the boxes here:
`scales` and `ratios` in `faster/train.prototxt` and `test.prototxt`.

Other tools take no `--project`, but its data sets and files; these lines are for OHEM:

```bash
{chr(10).join(f'# {each}' for each in sets.values())}
.venv/bin/python tools/check_dataset.py --method gt --imdb {'+'.join(sets.values())}
.venv/bin/python tools/inspect_rois.py --solver {FOLDER}/{name}/ohem/solver.prototxt --weights {model} \\
    --cfg {FOLDER}/{name}/ohem/settings.yml --imdb {sets['train']} --out output/{name}/ohem/mined
.venv/bin/python tools/export_onnx.py --def {FOLDER}/{name}/ohem/test.prototxt --net {model} --out {name}.onnx
{errors}```

The shorter side of photographs is brought to {scale} pixels, so that nine in ten objects are large enough for this net
(`SCALES` in `ohem/settings.yml`). All files here may be edited; `project.yml` says where photographs and labels are.
"""
