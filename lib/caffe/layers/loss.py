"""Loss layers: one number that says how wrong predictions are.

Top 0 is a blob without axes. The weight of the loss in the net's objective arrives in its diff, which scales
the gradient. All divide their sum, most by the number of rows; `LossParameter.normalization` chooses among
FULL (all labels), VALID (labels that are not ignored), BATCH_SIZE (rows before the class axis) and NONE (1).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from caffe.blob import Blob
from caffe.files.model_file import read_blobproto
from caffe.glog import log
from caffe.layer import Layer, LayerError, register
from caffe.layers.axes import canonical_axis
from caffe.layers.labels import label_indices
from caffe.layers.loss_normalization import normalization_mode, normalizer
from caffe.proto import caffe_pb2

FLT_MIN = torch.finfo(torch.float32).tiny
LOG_THRESHOLD = 1e-20  # kLOG_THRESHOLD of loss_layer.hpp


class LossLayer(Layer):
    """What losses have in common: two bottoms of as many rows, no gradient to the second (loss_layer.cpp)."""

    num_bottom: int | tuple[int, int | None] = 2
    num_top: int | tuple[int, int | None] = 1
    is_loss = True
    default_loss_weight = 1.0
    auto_tops = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].shape[:1] != bottom[1].shape[:1]:
            raise LayerError(
                'The data and label should have the same first dimension. '
                f'Found shapes {bottom[0].shape} and {bottom[1].shape}.'
            )
        if not bottom[0].shape:
            raise LayerError('a loss needs bottoms of at least one axis, the rows; bottom 0 has shape ()')
        top[0].reshape()

    def refuse_gradient(self, propagate_down: list[bool], index: int, what: str = 'label') -> None:
        """Raises LayerError if a gradient is asked for bottom `index`, which has none."""
        if len(propagate_down) > index and propagate_down[index]:
            raise LayerError(f'{self.type} Layer cannot backpropagate to {what} inputs.')


def rows_of(blob: Blob) -> int:
    """What a loss is divided by; 1 for a blob without rows, whose loss is 0 (and not 0/0 as in Caffe)."""
    return max(blob.shape[0], 1)


class SoftmaxedLoss(LossLayer):
    """A loss of the softmax of bottom 0, given the class of each place in bottom 1; top 1 is the softmax."""

    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        loss_param = self.layer_param.loss_param
        self.ignore = loss_param.ignore_label if loss_param.HasField('ignore_label') else None
        self.mode = normalization_mode(loss_param)
        self.prob = Blob()

    def softmax_axis(self) -> int:
        """The class axis as the prototxt names it."""
        return self.layer_param.softmax_param.axis

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        self.axis = canonical_axis(self.softmax_axis(), shape)
        self.outer, self.inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        self.classes = shape[self.axis]
        if self.outer * self.inner != bottom[1].count:
            raise LayerError(
                'Number of labels must match number of predictions; e.g., if softmax axis == 1 and prediction shape is '
                '(N, C, H, W), label count (number of labels) must be N*H*W, with integer values in {0, 1, ..., C-1}. '
                f'Found predictions {shape}, axis {self.axis}, and labels {bottom[1].shape}.'
            )
        self.prob.reshape(*shape)
        if len(top) > 1:
            top[1].reshape(*shape)
            top[1].share_data(self.prob)

    def _softmax(self, bottom) -> torch.Tensor:
        """Keeps the softmax for the backward pass; returns it as (outer, classes, inner)."""
        self.prob.write(torch.softmax(bottom[0].read(), self.axis))
        return self._kept_softmax()

    def _kept_softmax(self) -> torch.Tensor:
        return self.prob.read().view(self.outer, self.classes, self.inner)

    def _labels(self, bottom) -> tuple[torch.Tensor, torch.Tensor | None]:
        labels = bottom[1].read().reshape(self.outer, 1, self.inner)
        return label_indices(labels, self.classes, self.ignore)

    def _write_loss(self, top, losses: torch.Tensor, valid: torch.Tensor | None) -> None:
        """losses: (outer, 1, inner), one for each label."""
        if valid is not None:
            losses = losses.masked_fill(~valid, 0)
        top[0].write(losses.sum() / normalizer(self.mode, self.outer, self.inner, valid))

    def _write_gradient(self, top, bottom, grad: torch.Tensor, valid: torch.Tensor | None) -> None:
        """grad: (outer, classes, inner), of the sum of the losses; changed in place."""
        if valid is not None:
            grad.masked_fill_(~valid, 0)
        grad.mul_(top[0].read_diff() / normalizer(self.mode, self.outer, self.inner, valid))
        bottom[0].write_diff(grad)


@register('SoftmaxWithLoss')
class SoftmaxWithLoss(SoftmaxedLoss):
    """-log(softmax(x)[label]), along softmax_param.axis (softmax_loss_layer.cpp)."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        prob = self._softmax(bottom)
        labels, valid = self._labels(bottom)
        self._write_loss(top, prob.gather(1, labels).clamp_min_(FLT_MIN).log_().neg_(), valid)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_gradient(propagate_down, 1)
        if not propagate_down[0]:
            return
        labels, valid = self._labels(bottom)
        grad = self._kept_softmax().clone()
        grad.scatter_(1, labels, grad.gather(1, labels) - 1)
        self._write_gradient(top, bottom, grad, valid)


@register('InfogainLoss')
class InfogainLoss(SoftmaxedLoss):
    """-sum over k of H[label, k] * log(softmax(x)[k]), along infogain_loss_param.axis.

    The matrix H, classes x classes, is bottom 2 or the binaryproto file infogain_loss_param.source
    (infogain_loss_layer.cpp).
    """

    param_field = 'infogain_loss_param'
    num_bottom = (2, 3)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        if self.layer_param.loss_param.HasField('normalize'):
            raise LayerError('normalize is deprecated. use "normalization"')
        if len(bottom) < 3:
            if not self.param.HasField('source'):
                raise LayerError(
                    'Infogain matrix source must be specified: '
                    'infogain_loss_param { source: "H.binaryproto" } or a third bottom'
                )
            matrix = read_blobproto(self.param.source).data
            self.matrix = Blob(*matrix.shape)
            self.matrix.data[...] = matrix

    def softmax_axis(self) -> int:
        return self.param.axis

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        matrix = bottom[2] if len(bottom) > 2 else self.matrix
        if matrix.count != self.classes**2:
            raise LayerError(f'H must be {self.classes}x{self.classes}, one row a class; found shape {matrix.shape}')

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def _rows_of_h(self, bottom, labels) -> torch.Tensor:
        """H[label] for each label: (outer, classes, inner)."""
        matrix = (bottom[2] if len(bottom) > 2 else self.matrix).read().view(self.classes, self.classes)
        return matrix[labels[:, 0]].permute(0, 2, 1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        prob = self._softmax(bottom)
        labels, valid = self._labels(bottom)
        losses = -(self._rows_of_h(bottom, labels) * prob.clamp_min(LOG_THRESHOLD).log_())
        self._write_loss(top, losses.sum(1, keepdim=True), valid)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_gradient(propagate_down, 1)
        self.refuse_gradient(propagate_down, 2, 'infogain')
        if not propagate_down[0]:
            return
        labels, valid = self._labels(bottom)
        rows = self._rows_of_h(bottom, labels)
        grad = self._kept_softmax() * rows.sum(1, keepdim=True) - rows
        self._write_gradient(top, bottom, grad, valid)


@register('SmoothL1Loss')
class SmoothL1Loss(LossLayer):
    """Huber's loss of box regression (Fast R-CNN, eq. 3; smooth_L1_loss_layer.cu of its branch of Caffe).

    Bottoms: prediction, target, inside weights and outside weights, all of one shape (or the first two alone):
    sum(outside * f(inside * (prediction - target))) / rows, where
    f(d) = 0.5 * (sigma * d)^2 for |d| < 1 / sigma^2, |d| - 0.5 / sigma^2 beyond. Prediction and target get
    gradients. The weights get none. Published nets do not say propagate_down: false for them, so no error is raised.

    Three bottoms are those of Fast R-CNN's first release: prediction, target and weights, which multiply the
    difference and, as there, not the gradient again; the two agree where the weights are 0 or 1.

    As in that branch, the loss counts only where the prototxt gives a loss_weight: its LayerSetUp leaves out
    the default of the other losses.
    """

    param_field = 'smooth_l1_loss_param'
    num_bottom = (2, 4)
    default_loss_weight = 0.0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.layer_param.loss_weight and self.phase == caffe_pb2.TRAIN:
            log(
                f"SmoothL1Loss layer '{self.name}' has no loss_weight, so nothing is learned from it "
                "(as in Caffe's fast-rcnn branch); write loss_weight: 1 in the prototxt",
                'smooth_L1_loss_layer.cpp:13',
                'W',
            )
        self.sigma2 = self.param.sigma**2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        for i in range(1, len(bottom)):
            if bottom[i].count != bottom[0].count or bottom[i].shape[:1] != bottom[0].shape[:1]:
                raise LayerError(f'bottom {i} must have the shape of bottom 0: {bottom[i].shape} and {bottom[0].shape}')

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def _difference(self, bottom) -> torch.Tensor:
        diff = bottom[0].read() - bottom[1].read().view(bottom[0].shape)
        return diff.mul_(bottom[2].read().view(diff.shape)) if len(bottom) > 2 else diff

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        diff = self._difference(bottom)
        size = diff.abs()
        errors = torch.where(size < 1 / self.sigma2, diff.square_().mul_(0.5 * self.sigma2), size - 0.5 / self.sigma2)
        if len(bottom) > 3:
            errors.mul_(bottom[3].read().view(errors.shape))
        top[0].write(errors.sum() / rows_of(bottom[0]))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not any(propagate_down[:2]):
            return
        # f'(d) is sigma^2 * d within the parabola and sign(d) beyond, where sigma^2 * |d| >= 1.
        grad = self._difference(bottom).mul_(self.sigma2).clamp_(-1, 1)
        grad.mul_(top[0].read_diff() / rows_of(bottom[0]))
        if len(bottom) > 3:
            grad.mul_(bottom[2].read().view(grad.shape)).mul_(bottom[3].read().view(grad.shape))
        if propagate_down[1]:
            bottom[1].write_diff(-grad)
        if propagate_down[0]:
            bottom[0].write_diff(grad)


@register('EuclideanLoss')
class EuclideanLoss(LossLayer):
    """sum((a - b)^2) / (2 * rows); both bottoms get gradients (euclidean_loss_layer.cpp)."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise LayerError(f'Inputs must have the same dimension. Found {bottom[0].shape} and {bottom[1].shape}.')

    def allow_force_backward(self, bottom_index: int) -> bool:
        return True

    def _difference(self, bottom) -> torch.Tensor:
        return bottom[0].read() - bottom[1].read().view(bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].write(self._difference(bottom).square_().sum() / rows_of(bottom[0]) / 2)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        grad = self._difference(bottom).mul_(top[0].read_diff() / rows_of(bottom[0]))
        if propagate_down[1]:
            bottom[1].write_diff(-grad)
        if propagate_down[0]:
            bottom[0].write_diff(grad)


@register('HingeLoss')
class HingeLoss(LossLayer):
    """One-against-all hinge: max(0, 1 - x) at the label, max(0, 1 + x) elsewhere; L2 squares them.

    Bottoms: scores (N, ...) and N labels; the classes are all axes after the first (hinge_loss_layer.cpp).
    """

    param_field = 'hinge_loss_param'

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[1].count != bottom[0].shape[0]:
            raise LayerError(f'one label a row is expected: scores {bottom[0].shape}, labels {bottom[1].shape}')

    def _margins(self, bottom) -> tuple[torch.Tensor, torch.Tensor]:
        """The margins that are violated, by how much, and the sign of x in each: (N, classes)."""
        scores = bottom[0].read().view(bottom[0].shape[0], -1) if bottom[0].count else bottom[0].read().view(0, 1)
        labels, _ = label_indices(bottom[1].read().view(-1, 1), scores.shape[1], None)
        sign = torch.ones_like(scores).scatter_(1, labels, -1.0)
        return (1 + sign * scores).clamp_min_(0), sign

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        margin, _ = self._margins(bottom)
        total = margin.square_().sum() if self._is_l2() else margin.sum()
        top[0].write(total / rows_of(bottom[0]))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_gradient(propagate_down, 1)
        if not propagate_down[0]:
            return
        margin, sign = self._margins(bottom)
        grad = sign * (2 * margin if self._is_l2() else margin.sign())
        bottom[0].write_diff(grad.mul_(top[0].read_diff() / rows_of(bottom[0])))

    def _is_l2(self) -> bool:
        return self.param.norm == type(self.param).L2


@register('ContrastiveLoss')
class ContrastiveLoss(LossLayer):
    """Pulls similar pairs together and pushes others beyond a margin (Hadsell et al. 2006).

    Bottoms: features a and b (N, C), and N labels, not 0 where a pair is similar. With d = |a - b|: sum(d^2
    if similar, else max(margin - d, 0)^2) / (2 * N); legacy_version has max(margin - d^2, 0) instead.
    """

    param_field = 'contrastive_loss_param'
    num_bottom = 3

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count or any(b.height != 1 or b.width != 1 for b in bottom[:2]):
            raise LayerError(f'features must be (N, C) in both bottoms, found {bottom[0].shape} and {bottom[1].shape}')
        if bottom[2].count != bottom[0].shape[0]:
            raise LayerError(f'one label a pair is expected: features {bottom[0].shape}, labels {bottom[2].shape}')

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 2

    def _pairs(self, bottom) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """a - b (N, C), its squared length (N, 1), and whether the pair is similar (N, 1)."""
        rows = bottom[0].shape[0]
        shape = (rows, bottom[0].count // max(rows, 1))
        diff = bottom[0].read().view(shape) - bottom[1].read().view(shape)
        return diff, diff.square().sum(1, keepdim=True), bottom[2].read().view(rows, 1).trunc() != 0

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        _, dist_sq, similar = self._pairs(bottom)
        margin = self.param.margin
        if self.param.legacy_version:
            dissimilar = (margin - dist_sq).clamp_min_(0)
        else:
            dissimilar = (margin - dist_sq.sqrt()).clamp_min_(0).square_()
        top[0].write(torch.where(similar, dist_sq, dissimilar).sum() / rows_of(bottom[0]) / 2)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_gradient(propagate_down, 2)
        diff, dist_sq, similar = self._pairs(bottom)
        margin = self.param.margin
        if self.param.legacy_version:
            missing = margin - dist_sq
            push = -torch.ones_like(missing)
        else:
            dist = dist_sq.sqrt()
            missing = margin - dist
            push = -missing / (dist + 1e-4)
        factor = torch.where(similar, 1.0, push.masked_fill_(missing <= 0, 0))
        grad = diff * factor.mul_(top[0].read_diff() / rows_of(bottom[0]))
        if propagate_down[1]:
            bottom[1].write_diff(-grad)
        if propagate_down[0]:
            bottom[0].write_diff(grad)


@register('MultinomialLogisticLoss')
class MultinomialLogisticLoss(LossLayer):
    """-log(p[label]) / N of probabilities (N, ...) and N labels (multinomial_logistic_loss_layer.cpp)."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[1].count != bottom[0].shape[0]:
            raise LayerError(f'one label a row is expected: probabilities {bottom[0].shape}, labels {bottom[1].shape}')

    def _picked(self, bottom) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Probabilities (N, classes), labels (N, 1), and each label's probability, kept off 0 (N, 1)."""
        prob = bottom[0].read().view(bottom[0].shape[0], -1) if bottom[0].count else bottom[0].read().view(0, 1)
        labels, _ = label_indices(bottom[1].read().view(-1, 1), prob.shape[1], None)
        return prob, labels, prob.gather(1, labels).clamp_min_(LOG_THRESHOLD)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        _, _, picked = self._picked(bottom)
        top[0].write(-picked.log_().sum() / rows_of(bottom[0]))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_gradient(propagate_down, 1)
        if not propagate_down[0]:
            return
        prob, labels, picked = self._picked(bottom)
        scale = -top[0].read_diff() / rows_of(bottom[0])
        bottom[0].write_diff(torch.zeros_like(prob).scatter_(1, labels, scale / picked))


@register('SigmoidCrossEntropyLoss')
class SigmoidCrossEntropyLoss(LossLayer):
    """-t * log(s) - (1 - t) * log(1 - s), s = sigmoid(x), of scores and targets of one shape.

    Divided by the rows (BATCH_SIZE) unless loss_param says otherwise (sigmoid_cross_entropy_loss_layer.cpp).
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        loss_param = self.layer_param.loss_param
        self.ignore = loss_param.ignore_label if loss_param.HasField('ignore_label') else None
        self.mode = normalization_mode(loss_param, default='BATCH_SIZE')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise LayerError(
                'SIGMOID_CROSS_ENTROPY_LOSS layer inputs must have the same count. '
                f'Found {bottom[0].shape} and {bottom[1].shape}.'
            )

    def _inputs(self, bottom) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | float]:
        """Scores, targets, the mask of those that count, and what their sum is divided by."""
        scores, targets = bottom[0].read(), bottom[1].read().view(bottom[0].shape)
        valid = None if self.ignore is None else targets.trunc() != self.ignore
        rows = bottom[0].shape[0]
        return scores, targets, valid, normalizer(self.mode, rows, bottom[0].count // max(rows, 1), valid)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        scores, targets, valid, divisor = self._inputs(bottom)
        losses = functional.binary_cross_entropy_with_logits(scores, targets, reduction='none')
        if valid is not None:
            losses = losses.masked_fill(~valid, 0)
        top[0].write(losses.sum() / divisor)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_gradient(propagate_down, 1)
        if not propagate_down[0]:
            return
        scores, targets, valid, divisor = self._inputs(bottom)
        grad = scores.sigmoid() - targets
        if valid is not None:
            grad.masked_fill_(~valid, 0)
        bottom[0].write_diff(grad.mul_(top[0].read_diff() / divisor))
