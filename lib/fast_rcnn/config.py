"""The detector's settings: `cfg`, with the keys of the Fast R-CNN family.

    from fast_rcnn.config import cfg, cfg_from_file, cfg_from_list
    cfg_from_file('experiments/cfgs/fast_rcnn_ohem.yml')
    cfg_from_list(['TRAIN.SCALES', '(400, 500)', 'EXP_DIR', 'two_scales'])

Do not edit the defaults below to run an experiment: write a YAML file, or pass `--set KEY VALUE`. Settings
are checked as a whole before any is applied, so a mistake leaves `cfg` as it was.
"""

import ast
import copy
import difflib
import math
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import yaml
from easydict import EasyDict

from project_root import ROOT


class ConfigError(ValueError):
    """A setting that does not exist, has the wrong type, or cannot be honoured."""


_DEFAULTS = {
    'TRAIN': {
        # Length of an image's shorter side in pixels; one is drawn for each image if several are given
        'SCALES': (600,),
        # Longest allowed longer side in pixels; it wins over SCALES
        'MAX_SIZE': 1000,
        # Images in a mini-batch
        'IMS_PER_BATCH': 2,
        # RoIs in a mini-batch that are back-propagated (sampled, or the hardest if USE_OHEM); -1: all of them
        'BATCH_SIZE': 128,
        # Classic sampling: the share of the mini-batch that is foreground, at most
        'FG_FRACTION': 0.25,
        # An RoI is foreground if its IoU with a ground-truth box is at least this
        'FG_THRESH': 0.5,
        # An RoI is background if its IoU is in [BG_THRESH_LO, BG_THRESH_HI)
        'BG_THRESH_HI': 0.5,
        'BG_THRESH_LO': 0.1,
        # Train on mirrored copies of the images as well
        'USE_FLIPPED': True,
        # Train bounding-box regressors
        'BBOX_REG': True,
        # An RoI is an example for box regression if its IoU is at least this
        'BBOX_THRESH': 0.5,
        # Iterations between snapshots
        'SNAPSHOT_ITERS': 10000,
        # So many of the newest snapshots stay, older ones of the run are removed; 0: all stay
        'SNAPSHOTS_KEPT': 0,
        # Where there is a data set to validate on (--val): iterations between tests on it; 0: as SNAPSHOT_ITERS
        'VAL_ITERS': 0,
        # There too: end the training when mAP has not risen for so many iterations; 0: never
        'EARLY_STOP_ITERS': 0,
        # Snapshots are named <snapshot_prefix>[_<SNAPSHOT_INFIX>]_iter_<N>
        'SNAPSHOT_INFIX': '',
        # Make mini-batches ahead, in this many other processes
        'USE_PREFETCH': False,
        'PREFETCH_WORKERS': 2,
        # Keep what the net's frozen first layers make of an image in so many GiB of memory (a process), instead of
        # computing it in every epoch; 0: off. Takes IMS_PER_BATCH 1, and images that are shown unchanged
        'FROZEN_CACHE_GIB': 0.0,
        # Keep it in this folder instead, where other ranks and later runs find it
        'FROZEN_CACHE_DIR': '',
        # Subtract the mean of the regression targets and divide by their standard deviation, class by class
        'BBOX_NORMALIZE_TARGETS': True,
        # Weights of (dx, dy, dw, dh) inside the smooth L1 loss
        'BBOX_INSIDE_WEIGHTS': (1.0, 1.0, 1.0, 1.0),
        # Predict one regression for objects of any class, in the place of class 1, not one a class (R-FCN)
        'AGNOSTIC': False,
        # Take these means and deviations instead of measuring them on the training set
        'BBOX_NORMALIZE_TARGETS_PRECOMPUTED': False,
        'BBOX_NORMALIZE_MEANS': (0.0, 0.0, 0.0, 0.0),
        'BBOX_NORMALIZE_STDS': (0.1, 0.1, 0.2, 0.2),
        # Which proposals to train on; 'gt': none but the objects themselves
        'PROPOSAL_METHOD': 'selective_search',
        # Put images of like shape (wide with wide, tall with tall) into a mini-batch, to save padding
        'ASPECT_GROUPING': True,
        # Train on the hardest RoIs of all, instead of a random sample (needs a net with a mining layer)
        'USE_OHEM': False,
        # Before the hardest are taken, drop RoIs that overlap a harder one of the same image and label
        'OHEM_USE_NMS': True,
        'OHEM_NMS_THRESH': 0.7,
        # What "hardest" goes by: 'both', classification + box regression, as in the paper, or 'cls', the former alone
        'OHEM_LOSS': 'both',
        # The rule that says which RoIs those are: a name such as mine_stratified, or module.function of one's own
        # (see roi_data_layer.mining_rules). Empty: what the net's prototxt says, else mine_hard_rois, the paper's
        'OHEM_RULE': '',
        # Train a region proposal network: the net gets images and objects, and no proposals
        'HAS_RPN': False,
        # An anchor is an object if its IoU with one is at least this, or the highest for that object
        'RPN_POSITIVE_OVERLAP': 0.7,
        # An anchor is background if its IoU with every object is below this
        'RPN_NEGATIVE_OVERLAP': 0.3,
        # An anchor that is both counts as background
        'RPN_CLOBBER_POSITIVES': False,
        # Anchors of an image to learn from, and the share of objects among them, at most
        'RPN_BATCHSIZE': 256,
        'RPN_FG_FRACTION': 0.5,
        # Learn from the anchors that the net is most wrong about, instead of a random sample (not in the original)
        'RPN_USE_OHEM': False,
        # Weights of (dx, dy, dw, dh) inside the smooth L1 loss of the anchors
        'RPN_BBOX_INSIDE_WEIGHTS': (1.0, 1.0, 1.0, 1.0),
        # The weight of all objects together in that loss, background having the rest; below 0: all anchors weigh
        # the same
        'RPN_POSITIVE_WEIGHT': -1.0,
        # Normalise the targets of the anchors by these means and deviations (R-FCN)
        'RPN_NORMALIZE_TARGETS': False,
        'RPN_NORMALIZE_MEANS': (0.0, 0.0, 0.0, 0.0),
        'RPN_NORMALIZE_STDS': (0.1, 0.1, 0.2, 0.2),
        # Proposals: smaller sides than this, in pixels of the image, are dropped, the PRE_NMS best (0 or less: all)
        # go through NMS at this IoU, and the POST_NMS best of those stay
        'RPN_MIN_SIZE': 16,
        'RPN_PRE_NMS_TOP_N': 12000,
        'RPN_NMS_THRESH': 0.7,
        'RPN_POST_NMS_TOP_N': 2000,
        # Changes drawn anew for every image of every mini-batch (see roi_data_layer.augmentation); each is off as it
        # stands here. Boxes and their targets follow; means and deviations of targets stay those of unchanged images
        'AUGMENT': {
            # SCALES are multiplied by a number between these two; MAX_SIZE stays the limit
            'SCALE_JITTER': (1.0, 1.0),
            # A part of the image of at least this share of its width, and of its height; 1: the whole
            'CROP': 1.0,
            # It cuts no object of which it holds less than this share (others are whole, or outside)
            'CROP_HOLDS': 0.8,
            # Turn the image by 0, 90, 180 or 270 degrees
            'TURN': False,
            # Brightness, contrast and saturation are each multiplied by a number from 1 - this to 1 + this
            'COLOUR': 0.0,
            # Hues are turned by up to so many degrees, either way
            'HUE': 0.0,
            # Blurred by a Gaussian whose standard deviation is up to so many pixels of the scaled image
            'BLUR': 0.0,
        },
    },
    'TEST': {
        # As in TRAIN; of several scales each RoI takes what SCALE_CHOICE says
        'SCALES': (600,),
        'MAX_SIZE': 1000,
        # Images of one size that share a forward pass: more need more memory, and gain where one does not fill
        # the machine
        'IMS_PER_BATCH': 1,
        # 'nearest': the scale that brings its area nearest 224 x 224; 'all': every one, and the results are pooled
        'SCALE_CHOICE': 'nearest',
        # Drop a detection that overlaps a better one of its class by this IoU or more
        'NMS': 0.3,
        # Take the scores before the softmax (blob cls_score), for classifiers trained as SVMs
        'SVM': False,
        # Move the boxes by the predicted regression
        'BBOX_REG': True,
        # The net predicts one regression for objects of any class, as TRAIN.AGNOSTIC trains it
        'AGNOSTIC': False,
        # How often boxes are scored and moved; the results of all times are pooled. 2 in the OHEM paper's "+B"
        'BBOX_ITERATIONS': 1,
        # Which moved boxes are scored again: those whose class scores more than this
        'BBOX_RESCORE_THRESH': 0.05,
        # After NMS, replace each box by the mean of all boxes of its class, weighted by score, whose IoU with
        # it is at least BBOX_VOTE_THRESH (Gidaris and Komodakis, ICCV 2015)
        'BBOX_VOTE': False,
        'BBOX_VOTE_THRESH': 0.5,
        # Which proposals to test on
        'PROPOSAL_METHOD': 'selective_search',
        # The net proposes boxes itself; the others as in TRAIN
        'HAS_RPN': False,
        'RPN_MIN_SIZE': 16,
        'RPN_PRE_NMS_TOP_N': 6000,
        'RPN_NMS_THRESH': 0.7,
        'RPN_POST_NMS_TOP_N': 300,
    },
    # Boxes that become equal when scaled by this (1 / the stride of the feature map) are computed once; 0: never
    'DEDUP_BOXES': 1.0 / 16.0,
    # Subtracted from every pixel, in BGR order
    'PIXEL_MEANS': np.array([[[102.9801, 115.9465, 122.7717]]]),
    # Every random choice of a training run follows from this number (0 or more)
    'RNG_SEED': 3,
    # Guards a division by the number of examples of a class that may have none
    'EPS': 1e-14,
    'ROOT_DIR': ROOT,
    'DATA_DIR': os.path.join(ROOT, 'data'),
    'MODELS_DIR': os.path.join(ROOT, 'models', 'pascal_voc'),
    # Results go to output/<EXP_DIR>/<data set>
    'EXP_DIR': 'default',
    'GPU_ID': 0,
    # Of products, as caffe.set_precision has it: fp32, tf32, bf16 or bf16-ranking (docs/performance.md#lower-precision)
    'PRECISION': 'fp32',
    # Accepted because published files set them, and without effect: evaluation needs no MATLAB, and NMS runs on the CPU
    'MATLAB': 'matlab',
    'USE_GPU_NMS': False,
}

# Inclusive ranges of numbers (of every number, where the value is a tuple)
_RANGES = {
    'TRAIN.SCALES': (1, math.inf),
    'TRAIN.MAX_SIZE': (1, math.inf),
    'TRAIN.IMS_PER_BATCH': (1, math.inf),
    'TRAIN.BATCH_SIZE': (-1, math.inf),
    'TRAIN.FG_FRACTION': (0, 1),
    'TRAIN.FG_THRESH': (0, 1),
    'TRAIN.BG_THRESH_HI': (0, 1),
    'TRAIN.BG_THRESH_LO': (0, 1),
    'TRAIN.BBOX_THRESH': (0, 1),
    'TRAIN.SNAPSHOT_ITERS': (1, math.inf),
    'TRAIN.SNAPSHOTS_KEPT': (0, math.inf),
    'TRAIN.VAL_ITERS': (0, math.inf),
    'TRAIN.EARLY_STOP_ITERS': (0, math.inf),
    'TRAIN.PREFETCH_WORKERS': (1, math.inf),
    'TRAIN.FROZEN_CACHE_GIB': (0, math.inf),
    'TRAIN.BBOX_NORMALIZE_STDS': (1e-12, math.inf),
    'TRAIN.OHEM_NMS_THRESH': (0, 1),
    'TRAIN.RPN_POSITIVE_OVERLAP': (0, 1),
    'TRAIN.RPN_NEGATIVE_OVERLAP': (0, 1),
    'TRAIN.RPN_BATCHSIZE': (1, math.inf),
    'TRAIN.RPN_FG_FRACTION': (0, 1),
    'TRAIN.RPN_POSITIVE_WEIGHT': (-1, 1),
    'TRAIN.RPN_NORMALIZE_STDS': (1e-12, math.inf),
    'TRAIN.RPN_MIN_SIZE': (0, math.inf),
    'TRAIN.RPN_NMS_THRESH': (0, 1),
    'TRAIN.AUGMENT.SCALE_JITTER': (0.1, 10),
    'TRAIN.AUGMENT.CROP': (0.1, 1),
    'TRAIN.AUGMENT.CROP_HOLDS': (0.1, 1),
    'TRAIN.AUGMENT.COLOUR': (0, 0.9),
    'TRAIN.AUGMENT.HUE': (0, 180),
    'TRAIN.AUGMENT.BLUR': (0, 10),
    'TEST.RPN_MIN_SIZE': (0, math.inf),
    'TEST.RPN_NMS_THRESH': (0, 1),
    'TEST.SCALES': (1, math.inf),
    'TEST.MAX_SIZE': (1, math.inf),
    'TEST.IMS_PER_BATCH': (1, math.inf),
    'TEST.NMS': (0, 1),
    'TEST.BBOX_ITERATIONS': (1, math.inf),
    'TEST.BBOX_VOTE_THRESH': (0, 1),
    'DEDUP_BOXES': (0, math.inf),
    'RNG_SEED': (0, 2**31 - 1),
    'EPS': (0, 1),
    'GPU_ID': (0, math.inf),
}

# A range, the lower number first
_FROM_TO = ('TRAIN.AUGMENT.SCALE_JITTER',)

_CHOICES = {
    'TRAIN.OHEM_LOSS': ('both', 'cls'),
    'TEST.SCALE_CHOICE': ('nearest', 'all'),
    'PRECISION': ('fp32', 'tf32', 'bf16', 'bf16-ranking'),
}


_LARGEST_FILE = 1 << 20  # characters
_DEEPEST = 20  # groups or lists in one another
_MOST_VALUES = 10_000


def _flatten(tree: dict, prefix: str = '') -> dict:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f'{prefix}{key}.'))
        else:
            flat[prefix + str(key)] = value
    return flat


_FLAT_DEFAULTS = _flatten(_DEFAULTS)

cfg = EasyDict(copy.deepcopy(_DEFAULTS))


def cfg_from_file(path: str) -> None:
    """Apply the settings of the YAML file `path` to `cfg`.

    Raises ConfigError, naming the file and the key, and applies nothing, if any setting is wrong;
    FileNotFoundError if there is no such file.
    """
    cfg_from_dict(settings_of_file(path), source=path)


def cfg_from_list(items: list[str], settings: EasyDict = cfg) -> None:
    """Apply a list of texts, ['KEY', 'VALUE', ...], as on the command line after --set, to `settings`.

    A value is a Python or YAML literal: 0.7, True, true, (400, 500), [400, 500]; for a key that holds a text
    it is taken as it stands. Raises ConfigError, and applies nothing, if any setting is wrong.
    """
    if len(items) % 2:
        raise ConfigError(f'settings: expected pairs KEY VALUE, got {len(items)} words: {" ".join(map(str, items))}')
    flat = {}
    for key, text in zip(items[0::2], items[1::2], strict=True):
        flat[key] = text if isinstance(_FLAT_DEFAULTS.get(key), str) else _literal(text)
    _apply(flat, 'settings', settings)


def cfg_from_dict(tree: dict, source: str = 'settings', settings: EasyDict = cfg) -> None:
    """Apply the nested dictionary `tree` to `settings`; `source` is named in errors. Raises ConfigError as
    `cfg_from_file`.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f'{source}: expected settings as KEY: VALUE lines, got {type(tree).__name__} {_shown(tree)}')
    _apply(_flatten(tree), source, settings)


def settings_of(tree: dict, source: str = 'settings') -> EasyDict:
    """The defaults with the nested dictionary `tree` applied, of the form of `cfg`, which stays as it is.

    Raises ConfigError as `cfg_from_file`.
    """
    settings = EasyDict(copy.deepcopy(_DEFAULTS))
    cfg_from_dict(tree, source, settings)
    return settings


def settings_of_file(path: str) -> dict:
    """The settings in the YAML file `path`, as a nested dictionary, unchecked. Raises as `cfg_from_file`."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'no settings file {path}; give a YAML file, such as experiments/cfgs/fast_rcnn_ohem.yml'
        )
    try:
        with open(path, encoding='utf-8') as stream:
            tree = plain_values(stream.read(_LARGEST_FILE + 1))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f'{path}: not valid YAML: {problem_of(error)}') from None
    return {} if tree is None else tree


def changed_settings() -> dict[str, object]:
    """The settings of `cfg` that are not the defaults: 'TRAIN.SCALES' -> value."""
    now = _flatten(cfg)
    return {
        key: now[key] for key, value in _FLAT_DEFAULTS.items() if key in now and not np.array_equal(now[key], value)
    }


def rois_of_an_image(images: int = 1) -> int:
    """How many RoIs of each of a mini-batch's `images` are back-propagated at most, by TRAIN.BATCH_SIZE."""
    return sys.maxsize if cfg.TRAIN.BATCH_SIZE == -1 else cfg.TRAIN.BATCH_SIZE // images


def regression_classes(num_classes: int) -> int:
    """How many box regressions a net that trains predicts; with TRAIN.AGNOSTIC two, for background and for objects."""
    return 2 if cfg.TRAIN.AGNOSTIC else num_classes


def get_output_dir(imdb: Any, net: Any = None) -> str:
    """The folder for an experiment's results, made if needed: output/<EXP_DIR>/<imdb.name>[/<net name>].

    `net` is a name, or anything with a `name`.
    """
    folder = output_dir_of(imdb, net)
    os.makedirs(folder, exist_ok=True)
    return folder


def output_dir_of(imdb: Any, net: Any = None) -> str:
    """The folder that `get_output_dir` makes, without making it."""
    if os.pardir in cfg.EXP_DIR.split(os.sep):
        raise ConfigError(
            f"EXP_DIR is {cfg.EXP_DIR!r}, which leaves the folder output by '..'; give a name, an absolute path, or "
            'ROOT_DIR, in which output lies'
        )
    parts = [cfg.ROOT_DIR, 'output', cfg.EXP_DIR, imdb.name]
    if net is not None:
        parts.append(net if isinstance(net, str) else net.name)
    return os.path.abspath(os.path.join(*parts))


def plain_values(text: str) -> Any:
    """The values of a YAML text. Raises yaml.YAMLError or ValueError, whatever is wrong with it: see `problem_of`."""
    if len(text) > _LARGEST_FILE:
        raise ValueError(f'more than {_LARGEST_FILE} characters: this is no file of settings')
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: makes plain values only
    except (TypeError, KeyError, AttributeError, OverflowError, IndexError) as error:  # of a tag that does not fit
        raise ValueError(f'a value that cannot be made ({type(error).__name__}: {error})') from None


def problem_of(error: Exception) -> str:
    """What is wrong with a YAML text, and in which line, in a line."""
    mark = getattr(error, 'problem_mark', None) or getattr(error, 'context_mark', None)
    said = ' '.join(str(getattr(error, 'problem', None) or error).split())
    return said if mark is None else f'{said} (line {mark.line + 1}, column {mark.column + 1})'


class _Loader(yaml.SafeLoader):
    """YAML of plain values, plus the `!!python/tuple` that published files use.

    A key given twice is an error. So is deep nesting, and a text that by its aliases stands for far more than it is.
    """

    _depth = 0

    def compose_node(self, parent, index):
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, f'lists or groups in one another, more than {_DEEPEST} deep', self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self):
        node = super().get_single_node()
        if node is not None and _values_in(node, {}) > _MOST_VALUES:
            raise yaml.composer.ComposerError(
                None, None, f'its aliases stand for more than {_MOST_VALUES} values, or for themselves', node.start_mark
            )
        return node

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == 'tag:yaml.org,2002:merge':  # <<: takes over the keys of another group
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key {key} is given twice', key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else repr(key))
        return super().construct_mapping(node, deep)


def _values_in(node, known: dict) -> float:
    """How many values a YAML node stands for, aliases followed; infinite if it contains itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_values_in(part, known) for part in inner)
    return known[id(node)]


# YAML 1.1 reads 1e-14 as text, since it has no point; it is meant as a number
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$'), list('-+0123456789')
)


def _construct_tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> tuple:
    return tuple(loader.construct_sequence(node))


_Loader.add_constructor('tag:yaml.org,2002:python/tuple', _construct_tuple)


def _literal(text):
    if not isinstance(text, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return plain_values(text)
    except (yaml.YAMLError, ValueError):
        return text


def _apply(flat: dict, source: str, settings: EasyDict = cfg) -> None:
    checked = {key: _checked(key, value, source) for key, value in flat.items()}
    for key, value in checked.items():
        *sections, name = key.split('.')
        node = settings
        for section in sections:
            node = node[section]
        node[name] = value


def _checked(key: str, value, source: str):
    """`value` in the type of `key`'s default, or ConfigError."""
    inside = [name.removeprefix(f'{key}.') for name in _FLAT_DEFAULTS if name.startswith(f'{key}.')]
    if inside:
        raise ConfigError(f'{source}: {key} is a group of settings ({", ".join(inside[:3])}, ...), got {_shown(value)}')
    if key not in _FLAT_DEFAULTS:
        raise ConfigError(f'{source}: there is no setting {key}{_nearest(key)}')
    default = _FLAT_DEFAULTS[key]
    result = _converted(value, default)
    if result is None:
        raise ConfigError(
            f'{source}: {key} expects {_described(default)}, such as {_example(default)}; '
            f'got {type(value).__name__} {_shown(value)}'
        )
    if key in _CHOICES and result not in _CHOICES[key]:
        raise ConfigError(f'{source}: {key} is one of {", ".join(_CHOICES[key])}; got {_shown(value)}')
    if key == 'TRAIN.BATCH_SIZE' and result == 0:
        raise ConfigError(f'{source}: {key} is 0, so there is nothing to learn from; expected 1 or more, or -1 for all')
    low, high = _RANGES.get(key, (-math.inf, math.inf))
    numbers: Iterable = np.ravel(result) if isinstance(default, (int, float, tuple, np.ndarray)) else []
    for number in numbers:
        if not (math.isfinite(_float(number)) and low <= number <= high):
            raise ConfigError(f'{source}: {key} expects finite numbers in [{low}, {high}]; got {_shown(value)}')
    if key in _FROM_TO and result[0] > result[1]:
        raise ConfigError(f'{source}: {key} expects the lower number first; got {_shown(value)}')
    return result


def _converted(value, default):
    """`value` as the type of `default` where nothing is lost by it, else None."""
    if isinstance(default, bool):
        return value if isinstance(value, bool) else None
    if isinstance(default, int):
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(default, float):
        return _float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if isinstance(default, str):
        return value if isinstance(value, str) else None
    if isinstance(default, np.ndarray):
        try:
            array = np.asarray(value, dtype=default.dtype)
        except (TypeError, ValueError, OverflowError):
            return None
        return array.reshape(default.shape) if array.size == default.size else None
    # A tuple: of any length above 0 if it lists scales, else of the default's length
    if not isinstance(value, (tuple, list)) or not value or (len(default) > 1 and len(value) != len(default)):
        return None
    items = tuple(_converted(item, default[0]) for item in value)
    return None if None in items else items


def _shown(value) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return 'a number of thousands of digits'
    return text if len(text) <= 200 else f'{text[:200]}...'


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


def _described(default) -> str:
    if isinstance(default, bool):
        return 'True or False'
    if isinstance(default, np.ndarray):
        return f'{default.size} numbers'
    if isinstance(default, tuple):
        kind = 'whole numbers' if isinstance(default[0], int) else 'numbers'
        return f'a list of {kind}' if len(default) == 1 else f'a list of {len(default)} {kind}'
    return {int: 'a whole number', float: 'a number', str: 'a text (quote it if it looks like a number)'}[type(default)]


def _example(default) -> str:
    return repr(default.tolist() if isinstance(default, np.ndarray) else default)


def _nearest(key: str) -> str:
    """A hint at the key meant by `key`: the same name, or nearly, in any section; nothing where none is like it."""
    last = {name: name.split('.')[-1] for name in _FLAT_DEFAULTS}
    section, _, name = key.upper().rpartition('.')
    alike = difflib.get_close_matches(name, sorted(set(last.values())), n=1, cutoff=0.75)
    found = [each for each in last if last[each] in alike]
    near = [each for each in found if last[each] != name and each.rpartition('.')[0] == section] or found
    return f'; did you mean {" or ".join(near)}?' if near else ''
