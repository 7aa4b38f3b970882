"""Axes of blobs as prototxts name them: counted from the end where negative (Blob::CanonicalAxisIndex)."""

from __future__ import annotations

from caffe.layer_error import LayerError


def canonical_axis(axis: int, shape: tuple[int, ...]) -> int:
    """The axis counted from the front, 0 <= axis < len(shape); LayerError where there is no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise LayerError(f'axis {axis} out of range for {len(shape)}-D blob with shape {shape}')
    return axis % len(shape)
