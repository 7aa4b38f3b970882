"""Which layers of a prototxt belong to a net: include and exclude rules (Net::FilterNet, net.cpp)."""

from __future__ import annotations

from caffe.layer_error import LayerError
from caffe.proto import caffe_pb2


def state_meets_rule(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule) -> bool:
    """Whether a net's phase, level and stages meet one rule (Net::StateMeetsRule)."""
    stages = set(state.stage)
    return not (
        (rule.HasField('phase') and rule.phase != state.phase)
        or (rule.HasField('min_level') and state.level < rule.min_level)
        or (rule.HasField('max_level') and state.level > rule.max_level)
        or not stages.issuperset(rule.stage)
        or not stages.isdisjoint(rule.not_stage)
    )


def included_layers(net: caffe_pb2.NetParameter) -> list[int]:
    """The indices of the layers that the net's state includes, in order.

    A layer without include rules is in unless an exclude rule is met; with include rules it is in when one is met.
    Raises LayerError where a layer states both kinds.
    """
    included = []
    for i, layer in enumerate(net.layer):
        if layer.include and layer.exclude:
            raise LayerError(f'layer {layer.name!r}: specify either include rules or exclude rules; not both')
        if layer.include:
            wanted = any(state_meets_rule(net.state, rule) for rule in layer.include)
        else:
            wanted = not any(state_meets_rule(net.state, rule) for rule in layer.exclude)
        if wanted:
            included.append(i)
    return included
