"""Testing: detect objects in images, and evaluate the detections on a data set.

As test.py of Fast R-CNN and py-faster-rcnn, for proposals computed beforehand.
"""

import os
import tempfile
import time

import numpy as np
from tqdm import tqdm

import caffe
from fast_rcnn.bbox_transform import bbox_transform_inv, clip_boxes
from fast_rcnn.config import cfg, get_output_dir
from fast_rcnn.detections_file import save_detections
from fast_rcnn.nms import nms
from roi_data_layer.image_blob import image_scale, read_image, resized, stacked
from roi_data_layer.stand_ins import prototxt_with_stand_ins

# RoIs go to the pyramid level that brings them nearest this size, that of ImageNet's crops
_LEVEL_AREA = 224 * 224


def load_net(prototxt: str, caffemodel: str):
    """The net of `prototxt` with the weights of `caffemodel`, for testing, named after the latter."""
    name = os.path.splitext(os.path.basename(caffemodel))[0]
    with tempfile.TemporaryDirectory() as folder:
        net = caffe.Net(prototxt_with_stand_ins(prototxt, folder), caffemodel, caffe.TEST)
    net.name = name
    return net


def im_detect(net, im: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class scores and boxes for the proposals `boxes` (R, 4) in the image `im` (H, W, 3), BGR, uint8.

    `net` has the inputs data and rois, and the outputs cls_prob and, if cfg.TEST.BBOX_REG, bbox_pred. Returns
    scores (R, K), K counting the background, and boxes (R, 4K) in pixels of `im`, cut to it; both float32.
    """
    num_classes = net.blobs['cls_prob'].data.shape[1]
    if len(boxes) == 0:
        return np.zeros((0, num_classes), np.float32), np.zeros((0, 4 * num_classes), np.float32)
    data, scales = _image_pyramid(im)
    rois = _project(boxes, scales)
    if cfg.DEDUP_BOXES > 0:
        # Proposals that fall on the same cells of the feature map give the same result: compute one of them
        codes = np.round(rois * cfg.DEDUP_BOXES).dot([1, 1e3, 1e6, 1e9, 1e12])
        _, index, inverse = np.unique(codes, return_index=True, return_inverse=True)
        rois, boxes = rois[index], boxes[index]

    net.blobs['data'].reshape(*data.shape)
    net.blobs['rois'].reshape(*rois.shape)
    outputs = net.forward(data=data, rois=rois)
    scores = np.array(
        (net.blobs['cls_score'].data if cfg.TEST.SVM else outputs['cls_prob']).reshape(len(rois), -1)
    )
    if cfg.TEST.BBOX_REG:
        deltas = outputs['bbox_pred'].reshape(len(rois), -1)
        predicted = clip_boxes(bbox_transform_inv(boxes, deltas), im.shape)
    else:
        predicted = np.tile(boxes.astype(np.float32), (1, scores.shape[1]))
    if cfg.DEDUP_BOXES > 0:
        scores, predicted = scores[inverse], predicted[inverse]
    return scores, predicted


def test_net(
    net, imdb, max_per_image: int = 100, thresh: float = 0.05, output_dir: str | None = None
) -> list:
    """Detect in every image of `imdb`, write detections.npz (see `detections_file`) and evaluate.

    A class's detections in an image are those with a score above `thresh` that survive NMS at cfg.TEST.NMS;
    over all classes an image keeps the best `max_per_image` (0: all). `output_dir` is `get_output_dir(imdb,
    net)` unless given. Returns all_boxes[class][image], (n, 5) float32 arrays of x1, y1, x2, y2, score, best
    first.
    """
    output_dir = get_output_dir(imdb, net) if output_dir is None else output_dir
    os.makedirs(output_dir, exist_ok=True)
    all_boxes = [[np.zeros((0, 5), np.float32)] * imdb.num_images for _ in range(imdb.num_classes)]
    started = time.perf_counter()
    for i in tqdm(range(imdb.num_images), desc='im_detect', unit='image', disable=None):
        scores, boxes = im_detect(net, read_image(imdb.image_path_at(i)), imdb.proposals_of(i))
        if scores.shape[1] != imdb.num_classes:
            raise ValueError(
                f'the net knows {scores.shape[1]} classes, {imdb.name} has {imdb.num_classes}: not its net?'
            )
        for cls, dets in enumerate(detections(scores, boxes, max_per_image, thresh), start=1):
            all_boxes[cls][i] = dets
    seconds = (time.perf_counter() - started) / max(imdb.num_images, 1)
    print(f'im_detect: {imdb.num_images} images, {seconds:.3f} s each')
    save_detections(
        os.path.join(output_dir, 'detections.npz'),
        all_boxes,
        list(imdb.classes),
        [str(x) for x in imdb.image_index],
    )
    imdb.evaluate_detections(all_boxes, output_dir)
    return all_boxes


def detections(scores: np.ndarray, boxes: np.ndarray, max_per_image: int, thresh: float) -> list[np.ndarray]:
    """One image's detections, class by class from class 1 on, out of what `im_detect` returns. See
    `test_net`.
    """
    per_class = []
    for cls in range(1, scores.shape[1]):
        rows = np.flatnonzero(scores[:, cls] > thresh)
        dets = np.column_stack((boxes[rows, 4 * cls : 4 * cls + 4], scores[rows, cls])).astype(np.float32)
        per_class.append(dets[nms(dets, cfg.TEST.NMS)])
    found = np.concatenate([dets[:, 4] for dets in per_class])
    if 0 < max_per_image < len(found):
        weakest = np.sort(found)[-max_per_image]
        per_class = [dets[dets[:, 4] >= weakest] for dets in per_class]
    return per_class


def _image_pyramid(im: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`im` at each of cfg.TEST.SCALES, (levels, 3, H, W) float32, and the factor of each level, (levels,)."""
    scales = np.array([image_scale(*im.shape[:2], size, cfg.TEST.MAX_SIZE) for size in cfg.TEST.SCALES])
    return stacked([resized(im, scale, cfg.PIXEL_MEANS) for scale in scales]), scales


def _project(boxes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """`boxes` (R, 4) of the image as rois (R, 5) float32 = (level, x1, y1, x2, y2) of the pyramid."""
    boxes = boxes.astype(np.float64)
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    levels = np.abs(areas[:, None] * scales**2 - _LEVEL_AREA).argmin(axis=1)
    return np.column_stack((levels, boxes * scales[levels, None])).astype(np.float32)
