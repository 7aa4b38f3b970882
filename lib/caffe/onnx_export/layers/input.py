"""Layers without bottoms (caffe.layers.input)."""

from __future__ import annotations

from caffe.onnx_export.recipes import NoEquivalentError, Place, exports


@exports('Input')
def input_(at: Place) -> list[str]:
    """An input of the graph for each top; the net's export sees to it."""
    return []


@exports('DummyData', limits='constant fillers only')
def dummy_data(at: Place) -> list[str]:
    """A constant for each top."""
    random = [filler.type for filler in at.layer.fillers if filler is not None and filler.type != 'constant']
    if random:
        raise NoEquivalentError(f'its numbers are random (filler {random[0]!r}); make it an Input layer')
    return [at.graph.op('Identity', at.graph.constant(value)) for value in at.top_values()]


@exports('Parameter')
def parameter(at: Place) -> str:
    """An initializer."""
    return at.graph.op('Identity', at.weights(0))
