"""ROIPooling (roi_pooling_layer.cu of Caffe's fast-rcnn branch; Girshick, 'Fast R-CNN', section 2.1)."""

from __future__ import annotations

from typing import Any

import torch

from caffe.blob import Blob
from caffe.kernels.host_memory import check_room
from caffe.kernels.roi_bins import bins_of_rois, of_no_image
from caffe.kernels.roi_pooling import roi_max_pool, roi_max_pool_backward, rows_that_repeat
from caffe.layer import Layer, LayerError, register
from caffe.layers.rois import count_rois, refuse_of_no_image
from caffe.process import device


@register('ROIPooling')
class ROIPooling(Layer):
    """Max-pools each RoI of a feature map into pooled_h x pooled_w bins.

    Bottoms: features (N, C, H, W); RoIs (R, 5), rows (index of the image in the batch, x1, y1, x2, y2) in
    image pixels, corners included. Top (R, C, pooled_h, pooled_w). spatial_scale turns image pixels into
    feature pixels. Corners are rounded; an RoI is at least 1 x 1, and one that ends before it starts gets no
    gradient; bins are rounded outwards and clipped to the map; a bin without pixels gives 0. The gradient of
    RoIs is zero.

    An RoI of an image that is not in the batch is refused; on a GPU, where finding one would take a
    synchronisation in every pass, NaN is pooled from it instead.
    """

    param_field = 'roi_pooling_param'
    num_bottom = 2
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.param.pooled_h == 0:
            raise LayerError('pooled_h must be > 0')
        if self.param.pooled_w == 0:
            raise LayerError('pooled_w must be > 0')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        features = bottom[0].shape
        if len(features) != 4:
            raise LayerError(f'ROIPooling: bottom 0 must be features of shape (N, C, H, W), got {features}')
        rois = count_rois(self.type, bottom[1])
        top[0].reshape(rois, features[1], self.param.pooled_h, self.param.pooled_w)
        if not device.has_own_memory():
            # block_rows: four places a bin, eight bytes each, with as much again while they are computed
            bins = rois * self.param.pooled_h * self.param.pooled_w
            what = f'pooling {rois} RoIs into {self.param.pooled_h} x {self.param.pooled_w} bins'
            check_room(2 * 4 * 8 * bins, what)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, rois, pooled = bottom[0].read(), bottom[1].read().view(-1, 5), (self.param.pooled_h, self.param.pooled_w)
        nowhere = of_no_image(rois, x.shape[0])
        if not x.is_cuda:
            refuse_of_no_image(self.type, rois, nowhere, x.shape[0])
        bins = bins_of_rois(rois, self.param.spatial_scale, pooled, x.shape)
        if not self.needs_backward and (rows := rows_that_repeat(x, *bins)) is not None:
            top[0].write_rows(rows)
            return
        y, place = roi_max_pool(x, *bins, self.needs_backward, out=top[0].memory_to_fill())
        if x.is_cuda:  # to raise would mean to wait for the GPU: NaN instead
            y.masked_fill_(nowhere[:, None, None, None], float('nan'))
        self._kept: Any = (place, *bins) if self.needs_backward else None

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:  # rounded corners: what is pooled does not change with small changes of an RoI
            bottom[1].write_diff(torch.zeros_like(bottom[1].read()))
        if propagate_down[0]:
            place, down, across, image = self._kept
            shape = bottom[0].read().shape
            bottom[0].write_diff(roi_max_pool_backward(top[0].read_diff(), place, down, across, image, shape))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 1
