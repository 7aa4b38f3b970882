"""Published boxes in MATLAB files: of a whole VOC set, or a file an image as of COCO. Needs scipy.

Selective search, published with Fast R-CNN (``selective_search_data.tgz``): ``voc_2007_trainval.mat`` holds a
cell array ``boxes``: an entry an image, in the order of the image set, (m, 4): y1, x1, y2, x2, 1-based. Where
there is a cell array ``images`` as well it holds the ids. Source: Fast R-CNN, ``lib/datasets/pascal_voc.py``,
``_load_selective_search_roidb``.

MCG (Pont-Tuset et al., TPAMI 2016; ``MCG-COCO-val2014-boxes.tgz``): a folder with <name of the image>.mat for
each image, or in COCO_val2014_0/COCO_val2014_000000447/ as py-faster-rcnn arranges them. ``boxes`` is (m, 4):
y1, x1, y2, x2, 1-based; ``scores``, where there are any, rank them. Source: py-faster-rcnn,
``lib/datasets/coco.py``, ``_load_proposals``. Others published in that form are in the order x1, y1, x2, y2.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
from scipy.io import loadmat

from detection_data.proposals import Proposals, ProposalsError, write_proposals


def read_mat(path: str) -> tuple[list[str] | None, list[np.ndarray]]:
    """Read a published .mat file.

    Returns ``(image_ids, boxes)``: boxes float32 (m, 4), x1, y1, x2, y2, 0-based inclusive, for each image in
    the order of the file; the ids are None if the file does not hold them. Raises ``ProposalsError`` if it
    cannot be read.
    """
    try:
        content = loadmat(path)
        boxes = [np.asarray(b, np.float32).reshape(-1, 4)[:, (1, 0, 3, 2)] - 1 for b in content['boxes'].ravel()]
        ids = None
        if 'images' in content:
            ids = [str(np.asarray(cell).ravel()[0]) for cell in content['images'].ravel()]
    except FileNotFoundError:
        raise
    except Exception as e:  # scipy raises many kinds for a damaged file
        raise ProposalsError(
            f'{path} is not a file of selective search boxes ({type(e).__name__}: {e}); '
            f'fetch it again with data/scripts/fetch_selective_search_data.sh'
        ) from None
    if ids is not None and len(ids) != len(boxes):
        raise ProposalsError(f'{path} has boxes of {len(boxes)} images but {len(ids)} image ids')
    return ids, boxes


def convert(path: str, h5_path: str, image_ids: Sequence[str], method: str = 'selective_search') -> None:
    """Write the boxes of a published .mat file as a proposals file.

    Args:
        path: of the .mat file.
        h5_path: of the file to write.
        image_ids: of the data set, in order: the file must be about these images.
        method: how the boxes were made.
    """
    ids, boxes = read_mat(path)
    if len(boxes) != len(image_ids) or (ids is not None and ids != list(image_ids)):
        raise ProposalsError(
            f'{path} has boxes of {len(boxes)} images, not of the {len(image_ids)} of this set, in its order'
            f'; use the .mat file of this very set, or make the proposals with tools/make_proposals.py'
        )
    source = {'source': os.path.basename(path), 'source_md5': _md5(path)}
    write_proposals(h5_path, image_ids, boxes, method, source)


def is_of(h5_path: str, path: str) -> bool:
    """Whether a proposals file agrees with the .mat file: converted from these bytes, or made otherwise."""
    md5 = Proposals(h5_path).parameters.get('source_md5')
    return md5 is None or md5 == _md5(path)


def _md5(path: str) -> str:
    with open(path, 'rb') as f:
        digest = hashlib.md5(usedforsecurity=False)
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def image_file(folder: str, stem: str) -> str:
    """Path of the .mat file of the image named ``stem``: in ``folder``, or in py-faster-rcnn's order."""
    places = [os.path.join(folder, *sub, stem + '.mat') for sub in ((), (stem[:14], stem[:22]))]
    path = next((place for place in places if os.path.isfile(place)), None)
    if path is None:
        raise ProposalsError(f'no boxes of image {stem!r}: looked for {" and ".join(places)}')
    return path


def read_image_mat(
    path: str, width: int, height: int, order: str = 'yx', max_boxes: int = 2000, min_side: int = 2
) -> np.ndarray:
    """The boxes of one image from a .mat file of its own.

    Args:
        path: of the .mat file.
        width, height: of the image, in which the boxes have to lie.
        order: 'yx' (y1, x1, y2, x2, as MCG publishes) or 'xy'.
        max_boxes: the best so many, or the first where there are no scores.
        min_side: boxes with a width or height below this many pixels are dropped, as are copies.

    Returns float32 (m, 4), 0-based inclusive, best first. Raises ``ProposalsError``.
    """
    try:
        content = loadmat(path)
        boxes = np.asarray(content['boxes'], np.float32).reshape(-1, 4)
        scores = np.asarray(content['scores'], np.float64).ravel() if 'scores' in content else np.zeros(len(boxes))
    except Exception as e:  # scipy raises many kinds for a damaged file
        raise ProposalsError(f'{path} is not a file of boxes ({type(e).__name__}: {e})') from None
    if len(scores) != len(boxes):
        raise ProposalsError(f'{path} has {len(boxes)} boxes but {len(scores)} scores')
    if order == 'yx':
        boxes = boxes[:, (1, 0, 3, 2)]
    boxes = np.maximum(boxes - 1, 0)[np.argsort(-scores, kind='stable')]
    if len(boxes) and (boxes.max(axis=0)[2:] > (width - 1, height - 1)).any():
        raise ProposalsError(
            f'{path}: boxes reach to {boxes.max(axis=0)[2:].tolist()} in an image of {width}x{height}: '
            f'of another image, or in the other order of coordinates (--order)?'
        )
    _, first = np.unique(boxes, axis=0, return_index=True)
    boxes = boxes[np.sort(first)]
    large = (boxes[:, 2:] - boxes[:, :2] + 1 >= min_side).all(axis=1)
    return boxes[large][:max_boxes]
