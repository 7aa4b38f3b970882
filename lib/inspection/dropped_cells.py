"""What the adversary of a training net dropped in its last mini-batch, and what that did to each object.

    net.forward()
    found = dropped_cells(net)     # of a net with an ASDNDataLayer and an ASDNLossLayer

All of it through pycaffe's public names.
"""

import dataclasses
from typing import Any

import numpy as np

import caffe
from fast_rcnn.bbox_transform import bbox_overlaps
from fast_rcnn.config import cfg
from roi_data_layer.adversary_layers import ASDNLossLayer


@dataclasses.dataclass(frozen=True)
class DroppedCells:
    """The R RoIs of a mini-batch that the net learned from, in P x P cells."""

    rois: np.ndarray
    """(R, 5) float32: image, x1, y1, x2, y2 in network input pixels."""
    labels: np.ndarray
    """(R,) int64, 0 the background."""
    need: np.ndarray
    """(R, P, P) float64: how probably the detector needs a cell, as the adversary sees it."""
    dropped: np.ndarray
    """(R, P, P) bool."""
    before: np.ndarray
    """(R,) float64: the probability of the RoI's class with all cells."""
    after: np.ndarray
    """(R,) float64: without those dropped."""
    taught: np.ndarray
    """(R,) bool: whether the adversary learns from it, since the probability fell by enough."""

    @property
    def any(self) -> bool:
        """Whether this was a pass in which cells are dropped."""
        return bool(self.dropped.any())

    def most_deceived(self, image: int, most: int, overlap: float = 0.5) -> np.ndarray:
        """Rows of the objects in `image` whose probability fell most, at most `most`; int64.

        An RoI whose IoU with one before it is above `overlap` is left out.
        """
        rows = np.flatnonzero((self.rois[:, 0] == image) & (self.labels > 0))
        rows = rows[np.argsort(self.after[rows] - self.before[rows], kind='stable')]
        shown: list[int] = []
        for row in rows:
            if len(shown) == most:
                break
            if not shown or bbox_overlaps(self.rois[[row], 1:], self.rois[shown, 1:]).max() <= overlap:
                shown.append(int(row))
        return np.array(shown, np.int64)


def dropped_cells(net: caffe.Net) -> DroppedCells:
    """What the last forward pass of a training net dropped. Raises ValueError if the net has no adversary."""
    name = adversary_of(net)
    if name is None:
        raise ValueError(f'the net {net.name!r} has no ASDNLossLayer, so there is no adversary to show')
    scores, dropped, before, after, labels, rois = (net.blobs[blob].data for blob in list(net.bottom_names[name])[:6])
    labels = labels.reshape(-1).astype(np.int64)
    rows = np.arange(len(labels))
    layer: Any = net.layer_dict[name]
    return DroppedCells(
        rois=rois.copy(),
        labels=labels,
        need=1 / (1 + np.exp(-scores[:, 0].astype(np.float64))),
        dropped=dropped[:, 0] > 0,
        before=before.reshape(len(labels), -1)[rows, labels].astype(np.float64),
        after=after.reshape(len(labels), -1)[rows, labels].astype(np.float64),
        taught=np.zeros(len(labels), bool) if layer.last is None else layer.last.copy(),
    )


def adversary_of(net: caffe.Net) -> str | None:
    """The name of the net's ASDNLossLayer; None if it has none."""
    return next((name for name, layer in net.layer_dict.items() if isinstance(layer, ASDNLossLayer)), None)


def pixels_of(net: caffe.Net, image: int) -> np.ndarray:
    """An image of the net's mini-batch, the padding of smaller ones included: (H, W, 3) uint8, BGR."""
    pixels = net.blobs['data'].data[image].transpose(1, 2, 0) + cfg.PIXEL_MEANS
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
