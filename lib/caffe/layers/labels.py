"""Labels in a blob of floats, converted to indices. No layer: losses and Accuracy share it."""

from __future__ import annotations

import torch

from caffe.layer_error import LayerError


def label_indices(labels: torch.Tensor, classes: int, ignore: int | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Labels as int64 indices and, where a label is to be ignored, a mask of those that count (else None).

    Ignored labels become index 0. On the CPU a label outside 0 .. classes - 1 raises LayerError; on a GPU,
    where a check would wait for the device, CUDA's own index check fails.
    """
    indices, valid = labels.long(), None
    if ignore is not None:
        valid = indices != ignore
        indices = indices.where(valid, indices.new_zeros(()))
    if indices.device.type == 'cpu' and indices.numel():
        lowest, highest = map(int, indices.aminmax())
        if lowest < 0 or highest >= classes:
            at = int(((indices < 0) | (indices >= classes)).flatten().nonzero()[0])
            hint = '' if ignore is not None else '; loss_param { ignore_label: ... } would leave such labels out'
            raise LayerError(
                f'label {int(indices.flatten()[at])} (element {at} of the labels) is not among '
                f'the {classes} classes 0 .. {classes - 1}{hint}'
            )
    return indices, valid
