"""The selective search boxes published with Fast R-CNN (``selective_search_data.tgz``): MATLAB files.

``voc_2007_trainval.mat`` holds a cell array ``boxes``: an entry an image, in the order of the image set, (m,
4): y1, x1, y2, x2, 1-based. Where there is a cell array ``images`` as well it holds the ids. Source: Fast
R-CNN, ``lib/datasets/pascal_voc.py``, ``_load_selective_search_roidb``. Needs scipy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from datasets.proposals import ProposalsError, write_proposals


def read_mat(path: str) -> tuple[list[str] | None, list[np.ndarray]]:
    """Read a published .mat file.

    Returns ``(image_ids, boxes)``: boxes float32 (m, 4), x1, y1, x2, y2, 0-based inclusive, for each image in
    the order of the file; the ids are None if the file does not hold them. Raises ``ProposalsError`` if it
    cannot be read.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError(f'{path}: reading .mat files needs scipy; install it: pip install scipy') from None
    try:
        content = loadmat(path)
        boxes = [
            np.asarray(b, np.float32).reshape(-1, 4)[:, (1, 0, 3, 2)] - 1 for b in content['boxes'].ravel()
        ]
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
    write_proposals(h5_path, image_ids, boxes, method, {'source': os.path.basename(path)})
