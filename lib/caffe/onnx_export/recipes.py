"""The table of recipes: for each layer type how it exports, or why it does not.

@exports('ReLU')
def relu(at: Place) -> str: ...

no_equivalent('Data', 'reads a data base')
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe.onnx_export.graph import Dim, Graph

_RECIPES: dict[str, Callable[[Place], str | list[str]]] = {}
_WHY_NOT: dict[str, str] = {}
_LIMITS: dict[str, str] = {}


class NoEquivalentError(ValueError):
    """Raised by a recipe: a layer with these options has no equivalent. The text says why."""


@dataclass
class Place:
    """A layer in its net, to be exported.

    graph: where nodes go; layer; bottoms: the names of its bottoms' values; shapes: the bottoms' shapes, None for an
    axis whose length the input decides; tops: how many; weights: gives the name of the k-th parameter; top_values: the
    arrays that the tops hold now.
    """

    graph: Graph
    layer: Any  # Layer, whose attributes are those of its own type
    bottoms: list[str]
    shapes: list[tuple[int | None, ...]]
    n_tops: int
    weights: Callable[[int], str]
    top_values: Callable[[], list[np.ndarray]]

    @property
    def x(self) -> str:
        """The first bottom."""
        return self.bottoms[0]

    @property
    def rank(self) -> int:
        """How many axes the first bottom has."""
        return len(self.shapes[0])

    @property
    def param(self) -> Any:
        """The layer's options."""
        return self.layer.param

    def axis(self, axis: int) -> int:
        """An axis of the first bottom, counted from the front."""
        return axis % max(self.rank, 1)

    def dims(self, bottom: int = 0) -> list[Dim]:
        """The lengths of a bottom's axes: a number where it is always the same."""
        return [
            n if n is not None else self.graph.dim(self.bottoms[bottom], axis)
            for axis, n in enumerate(self.shapes[bottom])
        ]

    def param_shape(self, k: int) -> tuple[int, ...]:
        """The shape of the k-th parameter."""
        return self.layer.blobs[k].shape


Recipe = Callable[[Place], str | list[str]]
"""How a layer type exports: from a place to the names of the tops' values, or of the one top's."""


def exports(layer_type: str, limits: str = '') -> Callable[[Recipe], Recipe]:
    """Function decorator: the recipe of a layer type. limits: what the table says of options that do not export."""

    def add(recipe: Recipe) -> Recipe:
        _RECIPES[layer_type] = recipe
        _LIMITS[layer_type] = limits
        return recipe

    return add


def no_equivalent(layer_type: str, why: str) -> None:
    """Says why a layer type does not export."""
    _WHY_NOT[layer_type] = why


def recipe_of(layer_type: str) -> Recipe:
    """How a layer type exports. Raises NoEquivalentError for one that does not."""
    if layer_type not in _RECIPES:
        raise NoEquivalentError(_WHY_NOT.get(layer_type, 'the type says nowhere how it exports'))
    return _RECIPES[layer_type]


def exports_type(layer_type: str) -> bool:
    """Whether there is a recipe for a layer type."""
    return layer_type in _RECIPES


def why_not(layer_type: str) -> str | None:
    """Why a layer type does not export; None if it does, or if nobody has said."""
    return _WHY_NOT.get(layer_type)


def limits(layer_type: str) -> str:
    """What of a type that exports does not; '' if all of it does."""
    return _LIMITS.get(layer_type, '')


def load() -> None:
    """Fills the table from `layers/`."""
    from caffe.onnx_export import layers

    for module in pkgutil.iter_modules(layers.__path__):
        importlib.import_module(f'{layers.__name__}.{module.name}')
