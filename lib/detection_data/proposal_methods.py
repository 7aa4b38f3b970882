"""Computing region proposals of an image.

Each method is a function of the image and a seed: the same boxes in the same order on every run, and with any
number of processes. OpenCV breaks ties of its ranking with the C library's random numbers, so its order is
given up: the boxes, made unique and sorted, are shuffled by the seed. A cap on their number thus keeps a fair
sample.

Boxes are float32 (n, 4), whole numbers, 0-based inclusive pixels of the image as given.
"""

from __future__ import annotations

import os
import zlib
from functools import lru_cache

import cv2
import numpy as np

from detection_data.image_file import is_opencv_path

_MOST_PIXELS = 2**26  # of a scaled image
METHODS = ('selective_search', 'selective_search_quality', 'edge_boxes', 'random')


def propose(
    image: np.ndarray,
    method: str,
    image_id: str,
    seed: int = 3,
    max_boxes: int = 2000,
    resize_to: int | str | None = None,
    edge_model: str | None = None,
) -> np.ndarray:
    """Boxes of one image by a method of METHODS; each image id has its own random numbers.

    resize_to: a width to search at; 'auto': `shrunk_width`; None: as it is. 'edge_boxes' needs `edge_model`, see
    there; the others do not use it.
    """
    image_seed = [seed, zlib.crc32(image_id.encode(errors='surrogatepass'))]
    if resize_to == 'auto':
        resize_to = shrunk_width(image.shape[1])
    assert not isinstance(resize_to, str)
    if method == 'selective_search':
        return selective_search(image, 'fast', image_seed, max_boxes=max_boxes, resize_to=resize_to)
    if method == 'selective_search_quality':
        return selective_search(image, 'quality', image_seed, max_boxes=max_boxes, resize_to=resize_to)
    if method == 'edge_boxes':
        return edge_boxes(image, edge_model, image_seed, max_boxes=max_boxes, resize_to=resize_to)
    if method == 'random':
        return random_boxes(image.shape[1], image.shape[0], max_boxes, image_seed)
    raise ValueError(f'unknown proposal method {method!r}; expected one of {", ".join(METHODS)}')


def shrunk_width(width: int) -> int | None:
    """The width at which to search a photograph of so many pixels across: 500 at most, as Fast R-CNN's boxes were made.

    None: as it is. What a phone takes is searched many times faster so.
    """
    return 500 if width > 500 else None


def method_for(wanted: str, width: int) -> tuple[str, int | None]:
    """The method by which to propose boxes in an image of so many pixels across, and the `resize_to` for it.

    Of 'auto' that is selective search, at a width of 500 pixels at most, as Fast R-CNN's boxes were made; random boxes
    where OpenCV lacks it. Any other is taken as it is.
    """
    if wanted != 'auto':
        return wanted, None
    return ('selective_search', shrunk_width(width)) if hasattr(cv2, 'ximgproc') else ('random', None)


def selective_search(
    image: np.ndarray,
    mode: str = 'fast',
    seed: int | list[int] = 3,
    max_boxes: int = 2000,
    min_side: int = 8,
    resize_to: int | None = None,
) -> np.ndarray:
    """Selective search (Uijlings et al., IJCV 2013) by OpenCV's ximgproc.

    * image: BGR uint8 (H, W, 3).
    * mode: 'fast' (2 colour spaces, as the boxes published with Fast R-CNN) or 'quality' (5; slow).
    * seed: of the order of the boxes.
    * max_boxes: at most so many, a random sample of all.
    * min_side: boxes with a width or height below this many pixels are dropped.
    * resize_to: scale the image to this width first (Fast R-CNN used 500), or None for no scaling.

    Returns float32 (n, 4).
    """
    if mode not in ('fast', 'quality'):
        raise ValueError(f"selective search mode {mode!r}; expected 'fast' or 'quality'")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'selective search of {image.dtype} {image.shape}; expected a BGR image, uint8 (H, W, 3)')
    if not hasattr(cv2, 'ximgproc'):
        raise ImportError(
            'this OpenCV has no ximgproc module (selective search); install opencv-contrib-python-headless '
            'in place of opencv-python'
        )
    height, width = image.shape[:2]
    image, scale = _resized(image, resize_to)
    # Segments grow with k. OpenCV's default, 150, suits VOC's pictures of about 500x375; other sizes look
    # alike if it grows with the side.
    k = max(1, round(150 * np.sqrt(image.shape[0] * image.shape[1] / (500 * 375))))
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    if mode == 'fast':
        search.switchToSelectiveSearchFast(k, k)
    else:
        search.switchToSelectiveSearchQuality(k, k)
    return _finish(_whole_pixels(search.process(), scale, width, height), seed, max_boxes, min_side)


EDGE_MODEL = 'https://github.com/opencv/opencv_extra/raw/4.x/testdata/cv/ximgproc/model.yml.gz'


def check_edge_model(path: str | None) -> None:
    """Raise if there is no such model file for `edge_boxes`, or it is another kind of file."""
    if path is None or not os.path.isfile(path):
        given = f'there is no file {path}' if path else 'none was given'
        raise FileNotFoundError(
            f"edge boxes need OpenCV's model of structured forests (--edge_model FILE): {given}. Get it "
            f'with: curl -LO {EDGE_MODEL}'
        )
    keys = ('options', 'childs', 'featureIds', 'thresholds', 'edgeBoundaries', 'edgeBins')
    if not is_opencv_path(path):
        raise ValueError(f'{path}: OpenCV reads no model whose name is not UTF-8: rename it')
    try:
        model = cv2.FileStorage(path, cv2.FILE_STORAGE_READ)
        known = model.isOpened() and not any(model.getNode(key).empty() for key in keys)
    except (cv2.error, SystemError):
        known = False
    if not known:  # OpenCV itself would crash on it
        raise ValueError(f"{path}: not OpenCV's model of structured forests; get it with: curl -LO {EDGE_MODEL}")


def edge_boxes(
    image: np.ndarray,
    model: str | None,
    seed: int | list[int] = 3,
    max_boxes: int = 2000,
    min_side: int = 8,
    resize_to: int | None = None,
) -> np.ndarray:
    """Edge boxes (Zitnick and Dollar, ECCV 2014) by OpenCV's ximgproc, on edges found by structured forests.

    image: BGR uint8 (H, W, 3). model: path of OpenCV's model of structured forests (Dollar and Zitnick, ICCV 2013),
    which is not part of OpenCV: see EDGE_MODEL. It is read once in a process. seed, max_boxes, min_side, resize_to: as
    of `selective_search`, but of more boxes than `max_boxes` the best-scoring are kept.

    Returns float32 (n, 4), in the order of the seed.
    """
    height, width = image.shape[:2]
    image, scale = _resized(image, resize_to)
    detector = _edge_detector(model)
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
    edges = detector.detectEdges(rgb)
    orientation = detector.computeOrientation(edges)
    search = cv2.ximgproc.createEdgeBoxes(maxBoxes=max_boxes, minBoxArea=float(min_side**2))
    found, _ = search.getBoundingBoxes(detector.edgesNms(edges, orientation), orientation)
    return _finish(_whole_pixels(found, scale, width, height), seed, max_boxes, min_side)


@lru_cache(maxsize=1)
def _edge_detector(model: str | None):
    check_edge_model(model)
    assert model is not None
    return cv2.ximgproc.createStructuredEdgeDetection(model)


def _resized(image: np.ndarray, width: int | None) -> tuple[np.ndarray, float]:
    """The image scaled to that width (as it is if None), and by how much."""
    if not width:
        return image, 1.0
    scale = width / image.shape[1]
    size = width, max(1, round(image.shape[0] * scale))
    if size[0] * size[1] > _MOST_PIXELS:
        raise ValueError(
            f'an image of {image.shape[1]} x {image.shape[0]} pixels would be {size[0]} x {size[1]} when scaled to a '
            f'width of {width}: too large to be searched; leave out the scaling (--resize_to), or the image'
        )
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), scale


def _whole_pixels(rectangles, scale: float, width: int, height: int) -> np.ndarray:
    """OpenCV's (x, y, w, h) found in an image scaled by `scale`, as boxes (n, 4) in the image before."""
    x, y, w, h = np.asarray(rectangles, np.float64).reshape(-1, 4).T
    # A box of OpenCV ends before x + w; ours ends on its last pixel.
    boxes = np.stack([x / scale, y / scale, (x + w) / scale - 1, (y + h) / scale - 1], axis=1)
    return np.clip(np.rint(boxes), 0, [width - 1, height - 1, width - 1, height - 1])


def random_boxes(
    width: int, height: int, count: int = 2000, seed: int | list[int] = 3, min_side: int = 8
) -> np.ndarray:
    """Boxes of random place, size (log-uniform area) and aspect (1:3 to 3:1): a baseline that knows no image.

    Returns float32 (n, 4); n is a little below `count` where boxes coincide.
    """
    rng = np.random.default_rng(seed)
    smallest = min(min_side, width, height)
    area = np.exp(rng.uniform(2 * np.log(smallest), np.log(width * height), count))
    aspect = np.exp(rng.uniform(-np.log(3), np.log(3), count))
    w = np.clip(np.rint(np.sqrt(area * aspect)), smallest, width)
    h = np.clip(np.rint(np.sqrt(area / aspect)), smallest, height)
    x = np.floor(rng.uniform(0, 1, count) * (width - w + 1))
    y = np.floor(rng.uniform(0, 1, count) * (height - h + 1))
    return _finish(np.stack([x, y, x + w - 1, y + h - 1], axis=1), rng, count, smallest)


def _finish(boxes: np.ndarray, seed, max_boxes: int, min_side: int) -> np.ndarray:
    """Drop small boxes and copies, put the rest in the order of the seed, and keep at most `max_boxes`."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    boxes = np.unique(boxes[(sides >= min_side).all(axis=1)], axis=0)
    order = np.random.default_rng(seed).permutation(len(boxes))
    return boxes[order[:max_boxes]].astype(np.float32).reshape(-1, 4)
