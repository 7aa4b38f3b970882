"""Testing: detect objects in images, and evaluate the detections on a data set.

As test.py of Fast R-CNN and py-faster-rcnn, for proposals computed beforehand or, with cfg.TEST.HAS_RPN, the net's own.

Functions with a parameter `settings` go by those, of the form of cfg: they are cfg unless others are given.
"""

import contextlib
import itertools
import os
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

import caffe
import ranks
import whole_file
from caffe_stand_ins.prototxt import prototxt_with_stand_ins
from detection_data.image_file import ImageError, note_cut_off
from detection_data.imdb import imdb as Imdb
from fast_rcnn.bbox_transform import bbox_transform_inv, clip_boxes
from fast_rcnn.box_voting import vote
from fast_rcnn.config import ConfigError, cfg, output_dir_of
from fast_rcnn.detections_file import save_detections
from fast_rcnn.nms import nms
from roi_data_layer.image_blob import image_scale, read_image, resized, stacked

# RoIs go to the pyramid level that brings them nearest this size, that of ImageNet's crops
_LEVEL_AREA = 224 * 224

# Images held in memory while they wait for others of their size, in mini-batches
_WAITING = 16


def load_net(prototxt: str, caffemodel: str) -> caffe.Net:
    """The net of `prototxt` with the weights of `caffemodel`, for testing, named after the latter.

    Raises ValueError for weights that training resumes from: they predict *normalised* regressions.
    """
    name = os.path.splitext(os.path.basename(caffemodel))[0]
    state = re.search(r'\.solverstate(\.h5)?$', caffemodel)
    if state or re.search(r'_resume_iter_\d+(\.caffemodel)?$', name):
        tested = (
            caffemodel.replace('_resume_iter_', '_iter_').removesuffix('.h5').replace('.solverstate', '.caffemodel')
        )
        there = '' if os.path.exists(tested) else ' (which is not there)'
        if state:
            raise ValueError(
                f'{caffemodel} is the state of a solver, which training resumes from, not weights. Test {tested}{there}'
            )
        raise ValueError(
            f'{caffemodel} is for resuming a training: its bbox_pred predicts regressions as they are trained, '
            f'normalised, so all boxes would be wrong. Test {tested}{there}'
        )
    with tempfile.TemporaryDirectory() as folder:
        net = caffe.Net(prototxt_with_stand_ins(prototxt, folder), caffemodel, caffe.TEST)
    net.name = name
    return net


def im_detect(
    net: caffe.Net, im: np.ndarray, boxes: np.ndarray | None = None, settings: Any = cfg
) -> tuple[np.ndarray, np.ndarray]:
    """Class scores and boxes for the proposals `boxes` (R, 4) in the image `im` (H, W, 3), BGR, uint8.

    `net` has the inputs data and rois, and the outputs cls_prob and, if cfg.TEST.BBOX_REG, bbox_pred. With
    cfg.TEST.HAS_RPN its inputs are data and im_info, and the proposals are those of its blob rois: `boxes` is not
    looked at. Returns scores (R', K), K counting the background, and boxes (R', 4K) in pixels of `im`, cut to it; both
    float32.

    R' is R, row for row, unless results are pooled: over scales (cfg.TEST.SCALE_CHOICE 'all'; the OHEM
    paper's "+M") or over iterations (cfg.TEST.BBOX_ITERATIONS above 1; see `_rescored`). Raises ConfigError
    if boxes are to be scored again that cannot move, or if settings and net disagree on who proposes.
    """
    return im_detect_batch(net, [im], None if boxes is None else [boxes], settings)[0]


def im_detect_batch(
    net: caffe.Net, images: list[np.ndarray], proposals: list[np.ndarray] | None = None, settings: Any = cfg
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `im_detect` returns for each of `images`, all of one shape, in one forward pass a scale."""
    check_settings(net, proposals, settings)
    shape = images[0].shape
    if not settings.TEST.HAS_RPN and proposals is not None:
        boxes = np.concatenate(proposals)
        owners = np.repeat(np.arange(len(images)), [len(part) for part in proposals])
    num_classes = net.blobs['cls_prob'].data.shape[1]
    parts = [
        (np.zeros(0, np.int64), np.zeros((0, num_classes), np.float32), np.zeros((0, 4 * num_classes), np.float32))
    ]
    for scales in _scale_groups(shape, settings) if settings.TEST.HAS_RPN or len(boxes) else ():
        data = _image_pyramids(images, scales, settings)
        if settings.TEST.HAS_RPN:
            found = [_propose_and_score(net, shape, scales.item(), data, settings)]
        else:
            found = [(owners, *_score(net, shape, owners, boxes, scales, settings, data))]
        for _ in range(1, settings.TEST.BBOX_ITERATIONS):
            found.append(_rescored(net, shape, *found[-1], scales, settings))
        parts += found
    owners, scores, predicted = (np.concatenate(column) for column in zip(*parts, strict=True))
    return [(scores[owners == i], predicted[owners == i]) for i in range(len(images))]


def test_net(
    net: caffe.Net, imdb: Imdb, max_per_image: int = 100, thresh: float = 0.05, output_dir: str | None = None
) -> list:
    """Detect in every image of `imdb`, write detections.npz (see `detections_file`) and evaluate.

    A class's detections in an image are those with a score above `thresh` that survive NMS at cfg.TEST.NMS,
    then moved by box voting if cfg.TEST.BBOX_VOTE (see `box_voting`); over all classes an image keeps the
    best `max_per_image` (0: all). Images of one size share a forward pass, cfg.TEST.IMS_PER_BATCH of them.
    `output_dir` is `get_output_dir(imdb, net)` unless given. Returns
    all_boxes[class][image], (n, 5) float32 arrays of x1, y1, x2, y2, score, best first.

    Several ranks (see `ranks`) share the forward passes; rank 0 alone writes, evaluates, and knows all detections.
    """
    output_dir = output_dir_of(imdb, net) if output_dir is None else output_dir
    if ranks.is_root():
        whole_file.check_place(os.path.join(output_dir, 'detections.npz'), makes_folders=True)
    started = time.perf_counter()
    all_boxes = detect(net, imdb, max_per_image, thresh)
    assert all_boxes is not None
    if not ranks.is_root():
        return all_boxes
    seconds = (time.perf_counter() - started) / max(imdb.num_images, 1)
    print(f'im_detect: {imdb.num_images} images, {seconds:.3f} s each, {1 / max(seconds, 1e-9):.2f} images/s')
    os.makedirs(output_dir, exist_ok=True)
    save_detections(
        os.path.join(output_dir, 'detections.npz'),
        all_boxes,
        list(imdb.classes),
        [str(x) for x in imdb.image_index],
    )
    imdb.evaluate_detections(all_boxes, output_dir)
    for line in imdb.put_right() if hasattr(imdb, 'put_right') else ():
        print(line)
    return all_boxes


def detect(
    net: caffe.Net,
    imdb: Imdb,
    max_per_image: int = 100,
    thresh: float = 0.05,
    title: str = 'im_detect',
    stop: Callable[[], bool] = lambda: False,
) -> list | None:
    """The detections in every image of `imdb`, as `test_net` returns them; None if `stop()` came true in between.

    Ranks other than 0 get empty ones, or None as all do.
    """
    check_settings(net, [])  # before proposals are missed that a net with an RPN does not need
    all_boxes = [[np.zeros((0, 5), np.float32)] * imdb.num_images for _ in range(imdb.num_classes)]
    progress = tqdm(total=imdb.num_images, desc=title, unit='image', disable=None, leave=title == 'im_detect')
    mine: dict[int, list[np.ndarray]] = {}
    stopped = False
    with contextlib.closing(_one_ahead(_with_proposals(imdb))) as batches:
        for batch, proposals in batches:
            ranks.stamp()
            stopped = stop()
            if stopped:
                break
            found = im_detect_batch(net, list(batch.values()), proposals)
            for i, (scores, boxes) in zip(batch, found, strict=True):
                if scores.shape[1] != imdb.num_classes:
                    raise ValueError(
                        f'the net knows {scores.shape[1]} classes, {imdb.name} has {imdb.num_classes}: not its net?'
                    )
                mine[i] = detections(scores, boxes, max_per_image, thresh)
            progress.update(len(batch))
    progress.close()
    ranks.rest()
    of_ranks = ranks.gather({'stopped': stopped, 'found': mine})
    if ranks.from_root(of_ranks and any(each['stopped'] for each in of_ranks)):
        return None
    for i, per_class in (item for each in of_ranks or [] for item in each['found'].items()):
        for cls, dets in enumerate(per_class, start=1):
            all_boxes[cls][i] = dets
    return all_boxes


def detections(
    scores: np.ndarray, boxes: np.ndarray, max_per_image: int, thresh: float, settings: Any = cfg
) -> list[np.ndarray]:
    """One image's detections, class by class from class 1 on, out of what `im_detect` returns. See `test_net`."""
    per_class = []
    for cls in range(1, scores.shape[1]):
        rows = np.flatnonzero(scores[:, cls] > thresh)
        dets = np.column_stack((boxes[rows, 4 * cls : 4 * cls + 4], scores[rows, cls])).astype(np.float32)
        kept = dets[nms(dets, settings.TEST.NMS)]
        per_class.append(vote(kept, dets, settings.TEST.BBOX_VOTE_THRESH) if settings.TEST.BBOX_VOTE else kept)
    found = np.concatenate([dets[:, 4] for dets in per_class])
    if 0 < max_per_image < len(found):
        weakest = np.sort(found)[-max_per_image]
        per_class = [dets[dets[:, 4] >= weakest] for dets in per_class]
    return per_class


def _one_ahead(batches: Iterator[Any]) -> Generator[Any, None, None]:
    """What `batches` yields, each made by a thread while the one before it is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix='test-reads') as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _with_proposals(imdb) -> Iterator[tuple[dict[int, np.ndarray], list[np.ndarray] | None]]:
    for batch in _batches(imdb):
        yield batch, None if cfg.TEST.HAS_RPN else [imdb.proposals_of(i) for i in batch]


def _batches(imdb) -> Iterator[dict[int, np.ndarray]]:
    """The images by number, cfg.TEST.IMS_PER_BATCH of one shape at a time; the rest of a shape last.

    Of these batches, the same however many ranks there are, every so many-th is this rank's.
    """
    if cfg.TEST.IMS_PER_BATCH == 1:
        for i in range(ranks.rank(), imdb.num_images, ranks.count()):
            yield {i: _image_of(imdb, i)}
        return
    yield from itertools.islice(_batches_of_a_shape(imdb), ranks.rank(), None, ranks.count())


def _batches_of_a_shape(imdb) -> Iterator[dict[int, np.ndarray]]:
    size = cfg.TEST.IMS_PER_BATCH
    waiting: dict[tuple, dict[int, np.ndarray]] = defaultdict(dict)
    for i in range(imdb.num_images):
        image = _image_of(imdb, i)
        waiting[image.shape][i] = image
        fullest = max(waiting, key=lambda shape: len(waiting[shape]))
        if len(waiting[fullest]) == size or sum(map(len, waiting.values())) > _WAITING * size:
            yield waiting.pop(fullest)
    yield from waiting.values()


def check_settings(net: caffe.Net, proposals: list | None, settings: Any = cfg) -> None:
    """Raises ConfigError or ValueError if settings, the net and whether there are proposals do not go together."""
    if settings.TEST.BBOX_ITERATIONS > 1 and not settings.TEST.BBOX_REG:
        raise ConfigError(
            f'TEST.BBOX_ITERATIONS is {settings.TEST.BBOX_ITERATIONS}, but with TEST.BBOX_REG False no box moves: '
            'set the former to 1, or the latter True'
        )
    if ('im_info' in net.blobs) != settings.TEST.HAS_RPN:
        raise ConfigError(
            'the net has no input im_info, so it proposes no boxes itself: set TEST.HAS_RPN False'
            if settings.TEST.HAS_RPN
            else 'the net has an input im_info, so it proposes boxes itself: set TEST.HAS_RPN True'
        )
    if not settings.TEST.HAS_RPN:
        if proposals is None:
            raise ValueError('the net proposes no boxes itself (TEST.HAS_RPN is False): give proposals')
    elif len(settings.TEST.SCALES) > 1 and settings.TEST.SCALE_CHOICE == 'nearest':
        raise ConfigError(
            f'TEST.SCALES are {settings.TEST.SCALES}, and a net with an RPN proposes boxes at each: set '
            "TEST.SCALE_CHOICE 'all', or give one scale"
        )
    elif settings.TEST.BBOX_ITERATIONS > 1 and _first_roi_layer(net) is None:
        raise ConfigError(
            'TEST.BBOX_ITERATIONS above 1 with an RPN needs a pycaffe that names the bottoms of layers: set it to 1'
        )


def _image_of(imdb, i: int) -> np.ndarray:
    """Image `i`, if it is of the size that its annotation states and can be scaled; ImageError, naming it, if not."""
    path = imdb.image_path_at(i)
    note_cut_off(path)
    image = read_image(path, imdb.image_size(i) if hasattr(imdb, 'image_size') else None)
    for size in cfg.TEST.SCALES:
        try:
            image_scale(image.shape[0], image.shape[1], size, cfg.TEST.MAX_SIZE)
        except ImageError as error:
            raise ImageError(f'{path}: {error}') from None
    return image


def _scale_groups(im_shape: tuple, settings: Any) -> list[np.ndarray]:
    """The factors by which the image is resized, in groups that run through the net as one pyramid.

    'nearest': one group, every RoI goes to one of its levels. 'all': a group for each factor, so that memory
    does not grow with the number of scales; those that MAX_SIZE makes equal run once.
    """
    factors = [image_scale(im_shape[0], im_shape[1], size, settings.TEST.MAX_SIZE) for size in settings.TEST.SCALES]
    if settings.TEST.SCALE_CHOICE == 'nearest':
        return [np.array(factors)]
    return [np.array([factor]) for factor in dict.fromkeys(factors)]


def _image_pyramids(images: list[np.ndarray], scales: np.ndarray, settings: Any) -> np.ndarray:
    """Each of `images` resized by each of `scales` (levels,): (images * levels, 3, H, W) float32."""
    return stacked([resized(im, scale, settings.PIXEL_MEANS) for im in images for scale in scales])


def _score(
    net,
    im_shape: tuple,
    owners: np.ndarray,
    boxes: np.ndarray,
    scales: np.ndarray,
    settings: Any,
    data: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The scores (R, K) of `boxes` (R, 4), R > 0, and where the net moves them (R, 4K).

    Box r lies in image `owners[r]`. data: the images, each resized by each of `scales`; without it the net scores on
    the features that it still holds from the last call.
    """
    rois = _project(owners, boxes, scales)
    if settings.DEDUP_BOXES > 0:
        # Proposals that fall on the same cells of the feature map give the same result: compute one of them
        cells = np.column_stack((rois[:, 0], np.round(rois[:, 1:] * settings.DEDUP_BOXES)))
        _, index, inverse = np.unique(cells.dot([1, 1e3, 1e6, 1e9, 1e12]), return_index=True, return_inverse=True)
        rois, boxes = rois[index], boxes[index]
    net.blobs['rois'].reshape(*rois.shape)
    if data is not None:
        net.blobs['data'].reshape(*data.shape)
        outputs = net.forward(data=data, rois=rois)
    else:
        net.blobs['rois'].data[...] = rois
        outputs = net.forward(start=_first_roi_layer(net))
    scores, predicted = _results(net, outputs, boxes, im_shape, settings)
    if settings.DEDUP_BOXES > 0:
        scores, predicted = scores[inverse], predicted[inverse]
    return scores, predicted


def _propose_and_score(
    net, im_shape: tuple, scale: float, data: np.ndarray, settings: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a net with an RPN finds in the images `data`, which are resized by `scale`.

    Of each of its own proposals: the image that it lies in (R,), its scores (R, K) and where the net moves it (R, 4K).
    """
    im_info = np.tile(np.array([*data.shape[2:], scale], np.float32), (len(data), 1))
    for name, array in (('data', data), ('im_info', im_info)):
        net.blobs[name].reshape(*array.shape)
    outputs = net.forward(data=data, im_info=im_info)
    rois = net.blobs['rois'].data
    boxes = rois[:, 1:] / np.float32(scale)
    return rois[:, 0].astype(np.int64), *_results(net, outputs, boxes, im_shape, settings)


def _results(net, outputs: dict, boxes: np.ndarray, im_shape: tuple, settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores (R, K) and moved boxes (R, 4K), out of what the net has put out for `boxes` (R, 4)."""
    num_classes = net.blobs['cls_prob'].data.shape[1]
    scores = np.array(net.blobs['cls_score'].data if settings.TEST.SVM else outputs['cls_prob'])
    scores = scores.reshape(-1, num_classes)
    if not settings.TEST.BBOX_REG:
        return scores, np.tile(boxes.astype(np.float32), (1, num_classes))
    deltas = _regressions(outputs['bbox_pred'], num_classes, settings)
    return scores, clip_boxes(bbox_transform_inv(boxes, deltas), im_shape)


def _regressions(predicted: np.ndarray, num_classes: int, settings: Any) -> np.ndarray:
    """The regressions (R, 4K) out of bbox_pred; with TEST.AGNOSTIC its class 1, any object, serves every class.

    Raises ConfigError if bbox_pred has other columns than settings and classes say.
    """
    regressed = 2 if settings.TEST.AGNOSTIC else num_classes
    columns = predicted.size // max(len(predicted), 1)
    if len(predicted) and columns != 4 * regressed:
        agnostic = columns == 8 and not settings.TEST.AGNOSTIC
        advice = ': one box for all classes, so set TEST.AGNOSTIC True' if agnostic else ''
        raise ConfigError(
            f'bbox_pred has {columns} columns, for {num_classes} classes and TEST.AGNOSTIC {settings.TEST.AGNOSTIC} '
            f'there should be {4 * regressed}{advice}'
        )
    deltas = predicted.reshape(len(predicted), 4 * regressed)
    return np.tile(deltas[:, 4:], (1, num_classes)) if settings.TEST.AGNOSTIC else deltas


def _rescored(
    net,
    im_shape: tuple,
    owners: np.ndarray,
    scores: np.ndarray,
    boxes: np.ndarray,
    scales: np.ndarray,
    settings: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One more iteration of "+B": the high-scoring of the moved `boxes` (R, 4K), scored and moved again.

    A box that was moved for a class stands for that class alone: of its new `scores` the other columns are
    -inf, which no threshold lets pass. Returns their owners, scores and boxes. Gidaris and Komodakis, section 4;
    the OHEM paper, section 6.
    """
    rows, classes = np.nonzero(scores[:, 1:] > settings.TEST.BBOX_RESCORE_THRESH)
    if len(rows) == 0:
        return owners[:0], scores[:0], boxes[:0]
    classes += 1
    again = boxes.reshape(len(boxes), -1, 4)[rows, classes]
    new_scores, new_boxes = _score(net, im_shape, owners[rows], again, scales, settings)
    only = np.full_like(new_scores, -np.inf)
    each = np.arange(len(rows))
    only[each, classes] = new_scores[each, classes]
    return owners[rows], only, new_boxes


def _first_roi_layer(net) -> str | None:
    """The layer to start from when only the RoIs are new: the first that reads them.

    None, to run the whole net, on a pycaffe too old to name the bottoms of layers.
    """
    bottoms = getattr(net, 'bottom_names', {})
    return next((name for name, blobs in bottoms.items() if 'rois' in blobs), None)


def _project(owners: np.ndarray, boxes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """`boxes` (R, 4) of the images `owners` (R,) as rois (R, 5) float32 = (level, x1, y1, x2, y2) of the pyramids."""
    boxes = boxes.astype(np.float64)
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    levels = np.abs(areas[:, None] * scales**2 - _LEVEL_AREA).argmin(axis=1)
    factors = scales[levels, None]
    return np.column_stack((owners * len(scales) + levels, boxes * factors)).astype(np.float32)
