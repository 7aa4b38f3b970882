"""Caffe Python layers: the data layer of Fast R-CNN and the mining layer of OHEM.

In a prototxt: `type: "Python"  python_param { module: "roi_data_layer.layer"  layer: "RoIDataLayer"
param_str: "'num_classes': 21" }`, and the same with `HardRoiMiningLayer`, which published nets call
`OHEMDataLayer`. That layer's param_str may also name a mining rule: `"{'num_classes': 21, 'rule': mine_stratified}"`.
The layers of A-Fast-RCNN, `ASDN...`, are here by name as well; they stand in `adversary_layers`.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

import caffe
from detection_data.image_file import note_cut_off
from fast_rcnn.config import ConfigError, cfg, regression_classes
from roi_data_layer.adversary_layers import (  # noqa: F401
    ASDNDataLayer,
    ASDNLossLayer,
    ASDNPretrainDataLayer,
    ASDNPretrainLabelLayer,
    ASDNPretrainLossLayer,
)
from roi_data_layer.augmentation import entry_of, named
from roi_data_layer.minibatch import check_settings
from roi_data_layer.mining import roi_losses
from roi_data_layer.mining_rules import DEFAULT_RULE, find_rule, mine, mining_rng
from roi_data_layer.prefetch import BatchMaker, Prefetcher
from roi_data_layer.python_layer import Blobs, fill, text_and_values
from roi_data_layer.roidb import Roidb, path_of

_TOPS = ('data', 'rois', 'labels')
_RPN_TOPS = ('data', 'im_info', 'gt_boxes')
_BBOX_TOPS = ('bbox_targets', 'bbox_inside_weights', 'bbox_outside_weights')
_FIVE_TOPS = (*_TOPS, 'bbox_targets', 'bbox_inside_weights')  # Fast R-CNN's first release: bbox_loss_weights


class RoIDataLayer(caffe.Layer):
    """The data layer of Fast R-CNN.

    Tops: data, rois, labels and, if cfg.TRAIN.BBOX_REG, bbox_targets, bbox_inside_weights, bbox_outside_weights; with
    cfg.TRAIN.HAS_RPN instead data, im_info, gt_boxes. Their shapes are those of `minibatch.get_minibatch`. Nets of
    Fast R-CNN's first release have five tops, the last of which, bbox_loss_weights, are the inside weights: what their
    SmoothL1Loss of three bottoms multiplies by, before it squares. Before the first forward pass the layer needs
    `set_roidb`. `position` is the number of the next mini-batch; `before_batch`, if it is set, is called with it at
    every forward pass.
    """

    position = 0
    before_batch: Callable[[int], None] | None = None
    _maker: BatchMaker | Prefetcher | None = None
    _indices: np.ndarray | tuple = ()  # of the last mini-batch, in the roidb
    _last = 0  # its number

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self._num_classes = _num_classes(self)
        images = cfg.TRAIN.IMS_PER_BATCH
        self._names = _RPN_TOPS if cfg.TRAIN.HAS_RPN else _TOPS + (_BBOX_TOPS if cfg.TRAIN.BBOX_REG else ())
        if cfg.TRAIN.BBOX_REG and not cfg.TRAIN.HAS_RPN and len(top) == len(_FIVE_TOPS):
            self._names = _FIVE_TOPS
        _check_count('RoIDataLayer', 'tops', len(top), self._names, _advice_on_rpn(len(top)))
        check_settings(images)
        top[0].reshape(images, 3, max(cfg.TRAIN.SCALES), cfg.TRAIN.MAX_SIZE)
        if cfg.TRAIN.HAS_RPN:
            top[1].reshape(images, 3)
            top[2].reshape(1, 5 if images == 1 else 6)
        else:
            _reshape_roi_tops(top, 1, self._num_classes)

    def set_roidb(self, roidb: Roidb) -> None:
        """Train on `roidb`, a `roidb.Roidb` or another sequence of such entries, from `position` on."""
        if getattr(roidb, 'num_classes', self._num_classes) != self._num_classes:
            listed = roidb.class_list() if hasattr(roidb, 'class_list') else ''
            raise ValueError(
                f'the data set has {roidb.num_classes} classes with the background{listed}, the prototxt says '
                f'num_classes: {self._num_classes}; make it, and the num_output of cls_score and bbox_pred, '
                'agree with the data'
            )
        self.close()
        make = Prefetcher if cfg.TRAIN.USE_PREFETCH else BatchMaker
        self._roidb = roidb
        self._met: set[int] = set()  # images that have been in a mini-batch
        self._maker = make(roidb, self._num_classes)

    def set_position(self, n: int) -> None:
        """Make mini-batch number `n` the next one: 0 at the start, one more at every forward pass."""
        self.position = int(n)

    def set_share(self, following: Callable[[int], Iterator[int]]) -> None:
        """Have mini-batches prepared ahead as `following(n)` iterates over them, not n, n + 1, ...: the layer is one of
        several that share them out.
        """
        if isinstance(self._maker, Prefetcher):
            self._maker.following = following

    def close(self) -> None:
        """End the processes that prepare mini-batches, if any."""
        if isinstance(self._maker, Prefetcher):
            self._maker.close()
        self._maker = None

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if self._maker is None:
            raise RuntimeError(
                'RoIDataLayer has no training set yet: call set_roidb(roidb) on the layer before forward'
            )
        if self.before_batch is not None:
            self.before_batch(self.position)
        blobs, self._indices = self._maker(self.position)
        for i in {*map(int, self._indices)} - self._met:  # said here: several processes may read images
            self._met.add(i)
            if path := path_of(self._roidb, i):
                note_cut_off(path)
        self._last = self.position
        self.position += 1
        for i, name in enumerate(self._names):
            fill(top[i], blobs[name])

    @property
    def entries(self) -> list[dict]:
        """The roidb entries of the last mini-batch, as it showed them (see `augmentation.entry_of`)."""
        return [entry_of(self._roidb, int(i), self._last) for i in self._indices]

    @property
    def shown(self) -> list[str]:
        """The image files of the last mini-batch; what was done to them stands behind, as in 'a.jpg (mirrored)'."""
        return [named(entry) for entry in self.entries]

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        pass  # the shapes are known in forward

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        pass  # data has no gradient


class HardRoiMiningLayer(caffe.Layer):
    """Passes the hardest RoIs on: what a mining rule keeps by the losses of `mining.roi_losses`.

    The rule is the one that `rule` in the layer's param_str names, or cfg.TRAIN.OHEM_RULE; without either it is
    `mining.mine_hard_rois`. See `mining_rules`.

    Bottoms: cls_prob (R, K), bbox_pred (R, 4K), rois (R, 5), labels (R,) and, if cfg.TRAIN.BBOX_REG,
    bbox_targets, bbox_inside_weights, bbox_outside_weights (R, 4K). Tops: the rows that the rule keeps, in its
    order, hardest first, of all bottoms but the first two; at most cfg.TRAIN.BATCH_SIZE. One top more gets those of
    cls_prob, which an adversary is taught by (`prop_before` in the nets of A-Fast-RCNN).

    `last` holds what the last forward pass found: cls_loss, bbox_loss, loss (R,) float64, the last of which
    ranks the RoIs as cfg.TRAIN.OHEM_LOSS says, kept, the indices of the rows passed on, rule, the name of the rule,
    and position, the number of the mini-batch; None before it. `position` is the number of the next mini-batch, which
    random rules draw by.
    """

    ranks_by: tuple[int, ...] = (0, 1)  # bottoms whose values are not handed on: no full precision is needed for them
    last = None
    position = 0
    _own_rule = None  # as the prototxt says
    _scores_too = False  # a top more: of the adversary

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self._num_classes = _num_classes(self)
        self._own_rule = _own_rule(self)
        find_rule(self.rule)  # raises now if there is none
        names = ('rois', 'labels') + (_BBOX_TOPS if cfg.TRAIN.BBOX_REG else ())
        _check_count('HardRoiMiningLayer', 'bottoms', len(bottom), ('cls_prob', 'bbox_pred', *names))
        self._scores_too = len(top) == len(names) + 1
        _check_count('HardRoiMiningLayer', 'tops', len(top) - self._scores_too, [name + '_hard' for name in names])
        _reshape_roi_tops(top, 0, self._num_classes)
        if self._scores_too:
            self.ranks_by = (1,)
            top[len(names)].reshape(1, self._num_classes)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        cls_prob, bbox_pred, rois, labels = (bottom[i].data for i in range(4))
        boxes = [bbox_pred, *(bottom[i].data for i in range(4, 7))] if cfg.TRAIN.BBOX_REG else []
        cls_loss, bbox_loss = roi_losses(cls_prob, labels, *boxes)
        loss = cls_loss if cfg.TRAIN.OHEM_LOSS == 'cls' else cls_loss + bbox_loss
        kept = mine(
            self.rule,
            loss,
            rois,
            labels,
            cfg.TRAIN.BATCH_SIZE if cfg.TRAIN.BATCH_SIZE > 0 else len(loss),
            cfg.TRAIN.OHEM_NMS_THRESH if cfg.TRAIN.OHEM_USE_NMS else None,
            cls_loss=cls_loss,
            bbox_loss=bbox_loss,
            rng=mining_rng(cfg.RNG_SEED, self.position),
        )
        self.last = {'cls_loss': cls_loss, 'bbox_loss': bbox_loss, 'loss': loss, 'kept': kept}
        self.last |= {'rule': self.rule, 'position': self.position}
        self.position += 1
        for i in range(len(bottom) - 2):
            fill(top[i], bottom[i + 2].data[kept])
        if self._scores_too:
            fill(top[len(top) - 1], cls_prob[kept])

    @property
    def rule(self) -> str:
        """The name of the mining rule. Raises ConfigError if prototxt and settings name two."""
        if self._own_rule and cfg.TRAIN.OHEM_RULE not in ('', self._own_rule):
            raise ConfigError(
                f"HardRoiMiningLayer: the prototxt's param_str names the mining rule {self._own_rule}, "
                f'TRAIN.OHEM_RULE names {cfg.TRAIN.OHEM_RULE}: take one away'
            )
        return self._own_rule or cfg.TRAIN.OHEM_RULE or DEFAULT_RULE

    def set_position(self, n: int) -> None:
        """Make mini-batch number `n` the next one, as `RoIDataLayer.set_position`."""
        self.position = int(n)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        pass  # the shapes are known in forward

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        pass  # which RoIs are hard has no gradient


# The name in the prototxts published with OHEM
OHEMDataLayer = HardRoiMiningLayer


def _num_classes(layer) -> int:
    text, params = text_and_values(layer)
    count = params.get('num_classes') if isinstance(params, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 2:
        raise ValueError(
            f'{type(layer).__name__}: param_str must give the number of classes, background included, as in '
            f'"\'num_classes\': 21"; got {text!r}'
        )
    return count


def _own_rule(layer) -> str | None:
    """The mining rule that param_str names, if it does."""
    text, params = text_and_values(layer)
    unknown = [str(key) for key in params if key not in ('num_classes', 'rule')]
    rule = params.get('rule')
    if unknown or not isinstance(rule, str | None):
        what = f'has {", ".join(unknown)}, which it does not know' if unknown else f'names the rule {rule!r}'
        raise ValueError(
            f'{type(layer).__name__}: param_str {what}; expected num_classes and, if wanted, the name of a mining '
            f"rule, as in \"{{'num_classes': 21, 'rule': mine_stratified}}\"; got {text!r}"
        )
    return rule


def _advice_on_rpn(tops: int) -> str:
    has_rpn = tops == len(_RPN_TOPS)  # with regression a net without an RPN has more
    if has_rpn == cfg.TRAIN.HAS_RPN:
        return ''
    return f'; this looks like a net with{"" if has_rpn else "out"} an RPN: set TRAIN.HAS_RPN {has_rpn}'


def _check_count(name: str, what: str, count: int, expected, advice: str = '') -> None:
    if count != len(expected):
        raise ValueError(
            f'{name} has {count} {what}, expected {len(expected)}: {", ".join(expected)} '
            f'(TRAIN.HAS_RPN is {cfg.TRAIN.HAS_RPN}, TRAIN.BBOX_REG is {cfg.TRAIN.BBOX_REG}){advice}'
        )


def _reshape_roi_tops(top, first: int, num_classes: int) -> None:
    """Shapes to begin with, before forward knows them: top[first] is rois, then labels and, if any, three of boxes."""
    top[first].reshape(1, 5)
    top[first + 1].reshape(1)
    for i in range(first + 2, len(top)):
        top[i].reshape(1, 4 * regression_classes(num_classes))
