"""Proposals of an RPN for whole data sets: a trained RPN as a proposal method, as py-faster-rcnn's generate.py."""

from typing import Any

import numpy as np
from tqdm import tqdm

import caffe
from fast_rcnn.config import ConfigError, cfg
from roi_data_layer.image_blob import image_scale, read_image, resized, stacked


def im_proposals(net: caffe.Net, im: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The boxes (n, 4) that `net` proposes in the image `im` (H, W, 3), BGR, uint8, best first; their scores (n, 1).

    `net` has the inputs data and im_info, and the outputs rois and scores. Boxes are float32, in pixels of `im` and
    inside it. How many there are is up to cfg.TEST.RPN_*. Raises ConfigError if cfg.TEST.SCALES are several,
    ValueError if the net computes no numbers.
    """
    if len(cfg.TEST.SCALES) != 1:
        raise ConfigError(f'TEST.SCALES are {cfg.TEST.SCALES}; an RPN proposes at one scale: give one')
    height, width = im.shape[:2]
    scale = image_scale(height, width, cfg.TEST.SCALES[0], cfg.TEST.MAX_SIZE)
    data = stacked([resized(im, scale, cfg.PIXEL_MEANS)])
    im_info = np.array([[*data.shape[2:], scale]], np.float32)
    for name, array in (('data', data), ('im_info', im_info)):
        net.blobs[name].reshape(*array.shape)
    outputs = net.forward(data=data, im_info=im_info)
    if not np.isfinite(outputs['scores']).all():
        raise ValueError(f'the scores of {net.name} are not finite numbers: did its training diverge?')
    boxes = outputs['rois'][:, 1:] / np.float32(scale)
    # The net's input is a whole number of pixels, so by a fraction of one a box may end beyond the image
    np.minimum(boxes, np.array([width - 1, height - 1] * 2, np.float32), out=boxes)
    return boxes, outputs['scores'].reshape(-1, 1).copy()


def imdb_proposals(net: caffe.Net, imdb: Any) -> list[np.ndarray]:
    """The boxes (n, 4) of every image of `imdb`, in order: see `im_proposals`."""
    images = tqdm(range(imdb.num_images), desc='im_proposals', unit='image', disable=None)
    return [im_proposals(net, read_image(imdb.image_path_at(i)))[0] for i in images]
