"""What a loss is divided by. No layer: losses of several families share it."""

from __future__ import annotations

import torch

from caffe.layer_error import LayerError
from caffe.proto import caffe_pb2


def normalizer(mode: str, outer: int, inner: int, valid: torch.Tensor | None) -> torch.Tensor | float:
    """What a sum of losses is divided by, at least 1 (get_normalizer of softmax_loss_layer.cpp).

    mode: FULL, VALID, BATCH_SIZE or NONE; valid: mask of the labels that count, None if all do. The count
    stays on the device.
    """
    if mode == 'VALID' and valid is not None:
        return valid.sum().clamp_(min=1).float()
    return float(max(1, {'FULL': outer * inner, 'VALID': outer * inner, 'BATCH_SIZE': outer, 'NONE': 1}[mode]))


def normalization_mode(loss_param: caffe_pb2.LossParameter, default: str = 'VALID', pre_fixed: bool = False) -> str:
    """The name of the mode that loss_param asks for, by `normalization` or by the older `normalize`.

    Raises LayerError for PRE_FIXED, which has no count but a number, unless `pre_fixed`.
    """
    if loss_param.HasField('normalization'):
        mode = type(loss_param).NormalizationMode.Name(loss_param.normalization)
        if mode == 'PRE_FIXED' and not pre_fixed:
            raise LayerError(
                'normalization: PRE_FIXED is for SmoothL1LossOHEM and SoftmaxWithLossOHEM; this type has FULL, VALID, '
                'BATCH_SIZE, NONE'
            )
        return mode
    if loss_param.HasField('normalize'):
        return 'VALID' if loss_param.normalize else 'BATCH_SIZE'
    return default
