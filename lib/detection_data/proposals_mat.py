"""Published boxes in MATLAB files: of a whole VOC set, or a file an image as of COCO.

Selective search, published with Fast R-CNN (`selective_search_data.tgz`): `voc_2007_trainval.mat` holds a
cell array `boxes`: an entry an image, in the order of the image set, (m, 4): y1, x1, y2, x2, 1-based. Where
there is a cell array `images` as well it holds the ids. Source: Fast R-CNN, `lib/datasets/pascal_voc.py`,
`_load_selective_search_roidb`.

MCG (Pont-Tuset et al., TPAMI 2016; `MCG-COCO-val2014-boxes.tgz`): a folder with <name of the image>.mat for
each image, or in COCO_val2014_0/COCO_val2014_000000447/ as py-faster-rcnn arranges them. `boxes` is (m, 4):
y1, x1, y2, x2, 1-based; `scores`, where there are any, rank them. Source: py-faster-rcnn,
`lib/datasets/coco.py`, `_load_proposals`. Others published in that form are in the order x1, y1, x2, y2.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np

from detection_data.mat_file import read_variables
from detection_data.proposals import Proposals, ProposalsError, check_boxes, write_proposals


def read_mat(path: str, order: str = 'yx') -> tuple[list[str] | None, list[np.ndarray]]:
    """Read a published .mat file of a whole set.

    Returns `(image_ids, boxes)`: boxes float32 (m, 4), x1, y1, x2, y2, 0-based inclusive, for each image in
    the order of the file; the ids are None if the file does not hold them. `order` is that of coordinates in the
    file, 'yx' or 'xy'. Raises `ProposalsError`, or `MatError` if it is not a whole MATLAB file.
    """
    content, there = read_variables(path, ('boxes', 'images'))
    cells, ids = _boxes_of(path, content, there), content.get('images')
    if not isinstance(cells, list):
        raise ProposalsError(
            f'{path}: boxes is an array of numbers, as in the file of one image; expected a cell array, a cell an '
            'image. For a file an image, give their folder as --source'
        )
    boxes = [_corners(f'{path}: boxes{{{k}}}', cell, order) for k, cell in enumerate(cells, start=1)]
    if ids is not None:
        ids = [next(iter(cell), '') if isinstance(cell, list) else cell for cell in _as_list(ids)]
        if len(ids) != len(boxes) or not all(isinstance(each, str) for each in ids):
            raise ProposalsError(f'{path} has boxes of {len(boxes)} images but {len(ids)} image ids')
    return ids, boxes


def convert(
    path: str,
    h5_path: str,
    image_ids: Sequence[str],
    method: str = 'selective_search',
    size_of: Callable[[int], tuple[int, int]] | None = None,
    order: str = 'yx',
    max_boxes: int | None = None,
) -> None:
    """Write the boxes of a published .mat file as a proposals file.

    * path: of the .mat file.
    * h5_path: of the file to write.
    * image_ids: of the data set, in order: the file must be about these images.
    * method: how the boxes were made.
    * size_of: (width, height) of image i, in which its boxes have to lie: a file of other images, or in another order,
      is told by it.
    * order: of coordinates, 'yx' or 'xy'.
    * max_boxes: the first so many of each image; None for all.

    Raises `ProposalsError` naming the file, the image and the box.
    """
    ids, boxes = read_mat(path, order)
    if len(boxes) != len(image_ids) or (ids is not None and ids != list(image_ids)):
        raise ProposalsError(
            f'{path} has boxes of {len(boxes)} images, not of the {len(image_ids)} of this set, in its order'
            f'; use the .mat file of this very set, or make the proposals with tools/make_proposals.py'
        )
    for i, of_image in enumerate(boxes):
        _check(f'{path}: boxes{{{i + 1}}}, of image {image_ids[i]!r}', of_image, size_of and size_of(i))
    source = {'source': os.path.basename(path), 'source_md5': _md5(path)}
    write_proposals(h5_path, image_ids, (each[:max_boxes] for each in boxes), method, source)


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
    """Path of the .mat file of the image named `stem`: in `folder`, or in py-faster-rcnn's order."""
    places = [os.path.join(folder, *sub, stem + '.mat') for sub in ((), (stem[:14], stem[:22]))]
    path = next((place for place in places if os.path.isfile(place)), None)
    if path is None:
        raise ProposalsError(f'no boxes of image {stem!r}: looked for {" and ".join(places)}')
    return path


def read_image_mat(
    path: str, width: int, height: int, order: str = 'yx', max_boxes: int = 2000, min_side: int = 2
) -> np.ndarray:
    """The boxes of one image from a .mat file of its own.

    * path: of the .mat file.
    * width, height: of the image, in which the boxes have to lie.
    * order: 'yx' (y1, x1, y2, x2, as MCG publishes) or 'xy'.
    * max_boxes: the best so many, or the first where there are no scores.
    * min_side: boxes with a width or height below this many pixels are dropped, as are copies.

    Returns float32 (m, 4), 0-based inclusive, best first. Raises `ProposalsError`, or `MatError` if it is not a
    whole MATLAB file.
    """
    content, there = read_variables(path, ('boxes', 'scores'))
    boxes = _corners(path, _boxes_of(path, content, there), order)
    scores = content.get('scores')
    scores = np.zeros(len(boxes)) if scores is None else np.asarray(scores, np.float64).ravel()
    if len(scores) != len(boxes):
        raise ProposalsError(f'{path} has {len(boxes)} boxes but {len(scores)} scores')
    boxes = np.maximum(boxes, 0)[np.argsort(-scores, kind='stable')]
    _check(path, boxes, (width, height))
    _, first = np.unique(boxes, axis=0, return_index=True)
    boxes = boxes[np.sort(first)]
    large = (boxes[:, 2:] - boxes[:, :2] + 1 >= min_side).all(axis=1)
    return boxes[large][:max_boxes]


def _boxes_of(path: str, content: dict, there: Sequence[str]):
    boxes = content.get('boxes')
    if boxes is None or isinstance(boxes, str):
        what = 'boxes is not numbers or cells of numbers' if 'boxes' in there else 'there is no variable boxes'
        raise ProposalsError(
            f'{path}: {what}, but {", ".join(there) or "nothing"}. Name the variable of the boxes so in MATLAB: '
            "boxes = THE_VARIABLE; save('FILE.mat', 'boxes', '-v7')"
        )
    return boxes


def _as_list(cells) -> list:
    return cells if isinstance(cells, list) else [cells]


def _corners(where: str, boxes, order: str) -> np.ndarray:
    """Boxes as MATLAB has them as float32 (m, 4), x1, y1, x2, y2, 0-based."""
    if not isinstance(boxes, np.ndarray):
        raise ProposalsError(f'{where}: not an array of numbers; expected (m, 4), a box a row')
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        if boxes.ndim == 2 and boxes.shape[1] == 5:
            advice = 'is the fifth a score? In MATLAB: scores = boxes(:, 5); boxes = boxes(:, 1:4)'
        elif boxes.ndim == 2 and boxes.shape[0] == 4:
            advice = "they lie on their side; in MATLAB: boxes = boxes.'"
        else:
            advice = 'a box a row'
        raise ProposalsError(f'{where}: boxes of size {"x".join(map(str, boxes.shape))}, expected mx4: {advice}')
    boxes = np.asarray(boxes, np.float32) - 1
    return boxes[:, (1, 0, 3, 2)] if order == 'yx' else boxes


def _check(where: str, boxes: np.ndarray, size: tuple[int, int] | None) -> None:
    problem = check_boxes(boxes, size)
    if problem:
        raise ProposalsError(
            f'{where}: {problem}. Are the boxes of other images, in the other order of coordinates (--order), or x, y, '
            'width, height?'
        )
