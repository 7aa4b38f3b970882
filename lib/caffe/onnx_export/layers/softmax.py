"""Softmax (caffe.layers.softmax)."""

from __future__ import annotations

from caffe.onnx_export.recipes import Place, exports


@exports('Softmax')
def softmax(at: Place) -> str:
    """Softmax."""
    return at.graph.op('Softmax', at.x, axis=at.axis(at.param.axis))
