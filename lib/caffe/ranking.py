"""Which layers of a net serve for nothing but a choice: what they compute ranks, and is learned from nowhere."""

from __future__ import annotations

from caffe.layer import LayerError
from caffe.node import Node, raise_located


def find_what_only_ranks(nodes: list[Node]) -> None:
    """Sets `only_ranks` of each node's layer. Such a layer's tops

    1. reach a bottom that some layer only ranks by (`Layer.ranks_by`), on one way or another: those of the read-only
       RoI network reach the first two bottoms of HardRoiMiningLayer;
    2. reach nothing whose values count: no layer with a backward pass, for the gradient is computed from its bottoms,
       whether a diff of them is computed or not; no loss; no tops of a layer that such a layer reads. What
       a layer ranks by is not in its tops.

    So a trunk that is frozen does not only rank where layers after it learn, nor does a branch with a loss of its own.
    nodes: in the net's order, with their backward passes decided (`backward_path`). Raises LayerError where `ranks_by`
    names a bottom that the layer has not.
    """
    ranks: set[str] = set()  # names of blobs: a choice depends on their values
    counts: set[str] = set()  # what is learned, or a loss, does
    for node in reversed(nodes):
        layer = node.layer
        _check(node)
        matters = node.need_backward or bool(node.losses) or any(name in counts for name in node.top_names)
        chooses = any(name in ranks for name in node.top_names)
        layer.only_ranks = chooses and not matters
        for j, name in enumerate(node.bottom_names):
            if j in layer.ranks_by and not node.bottom_need_backward[j]:
                ranks.add(name)
                continue
            if matters:
                counts.add(name)
            if chooses:
                ranks.add(name)


def _check(node: Node) -> None:
    given, count = node.layer.ranks_by, len(node.bottoms)
    if not isinstance(given, tuple | list) or any(not isinstance(j, int) or not 0 <= j < count for j in given):
        error = LayerError(f'ranks_by is {given!r}; expected are numbers of its {count} bottoms, such as (0,)')
        raise_located(error, node.layer, node.where, node.bottoms)
