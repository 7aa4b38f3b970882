"""Which layers of a prototxt belong to a net: include and exclude rules (Net::FilterNet, net.cpp)."""

from __future__ import annotations

from google.protobuf import text_format

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


def why_left_out(layer: caffe_pb2.LayerParameter, state: caffe_pb2.NetState) -> str | None:
    """The rule by which a layer is not in a net of this state, in words; None for a layer that is in.

    A layer without include rules is in unless an exclude rule is met; with include rules it is in when one is met.
    """
    if layer.include:
        if any(state_meets_rule(state, rule) for rule in layer.include):
            return None
        return f'{_text("include", layer.include)} does not hold in {state_text(state)}'
    met = [rule for rule in layer.exclude if state_meets_rule(state, rule)]
    return f'{_text("exclude", met)} holds in {state_text(state)}' if met else None


def state_text(state: caffe_pb2.NetState) -> str:
    """A net's state in words: 'phase TEST, level 1, stages a, b'."""
    parts = [f'phase {caffe_pb2.Phase.Name(state.phase)}']
    if state.level:
        parts.append(f'level {state.level}')
    if state.stage:
        parts.append(f'stages {", ".join(state.stage)}')
    return ', '.join(parts)


def _text(kind: str, rules) -> str:
    return ' '.join(f'{kind} {{ {text_format.MessageToString(rule, as_one_line=True).strip()} }}' for rule in rules)


def included_layers(net: caffe_pb2.NetParameter) -> list[int]:
    """The indices of the layers that the net's state includes, in order (`why_left_out`).

    Raises LayerError where a layer states both kinds of rule.
    """
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise LayerError(f'layer {layer.name!r}: specify either include rules or exclude rules; not both')
    return [i for i, layer in enumerate(net.layer) if why_left_out(layer, net.state) is None]
