"""SSD's MultiBoxLoss: matching, mining, and the two losses (multibox_loss_layer.cpp and bbox_util.cpp, branch ssd of
weiliu89/caffe; Liu et al., 'SSD', 2016, section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from caffe.blob import Blob
from caffe.kernels.boxes import areas, decode, encode, highest, match, suppress
from caffe.layer import FunctionLayer, LayerError, register
from caffe.layers.loss_normalization import normalization_mode
from caffe.proto import caffe_pb2

FLT_MIN = torch.finfo(torch.float32).tiny


class Chosen(NamedTuple):
    """What a mini-batch learns from: matched priors with their objects, and negatives.

    matched: (M, 2) int64 image and prior of the matches; label: (M,) their objects' classes; codes: (M, 4) float32,
    what they should predict; weights: (M, 4) float32, what differences from it count; scored: (S, 2) int64 image and
    prior of those that the classes learn from, and classes (S,) int64 what they are: matches first, then negatives.
    """

    matched: np.ndarray
    label: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    scored: np.ndarray
    classes: np.ndarray


@register('MultiBoxLoss')
class MultiBoxLoss(FunctionLayer):
    """(loss of classes + loc_weight * loss of boxes) / matches, on the matched priors and on negatives that are mined.

    Bottoms: codes (N, P * 4), or (N, P * classes * 4) without share_location; scores before the softmax (N, P *
    classes); priors (1, 2, P * 4); objects (1, 1, G, 8), rows (image, class, instance, x1, y1, x2, y2, difficult) in
    fractions of the image, image -1 for none. MAX_NEGATIVE learns from the neg_pos_ratio hardest negatives a match, by
    their loss as background; HARD_EXAMPLE from the sample_size hardest priors of an image, by both losses (OHEM);
    NONE from all. An image without objects counts with NONE alone. Of equal losses the earlier prior comes first. The
    mining works in the host's memory. Priors and objects get no gradient; propagate_down: false leaves out the loss of
    bottom 0 or 1.
    """

    param_field = 'multibox_loss_param'
    num_bottom = 4
    num_top = 1
    is_loss = True
    default_loss_weight = 1.0
    auto_tops = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.param
        if not param.num_classes:
            raise LayerError('Must provide num_classes.')
        self._mining = caffe_pb2.MultiBoxLossParameter.MiningType.Name(param.mining_type)
        if param.HasField('do_neg_mining') and param.do_neg_mining != (self._mining != 'NONE'):
            raise LayerError(f'do_neg_mining does not agree with mining_type {self._mining}; remove do_neg_mining')
        if self._mining != 'NONE' and not param.share_location:
            raise LayerError('Currently only support negative mining if share_location is true.')
        if not param.share_location and not param.use_prior_for_matching:
            raise LayerError('use_prior_for_matching: false needs share_location: true here')
        if self._mining == 'HARD_EXAMPLE' and param.sample_size <= 0:
            raise LayerError(f'sample_size must be > 0; got {param.sample_size}')
        if not np.isfinite(param.neg_pos_ratio):
            raise LayerError(f'neg_pos_ratio must be a number; got {param.neg_pos_ratio:g}')
        self._softmax = param.conf_loss_type == caffe_pb2.MultiBoxLossParameter.SOFTMAX
        if self._softmax and param.background_label_id >= param.num_classes:
            raise LayerError(
                'background_label_id should be within [0, num_classes) for Softmax; got '
                f'{param.background_label_id} and {param.num_classes} classes'
            )
        if param.map_object_to_agnostic and param.num_classes != 2:
            raise LayerError(f'map_object_to_agnostic needs num_classes: 2; got {param.num_classes}')
        self._code = caffe_pb2.PriorBoxParameter.CodeType.Name(param.code_type)
        self._mode = normalization_mode(self.layer_param.loss_param)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        images, classes = bottom[0].shape[0] if bottom[0].shape else 0, self.param.num_classes
        priors, objects = bottom[2].shape, bottom[3].shape
        if len(priors) < 3 or priors[1] != 2 or priors[2] % 4:
            raise LayerError(f'bottom 2 must be priors of shape (1, 2, priors * 4), as PriorBox gives; got {priors}')
        if bottom[3].count % 8 or objects[-1:] != (8,):
            raise LayerError(f'bottom 3 must be objects of shape (1, 1, G, 8), image first; got {objects}')
        self._priors = priors[2] // 4
        boxes = 1 if self.param.share_location else classes
        for i, what, width in ((0, 'location', 4 * boxes), (1, 'confidence', classes)):
            if bottom[i].shape[:1] != (images,) or bottom[i].count != images * self._priors * width:
                raise LayerError(
                    f'Number of priors must match number of {what} predictions: {self._priors} priors need bottom {i} '
                    f'of shape ({images}, {self._priors * width}), got {bottom[i].shape}'
                )
        top[0].reshape()

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.chosen = self._choose(*(blob.data for blob in bottom))
        super().forward(bottom, top)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        chosen, param = self.chosen, self.param
        images = bottoms[0].shape[0]
        place = lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(bottoms[0].device)
        wanted = list(self.layer_param.propagate_down) + [True] * 2
        total = bottoms[0].new_zeros(())
        if wanted[0] and len(chosen.matched):
            column = np.zeros_like(chosen.label) if param.share_location else chosen.label
            codes = bottoms[0].view(images, self._priors, 1 if param.share_location else param.num_classes, 4)
            codes = codes[place(chosen.matched[:, 0]), place(chosen.matched[:, 1]), place(column)]
            errors = self._box_errors((codes - place(chosen.codes)) * place(chosen.weights))
            total = total + param.loc_weight * errors.sum()
        if wanted[1] and len(chosen.scored):
            scores = bottoms[1].view(images, self._priors, param.num_classes)
            scores = scores[place(chosen.scored[:, 0]), place(chosen.scored[:, 1])]
            total = total + self._class_losses(scores, place(chosen.classes)).sum()
        count = {'VALID': len(chosen.matched), 'FULL': images * self._priors, 'BATCH_SIZE': images, 'NONE': 1}
        return [total / max(count[self._mode], 1)]

    def _box_errors(self, difference: torch.Tensor) -> torch.Tensor:
        if self.param.loc_loss_type == caffe_pb2.MultiBoxLossParameter.L2:
            return difference.square() / 2
        return F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction='none')

    def _class_losses(self, scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(S,) losses of scores (S, classes) whose true classes these are."""
        if self._softmax:
            return -torch.softmax(scores, 1).gather(1, classes[:, None])[:, 0].clamp_min(FLT_MIN).log()
        target = F.one_hot(classes, scores.shape[1]).to(scores.dtype)
        return F.binary_cross_entropy_with_logits(scores, target, reduction='none').sum(1)

    def _choose(self, codes, scores, priors, objects) -> Chosen:
        """Matches the priors of each image with its objects, and mines. The arguments are the bottoms' arrays."""
        param, images, background = self.param, codes.shape[0], self.param.background_label_id
        codes = codes.reshape(images, self._priors, 1 if param.share_location else param.num_classes, 4)
        scores = scores.reshape(images, self._priors, param.num_classes)
        priors, variances = priors.reshape(2, self._priors, 4)
        objects = self._objects(objects.reshape(-1, 8), images)
        by_prediction = param.match_type == caffe_pb2.MultiBoxLossParameter.PER_PREDICTION
        none = np.zeros((0, 2), np.int64)
        parts = [(none, none[:, 0], priors[:0], priors[:0], none, none[:, 0])]  # a batch may hold no image
        for image in range(images):
            its, first = objects[objects[:, 0] == image], codes[image, :, 0]
            boxes = priors if param.use_prior_for_matching else self._decoded(first, priors, variances)
            within = (boxes >= 0) & (boxes <= 1)
            allowed = np.logical_or(within.all(1), not param.ignore_cross_boundary_bbox)
            shown, overlap = match(boxes, its[:, 3:7], param.overlap_threshold if by_prediction else None, allowed)
            matched, negative = shown >= 0, np.zeros(self._priors, bool)
            label = np.full(self._priors, background)
            target, weight = np.zeros_like(priors), within | (not param.bp_inside)
            if matched.any():
                self._check_priors(priors[matched], variances[matched])
                label[matched] = background + 1 if param.map_object_to_agnostic else its[shown[matched], 1]
                target[matched] = self._encoded(its[shown[matched], 3:7], priors[matched], variances[matched])
            if param.encode_variance_in_target:
                weight = weight / variances
            if self._mining == 'NONE':
                negative = ~matched
            elif len(its):
                difference = (first - target) * weight * matched[:, None]
                loss = self._loss_of_each(scores[image], label, difference)
                matched, negative = self._mine(loss, shown, overlap, self._boxes_for_nms(first, priors, variances))
            prior = np.flatnonzero(matched)
            scored = np.concatenate([prior, np.flatnonzero(negative)])
            at = np.stack([np.full_like(scored, image), scored], axis=1)
            parts.append((at[: len(prior)], label[prior], target[prior], weight[prior], at, label[scored]))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        columns[2:4] = (column.astype(np.float32) for column in columns[2:4])
        return Chosen(*columns)

    def _objects(self, rows: np.ndarray, images: int) -> np.ndarray:
        """The rows that count. Raises LayerError for classes and boxes that make no sense."""
        rows = rows[rows[:, 0] != -1]
        if not self.param.use_difficult_gt:
            rows = rows[rows[:, 7] == 0]
        for row in rows:
            if not np.isfinite(row).all():
                raise LayerError(f'object {row.tolist()} has numbers that are none')
            label, (x1, y1, x2, y2) = int(row[1]), row[3:7]
            if label == self.param.background_label_id:
                raise LayerError(f'Found background label in the dataset: object {row.tolist()}')
            if not self.param.map_object_to_agnostic and not 0 <= label < self.param.num_classes:
                raise LayerError(
                    f'object {row.tolist()} is of class {label}, not among 0 .. {self.param.num_classes - 1}'
                )
            if not 0 <= row[0] < images:
                raise LayerError(f'object {row.tolist()} is of image {row[0]:g}; the batch has {images}, from 0')
            if self._code == 'CENTER_SIZE' and not (x2 > x1 and y2 > y1):
                raise LayerError(f'object {row.tolist()} has no area: CENTER_SIZE cannot encode its box')
        return rows

    def _check_priors(self, priors: np.ndarray, variances: np.ndarray) -> None:
        """Raises LayerError for matched priors beside which no box can be encoded."""
        wrong = ~(variances > 0).all(1)
        if wrong.any():
            raise LayerError(f'the variances of priors must be > 0; got {variances[wrong][0].tolist()}')
        flat = ~(priors[:, 2:] > priors[:, :2]).all(1)
        if self._code != 'CORNER' and flat.any():
            raise LayerError(f'prior {priors[flat][0].tolist()} has no area: {self._code} can encode nothing beside it')

    def _encoded(self, boxes: np.ndarray, priors: np.ndarray, variances: np.ndarray) -> np.ndarray:
        return encode(boxes, priors, None if self.param.encode_variance_in_target else variances, self._code)

    def _decoded(self, codes: np.ndarray, priors: np.ndarray, variances: np.ndarray) -> np.ndarray:
        return decode(codes, priors, None if self.param.encode_variance_in_target else variances, self._code)

    def _boxes_for_nms(self, codes: np.ndarray, priors: np.ndarray, variances: np.ndarray) -> np.ndarray | None:
        if not self.param.HasField('nms_param') or self.param.nms_param.nms_threshold <= 0:
            return None
        return priors if self.param.use_prior_for_nms else self._decoded(codes, priors, variances)

    def _loss_of_each(self, scores: np.ndarray, label: np.ndarray, difference: np.ndarray) -> np.ndarray:
        """(P,) what the mining ranks by: the loss of the class, with HARD_EXAMPLE also that of the box."""
        loss = self._class_losses(torch.from_numpy(scores), torch.from_numpy(label)).numpy()
        if self._mining == 'HARD_EXAMPLE':
            loss = loss + self._box_errors(torch.from_numpy(difference.astype(np.float32))).sum(1).numpy()
        return loss

    def _mine(
        self, loss: np.ndarray, shown: np.ndarray, overlap: np.ndarray, boxes: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The matches and the negatives that count, (P,) bool each (MineHardExamples).

        loss, shown, overlap: of each prior; boxes: with them, a prior that overlaps a harder one too much is left out.
        """
        param, matched = self.param, shown >= 0
        if self._mining == 'MAX_NEGATIVE':
            eligible = np.flatnonzero((shown == -1) & (overlap < param.neg_overlap))
            count = int(np.float32(matched.sum()) * np.float32(param.neg_pos_ratio))
        else:
            eligible, count = np.arange(len(loss)), param.sample_size
        order = eligible[highest(loss[eligible])]
        if boxes is not None:
            if param.nms_param.HasField('top_k') and param.nms_param.top_k >= 0:
                order = order[: param.nms_param.top_k]
            order = order[areas(boxes[order]) >= 1e-5]
            order = order[suppress(boxes[order], param.nms_param.nms_threshold)]
        chosen = np.zeros(len(loss), bool)
        chosen[order[:count]] = True
        return (matched & chosen if self._mining == 'HARD_EXAMPLE' else matched), chosen & (shown == -1)
