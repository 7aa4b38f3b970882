"""RoIs as a bottom of a layer: rows (index of the image in the batch, x1, y1, x2, y2)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.layer import LayerError


def count_rois(kind: str, blob: Blob) -> int:
    """How many RoIs bottom 1 holds. kind: the layer's type. Raises LayerError if they are not rows of five."""
    if not blob.shape or blob.count != blob.shape[0] * 5:
        raise LayerError(f'{kind}: bottom 1 must be RoIs of shape (R, 5): image, x1, y1, x2, y2; got {blob.shape}')
    return blob.shape[0]


def refuse_of_no_image(kind: str, rois: torch.Tensor, nowhere: torch.Tensor, images: int) -> None:
    """Raises LayerError, which names the RoI, if one is of an image that is not in the batch.

    rois: (R, 5); nowhere: (R,) bool, what `kernels.roi_bins.of_no_image` says of them. On a GPU this waits for it.
    """
    if nowhere.any():
        r = int(nowhere.nonzero()[0])
        raise LayerError(
            f'{kind}: RoI {r} is of image {float(rois[r, 0]):g} of the batch, but bottom 0 holds {images} '
            f'(numbered from 0); the RoI is {rois[r].tolist()}'
        )
