"""The weights that a net starts from, and whether it has any."""

from __future__ import annotations

from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from fast_rcnn.solver_file import net_text

NONE = 'none'  # in place of a file of weights: begin without, whatever the net has


def copy_weights(net: caffe.Net, weights: str) -> None:
    """Gives `net` the weights in a .caffemodel, layer by layer of one name. Raises what Caffe raises."""
    try:
        net.copy_from(weights)
    except ValueError as error:
        if 'rename the layer' not in str(error):
            raise
        raise ValueError(
            f'{error} Its top keeps its name (cls_score, bbox_pred), by which the tools find it; rename the layer '
            'in the test prototxt as well.'
        ) from None


def check_has_weights(net: caffe.Net, solver_param: caffe_pb2.SolverParameter, weights: str | None) -> None:
    """Raises ValueError if layers have no weights to start from: they would be trained for hours, and be dead.

    weights: the file that the net was given, None if it was given none.
    """
    missing = layers_without_weights(net, net_text(solver_param))
    if missing:
        listed = ', '.join(missing[:6]) + (', ...' if len(missing) > 6 else '')
        cause = 'no weights are given' if weights is None else f'{weights} has none for them'
        raise ValueError(
            f'{len(missing)} layers ({listed}) have only zeros as weights and would never learn: they have no '
            f'weight_filler in {solver_param.net or solver_param.train_net}, and {cause}. Give --weights '
            'FILE.caffemodel (docs/backbones.md says where ImageNet models come from), or write fillers; '
            '--weights none starts from zeros all the same'
        )


def layers_without_weights(net: caffe.Net, text: str) -> list[str]:
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
