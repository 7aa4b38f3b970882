"""Which layers of a net have a backward pass, and why the others have none (Net::Init, net.cpp)."""

from __future__ import annotations

from caffe.node import Node


def find_backward_path(nodes: list[Node], force: bool = False) -> None:
    """Decides for each node which backward pass it has: `bottom_need_backward`, `need_backward`, `why_no_backward`.

    A layer has a backward pass if
    1. it has parameters that learn, or a bottom that depends on such parameters of a layer before it and for which the
       prototxt does not say `propagate_down: false`. `propagate_down: true` asks for a diff that nobody needs;
    2. a loss is computed from its tops;
    3. a gradient reaches it: some reader of its tops computes their diff.
    Where one of the three fails, `why_no_backward` says which. force: `force_backward: true`, with which all layers
    have one.

    nodes: in the net's order, with `param_propagate_down` of their layers set.
    """
    _mark_what_learns(nodes)
    _mark_where_gradients_come(nodes)
    if force:
        _force(nodes)


def as_if_a_loss_followed(nodes: list[Node]) -> None:
    """Gives the layers of a net without losses the backward passes that they would have if it went on to one."""
    _mark_what_learns(nodes)
    for node in nodes:
        node.layer.needs_backward = node.need_backward


def _mark_what_learns(nodes: list[Node]) -> None:
    """From the data to the losses: what learns, and what learns before it."""
    learns_before: dict[str, bool] = {}  # blob name -> something that made it learns
    for node in nodes:
        layer = node.layer
        stated = list(layer.layer_param.propagate_down)
        node.bottom_need_backward = stated or [learns_before[name] for name in node.bottom_names]
        node.need_backward = any(layer.param_propagate_down) or any(node.bottom_need_backward)
        node.why_no_backward = None if node.need_backward else _nothing_to_learn(node)
        learns_before.update(dict.fromkeys(node.top_names, node.need_backward))


def _nothing_to_learn(node: Node) -> str:
    own = 'its parameters have lr_mult 0' if node.layer.blobs else 'it has no parameters'
    if not node.bottoms:
        return f'nothing to learn: {own}'
    before = 'it says propagate_down: false' if node.layer.layer_param.propagate_down else 'nothing before it learns'
    return f'nothing to learn: {own}, and {before}'


def _mark_where_gradients_come(nodes: list[Node]) -> None:
    """From the losses to the data: what adds to a loss, and how far the gradient comes."""
    any_loss = any(node.losses for node in nodes)
    under_loss: set[str] = set()  # blobs that a loss is computed from
    cut: dict[str, str] = {}  # blob name -> why no diff of it is computed
    for node in reversed(nodes):
        contributes = bool(node.losses) or any(name in under_loss for name in node.top_names)
        comes_back = bool(node.losses) or not all(name in cut for name in node.top_names)
        if node.need_backward and not contributes:
            _stop(node, 'no loss is computed from its tops' if any_loss else 'the net has no loss')
        elif node.need_backward and not comes_back:
            reasons = dict.fromkeys(cut[name] for name in node.top_names)
            _stop(node, f'no gradient comes back to it: {", and ".join(reasons)}')
        for j, name in enumerate(node.bottom_names):
            if contributes:
                under_loss.add(name)
            if not node.bottom_need_backward[j]:
                cut.setdefault(name, _why_cut(node, j, cut))


def _why_cut(node: Node, j: int, cut: dict[str, str]) -> str:
    """Why `node` computes no diff of bottom j. Where the gradient ends further on, the reasons for that."""
    reads = f"'{node.name}' reads '{node.bottom_names[j]}'"
    stated = node.layer.layer_param.propagate_down
    if stated and not stated[j]:
        return f'{reads} with propagate_down: false'
    further = [cut[top] for top in node.top_names if top in cut]
    if not node.need_backward and further:
        return ', and '.join(dict.fromkeys(further))
    return f'{reads}, and has no backward pass: {node.why_no_backward or "nothing before it learns"}'


def _stop(node: Node, why: str) -> None:
    node.need_backward = False
    node.bottom_need_backward = [False] * len(node.bottoms)
    node.why_no_backward = why


def _force(nodes: list[Node]) -> None:
    for node in nodes:
        node.need_backward, node.why_no_backward = True, None
        node.bottom_need_backward = [
            need or node.layer.allow_force_backward(j) for j, need in enumerate(node.bottom_need_backward)
        ]
        node.layer.param_propagate_down = [True] * len(node.layer.blobs)
