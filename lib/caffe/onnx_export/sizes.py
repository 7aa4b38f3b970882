"""Which axes of a net's blobs have the length that its input gives them: found by asking the net."""

from __future__ import annotations

from collections.abc import Iterator

from caffe.net import Net

Shape = tuple[int | None, ...]


def shapes_where_free(net: Net) -> dict[str, Shape]:
    """The shape of each blob by name, None for an axis whose length follows from the lengths of the inputs.

    Axes of the inputs are doubled, as `_trials` lists them: where the net takes that, they are free, and so is every
    axis of a blob that changes with them. Rows of images and of RoIs are free in most nets, the size of images in
    those without InnerProduct layers on them, channels hardly ever. The net comes back in the shapes that it had,
    with the inputs' data.
    """
    own = {name: net.blobs[name].shape for name in net.inputs}
    data = {name: net.blobs[name].data.copy() for name in net.inputs}
    before = {name: blob.shape for name, blob in net.blobs.items()}
    free: dict[str, set[int]] = {name: set() for name in net.blobs}
    tried: list[frozenset] = []
    for doubled in _trials(own):
        if doubled in tried:
            continue
        tried.append(doubled)
        for name, shape in own.items():
            net.blobs[name].reshape(*(2 * n if (name, k) in doubled else n for k, n in enumerate(shape)))
        try:
            net.reshape()
        except Exception:  # whatever a layer says of a size that it cannot take
            continue
        for name, blob in net.blobs.items():
            free[name].update(k for k, (a, b) in enumerate(zip(blob.shape, before[name], strict=True)) if a != b)
    for name, shape in own.items():
        net.blobs[name].reshape(*shape)
    net.reshape()
    for name, values in data.items():
        net.blobs[name].data[...] = values
    return {name: tuple(None if k in free[name] else n for k, n in enumerate(before[name])) for name in net.blobs}


def _trials(shapes: dict[str, tuple[int, ...]]) -> Iterator[frozenset[tuple[str, int]]]:
    """Sets of (input, axis) that may be free together: the same axis of all inputs, each alone, all of one length."""
    axes = [(name, k) for name, shape in shapes.items() for k in range(len(shape))]
    for number in range(max(map(len, shapes.values()), default=0)):
        yield frozenset(axis for axis in axes if axis[1] == number)
    for axis in axes:
        yield frozenset([axis])
    for length in sorted({n for shape in shapes.values() for n in shape}):
        yield frozenset((name, k) for name, k in axes if shapes[name][k] == length)
