"""The layer that chooses proposals to learn from: `type: "Python"  python_param { module: "rpn.proposal_target_layer"
layer: "ProposalTargetLayer"  param_str: "'num_classes': 21" }`.
"""

import numpy as np

from fast_rcnn.bbox_transform import bbox_overlaps
from fast_rcnn.config import cfg, rois_of_an_image
from roi_data_layer.python_layer import Blobs, fill
from rpn.layer import RPNLayer, check_blobs, needed, objects_by_image, parameters
from rpn.proposal_targets import choose_rois, roi_targets
from rpn.sampling import ROIS, sampling_rng

_TOPS = 'rois', 'labels', 'bbox_targets', 'bbox_inside_weights', 'bbox_outside_weights'


class ProposalTargetLayer(RPNLayer):
    """RoIs of a mini-batch, out of the proposals and the objects themselves: see `proposal_targets`.

    Bottoms: rpn_rois (R, 5) = (image, x1, y1, x2, y2); gt_boxes (see `layer.objects_by_image`). Tops, image by image,
    foreground first: rois (S, 5); labels (S,); and, if the prototxt names them, bbox_targets, bbox_inside_weights,
    bbox_outside_weights (S, 4 * num_classes). S is cfg.TRAIN.BATCH_SIZE at most, or R and the objects with
    cfg.TRAIN.USE_OHEM, or if BATCH_SIZE is -1.

    Parameter: num_classes, with the background, of the box regression: 2 with cfg.TRAIN.AGNOSTIC.

    `last` says of the last forward pass: rois, how many proposals came in; objects, how many objects; found, how many
    of those a proposal covers with an IoU of 0.5 or more. None before it. `proposal` (S,) int64 is the row of rpn_rois
    that each of its RoIs is, -1 for the objects themselves.
    """

    last = None
    proposal = None

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        check_blobs(self, bottom, top, ('rpn_rois', 'gt_boxes'), _TOPS, counts=(2, 5))
        found = parameters(self, num_classes=int)
        self._num_classes = needed(self, found, 'num_classes', 2)
        top[0].reshape(1, 5)
        top[1].reshape(1)
        for i in range(2, len(top)):
            top[i].reshape(1, 4 * self._num_classes)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        proposals, gt_boxes = bottom[0].data, bottom[1].data
        self._check_proposals(proposals, gt_boxes)
        self._check_classes(gt_boxes)
        images = 1 if gt_boxes.shape[1] == 5 else max(cfg.TRAIN.IMS_PER_BATCH, _last_image(proposals, gt_boxes) + 1)
        quota = rois_of_an_image(images)
        parts, found, which = [], 0, []
        for image, objects in enumerate(objects_by_image(self, gt_boxes, images)):
            offered = np.flatnonzero(proposals[:, 0] == image)
            proposed = proposals[offered, 1:]
            found += int((bbox_overlaps(proposed, objects[:, :4]).max(axis=0, initial=0) >= 0.5).sum())
            boxes = np.concatenate((proposed, objects[:, :4]))
            rng = sampling_rng(cfg.RNG_SEED, ROIS, self.position, image)
            rows, classes, nearest = choose_rois(boxes, objects[:, :4], objects[:, 4], quota, rng)
            which.append(np.append(offered, np.full(len(objects), -1))[rows])
            boxes = boxes[rows]
            part = [np.column_stack((np.full(len(rows), image, np.float32), boxes)), classes]
            if len(top) == 5:
                targets, inside = roi_targets(boxes, classes, objects[:, :4], nearest, self._num_classes)
                part += [targets, inside, (inside > 0).astype(np.float32)]
            parts.append(part)
        self.position += 1
        self.last = {'rois': len(proposals), 'objects': len(gt_boxes), 'found': found}
        self.proposal = np.concatenate(which)
        for i, values in enumerate(zip(*parts, strict=True)):
            fill(top[i], np.concatenate(values))

    def _check_proposals(self, proposals: np.ndarray, gt_boxes: np.ndarray) -> None:
        if proposals.ndim != 2 or proposals.shape[1] != 5 or not np.isfinite(proposals).all():
            raise ValueError(
                f'ProposalTargetLayer: rpn_rois has shape {proposals.shape}, expected rows of image, x1, y1, x2, y2, '
                'which are finite numbers'
            )
        if gt_boxes.ndim == 2 and gt_boxes.shape[1] == 5 and proposals[:, 0].any():
            raise ValueError(
                'ProposalTargetLayer: rpn_rois has boxes of several images, gt_boxes has five columns, those of one '
                'image; expected are rows of image, x1, y1, x2, y2, class'
            )

    def _check_classes(self, gt_boxes: np.ndarray) -> None:
        highest = int(gt_boxes[:, -1].max(initial=0))
        if highest >= self._num_classes and not cfg.TRAIN.AGNOSTIC:
            raise ValueError(
                f'ProposalTargetLayer: an object is of class {highest}, num_classes in param_str is '
                f'{self._num_classes}: set it to the number of classes with the background, or, for a net with one '
                'box regression for all classes (R-FCN), TRAIN.AGNOSTIC and TEST.AGNOSTIC True'
            )


def _last_image(proposals: np.ndarray, gt_boxes: np.ndarray) -> int:
    return int(max(proposals[:, 0].max(initial=0), gt_boxes[:, 0].max(initial=0)))
