"""Node: a layer in its place in a net, with all that the net knows of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import torch

from caffe.blob import Blob
from caffe.layer import Layer, LayerError
from caffe.layer_error import hint_of_memory, is_anonymous


@dataclass
class Node:
    """A layer and its blobs.

    name: the layer's, as the prototxt has it; two nodes may have one name. where: file and line of the layer.
    bottoms, tops: its blobs; a loss may have a top that the prototxt does not name. losses: the tops that count in
    the net's loss, with their weights. bottom_need_backward, need_backward, why_no_backward: whether the backward
    pass computes each bottom's diff, whether the layer has one at all, and if not, why (`backward_path`).
    has_run: whether it has had a forward pass.
    """

    layer: Layer
    name: str
    where: str
    bottoms: list[Blob]
    tops: list[Blob]
    bottom_names: list[str]
    top_names: list[str]
    losses: list[tuple[Blob, float]]
    bottom_need_backward: list[bool] = field(default_factory=list)
    need_backward: bool = False
    why_no_backward: str | None = None
    has_run: bool = False

    def reshape(self) -> None:
        """Gives the tops their shapes. Raises what the layer raises, with its place."""
        try:
            self.layer.reshape(self.bottoms, self.tops)
        except Exception as error:
            raise_located(error, self.layer, self.where, self.bottoms)

    def forward(self) -> None:
        """Computes the tops. Raises what the layer raises, with its place."""
        try:
            self.layer.reshape(self.bottoms, self.tops)
            self.layer.forward(self.bottoms, self.tops)
            self.has_run = True
        except Exception as error:
            raise_located(error, self.layer, self.where, self.bottoms)

    def backward(self) -> None:
        """Computes the diffs of the bottoms that need one. Raises what the layer raises, with its place."""
        try:
            self.layer.backward(self.tops, self.bottom_need_backward, self.bottoms)
        except Exception as error:
            if not self.has_run:  # the layer lacks what its forward pass keeps for this one
                error = LayerError(f'the backward pass needs a forward pass before it ({error})')
            raise_located(error, self.layer, self.where, self.bottoms)

    def loss(self) -> torch.Tensor | float:
        """What its tops add to the net's loss, a scalar on the compute device; 0.0 where they add nothing."""
        loss: torch.Tensor | float = 0.0
        for top, weight in self.losses:
            if top.count == 1:
                loss = loss + weight * top.read().view(())
            else:  # Caffe: the dot product with the diffs, which hold the weight
                top.write_diff(torch.full_like(top.read(), weight))
                loss = loss + weight * top.read().sum()
        return loss


def raise_located(error: Exception, layer: Layer, where: str, bottoms: list[Blob]) -> NoReturn:
    """Raises what a layer raised, with file, line, layer and bottoms.

    A LayerError gets them in its message. An error of NumPy or torch in a native layer (too little memory, say) becomes
    such a LayerError. An exception of a Python layer, or of a file, keeps its type, with the place as a note.
    """
    kind = layer.layer_param.type
    place = f"layer '{layer.layer_param.name}' ({kind})"
    foreign = kind != 'Python' and is_anonymous(error)
    if isinstance(error, LayerError) or foreign:
        named = zip(layer.layer_param.bottom, bottoms, strict=True)
        shapes = ', '.join(f'{name} {blob.shape}' for name, blob in named)
        what = f'{type(error).__name__}: {error}{hint_of_memory(error)}' if foreign else f'{error}'
        message = f'{where}: {place}: {what}' + (f' [bottoms: {shapes}]' if shapes else '')
        raise LayerError(message) from (error if foreign else error.__cause__)
    param_str = layer.layer_param.python_param.param_str
    given = f', param_str {param_str[:200]!r}' if param_str else ''
    # As add_note does from Python 3.11 on. In 3.10 the tools print these notes themselves
    vars(error)['__notes__'] = [*getattr(error, '__notes__', []), f'in {place} of {where}{given}']
    raise error
