"""R-FCN's layers: position-sensitive pooling, and OHEM as its authors use it (Dai et al., 'R-FCN', 2016; the sources
are those of daijifeng001/caffe-rfcn and the Caffe of py-R-FCN).

Its nets score all RoIs in one pass: two of the OHEM losses give each RoI's loss, BoxAnnotatorOHEM says by labels and
weights which RoIs count, and the losses behind it ignore the others.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from caffe.blob import Blob
from caffe.kernels.hardest import hardest_of_each_image
from caffe.kernels.position_sensitive import (
    bin_edges,
    position_sensitive_means,
    position_sensitive_means_backward,
)
from caffe.kernels.roi_bins import of_no_image
from caffe.layer import FunctionLayer, Layer, LayerError, register
from caffe.layers.axes import canonical_axis
from caffe.layers.labels import label_indices
from caffe.layers.loss_normalization import normalization_mode, normalizer
from caffe.layers.rois import count_rois, refuse_of_no_image
from caffe.layers.without_gradient import LayerWithoutGradient

FLT_MIN = torch.finfo(torch.float32).tiny


@register('PSROIPooling')
class PSROIPooling(Layer):
    """Averages each RoI's group_size x group_size bins, each bin in a map of its own (R-FCN, eq. 1).

    Bottoms: maps (N, output_dim * group_size^2, H, W), channel (d * group_size + row) * group_size + column for bin
    (row, column) of output d; RoIs (R, 5), rows (index of the image in the batch, x1, y1, x2, y2) in image pixels,
    corners included. Top (R, output_dim, group_size, group_size). Corners are rounded before spatial_scale; bins are
    rounded outwards and clipped to the map; a bin without pixels gives 0. The gradient of RoIs is zero.

    An RoI of an image that is not in the batch is refused; on a GPU NaN is pooled from it.
    """

    param_field = 'psroi_pooling_param'
    num_bottom = 2
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        for option in ('spatial_scale', 'output_dim', 'group_size'):
            if not self.param.HasField(option):
                raise LayerError(f'PSROIPooling: psroi_pooling_param needs a {option}')
            if not 0 < getattr(self.param, option) < float('inf'):
                raise LayerError(f'{option} must be > 0')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        maps, group = bottom[0].shape, self.param.group_size
        if len(maps) != 4 or maps[1] != self.param.output_dim * group**2:
            raise LayerError(
                'input channel number does not match layer parameters: bottom 0 must be maps of shape (N, '
                f'output_dim * group_size^2 = {self.param.output_dim * group**2}, H, W), got {maps}'
            )
        top[0].reshape(count_rois(self.type, bottom[1]), self.param.output_dim, group, group)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        maps, rois = bottom[0].read(), bottom[1].read().view(-1, 5)
        nowhere = of_no_image(rois, maps.shape[0])
        if not maps.is_cuda:
            refuse_of_no_image(self.type, rois, nowhere, maps.shape[0])
        size = (maps.shape[0], *maps.shape[2:])
        self._edges = bin_edges(rois, self.param.spatial_scale, self.param.group_size, size)
        means = position_sensitive_means(maps, self._edges)
        if maps.is_cuda:  # to raise would mean to wait for the GPU
            means.masked_fill_(nowhere[:, None, None, None], float('nan'))
        top[0].write(means)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:  # what is pooled does not change with small changes of an RoI
            bottom[1].write_diff(torch.zeros_like(bottom[1].read()))
        if propagate_down[0]:
            shape = bottom[0].read().shape
            bottom[0].write_diff(position_sensitive_means_backward(top[0].read_diff(), self._edges, shape))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 1


@register('BoxAnnotatorOHEM')
class BoxAnnotatorOHEM(LayerWithoutGradient):
    """Keeps the labels and box weights of the roi_per_img RoIs of highest loss of each image, and no other's.

    Bottoms: RoIs (R, 5, ...), each RoI's loss (R, ...), labels (R, ...), box weights (R, 4 * classes, ...). Tops: the
    labels, ignore_label where an RoI does not count, and the weights, 0 there. Of equal losses the earlier RoI comes
    first. No NMS, unlike OHEM's own rule: two RoIs alike both count. There is no gradient.
    """

    param_field = 'box_annotator_ohem_param'
    num_bottom = 4
    num_top = 2

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.param.roi_per_img:
            raise LayerError('box_annotator_ohem_param needs a roi_per_img > 0')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = [blob.shape for blob in bottom]
        rows = shapes[0][0] if len(shapes[0]) > 1 and shapes[0][1] == 5 else None
        if rows is None:
            raise LayerError(f'bottom 0 must be RoIs of shape (R, 5): image, x1, y1, x2, y2; got {shapes[0]}')
        self._places = math.prod(shapes[0][2:])  # 1, but for nets that predict at each place of a map
        for i, what in ((1, 'losses'), (2, 'labels')):
            if shapes[i][:1] != (rows,) or bottom[i].count != rows * self._places:
                raise LayerError(f'bottom {i}, the {what}, must hold one number an RoI; {shapes[0]} and {shapes[i]}')
        if len(shapes[3]) < 2 or shapes[3][0] != rows or bottom[3].count != rows * shapes[3][1] * self._places:
            raise LayerError(f'bottom 3, the box weights, must have a row an RoI; {shapes[0]} and {shapes[3]}')
        spatial = shapes[0][2:] if len(shapes[0]) > 2 else (1, 1)
        top[0].reshape(rows, 1, *spatial)
        top[1].reshape(rows, shapes[3][1], *spatial)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        rows = bottom[0].shape[0]
        given = bottom[0].read().view(rows, 5, self._places)[:, 0].reshape(-1)
        image = given.long()
        if not image.is_cuda and (image < 0).any():  # NaN and infinity among them
            r = int((image < 0).nonzero()[0])
            raise LayerError(f'RoI {r} is of image {float(given[r]):g}; images are numbered from 0')
        kept = hardest_of_each_image(bottom[1].read().view(-1), image, self.param.roi_per_img)
        labels, weights = bottom[2].read().view(-1), bottom[3].read().view(rows, bottom[3].shape[1], self._places)
        top[0].write(labels.masked_fill(~kept, self.param.ignore_label).view(top[0].shape))
        top[1].write(weights.masked_fill(~kept.view(rows, 1, self._places), 0).view(top[1].shape))


class _LossOfEachRoI(FunctionLayer):
    """A loss whose last top is the loss of each row; only top 0 has a gradient."""

    is_loss = True
    auto_tops = 1
    _mode: str
    _number: float

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not bottom[0].shape or bottom[0].shape[:1] != bottom[1].shape[:1]:
            raise LayerError(
                'The data and label should have the same first dimension. '
                f'Found shapes {bottom[0].shape} and {bottom[1].shape}.'
            )
        top[0].reshape()
        self._tops = len(top)

    def _divisor(self, outer: int, inner: int, valid: torch.Tensor | None) -> torch.Tensor | float:
        """What the sum of losses is divided by, at least 1."""
        return max(1.0, self._number) if self._mode == 'PRE_FIXED' else normalizer(self._mode, outer, inner, valid)


@register('SoftmaxWithLossOHEM')
class SoftmaxWithLossOHEM(_LossOfEachRoI):
    """SoftmaxWithLoss that gives the loss of each row, too.

    Bottoms: scores (..., C, ...), the classes along softmax_param.axis, and as many labels as there are places. Tops:
    the loss, the softmax, and each label's loss, 0 where it is ignored: of the scores' shape with one class, or of the
    labels' shape if the scores are a matrix. The sum of the losses is divided as by SoftmaxWithLoss, or by
    loss_param.pre_fixed_normalizer (PRE_FIXED).
    """

    param_field = 'softmax_param'
    num_bottom = 2
    num_top = (1, 3)
    default_loss_weight = 1.0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        loss_param = self.layer_param.loss_param
        self._ignore = loss_param.ignore_label if loss_param.HasField('ignore_label') else None
        self._mode = normalization_mode(loss_param, pre_fixed=True)
        self._number = loss_param.pre_fixed_normalizer

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        self._axis = canonical_axis(self.param.axis, shape)
        if bottom[0].count != bottom[1].count * shape[self._axis]:
            raise LayerError(
                f'Number of labels must match number of predictions: scores {shape} with the classes along axis '
                f'{self._axis}, labels {bottom[1].shape}'
            )
        one_class = (*shape[: self._axis], 1, *shape[self._axis + 1 :]) if len(shape) > 2 else bottom[1].shape
        for blob, its_shape in zip(top[1:], (shape, one_class), strict=False):
            blob.reshape(*its_shape)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        scores, given = bottoms
        outer, classes = scores.shape[: self._axis].numel(), scores.shape[self._axis]
        inner = scores.shape[self._axis + 1 :].numel()
        probability = torch.softmax(scores, self._axis).view(outer, classes, inner)
        labels, valid = label_indices(given.detach().reshape(outer, 1, inner), classes, self._ignore)
        losses = -probability.gather(1, labels).clamp_min(FLT_MIN).log()
        if valid is not None:
            losses = losses.masked_fill(~valid, 0)
        loss = losses.sum() / self._divisor(outer, inner, valid)
        tops = [loss, probability.detach().view(scores.shape), losses.detach().flatten()]
        return tops[: self._tops]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            raise LayerError('SoftmaxWithLossOHEM Layer cannot backpropagate to label inputs.')
        super().backward(top, propagate_down, bottom)


@register('SmoothL1LossOHEM')
class SmoothL1LossOHEM(_LossOfEachRoI):
    """SmoothL1Loss of sigma 1 that gives the loss of each row, too, and divides as loss_param says.

    Bottoms: prediction, target and, if there is a third, weights, all of one shape (R, C, ...). Tops: the sum of
    f(weight * (prediction - target)), divided by the places (FULL, VALID), the rows (BATCH_SIZE), 1 (NONE), or
    loss_param.pre_fixed_normalizer (PRE_FIXED); and the sum over channels of each place, (R, 1, ...). As in R-FCN's
    Caffe the gradient is f', not multiplied by the weight again, and the loss counts only where the prototxt gives a
    loss_weight.
    """

    num_bottom = (2, 3)
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        loss_param = self.layer_param.loss_param
        self._mode = normalization_mode(loss_param, pre_fixed=True)
        self._number = loss_param.pre_fixed_normalizer

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        for i, blob in enumerate(bottom):
            if blob.count != bottom[0].count or blob.shape[:1] != shape[:1]:
                raise LayerError(f'bottom {i} must have the shape of bottom 0: {blob.shape} and {shape}')
        if len(top) > 1:
            top[1].reshape(shape[0], 1, *(shape[2:] if len(shape) > 2 else (1, 1)))

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        prediction = bottoms[0]
        difference = prediction - bottoms[1].view(prediction.shape)
        if len(bottoms) > 2:  # a detached addition, since the gradient is not multiplied by the weights
            weights = bottoms[2].detach().view(prediction.shape)
            difference = difference + ((weights - 1) * difference).detach()
        errors = F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction='none')
        rows = prediction.shape[0]
        errors = errors.view(rows, *(prediction.shape[1:2] or [1]), prediction.shape[2:].numel())
        tops = [errors.sum() / self._divisor(rows, errors.shape[2], None), errors.detach().sum(1).flatten()]
        return tops[: self._tops]
