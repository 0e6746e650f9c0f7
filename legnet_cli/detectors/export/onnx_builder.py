"""Write ONNX graphs as arithmetic on values: a thin layer over ``onnx.helper``.

    graph = Graph()
    x = graph.input("x", "f", ["n"])
    graph.output("y", (x * 2 + 1).op("Sqrt"))

Kinds of values are ``f`` float32, ``h`` float16, ``i`` int64, ``b`` bool, ``u`` uint8 and ``s`` int8. Numbers and
arrays become constants of the other operand's kind. Only operators of the ``ai.onnx`` domain exist here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18  # read by every runtime of the last three years
_TYPES = {
    "f": TensorProto.FLOAT,
    "h": TensorProto.FLOAT16,
    "i": TensorProto.INT64,
    "b": TensorProto.BOOL,
    "u": TensorProto.UINT8,
    "s": TensorProto.INT8,
}
_NUMPY: dict[str, Any] = {
    "f": np.float32,
    "h": np.float16,
    "i": np.int64,
    "b": np.bool_,
    "u": np.uint8,
    "s": np.int8,
}
_COMPARISONS = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "And", "Or", "Not"}
_INDICES = {"Shape", "Size", "NonZero"}
Operand: TypeAlias = "Value | float | int | NDArray[Any] | Sequence[float]"


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph: its name and kind, and arithmetic that appends nodes."""

    graph: Graph
    name: str
    kind: str

    def op(self, op_type: str, *others: Operand | None, kind: str | None = None, **attributes: Any) -> Value:  # noqa: ANN401
        """The only result of an operator whose first input is this value."""
        return self.graph.op(op_type, self, *others, kind=kind, **attributes)

    def __add__(self, other: Operand) -> Value:
        return self.op("Add", other)

    def __sub__(self, other: Operand) -> Value:
        return self.op("Sub", other)

    def __mul__(self, other: Operand) -> Value:
        return self.op("Mul", other)

    def __truediv__(self, other: Operand) -> Value:
        return self.op("Div", other)

    def __mod__(self, other: Operand) -> Value:
        return self.op("Mod", other)

    def __neg__(self) -> Value:
        return self.op("Neg")

    def __lt__(self, other: Operand) -> Value:
        return self.op("Less", other)

    def __le__(self, other: Operand) -> Value:
        return self.op("LessOrEqual", other)

    def __gt__(self, other: Operand) -> Value:
        return self.op("Greater", other)

    def __ge__(self, other: Operand) -> Value:
        return self.op("GreaterOrEqual", other)

    def __and__(self, other: Value) -> Value:
        return self.op("And", other)

    def equals(self, other: Operand) -> Value:
        """Where both are equal."""
        return self.op("Equal", other)

    def clip(self, low: Operand, high: Operand) -> Value:
        """Kept between two values, which may be tensors."""
        return self.op("Max", low).op("Min", high)

    def cast(self, kind: str) -> Value:
        """The same numbers as another kind."""
        return self if kind == self.kind else self.op("Cast", kind=kind, to=_TYPES[kind])

    def where(self, yes: Value, no: Operand) -> Value:
        """This mask's choice between two values."""
        return self.graph.op("Where", self, yes, self.graph.constant(no, yes.kind), kind=yes.kind)

    def take(self, index: Operand, axis: int = 0) -> Value:
        """The entries an index (array) selects along an axis."""
        return self.op("Gather", self.graph.constant(index, "i"), axis=axis)

    def slice(self, start: Operand, stop: Operand, axis: int = 0) -> Value:
        """Entries ``start:stop`` along an axis; both bounds (1,)."""
        indices = [self.graph.constant(end, "i") for end in (start, stop, [axis])]
        return self.op("Slice", *indices)

    def reshape(self, *shape: int) -> Value:
        """Another shape; -1 for what is left, 0 to keep a dimension."""
        return self.op("Reshape", self.graph.constant(shape, "i"))

    def unsqueeze(self, *axes: int) -> Value:
        """New axes of length one."""
        return self.op("Unsqueeze", self.graph.constant(axes, "i"))

    def squeeze(self, *axes: int) -> Value:
        """Without the given axes."""
        return self.op("Squeeze", self.graph.constant(axes, "i"))

    def transpose(self, *order: int) -> Value:
        """Axes in another order."""
        return self.op("Transpose", perm=order)

    def split(self, axis: int, *sizes: int) -> list[Value]:
        """Parts of the given sizes along an axis."""
        return self.graph.ops("Split", [self, self.graph.constant(sizes, "i")], [self.kind] * len(sizes), axis=axis)

    def columns(self, axis: int, count: int) -> list[Value]:
        """All ``count`` entries along an axis, which disappears."""
        return [part.squeeze(axis) for part in self.split(axis, *[1] * count)]

    def size(self, axis: int) -> Value:
        """Length of an axis, (1,)."""
        return self.op("Shape", start=axis, end=axis + 1)

    def rounded(self, low: float, high: float) -> Value:
        """The nearest of 256 steps between two bounds, which runtimes take as a request to compute in 8 bits."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = max(high - low, 1e-6) / 255
        scale = self.graph.constant(step, "f"), self.graph.constant(round(-low / step), "u")
        return self.op("QuantizeLinear", *scale, kind="u").op("DequantizeLinear", *scale, kind="f")

    def largest(self, count: Value, axis: int) -> tuple[Value, Value]:
        """The ``count`` (1,) largest entries along an axis in falling order, and where they are."""
        values, index = self.graph.ops("TopK", [self, count], [self.kind, "i"], axis=axis)
        return values, index


Body = Callable[[Value, list[Value]], tuple["Value | None", list[Value], list[Value]]]


class Graph:
    """Collects nodes; :meth:`model` makes a checked model of them.

    Args:
        prefix: of the names given to values, so that two graphs can be joined.
    """

    def __init__(self, prefix: str = "box_") -> None:
        self._prefix, self._count = prefix, 0
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[Any, ...], Value] = {}
        self.initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    def input(self, name: str, kind: str, shape: Sequence[int | str]) -> Value:
        """An input of the model."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))
        return Value(self, name, kind)

    def output(self, name: str, value: Value, shape: Sequence[int | str]) -> None:
        """Give ``value`` out under a name."""
        self._nodes.append(helper.make_node("Identity", [value.name], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[value.kind], shape))

    def constant(self, value: Operand, kind: str) -> Value:
        """``value`` itself, or an initializer of that kind, stored once."""
        if isinstance(value, Value):
            return value
        array = np.asarray(value, _NUMPY[kind])
        key = (kind, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._constants:
            name = self._name()
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = Value(self, name, kind)
        return self._constants[key]

    def ops(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        kinds: Sequence[str],
        **attributes: Any,  # noqa: ANN401
    ) -> list[Value]:
        """All results of an operator, whose kinds are given."""
        results = [Value(self, self._name(), kind) for kind in kinds]
        names = ["" if value is None else value.name for value in inputs]
        self._nodes.append(helper.make_node(op_type, names, [result.name for result in results], **attributes))
        return results

    def op(
        self,
        op_type: str,
        first: Value,
        *others: Operand | None,
        kind: str | None = None,
        **attributes: Any,  # noqa: ANN401
    ) -> Value:
        """The only result of an operator; of the first input's kind unless the operator or ``kind`` says otherwise."""
        inputs = [first, *(None if other is None else self.constant(other, first.kind) for other in others)]
        known = "b" if op_type in _COMPARISONS else "i" if op_type in _INDICES else first.kind
        return self.ops(op_type, inputs, [kind or known], **attributes)[0]

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values one after the other along an axis."""
        return self.op("Concat", *values, axis=axis)

    def stack(self, values: Sequence[Value], axis: int) -> Value:
        """Values side by side along a new axis."""
        return self.concat([value.unsqueeze(axis) for value in values], axis)

    def loop(self, state: Sequence[Value], body: Body, trips: Value | None = None) -> list[Value]:
        """Repeat ``body`` while it says so, or ``trips`` () times.

        Args:
            state: first values of what is handed from turn to turn.
            body: gets the turn's number () and the state; returns whether to go on (a bool (), None for always), the
                new state, and values of which those of all turns are collected along a new first axis.
            trips: most turns; None for no limit.

        Returns:
            The last state, then what was collected. The first turn is always taken unless ``trips`` is 0.
        """
        outside, self._nodes = self._nodes, []
        turn, going = Value(self, self._name(), "i"), Value(self, self._name(), "b")
        inner = [Value(self, self._name(), value.kind) for value in state]
        again, new, collected = body(turn, inner)
        # an output of the body must be made in it
        again, *results = [value.op("Identity") for value in (again or going, *new, *collected)]
        nodes, self._nodes = self._nodes, outside
        graph = helper.make_graph(
            nodes,
            self._name(),
            [_info(turn, []), _info(going, []), *(_info(value) for value in inner)],
            [_info(again, []), *(_info(value) for value in results)],
        )
        kinds = [value.kind for value in (*new, *collected)]
        return self.ops("Loop", [trips, self.constant(np.array(True), "b"), *state], kinds, body=graph)

    def absorb(self, model: onnx.ModelProto, inputs: dict[str, Value], kinds: dict[str, str]) -> dict[str, Value]:
        """Append the nodes of another model, fed with ``inputs``; returns its outputs, whose kinds are given."""
        names = {name: value.name for name, value in inputs.items()}
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            self._nodes.append(node)
        self.initializers.extend(model.graph.initializer)
        return {name: Value(self, name, kind) for name, kind in kinds.items()}

    def model(self, name: str, metadata: dict[str, str]) -> onnx.ModelProto:
        """The model, checked; ``metadata`` goes into its properties."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self.initializers)
        # IR 8 is what the oldest runtimes with this opset read
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        return model


def _info(value: Value, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, _TYPES[value.kind], shape)
