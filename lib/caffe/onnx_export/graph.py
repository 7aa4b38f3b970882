"""Graph: ONNX nodes and constants as they come to be, and arithmetic on shapes that are known only at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

OPSET = 18  # of 2022, the first with ReduceMax and Split as they are used here; IR version 8 goes with it
IR_VERSION = 8

Dim = int | str
"""The length of an axis: a number, or the name of an int64 value of shape (1,)."""


class Graph:
    """Nodes and initializers, in order. Values go by their names.

    `prefix` begins the names of what is added, and is the name of the layer that adds it; names in `taken` are left
    free.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.prefix = ''
        self._constants: dict[tuple, str] = {}
        self._taken = set(taken)

    def fresh(self, name: str) -> str:
        """A name of a value that no other has."""
        unique, n = name, 1
        while unique in self._taken:
            n += 1
            unique = f'{name}_{n}'
        self._taken.add(unique)
        return unique

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        """Adds a node of one output, and returns the output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, n_outputs: int, *inputs: str, **attributes) -> list[str]:
        """Adds a node, and returns the names of its outputs."""
        outputs = [self.fresh(f'{self.prefix}/{kind}') for _ in range(n_outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs

    def constant(self, values: ArrayLike, dtype: type = np.float32) -> str:
        """The name of a constant; equal ones are one."""
        array: np.ndarray = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.fresh(f'constant/{len(self._constants)}')
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def ints(self, values: Sequence[int] | int) -> str:
        """An int64 constant of one axis."""
        return self.constant(np.atleast_1d(values), np.int64)

    def weights(self, array: np.ndarray, name: str) -> str:
        """A parameter as an initializer."""
        name = self.fresh(name)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    # -- numbers

    def times(self, x: str, factor: float) -> str:
        """x times a number."""
        return x if factor == 1 else self.op('Mul', x, self.constant(factor))

    def plus(self, x: str, term: float) -> str:
        """x plus a number."""
        return x if term == 0 else self.op('Add', x, self.constant(term))

    def cast(self, x: str, to: type) -> str:
        """x as numbers of another type."""
        return self.op('Cast', x, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))

    # -- shapes

    def dim(self, x: str, axis: int) -> str:
        """The length of an axis of x, at run time."""
        return self.op('Shape', x, start=axis, end=axis + 1)

    def as_value(self, dims: Iterable[Dim]) -> str:
        """Lengths as one int64 value."""
        dims = list(dims)
        if all(isinstance(d, int) for d in dims):
            return self.constant(dims, np.int64)
        parts = [self.ints(d) if isinstance(d, int) else d for d in dims]
        return parts[0] if len(parts) == 1 else self.op('Concat', *parts, axis=0)

    def calculate(self, function: str, a: Dim, b: Dim) -> Dim:
        """a and b added, subtracted, multiplied or (integers, not negative) divided: Add, Sub, Mul, Div, Max, Min."""
        if isinstance(a, int) and isinstance(b, int):
            return _INTEGER[function](a, b)
        a, b = (self.ints(d) if isinstance(d, int) else d for d in (a, b))
        return self.op(function, a, b)

    def product(self, dims: Iterable[Dim]) -> Dim:
        """The product of lengths."""
        total: Dim = 1
        for d in dims:
            total = d if total == 1 else total if d == 1 else self.calculate('Mul', total, d)
        return total

    def reshape(self, x: str, dims: Sequence[Dim]) -> str:
        """x in another shape; one length may be -1, for what is left over."""
        dims = list(dims)
        unknown = [i for i, d in enumerate(dims) if not isinstance(d, int)]
        # -1 says as much as one length that is known at run time, unless an axis is 0 long
        if len(unknown) == 1 and -1 not in dims and 0 not in dims:
            dims[unknown[0]] = -1
        return self.op('Reshape', x, self.as_value(dims))


_INTEGER: dict[str, Callable[[int, int], int]] = {
    'Add': lambda a, b: a + b,
    'Sub': lambda a, b: a - b,
    'Mul': lambda a, b: a * b,
    'Div': lambda a, b: a // b,
    'Max': max,
    'Min': min,
}


def subgraph(nodes: list, name: str, inputs: Sequence[tuple], outputs: Sequence[tuple]) -> onnx.GraphProto:
    """The body of a Scan or Loop. inputs, outputs: (name, NumPy type, shape); None in a shape for any length."""

    def described(values: Sequence[tuple]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(value, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
            for value, kind, shape in values
        ]

    return helper.make_graph(nodes, name, described(inputs), described(outputs))


def rename(nodes: Iterable[onnx.NodeProto], names: dict[str, str]) -> None:
    """Gives values other names, in place, in the bodies of nodes too."""
    for node in nodes:
        for values in (node.input, node.output):
            for i, value in enumerate(values):
                if value in names:
                    values[i] = names[value]
        for attribute in node.attribute:
            if attribute.HasField('g'):
                rename(attribute.g.node, names)


def drop_unused(graph: Graph, outputs: Iterable[str]) -> None:
    """Takes out nodes and initializers that no output needs."""
    needed, kept = set(outputs), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.output):
            needed.update(_read_by(node))
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.initializers = [tensor for tensor in graph.initializers if tensor.name in needed]


def _read_by(node: onnx.NodeProto) -> set[str]:
    read = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node if attribute.HasField('g') else ():
            read |= _read_by(inner)
    return read


FLOAT = TensorProto.FLOAT
