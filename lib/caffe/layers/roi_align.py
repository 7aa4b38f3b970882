"""ROIAlign (He et al., 'Mask R-CNN', 2017, section 3)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.kernels.roi_align import roi_align
from caffe.kernels.roi_bins import of_no_image
from caffe.layer import FunctionLayer, LayerError, register
from caffe.layers.rois import count_rois, refuse_of_no_image

MOST_SAMPLES = 1024  # along a side of a bin; more would only take time


@register('ROIAlign')
class ROIAlign(FunctionLayer):
    """Averages bilinear samples in each RoI's pooled_h x pooled_w bins; no corner is rounded.

    Bottoms: features (N, C, H, W); RoIs (R, 5), rows (index of the image in the batch, x1, y1, x2, y2) in image pixels.
    Top (R, C, pooled_h, pooled_w). A bin has sampling_ratio^2 samples, or as many along each side as it has feature
    pixels, rounded up. An RoI is at least 1 x 1 feature pixel. The gradient of RoIs is zero. Forks differ; this is
    Detectron's (roi_align_op.cc), without the later half-pixel offset.
    """

    param_field = 'roi_align_param'
    num_bottom = 2
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        for side in ('pooled_h', 'pooled_w'):
            if getattr(self.param, side) == 0:
                raise LayerError(f'{side} must be > 0')
        if not 0 < self.param.spatial_scale < float('inf'):
            raise LayerError(f'spatial_scale must be > 0; got {self.param.spatial_scale:g}')
        if self.param.sampling_ratio > MOST_SAMPLES:
            raise LayerError(f'sampling_ratio must be at most {MOST_SAMPLES}; got {self.param.sampling_ratio}')

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        features = bottom[0].shape
        if len(features) != 4:
            raise LayerError(f'ROIAlign: bottom 0 must be features of shape (N, C, H, W), got {features}')
        top[0].reshape(count_rois(self.type, bottom[1]), features[1], self.param.pooled_h, self.param.pooled_w)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        rois, images = bottom[1].read().view(-1, 5), bottom[0].shape[0]
        refuse_of_no_image(self.type, rois, of_no_image(rois, images), images)
        super().forward(bottom, top)

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        pooled = (self.param.pooled_h, self.param.pooled_w)
        rois = bottoms[1].detach().reshape(-1, 5)
        return [roi_align(bottoms[0], rois, self.param.spatial_scale, pooled, max(self.param.sampling_ratio, 0))]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        super().backward(top, [propagate_down[0], False], bottom)
        if propagate_down[1]:
            bottom[1].write_diff(torch.zeros_like(bottom[1].read()))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 1
