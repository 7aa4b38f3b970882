"""What is looked at before the first iteration, so that a wrong net costs a second and not a night.

Beside this: `start_weights` (has every layer weights?), `predictors` (as many outputs as classes?), `agreement` (do all
ranks start from the same?).
"""

from typing import Any

import caffe
from fast_rcnn.config import cfg
from fast_rcnn.model_card import ModelCardError, note_other_training, read_card_of_state
from fast_rcnn.snapshots import newest_state, snapshots


def training_data_layer(net: caffe.Net, file: str) -> Any:
    """The layer of `net`, read from `file`, that takes the training set. Raises ValueError unless there is one."""
    layers = net.layers
    found = [layers[i] for i in range(len(layers)) if hasattr(layers[i], 'set_roidb')]
    if len(found) != 1:
        kinds = ', '.join(dict.fromkeys(layers[i].type for i in range(len(layers))))
        raise ValueError(
            f'{file}: the train net has {len(found)} layers that take a training set (RoIDataLayer), '
            f'expected is one; its {len(layers)} layers are of type {kinds or "none"}'
        )
    return found[0]


def check_classes(snapshot: str | None, classes: tuple[str, ...]) -> None:
    """Raises ModelCardError if the state `snapshot`, to go on from, was trained on other classes, or in another order.

    classes: those of the data set; none if it names none.
    """
    card = None if snapshot is None else read_card_of_state(snapshot)
    if card is not None and classes and classes != card.classes:
        raise ModelCardError(
            f'{snapshot} was trained on {list(card.classes)}, the data set numbers its classes '
            f'{list(classes)}: call fast_rcnn.model_card.match_classes on the data set first'
        )


def check_scale(snapshot: str | None, scale: int) -> None:
    """Raises ModelCardError if the state `snapshot`, to go on from, was trained on a mini-batch scaled otherwise.

    scale: how many ranks make a whole mini-batch each (see `division`).
    """
    card = None if snapshot is None else read_card_of_state(snapshot)
    if card is not None and card.scale_batch != scale:
        weights = str(snapshot).replace('.solverstate', '.caffemodel')
        raise ModelCardError(
            f'{snapshot} was trained with {_scaled(card.scale_batch)}; this run has {_scaled(scale)}: iterations, '
            'learning rate and steps would mean something else. Resume with as many ranks and the same --scale_batch, '
            f'or start from its weights: --weights {weights}'
        )


def _scaled(scale: int) -> str:
    return 'mini-batches as the solver says' if scale == 1 else f'mini-batches of {scale} ranks (--scale_batch)'


def note_changes(snapshot: str | None, dataset: str) -> None:
    """Says so where a run that goes on from the state `snapshot` will not end as that run would have."""
    if snapshot is not None:
        note_other_training(read_card_of_state(snapshot), snapshot, dataset)


def note_snapshots(prefix: str) -> None:
    """Says so where a training that begins anew will write over the snapshots of an earlier one."""
    there = snapshots(prefix)
    state = newest_state(prefix, set(there))
    if state is not None:
        n = next(n for n, paths in there.items() if state in paths)
        print(
            f'Note: there is a snapshot of iteration {n}: --snapshot {state} goes on from it. This run begins anew, '
            'and its snapshots take the place of those of the same iteration'
        )


def note_sampling(mines: bool, solver_prototxt: str) -> None:
    """Says so where net and cfg do not agree on mining: each is an experiment, or an oversight."""
    if cfg.TRAIN.USE_OHEM and not mines:
        print(f'Note: TRAIN.USE_OHEM is True, and the net of {solver_prototxt} does not mine: it learns from all RoIs')
    if cfg.TRAIN.OHEM_RULE and not mines:
        print(
            f'Note: TRAIN.OHEM_RULE is {cfg.TRAIN.OHEM_RULE}, and the net of {solver_prototxt} has no '
            'HardRoiMiningLayer, which goes by it: it has no effect'
        )
    if mines and not cfg.TRAIN.USE_OHEM:
        print(
            f'Note: the net of {solver_prototxt} mines, but TRAIN.USE_OHEM is False: only RoIs that the classic '
            'sampling draws can be mined; give it a cfg such as experiments/cfgs/fast_rcnn_ohem.yml'
        )
