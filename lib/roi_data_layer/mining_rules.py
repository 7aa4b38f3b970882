"""Mining rules by name: what `TRAIN.OHEM_RULE`, or `rule` in the param_str of a HardRoiMiningLayer, may say.

A rule is a function

    rule(loss, rois, labels, batch_size, nms_thresh) -> indices

    loss        (R,) float64, higher is harder, as TRAIN.OHEM_LOSS says
    rois        (R, 5) float32: image, x1, y1, x2, y2 in network input pixels
    labels      (R,) float32, whole numbers, 0 the background
    batch_size  int: TRAIN.BATCH_SIZE
    nms_thresh  float: TRAIN.OHEM_NMS_THRESH, or None where TRAIN.OHEM_USE_NMS is False
    indices     (K,) whole numbers in [0, R), 1 <= K <= batch_size, none twice: the RoIs to learn from, in the order
                in which they are passed on

that may ask for more by keyword-only parameters of these names:

    cls_loss, bbox_loss   (R,) float64 each, the two parts of the loss
    rng                   numpy.random.Generator, which follows from RNG_SEED and the number of the mini-batch

All arrays are read-only. A rule that is random draws from `rng` and from nothing else, and remembers nothing: then a
run that stops and resumes is, to the byte, the run that never stopped.

`mine_hard_rois`, `mine_stratified` and `sample_by_loss_rank` are known by these names (see `mining`). Any other rule
is named by module and function, `my_rules.largest`, with the module's folder on PYTHONPATH.
"""

import importlib
import inspect
from collections.abc import Callable

import numpy as np

from roi_data_layer.mining import mine_hard_rois, mine_stratified, sample_by_loss_rank

DEFAULT_RULE = mine_hard_rois.__name__
RULES: dict[str, Callable] = {rule.__name__: rule for rule in (mine_hard_rois, mine_stratified, sample_by_loss_rank)}

_GIVEN = ('loss', 'rois', 'labels', 'batch_size', 'nms_thresh')
_ON_DEMAND = ('cls_loss', 'bbox_loss', 'rng')
_STREAM = 5  # of random numbers; 1 and 2 are those of `order`, 3 and 4 those of fast_rcnn.train


def mining_rng(seed: int, n: int) -> np.random.Generator:
    """The generator for the mining of mini-batch `n`: a pure function of (RNG_SEED, n), so of its images as well."""
    return np.random.default_rng([seed, _STREAM, n])


def find_rule(name: str) -> Callable:
    """The rule called `name`: one of RULES, or 'module.function'. Raises ValueError if it is none."""
    if name in RULES:
        return RULES[name]
    module_name, _, function_name = name.rpartition('.')
    if not module_name:
        raise ValueError(
            f'mining rule {name!r}: there are {", ".join(RULES)}; a rule of your own is named by its module and '
            'function, such as my_rules.largest'
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # it, or a package of it: another module that is missing is an error of the user's module
        if error.name is None or not f'{module_name}.'.startswith(f'{error.name}.'):
            raise
        raise ValueError(
            f'mining rule {name!r}: there is no module {error.name}; put the folder that holds it on PYTHONPATH'
        ) from None
    rule = getattr(module, function_name, None)
    where = getattr(module, '__file__', None) or module_name
    if rule is None:
        raise ValueError(f'mining rule {name!r}: {where} has no function {function_name}')
    if not callable(rule):
        raise ValueError(f'mining rule {name!r}: {function_name} in {where} is no function but {rule!r}')
    _asked_for(rule, name)
    return rule


def mine(
    name: str,
    loss: np.ndarray,
    rois: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    nms_thresh: float | None,
    **on_demand,
) -> np.ndarray:
    """The RoIs that the rule called `name` keeps, int64 (K,), checked.

    Parameters as in the module's docstring; `on_demand` holds cls_loss, bbox_loss and rng, of which the rule gets
    those that it asks for. Raises ValueError, saying which rule returned what, if it is not what a rule returns.
    """
    rule = find_rule(name)
    more = {key: _read_only(on_demand[key]) for key in _asked_for(rule, name)}
    try:
        kept = rule(_read_only(loss), _read_only(rois), _read_only(labels), batch_size, nms_thresh, **more)
    except Exception as error:
        copy = "; what it is given is the net's and cannot be changed: work on a copy, x.copy()"
        note = f'raised by mining rule {name!r}{copy if "read-only" in str(error) else ""}'
        # as add_note does from Python 3.11 on; in 3.10 the tools print these notes themselves
        vars(error)['__notes__'] = [*getattr(error, '__notes__', []), note]
        raise
    return _checked(kept, len(loss), batch_size, name)


def _asked_for(rule: Callable, name: str) -> list[str]:
    """Which of _ON_DEMAND the rule takes. Raises ValueError if it cannot be called as rules are."""
    try:
        parameters = inspect.signature(rule).parameters.values()
    except (TypeError, ValueError):  # a function written in C has no signature
        return []
    asked = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in _ON_DEMAND]
    try:
        inspect.signature(rule).bind(*_GIVEN, **dict.fromkeys(asked))
    except TypeError as error:
        raise ValueError(
            f'mining rule {name!r}: it is called as rule({", ".join(_GIVEN)}), and its signature is '
            f'{inspect.signature(rule)}: {error}. By keyword-only parameters it may ask for {", ".join(_ON_DEMAND)}'
        ) from None
    return asked


def _read_only(value):
    """An array as one that a rule cannot change by mistake: it holds the net's numbers."""
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _checked(kept, count: int, batch_size: int, name: str) -> np.ndarray:
    rows = np.asarray(kept)
    expected = f'expected the indices of 1 to {batch_size} RoIs, whole numbers in [0, {count}), none twice'

    def wrong(what: str) -> ValueError:
        return ValueError(f'mining rule {name!r} returned {what}; {expected}')

    if rows.dtype == bool:
        raise wrong('a mask: give np.flatnonzero(mask)')
    if rows.ndim != 1:
        raise wrong(f'{type(kept).__name__} of shape {rows.shape}')
    if len(rows) == 0:
        if count:
            raise wrong(f'no RoI of {count}')
        return rows.astype(np.int64)
    if not np.issubdtype(rows.dtype, np.integer):
        raise wrong(f'numbers of type {rows.dtype}')
    if len(rows) > batch_size:
        raise wrong(f'{len(rows)} RoIs')
    beyond = rows[(rows < 0) | (rows >= count)]
    if len(beyond):
        raise wrong(f'the index {beyond[0]}')
    values, times = np.unique(rows, return_counts=True)
    if len(values) < len(rows):
        raise wrong(f'the index {values[times.argmax()]} {times.max()} times')
    return rows.astype(np.int64)
