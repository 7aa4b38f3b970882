"""Caffe Python layers: the adversary of A-Fast-RCNN, by the names in its published nets.

In a prototxt they are layers of the module `roi_data_layer.layer`. The arithmetic, and the paper, are in `adversary`.

Training the adversary alone, beside a detector that stands still:

    ASDNPretrainLabelLayer  takes the RoIs of objects out of all
    ASDNPretrainDataLayer   hides one block of cells after the other: what the detector is to classify
    ASDNPretrainLossLayer   teaches the adversary the block that did most harm

Training both:

    ASDNDataLayer           drops cells that the adversary thinks are needed
    ASDNLossLayer           teaches it those that did do harm

Random choices follow from (RNG_SEED, number of the forward pass), as everywhere here. Passes are numbered by
`set_position`, or from 0; layers for which a pass of an iteration matters have iter_size in param_str, which is to be
the solver's.
"""

from collections.abc import Sequence

import numpy as np

import caffe
from fast_rcnn.config import cfg
from roi_data_layer.adversary import (
    adversary_rng,
    blocks,
    cells_to_drop,
    deceived,
    leaves_alone,
    mask_loss,
    most_harmful,
    without_blocks,
)
from roi_data_layer.python_layer import Blobs, fill, text_and_values


class _WithoutGradient(caffe.Layer):
    """A layer whose tops get their shapes in forward, and whose bottoms get no gradient."""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        pass  # the shapes are known in forward

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        pass  # which RoIs, and which cells, are chosen has no gradient


class _MaskLoss(caffe.Layer):
    """A loss of the adversary's scores, bottom 0: `_gradient` is what forward found, for a loss weight of 1."""

    _gradient: np.ndarray

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(1)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if any(propagate_down[i] for i in range(1, len(bottom))):
            raise ValueError(
                f'{type(self).__name__}: only the first of its {len(bottom)} bottoms has a gradient; say '
                'propagate_down: false for the others'
            )
        if propagate_down[0]:
            bottom[0].diff[...] = self._gradient * top[0].diff.flat[0]


class ASDNPretrainLabelLayer(_WithoutGradient):
    """Passes on the RoIs whose label is above 0.

    Bottoms: pooled features (R, C, P, P), labels (R,), rois (R, 5). Tops: those rows of each, in their order.
    """

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        _parameters(self)
        _check_counts(self, bottom, top, ('features', 'labels', 'rois'), 3)
        for i in range(3):  # there are no labels yet
            top[i].reshape(*bottom[i].data.shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        objects = bottom[1].data.reshape(-1) > 0
        _check_rows(self, {'features': bottom[0], 'labels': bottom[1], 'rois': bottom[2]})
        for i in range(3):
            fill(top[i], bottom[i].data[objects])


class ASDNPretrainDataLayer(_WithoutGradient):
    """Hides one block of cells after the other.

    param_str: drop_size, the side of a block in cells, and drop_stride, from one to the next. Bottom: features
    (N, C, P, P). Tops: the features of each attempt (A * N, C, P, P), and its mask (A * N, 1, P, P), 1 in the block;
    all RoIs of the first attempt first.
    """

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self._block = _parameters(self, drop_size=(int, 1), drop_stride=(int, 1))
        _check_counts(self, bottom, top, ('features',), 2)
        self.forward(bottom, top)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        cells = _cells(self, bottom[0])
        if self._block['drop_size'] > cells:
            raise ValueError(
                f'{type(self).__name__}: drop_size in param_str is {self._block["drop_size"]}, and the pooled features '
                f'have {cells} cells a side: nothing would be left'
            )
        hidden, masks = without_blocks(bottom[0].data, blocks(cells, **self._block))
        fill(top[0], hidden)
        fill(top[1], masks)


class ASDNPretrainLossLayer(_MaskLoss):
    """The loss of the adversary against the block that did most harm to each RoI's class.

    param_str: num_classes; drop_neg, which published nets set: in the released code it has no effect (the gradient that
    it masks is not the one that is propagated), nor has it here. Bottoms: scores of the adversary before the sigmoid
    (N, 1, P, P); masks (A * N, 1, P, P) of the attempts; the detector's class probabilities for them (A * N, K); labels
    (N,); and, unused, rois and the image. Top: `adversary.mask_loss`.

    `last` holds what the last forward pass found: attempt (N,), and masks (N, 1, P, P); None before it.
    """

    last = None

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self._num_classes = _parameters(self, num_classes=(int, 2), drop_neg=(bool, False))['num_classes']
        _check_counts(
            self, bottom, top, ('mask_pred', 'conv_feat_mask', 'cls_prob', 'labels_pos', 'rois_pos', 'data'), 1
        )

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        scores, labels = bottom[0].data, bottom[3].data.reshape(-1)
        attempts, rows = bottom[1].data, np.arange(len(labels))
        _check_rows(self, {'mask_pred': bottom[0], 'labels_pos': bottom[3]})
        _check_rows(self, {'conv_feat_mask': bottom[1], 'cls_prob': bottom[2]})
        if len(attempts) % max(len(rows), 1) or attempts.shape[1:] != scores.shape[1:]:
            raise ValueError(
                f'{type(self).__name__}: conv_feat_mask has shape {attempts.shape}, mask_pred {scores.shape}; expected '
                'cells alike, and a whole number of attempts for each RoI'
            )
        _check_labels(self, labels, self._num_classes, 1)
        hardest = np.zeros(0, np.int64)
        if len(rows):
            hardest = most_harmful(_probabilities(self, bottom[2], self._num_classes), labels)
        masks = attempts[hardest * len(rows) + rows]
        loss, self._gradient = mask_loss(scores, masks)
        self.last = {'attempt': hardest, 'masks': masks}
        top[0].data[...] = loss


class ASDNDataLayer(_WithoutGradient):
    """Drops cells of the RoIs that the adversary thinks are needed.

    param_str: count_drop, permute_count, count_drop_neg (see `adversary.cells_to_drop`); channels of the features that
    are to be masked; iter_size and maintain_before: in so many passes of an iteration nothing is dropped (see
    `adversary.leaves_alone`). Bottoms: probabilities of the adversary (R, 1, P, P), labels (R,). Tops: which cells are
    dropped, (R, 1, P, P), 1 where one is; and what to multiply features by, (R, channels, P, P), 0 where one is.
    `position` is the number of the next forward pass.
    """

    position = 0

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        found = _parameters(
            self,
            count_drop=(int, 0),
            permute_count=(int, 0),
            count_drop_neg=(int, 0),
            channels=(int, 1),
            **_PASSES,
        )
        self._channels, self._passes = found.pop('channels'), [found.pop(key) for key in _PASSES]
        self._counts = found
        _check_counts(self, bottom, top, ('mask_pred', 'labels'), 2)
        cells = _cells(self, bottom[0]) ** 2
        if not found['count_drop'] <= found['permute_count'] <= cells or found['count_drop_neg'] > cells:
            raise ValueError(
                f'{type(self).__name__}: param_str says count_drop {found["count_drop"]}, permute_count '
                f'{found["permute_count"]} and count_drop_neg {found["count_drop_neg"]}; an RoI has {cells} cells: '
                f'expected count_drop <= permute_count <= {cells}, and count_drop_neg <= {cells}'
            )
        shape = bottom[0].data.shape
        top[0].reshape(*shape)
        top[1].reshape(shape[0], self._channels, *shape[2:])

    def set_position(self, n: int) -> None:
        """Make the next forward pass number `n`."""
        self.position = int(n)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        _check_rows(self, {'mask_pred': bottom[0], 'labels': bottom[1]})
        need, labels = bottom[0].data, bottom[1].data
        if leaves_alone(self.position, *self._passes):
            dropped = np.zeros(need.shape, np.float32)
        else:
            rng = adversary_rng(cfg.RNG_SEED, self.position)
            dropped = cells_to_drop(need, labels, rng=rng, **self._counts)
        self.position += 1
        fill(top[0], dropped)
        fill(top[1], np.broadcast_to(1 - dropped, (len(dropped), self._channels, *dropped.shape[2:])))


class ASDNLossLayer(_MaskLoss):
    """The loss of the adversary against the cells that were dropped, for objects whose class lost by it.

    param_str: num_classes; score_thres, by how much its probability has to fall (see `adversary.deceived`);
    iter_size and maintain_before as in ASDNDataLayer: a pass in which nothing is dropped has no gradient, and
    leaves the loss of the pass before to be seen, since logs show the last pass of an iteration. Bottoms: scores of
    the adversary before the sigmoid (R, 1, P, P); the cells dropped (R, 1, P, P); class probabilities before and
    after (R, K); labels (R,); and, unused, rois and the image. Top: `adversary.mask_loss`.

    `last` holds which RoIs counted in the last forward pass, (R,) bool; None before it. `left_alone`: whether nothing
    was dropped in it, and the loss is an earlier one's.
    """

    position = 0
    last: np.ndarray | None = None
    left_alone = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        found = _parameters(self, num_classes=(int, 2), score_thres=(float, 0), **_PASSES)
        self._num_classes, self._threshold = found['num_classes'], found['score_thres']
        self._passes = [found[key] for key in _PASSES]
        names = ('mask_pred', 'mask_thres', 'prop_before', 'prop_after', 'labels', 'rois', 'data')
        _check_counts(self, bottom, top, names, 1)

    def set_position(self, n: int) -> None:
        """Make the next forward pass number `n`."""
        self.position = int(n)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        names = ('mask_pred', 'mask_thres', 'prop_before', 'prop_after', 'labels')
        _check_rows(self, {name: bottom[i] for i, name in enumerate(names)})
        labels = bottom[4].data.reshape(-1)
        _check_labels(self, labels, self._num_classes, 0)
        self.left_alone = leaves_alone(self.position, *self._passes)
        self.position += 1
        if self.left_alone:
            self.last, self._gradient = np.zeros(len(labels), bool), np.zeros(bottom[0].data.shape, np.float32)
            return
        before, after = (_probabilities(self, bottom[i], self._num_classes) for i in (2, 3))
        self.last = deceived(before, after, labels, self._threshold)
        loss, self._gradient = mask_loss(bottom[0].data, bottom[1].data, self.last)
        top[0].data[...] = loss


# What a parameter may be, and the least of it
_PASSES = {'iter_size': (int, 1), 'maintain_before': (int, 0)}


def _parameters(layer, **kinds: tuple[type, float]) -> dict:
    """The layer's param_str as a dictionary with all of `kinds`: of that type, and that or more. Raises ValueError."""
    text, found = text_and_values(layer)
    found = {} if found is None else found
    name = type(layer).__name__
    if not isinstance(found, dict):
        raise ValueError(f'{name}: param_str gives parameters as in "{{\'drop_size\': 2}}"; got {text!r}')
    unknown, missing = [key for key in found if key not in kinds], [key for key in kinds if key not in found]
    if unknown or missing:
        parts = [f'has {", ".join(map(str, unknown))}, which it does not know'] if unknown else []
        parts += [f'lacks {", ".join(missing)}'] if missing else []
        raise ValueError(
            f'{name}: param_str {" and ".join(parts)}; expected {", ".join(kinds) or "none"}; got {text!r}'
        )
    for key, (kind, least) in kinds.items():
        value = found[key]
        fits = isinstance(value, kind | int) and isinstance(value, bool) == (kind is bool)
        if not fits or not least <= value < np.inf:
            what = {bool: 'True or False', int: f'a whole number from {least} on', float: f'a number from {least} on'}
            raise ValueError(f'{name}: {key} in param_str is {value!r}; expected {what[kind]}')
    return found


def _check_counts(layer, bottom, top, bottoms: tuple[str, ...], tops: int) -> None:
    if len(bottom) != len(bottoms) or len(top) != tops:
        raise ValueError(
            f'{type(layer).__name__} has {len(bottom)} bottoms and {len(top)} tops; expected {len(bottoms)} bottoms, '
            f'{", ".join(bottoms)}, and {tops} top{"s" * (tops > 1)}'
        )


def _cells(layer, blob) -> int:
    """P of features (N, C, P, P). Raises ValueError for others."""
    shape = tuple(blob.data.shape)
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ValueError(
            f'{type(layer).__name__}: its first bottom has shape {shape}; expected the features of RoIs, (N, C, P, P), '
            'pooled to as many cells across as down'
        )
    return shape[2]


def _check_rows(layer, blobs: dict) -> None:
    rows = {name: blob.data.shape[0] for name, blob in blobs.items()}
    if len(set(rows.values())) > 1:
        said = ', '.join(f'{name} {count}' for name, count in rows.items())
        raise ValueError(f'{type(layer).__name__}: its bottoms have different numbers of rows: {said}')


def _probabilities(layer, blob, num_classes: int) -> np.ndarray:
    """Class probabilities as (R, num_classes). Raises ValueError if there is another number of them."""
    values = blob.data
    if values.size != len(values) * num_classes:
        raise ValueError(
            f'{type(layer).__name__}: class probabilities of shape {values.shape}; num_classes in param_str is '
            f'{num_classes}: make the two agree'
        )
    return values.reshape(-1, num_classes)


def _check_labels(layer, labels: np.ndarray, num_classes: int, least: int) -> None:
    if len(labels) and not least <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f'{type(layer).__name__}: labels must lie in [{least}, {num_classes}), as num_classes says; got '
            f'{labels.min():g} to {labels.max():g}'
        )
