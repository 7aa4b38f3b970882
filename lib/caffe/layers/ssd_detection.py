"""SSD's DetectionOutput: from predictions to boxes (detection_output_layer.cpp, branch ssd of weiliu89/caffe)."""

from __future__ import annotations

import numpy as np

from caffe.blob import Blob
from caffe.glog import warn_once
from caffe.kernels.boxes import decode, highest, suppress
from caffe.layer import LayerError, register
from caffe.layers.without_gradient import LayerWithoutGradient
from caffe.proto import caffe_pb2


@register('DetectionOutput')
class DetectionOutput(LayerWithoutGradient):
    """The detections of each image: boxes beside the priors, NMS in each class, the keep_top_k best of the image.

    Bottoms: codes (N, P * 4), or (N, P * classes * 4) without share_location; scores (N, P * classes); priors (1, 2,
    P * 4). Top (1, 1, D, 7): rows (image, class, score, x1, y1, x2, y2), corners as fractions of the image, by image
    and class; without any detection a row (image, -1, ...) an image. There is no gradient. What save_output_param,
    visualize and save_file ask for is left out, with a warning: files and pictures.
    """

    param_field = 'detection_output_param'
    num_bottom = (3, None)
    num_top = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.param
        if not param.num_classes:
            raise LayerError('Must specify num_classes')
        if not param.nms_param.nms_threshold >= 0:
            raise LayerError(f'nms_threshold must be non negative; got {param.nms_param.nms_threshold:g}')
        if not 0 < param.nms_param.eta <= 1:
            raise LayerError(f'eta must be above 0 and at most 1; got {param.nms_param.eta:g}')
        if param.save_output_param.output_directory or param.visualize or param.save_file:
            warn_once(  # SSD's scripts write their prototxts with it, those to deploy as well
                'DetectionOutput writes no files and shows no pictures: save_output_param, visualize and save_file '
                'are passed over; the detections are in the top',
                'detection_output_layer.cpp:57',
            )
        self._code = caffe_pb2.PriorBoxParameter.CodeType.Name(param.code_type)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        images, classes = bottom[0].shape[0] if bottom[0].shape else 0, self.param.num_classes
        priors, boxes = bottom[2].shape, 1 if self.param.share_location else classes
        if len(priors) < 3 or priors[1] != 2 or priors[2] % 4:
            raise LayerError(f'bottom 2 must be priors of shape (1, 2, priors * 4), as PriorBox gives; got {priors}')
        self._priors = priors[2] // 4
        for i, what, width in ((0, 'location', boxes * 4), (1, 'confidence', classes)):
            if bottom[i].shape[:1] != (images,) or bottom[i].count != images * self._priors * width:
                raise LayerError(
                    f'Number of priors must match number of {what} predictions: {self._priors} priors need bottom {i} '
                    f'of shape ({images}, {self._priors * width}), got {bottom[i].shape}'
                )
        top[0].reshape(1, 1, 1, 7)  # until it is known how many

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        param, images, classes = self.param, bottom[0].shape[0], self.param.num_classes
        priors, variances = bottom[2].data[0, :, :].reshape(2, self._priors, 4)
        codes = bottom[0].data.reshape(images, self._priors, 1 if param.share_location else classes, 4)
        codes, factors = codes.transpose(0, 2, 1, 3), None if param.variance_encoded_in_target else variances
        with np.errstate(over='ignore', invalid='ignore'):  # an untrained net's boxes may be infinite
            boxes = decode(codes, priors, factors, self._code)
        scores = bottom[1].data.reshape(images, self._priors, classes).transpose(0, 2, 1)
        rows = [row for image in range(images) for row in self._detections(image, boxes[image], scores[image])]
        found = np.concatenate(rows) if rows else np.zeros((0, 7), np.float32)
        if not len(found):
            found = np.full((images, 7), -1, np.float32)
            found[:, 0] = np.arange(images)
        top[0].reshape(1, 1, *found.shape)
        top[0].data[0, 0] = found

    def _detections(self, image: int, boxes: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
        """The rows of one image, an array a class. boxes: (1 or classes, P, 4); scores: (classes, P)."""
        param, nms = self.param, self.param.nms_param
        least = param.confidence_threshold if param.HasField('confidence_threshold') else -np.inf
        rows = []
        for c in range(param.num_classes):
            if c == param.background_label_id:
                continue
            above = np.flatnonzero(scores[c] > least)
            order = above[highest(scores[c][above], nms.top_k if nms.HasField('top_k') else -1)]
            its_boxes = boxes[0 if param.share_location else c][order]
            with np.errstate(over='ignore', invalid='ignore'):
                kept = suppress(its_boxes, nms.nms_threshold, nms.eta)
            row = np.empty((len(kept), 7), np.float32)
            row[:, 0], row[:, 1], row[:, 2], row[:, 3:] = image, c, scores[c][order][kept], its_boxes[kept]
            rows.append(row)
        found = np.concatenate(rows) if rows else np.zeros((0, 7), np.float32)
        if 0 <= param.keep_top_k < len(found):
            best = found[highest(found[:, 2], param.keep_top_k)]
            found = best[np.argsort(best[:, 1], kind='stable')]
        return [found]
