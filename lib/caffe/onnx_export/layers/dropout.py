"""Dropout (caffe.layers.dropout)."""

from __future__ import annotations

from caffe.layer import Phase
from caffe.onnx_export.recipes import NoEquivalentError, Place, exports


@exports('Dropout', limits='in TRAIN it is random')
def dropout(at: Place) -> str:
    """Nothing: Caffe scales at training time."""
    if at.layer.phase == Phase.TRAIN:
        raise NoEquivalentError('it is random in TRAIN; make the net for TEST')
    return at.x
