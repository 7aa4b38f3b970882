"""Nets are trained on regression targets that are normalised; a model for testing predicts plain ones.

As in Fast R-CNN, the targets' means and deviations are folded into the weights of the layers that predict them. Undoing
that is not exact in floating point, so the weights are kept and put back.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping

import numpy as np

import caffe
from fast_rcnn.config import cfg
from fast_rcnn.predictors import check_outputs, layer_of
from roi_data_layer.roidb import Roidb, add_bbox_regression_targets

Statistics = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Layer -> mean and deviation of each of its outputs, (outputs,) each."""


def normalised_layers(net: caffe.Net, data_layer: caffe.Layer, roidb: Roidb) -> Statistics:
    """The layers of `net` that predict normalised regressions, with the statistics to fold into them.

    Those of bbox_pred are computed on `roidb`. Warns if no layer is found whose weights could take them. Raises
    ValueError if bbox_pred has not four outputs a class.
    """
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if cfg.TRAIN.HAS_RPN and cfg.TRAIN.RPN_NORMALIZE_TARGETS and 'rpn_bbox_pred' in net.params:
        statistics = cfg.TRAIN.RPN_NORMALIZE_MEANS, cfg.TRAIN.RPN_NORMALIZE_STDS
        anchors = len(net.params['rpn_bbox_pred'][1].data) // 4
        found['rpn_bbox_pred'] = np.tile(statistics[0], anchors), np.tile(statistics[1], anchors)
    if not (cfg.TRAIN.BBOX_REG and cfg.TRAIN.BBOX_NORMALIZE_TARGETS):
        return found
    regressor = layer_of(net, 'bbox_pred')
    if regressor is None and not _learns_boxes(net, data_layer):
        return found
    if regressor is None:
        warnings.warn(
            'the net has no layer with weights that makes bbox_pred, so its snapshots keep predicting *normalised* '
            'regressions, and boxes will be wrong at test time. Name the layer that predicts them, or its top, '
            'bbox_pred, or set TRAIN.BBOX_NORMALIZE_TARGETS False.',
            RuntimeWarning,
            stacklevel=3,
        )
        return found
    means, stds = add_bbox_regression_targets(roidb)
    check_outputs(net, 'bbox_pred', len(means) // 4, 4)
    bins = len(net.params[regressor][1].data) // len(means)  # of R-FCN; 1 elsewhere
    return found | {regressor: (np.repeat(means, bins), np.repeat(stds, bins))}


def _learns_boxes(net: caffe.Net, data_layer: caffe.Layer) -> bool:
    """Whether a layer reads the regression targets, Silence aside; True where Caffe does not tell."""
    if not hasattr(net, 'bottom_names') or not hasattr(net, 'layer_dict'):
        return True
    tops = next(net.top_names[name] for name, layer in net.layer_dict.items() if layer is data_layer)
    readers = [name for name, bottoms in net.bottom_names.items() if set(bottoms) & set(tops[3:4])]
    return any(net.layer_dict[name].type != 'Silence' for name in readers)


@contextlib.contextmanager
def plain_regression(net: caffe.Net, normalised: Statistics) -> Iterator[None]:
    """Within the `with`, the net predicts regressions that are not normalised; then its weights are as they were."""
    kept = {name: [blob.data.copy() for blob in net.params[name]] for name in normalised}
    try:
        for name, (means, stds) in normalised.items():
            weights, bias = (blob.data for blob in net.params[name])
            weights *= stds.reshape(-1, *[1] * (weights.ndim - 1))
            bias[...] = bias * stds + means
        yield
    finally:
        for name, arrays in kept.items():
            for blob, values in zip(net.params[name], arrays, strict=True):
                blob.data[...] = values
