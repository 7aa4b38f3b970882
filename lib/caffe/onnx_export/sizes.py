"""Which axes of a net's blobs have the length that its input gives them: found by asking the net."""

from __future__ import annotations

from caffe.net import Net

Shape = tuple[int | None, ...]


def shapes_where_free(net: Net) -> dict[str, Shape]:
    """The shape of each blob by name, None for an axis whose length follows from the lengths of the inputs.

    Axis k of all inputs is doubled, k = 0, 1, ...: where the net takes that, it is free. Rows of images and of RoIs
    are free in most nets, the size of images in those without InnerProduct layers on them, channels hardly ever.
    The net comes back in the shapes that it had, with the inputs' data.
    """
    own = {name: net.blobs[name].shape for name in net.inputs}
    data = {name: net.blobs[name].data.copy() for name in net.inputs}
    before = {name: blob.shape for name, blob in net.blobs.items()}
    free: dict[str, set[int]] = {name: set() for name in net.blobs}
    for axis in range(max(map(len, own.values()), default=0)):
        try:
            for name, shape in own.items():
                net.blobs[name].reshape(*(2 * n if k == axis else n for k, n in enumerate(shape)))
            net.reshape()
        except Exception:  # whatever a layer says of a size that it cannot take
            continue
        finally:
            after = {name: blob.shape for name, blob in net.blobs.items()}
            for name, shape in own.items():
                net.blobs[name].reshape(*shape)
        for name, shape in after.items():
            free[name].update(k for k, (a, b) in enumerate(zip(shape, before[name], strict=True)) if a != b)
    net.reshape()
    for name, values in data.items():
        net.blobs[name].data[...] = values
    return {name: tuple(None if k in free[name] else n for k, n in enumerate(before[name])) for name in net.blobs}
