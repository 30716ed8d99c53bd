"""ONNX nodes written one after another: names are made up, constants are kept with their graph."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 18
"""Version of the operators; ONNX Runtime 1.14 and OpenVINO 2023.0 know it already."""
IR_VERSION = 9

Value: TypeAlias = str | np.ndarray | np.generic
"""The name of a value, or a constant."""

Shape: TypeAlias = Sequence[int | str]


class Graph:
    """Nodes in order; every method that adds one returns the name of its result.

    Args:
        prefix: Before every name, so that the values of two graphs differ.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._count = 0

    def name(self, kind: str) -> str:
        """Return a name that is not in use."""
        self._count += 1
        return f"{self.prefix}/{kind}_{self._count}"

    def constant(self, value: np.ndarray | np.generic) -> str:
        """Keep a constant."""
        name = self.name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: Value, result: str | None = None, **attributes: Any) -> str:
        """Add a node with one result, named as wanted or by itself."""
        return self.ops(kind, *inputs, results=(result,), **attributes)[0]

    def ops(
        self, kind: str, *inputs: Value, results: Sequence[str | None], **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several results; where the name is `None`, one is made up."""
        names = tuple(name or self.name(kind.lower()) for name in results)
        given = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, given, names, name=self.name(kind), **attributes))
        return names

    def cast(self, value: Value, to: int, *, result: str | None = None) -> str:
        """Convert to a type of `TensorProto`."""
        return self.op("Cast", value, result=result, to=to)

    def to_int(self, value: Value) -> str:
        """Convert to int64."""
        return self.cast(value, TensorProto.INT64)

    def to_float(self, value: Value) -> str:
        """Convert to float32."""
        return self.cast(value, TensorProto.FLOAT)

    def to_double(self, value: Value) -> str:
        """Convert to float64."""
        return self.cast(value, TensorProto.DOUBLE)

    def count_up(self, stop: Value) -> str:
        """Return 0, 1, 2... below an int64 scalar."""
        return self.op("Range", np.int64(0), stop, np.int64(1))

    def join(self, *sizes: Value) -> str:
        """Return one int64 row of scalars."""
        return self.op("Concat", *(self.op("Unsqueeze", size, np.array([0])) for size in sizes), axis=0)

    def reshape(self, value: Value, *sizes: Value | int) -> str:
        """Reshape to sizes of which some are values of the graph."""
        if all(isinstance(size, int) for size in sizes):
            return self.op("Reshape", value, np.array(sizes, np.int64))
        return self.op(
            "Reshape",
            value,
            self.join(*(np.int64(size) if isinstance(size, int) else size for size in sizes)),
        )

    def body(
        self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> GraphProto:
        """Return the nodes as a graph, or as the branch or body of a node in another."""
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.constants)


def described(name: str, kind: int, shape: Shape) -> ValueInfoProto:
    """Return an input or output of a graph; sizes given as words are dynamic."""
    return helper.make_tensor_value_info(name, kind, list(shape))
