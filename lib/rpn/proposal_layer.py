"""The layer that proposes boxes: `type: "Python"  python_param { module: "rpn.proposal_layer"  layer: "ProposalLayer"
param_str: "'feat_stride': 16" }`.
"""

import numpy as np

from fast_rcnn.config import cfg
from roi_data_layer.python_layer import Blobs, fill
from rpn.generate_anchors import anchor_grid
from rpn.layer import LISTS, RPNLayer, anchors_of, check_blobs, check_sizes, needed, parameters, phase_of
from rpn.proposals import propose


class ProposalLayer(RPNLayer):
    """The best boxes of each image, by the settings of cfg.TRAIN or cfg.TEST: see `proposals.propose`.

    Bottoms: rpn_cls_prob_reshape (N, 2A, H, W), the second half of whose channels scores objects; rpn_bbox_pred
    (N, 4A, H, W); im_info (N, 3) = (height, width, scale). Tops: rois (R, 5) = (image, x1, y1, x2, y2) in pixels of the
    net's input, image by image, the best of an image first, and, if the prototxt names it, their scores (R, 1).

    Parameters: feat_stride, in pixels; scales, ratios of the anchors (8, 16, 32 and 0.5, 1, 2).

    `scores` (R,) are those of the last forward pass, for nets that do not name the second top. None before it.
    """

    scores = None
    settings = None
    """Those to go by in place of cfg's: of the form of cfg.TEST. A `Detector` has its own."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        bottoms = 'rpn_cls_prob_reshape', 'rpn_bbox_pred', 'im_info'
        check_blobs(self, bottom, top, bottoms, ('rois', 'scores'), counts=(1, 2))
        found = parameters(self, feat_stride=int, scales=LISTS, ratios=LISTS)
        self._stride = needed(self, found, 'feat_stride', 1)
        self._anchors = anchors_of(self, found)
        self._phase = phase_of(self)
        count = len(self._anchors)
        channels = bottom[0].data.shape[1], bottom[1].data.shape[1]
        if channels != (2 * count, 4 * count):
            raise ValueError(
                f'ProposalLayer: {count} anchors need {2 * count} channels of scores and {4 * count} of regressions, '
                f'the bottoms have {channels[0]} and {channels[1]}; make num_output of rpn_cls_score and '
                'rpn_bbox_pred agree with scales and ratios'
            )
        top[0].reshape(1, 5)
        if len(top) > 1:
            top[1].reshape(1, 1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        count = len(self._anchors)
        of_scores, of_moves = bottom[0].data.shape, bottom[1].data.shape
        if (of_scores[0], *of_scores[2:]) != (of_moves[0], *of_moves[2:]):
            raise ValueError(
                f'ProposalLayer: scores have shape {of_scores}, regressions {of_moves}; expected as many images and '
                'cells of each'
            )
        scores = _by_cell(bottom[0].data[:, count:], 1)[..., 0]
        deltas = _by_cell(bottom[1].data, 4)
        if self._phase == 'TRAIN' and cfg.TRAIN.RPN_NORMALIZE_TARGETS:  # as trained; snapshots predict plain ones
            deltas = deltas * np.float32(cfg.TRAIN.RPN_NORMALIZE_STDS) + np.float32(cfg.TRAIN.RPN_NORMALIZE_MEANS)
        im_info = bottom[2].data
        check_sizes(self, im_info, len(scores))
        height, width = bottom[0].data.shape[2:]
        grid = anchor_grid(self._anchors, height, width, self._stride)
        settings = cfg[self._phase] if self.settings is None else self.settings
        rois, roi_scores = [], []
        for image in range(len(scores)):
            boxes, box_scores = propose(scores[image], deltas[image], grid, im_info[image], settings)
            rois.append(np.column_stack((np.full(len(boxes), image, np.float32), boxes)))
            roi_scores.append(box_scores[:, None])
        self.position += 1
        self.scores = np.concatenate(roi_scores)[:, 0]
        fill(top[0], np.concatenate(rois))
        if len(top) > 1:
            fill(top[1], self.scores[:, None])


def _by_cell(maps: np.ndarray, size: int) -> np.ndarray:
    """Maps (N, A * size, H, W) as rows (N, H * W * A, size), in the order of `anchor_grid`."""
    return maps.transpose(0, 2, 3, 1).reshape(len(maps), -1, size)
