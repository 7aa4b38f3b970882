"""What a training net mined: the RoIs of its last mini-batch, their losses, and what became of each.

    net = caffe.Net('train.prototxt', 'weights.caffemodel', caffe.TRAIN)
    python_layer(net, RoIDataLayer).set_roidb(roidb)
    net.forward()
    batch = mined(net)             # a MiniBatch
    batch.mine_again(nms_thresh=0.5)   # what other settings, or another rule, would have mined

All of it through pycaffe's public names.
"""

import dataclasses
import tempfile
from typing import Any

import numpy as np

import caffe
from caffe_stand_ins.prototxt import prototxt_with_stand_ins
from fast_rcnn.bbox_transform import bbox_overlaps
from fast_rcnn.config import cfg, rois_of_an_image
from fast_rcnn.predictors import layer_of
from fast_rcnn.solver_file import read_solver
from roi_data_layer.layer import HardRoiMiningLayer, RoIDataLayer
from roi_data_layer.minibatch import image_in
from roi_data_layer.mining import roi_losses, suppressed_by
from roi_data_layer.mining_rules import DEFAULT_RULE, mine, mining_rng
from rpn.proposal_layer import ProposalLayer
from rpn.proposal_target_layer import ProposalTargetLayer

MINED, REPEATS, EASIER, NOT_OFFERED = 'mined', 'repeats a harder one', 'easier', 'not offered'
PASSED_OVER = 'harder, but passed over'  # than one that was mined; not by mine_hard_rois, which mines the hardest
FATES = (MINED, REPEATS, EASIER, NOT_OFFERED, PASSED_OVER)


@dataclasses.dataclass(frozen=True)
class MiniBatch:
    """The R RoIs of a mini-batch of N images, and which of them were mined."""

    images: list[np.ndarray]
    """N images as the net saw them: (H, W, 3) uint8, BGR, resized, mirrored if so."""
    names: list[str]
    """N image files; a mirrored image is marked so."""
    rois: np.ndarray
    """(R, 5) float32: image, x1, y1, x2, y2 in pixels of `images`."""
    labels: np.ndarray
    """(R,) int64, 0 the background."""
    predicted: np.ndarray
    """(R,) int64: the class of highest probability."""
    iou: np.ndarray
    """(R,) float64: the highest IoU with an object."""
    cls_loss: np.ndarray
    """(R,) float64."""
    bbox_loss: np.ndarray
    """(R,) float64, 0 for background."""
    kept: np.ndarray
    """(K,) int64: the RoIs mined, hardest first."""
    by: np.ndarray
    """(R,) int64: the harder RoI that each one repeats; itself if it repeats none; -1 if not offered. Where another
    rule than `mine_hard_rois` mined, whose NMS this tells of, no RoI repeats one."""
    rule: str = DEFAULT_RULE
    """The name of the mining rule."""
    position: int = 0
    """The number of the mini-batch."""
    objects: list[np.ndarray] = dataclasses.field(default_factory=list)
    """N arrays (G, 5) float64: the ground truth, x1, y1, x2, y2 in pixels of `images`, and class; [] if not known."""
    score: np.ndarray | None = None
    """(R,) float32: the score by which the net's RPN proposed each RoI, NaN for the objects themselves. None where the
    net has no RPN."""

    @property
    def loss(self) -> np.ndarray:
        """(R,) float64."""
        return self.cls_loss + self.bbox_loss

    @property
    def ranking(self) -> np.ndarray:
        """(R,) float64: what "hardest" goes by, as cfg.TRAIN.OHEM_LOSS says."""
        return self.cls_loss if cfg.TRAIN.OHEM_LOSS == 'cls' else self.loss

    @property
    def fate(self) -> np.ndarray:
        """(R,) int: what became of each RoI, an index into FATES."""
        fate = np.full(len(self.rois), FATES.index(EASIER))
        fate[self.ranking > self.ranking[self.kept].min(initial=np.inf)] = FATES.index(PASSED_OVER)
        fate[self.by != np.arange(len(self.rois))] = FATES.index(REPEATS)
        fate[self.by < 0] = FATES.index(NOT_OFFERED)
        fate[self.kept] = FATES.index(MINED)
        return fate

    def rows(self, image: int) -> np.ndarray:
        """The RoIs of one image, int64."""
        return np.flatnonzero(self.rois[:, 0] == image)

    def mine_again(
        self,
        batch_size: int | None = None,
        nms_thresh: float | None = None,
        bg_lo: float = 0.0,
        rule: str | None = None,
    ) -> 'MiniBatch':
        """The same mini-batch, mined with other settings; those left out are cfg's, the rule that of this mini-batch.

        `batch_size` RoIs are kept; `nms_thresh` above 1 means no NMS; with `bg_lo`, background whose IoU is
        below it is not offered, as in Fast R-CNN's sampling; `rule` is a name, as TRAIN.OHEM_RULE.
        """
        rule = self.rule if rule is None else rule
        if batch_size is None:
            batch_size = cfg.TRAIN.BATCH_SIZE if cfg.TRAIN.BATCH_SIZE > 0 else len(self.loss)
        nms_thresh = _nms_thresh() if nms_thresh is None else nms_thresh
        offered = np.flatnonzero((self.labels > 0) | (self.iou >= bg_lo))
        loss, rois, labels = self.ranking[offered], self.rois[offered], self.labels[offered]
        kept = mine(
            rule,
            loss,
            rois,
            labels,
            batch_size,
            nms_thresh if nms_thresh <= 1 else None,
            cls_loss=self.cls_loss[offered],
            bbox_loss=self.bbox_loss[offered],
            rng=mining_rng(cfg.RNG_SEED, self.position),
        )
        by = np.full(len(self.rois), -1)
        by[offered] = offered[_repeated(rule, loss, rois, labels, nms_thresh)]
        return dataclasses.replace(self, kept=offered[kept], by=by, rule=rule)

    def sampled(self, rng: np.random.Generator, bg_lo: float = 0.1) -> 'MiniBatch':
        """The same mini-batch with `kept` drawn by Fast R-CNN's heuristic instead (ICCV 2015, section 2.3).

        Of each image BATCH_SIZE / N RoIs: at most FG_FRACTION foreground, the others background of an IoU
        of at least `bg_lo`, at random.
        """
        quota = rois_of_an_image(len(self.images))
        chosen = []
        for i in range(len(self.images)):
            mine = self.rois[:, 0] == i
            foreground = np.flatnonzero(mine & (self.labels > 0))
            background = np.flatnonzero(mine & (self.labels == 0) & (self.iou >= bg_lo))
            share = min(len(foreground), round(cfg.TRAIN.FG_FRACTION * quota))
            chosen.append(rng.choice(foreground, share, replace=False))
            chosen.append(rng.choice(background, min(len(background), quota - share), replace=False))
        kept = np.concatenate(chosen).astype(np.int64)
        offered = (self.labels > 0) | (self.iou >= bg_lo)
        return dataclasses.replace(self, kept=kept, by=np.where(offered, np.arange(len(offered)), -1))


def load_training_net(solver_prototxt: str, weights: str) -> caffe.Net:
    """The training net that a solver prototxt names, with the weights of a .caffemodel."""
    param = read_solver(solver_prototxt)
    with tempfile.TemporaryDirectory() as folder:
        return caffe.Net(prototxt_with_stand_ins(param.train_net or param.net, folder), weights, caffe.TRAIN)


def python_layer(net: caffe.Net, kind: type) -> Any:
    """The net's first layer of the class `kind`, or None."""
    layers = [net.layers[i] for i in range(len(net.layers))]
    return next((layer for layer in layers if isinstance(layer, kind)), None)


def mined(net: caffe.Net) -> MiniBatch:
    """What the last forward pass of a training net mined. Raises ValueError if the net mines nothing."""
    data, mining = python_layer(net, RoIDataLayer), python_layer(net, HardRoiMiningLayer)
    if data is None or mining is None or mining.last is None:
        lacks = 'RoIDataLayer' if data is None else 'HardRoiMiningLayer' if mining is None else 'forward pass yet'
        raise ValueError(f'the net {net.name!r} has no {lacks}, so there is nothing mined to show')
    rois = net.blobs['rois'].data.copy()
    labels = net.blobs['labels'].data.astype(np.int64)
    blobs = {name: net.blobs[name].data for name in ('data', 'rois', 'im_info') if name in net.blobs}
    images, shown, iou = [], [], np.zeros(len(rois))
    for i, entry in enumerate(data.entries):
        mine = np.flatnonzero(rois[:, 0] == i)
        image, scale = image_in(blobs, i, entry)
        images.append(image)
        objects = entry['boxes'][entry['gt_classes'] > 0]
        shown.append(np.column_stack((objects * np.float64(scale), entry['gt_classes'][entry['gt_classes'] > 0])))
        if len(objects) and len(mine):
            boxes = rois[mine, 1:].astype(np.float64) / scale
            iou[mine] = bbox_overlaps(boxes, objects.astype(np.float64)).max(axis=1)
    last = mining.last
    scores = net.blobs[_bottoms(net)[0]].data
    return MiniBatch(
        images=images,
        names=data.shown,
        rois=rois,
        labels=labels,
        predicted=scores.reshape(len(rois), scores.shape[1]).argmax(axis=1),
        iou=np.clip(iou, 0, 1),
        cls_loss=last['cls_loss'].copy(),
        bbox_loss=last['bbox_loss'].copy(),
        kept=last['kept'].copy(),
        by=_repeated(last['rule'], last['loss'], rois, labels, _nms_thresh()),
        rule=last['rule'],
        position=last['position'],
        objects=shown,
        score=_proposal_scores(net),
    )


def normalise_regression(net: caffe.Net, means: np.ndarray, stds: np.ndarray, kind: str = 'auto') -> str:
    """Makes bbox_pred predict normalised regressions, as in training, whichever kind of snapshot was loaded.

    Snapshots for testing (`_iter_N`) predict plain (dx, dy, dw, dh), those for resuming (`_resume_iter_N`)
    normalised ones; mining compares them with normalised targets. `kind` says which one this is: 'plain',
    'normalised', or 'auto', which runs the net once and takes the reading whose box loss is lower.

    `means`, `stds` (4K,) as of `roidb.add_bbox_regression_targets`. Returns a sentence that says what was done.
    Raises ValueError for a net without bbox_pred.
    """
    if not (cfg.TRAIN.BBOX_REG and cfg.TRAIN.BBOX_NORMALIZE_TARGETS):
        return 'targets are not normalised'
    divisor = np.where(stds > 0, stds, np.inf)  # no example, no regression: predicts 0
    because = ''
    if kind == 'auto':
        net.forward()
        names = _bottoms(net)
        prob, predicted, _, labels, *boxes = (net.blobs[name].data for name in names)
        losses = {
            'normalised': roi_losses(prob, labels, predicted, *boxes)[1].sum(),
            'plain': roi_losses(prob, labels, (predicted - means) / divisor, *boxes)[1].sum(),
        }
        kind = min(losses, key=losses.__getitem__)
        because = f' (box loss {losses["plain"]:.3g} if plain, {losses["normalised"]:.3g} if normalised)'
        if losses['plain'] == losses['normalised'] and (means.any() or (divisor != 1).any()):
            because = (
                f', which is assumed: the box loss is {losses[kind]:.3g} either way. Snapshots _iter_N are plain, '
                '_resume_iter_N normalised; --bbox_pred says which this is'
            )
    if kind == 'plain':
        regressor = layer_of(net, 'bbox_pred')
        if regressor is None:
            raise ValueError(
                'the net has no layer with weights that makes bbox_pred, so they cannot be read as plain regressions: '
                'name the layer that predicts boxes, or its top, bbox_pred'
            )
        weights, bias = (blob.data for blob in net.params[regressor])
        weights /= divisor.reshape(-1, *[1] * (weights.ndim - 1))
        bias[...] = (bias - means) / divisor
    return f'the weights predict {kind} regressions{because}'


def _proposal_scores(net) -> np.ndarray | None:
    """The score of each RoI of the last forward pass; None if this project's layers do not propose them."""
    proposing, choosing = python_layer(net, ProposalLayer), python_layer(net, ProposalTargetLayer)
    if proposing is None or choosing is None:
        return None
    return np.append(proposing.scores, np.float32(np.nan))[choosing.proposal]


def _bottoms(net) -> list[str]:
    """The blobs that the mining layer reads: cls_prob, bbox_pred, rois, labels, targets and both weights."""
    if hasattr(net, 'bottom_names'):
        return next(
            list(net.bottom_names[name])
            for name, layer in net.layer_dict.items()
            if isinstance(layer, HardRoiMiningLayer)
        )
    # an older pycaffe does not tell: the names of the published nets
    boxes = ['bbox_targets', 'bbox_inside_weights', 'bbox_outside_weights']
    return ['cls_prob_readonly', 'bbox_pred_readonly', 'rois', 'labels', *boxes]


def _nms_thresh() -> float:
    return cfg.TRAIN.OHEM_NMS_THRESH if cfg.TRAIN.OHEM_USE_NMS else 2.0


def _repeated(rule: str, loss, rois, labels, nms_thresh: float) -> np.ndarray:
    """`mining.suppressed_by`, or every RoI itself where there is no NMS (a threshold above 1) or another rule."""
    without = nms_thresh > 1 or rule != DEFAULT_RULE
    return np.arange(len(loss)) if without else suppressed_by(loss, rois, labels, nms_thresh)
