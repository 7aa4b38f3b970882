"""Whether a net that is to be trained has weights to start from."""

from __future__ import annotations

from google.protobuf import text_format

from caffe.proto import caffe_pb2

NONE = 'none'  # in place of a file of weights: begin without, whatever the net has


def layers_without_weights(net, text: str) -> list[str]:
    """Layers of `net` that can never learn: all weights are 0, no filler says so, and other layers build on them.

    text: the net's prototxt. Caffe fills parameters without a filler with 0; what comes after a ReLU on such a layer is
    0 for ever, and so is its gradient. A last layer that begins at 0 learns; a filler that says 0 is believed.
    """
    try:
        param = text_format.Parse(text, caffe_pb2.NetParameter(), allow_unknown_field=True)
    except text_format.ParseError:  # of another Caffe, which has read it
        return []
    empty = {
        name for name, blobs in net.params.items() if len(blobs) and blobs[0].data.ndim > 1 and not blobs[0].data.any()
    }
    found: dict[str, None] = {}
    behind: dict[str, set[str]] = {}  # blob -> the empty layers that it comes from
    for layer in [*param.layer, *param.layers]:
        before = set().union(*(behind.get(bottom, set()) for bottom in layer.bottom))
        if layer.name in net.params:
            found |= dict.fromkeys(name for name in net.params if name in before)
            before = {layer.name} if layer.name in empty and not _has_filler(layer) else set()
        for top in layer.top:
            behind[top] = before
    return list(found)


def _has_filler(layer) -> bool:
    """Whether a layer says what its weights begin as."""
    options = (value for field, value in layer.ListFields() if field.message_type and hasattr(value, 'ListFields'))
    return any(field.name == 'weight_filler' for value in options for field, _ in value.ListFields())
