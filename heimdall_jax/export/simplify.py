"""A graph that jax2onnx traced with any batch and any number of receivers, without its arithmetic of shapes.

jax2onnx asks for shapes wherever something is broadcast, and writes every broadcast out: half of the nodes of a network
that fuses arrival times, which a single fix spends half of its time on. What ONNX's own shape inference knows of them
(sizes, and the names of the inputs' free axes) is written down instead; operators that broadcast do it themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

Shape = tuple[int | str, ...]
"""Sizes; a name where any goes."""
BROADCASTING = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "MatMul"),
}
"""Operators that broadcast what they read; the last over its leading axes."""


class Shapes:
    """What is known of a graph's values: shapes, and the contents of those that are sizes themselves."""

    def __init__(self, graph: GraphProto, outer: Shapes | None = None) -> None:
        self.of: dict[str, Shape] = dict(outer.of) if outer else {}
        self.contents: dict[str, Shape] = dict(outer.contents) if outer else {}
        for value in (*graph.input, *graph.output, *graph.value_info):
            shape = _declared(value)
            if shape is not None:
                self.of[value.name] = shape
        for tensor in graph.initializer:
            self.learn(tensor.name, tensor)
        for node in graph.node:
            self._evaluate(node)

    def learn(self, name: str, tensor: TensorProto) -> None:
        """A constant's shape, and its contents where they may be sizes."""
        self.of[name] = tuple(tensor.dims)
        if tensor.data_type == TensorProto.INT64 and len(tensor.dims) < 2:
            self.contents[name] = tuple(int(number) for number in numpy_helper.to_array(tensor).ravel())

    def _evaluate(self, node: NodeProto) -> None:
        """Contents of what one node gives, where it computes with sizes."""
        if node.op_type == "Constant":
            self.learn(node.output[0], node.attribute[0].t)
        elif node.op_type == "Shape":
            shape = self.of.get(node.input[0])
            if shape is not None:
                self.contents[node.output[0]] = shape[_number(node, "start", 0) : _number(node, "end", len(shape))]
        elif node.op_type in ("Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity"):
            found = self.contents.get(node.input[0])
            sizes = node.op_type != "Cast" or _number(node, "to", 0) == TensorProto.INT64
            if found is not None and sizes and len(self.of.get(node.output[0], ())) < 2:
                self.contents[node.output[0]] = found
        elif node.op_type == "Concat":
            parts = [self.contents.get(name) for name in node.input]
            if all(part is not None for part in parts):
                self.contents[node.output[0]] = tuple(size for part in parts if part is not None for size in part)
        elif node.op_type == "Gather":
            data, index = (self.contents.get(name) for name in node.input)
            if data is not None and index is not None:
                self.contents[node.output[0]] = tuple(data[place] for place in index if isinstance(place, int))


def simplify(proto: ModelProto, sizes: Mapping[str, tuple[str, int]]) -> None:
    """Rewrite a model in place; it gives the same numbers.

    Args:
        proto: Its inputs declare their shapes, free axes by name.
        sizes: For each name of a free axis an input and which of its axes has that size.
    """
    infer(proto)
    graph = proto.graph
    known = Shapes(graph)
    written = _Sizes(sizes)
    _rewrite(graph, known, written)
    nodes = [*written.nodes, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(written.constants.values())
    remove_unused(graph)


def infer(proto: ModelProto) -> None:
    """Write down in the model what shapes follow from its inputs', those of what a loop carries among them."""
    inferred = _inferred(proto)
    loops = [node for node in inferred.graph.node if node.op_type == "Loop"]
    if loops:
        known = Shapes(inferred.graph)
        for node in loops:
            _declare_carried(inferred.graph, node, known)
        inferred = _inferred(inferred)
        known = Shapes(inferred.graph)
        for node in inferred.graph.node:
            if node.op_type == "Loop":
                _infer_body(_body(node), node, known, inferred)
    proto.CopyFrom(inferred)


def remove_unused(graph: GraphProto) -> None:
    """Drop nodes and constants that nothing reads, in the graphs inside this one, too."""
    needed = Counter(output.name for output in graph.output)
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if any(needed[name] for name in node.output):
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    remove_unused(attribute.g)
            needed.update(_read_by(node))
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if needed[tensor.name]]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


class _Sizes:
    """Vectors of sizes, each written once at the beginning of the model."""

    def __init__(self, source: Mapping[str, tuple[str, int]]) -> None:
        self.source = source
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def name(self, sizes: Shape, *, scalar: bool) -> str | None:
        """Of the value that holds these; None where they do not follow from the inputs."""
        if not all(isinstance(size, int) or size in self.source for size in sizes):
            return None
        name = f"size/{'x'.join(map(str, sizes))}{'/scalar' if scalar else ''}"
        made = name in self.constants or any(name == node.output[0] for node in self.nodes)
        if made:
            return name
        if all(isinstance(size, int) for size in sizes):
            array = np.asarray(sizes[0] if scalar else sizes, np.int64)
            self.constants[name] = numpy_helper.from_array(array, name)
        elif len(sizes) == 1 and scalar:
            read = [self.name(sizes, scalar=False) or "", self.name((0,), scalar=False) or ""]
            self.nodes.append(helper.make_node("Squeeze", read, [name], name=name))
        elif len(sizes) == 1:
            value, axis = self.source[str(sizes[0])]
            self.nodes.append(helper.make_node("Shape", [value], [name], name=name, start=axis, end=axis + 1))
        else:
            parts = [self.name((size,), scalar=False) or "" for size in sizes]
            self.nodes.append(helper.make_node("Concat", parts, [name], name=name, axis=0))
        return name


def _rewrite(graph: GraphProto, known: Shapes, written: _Sizes) -> None:
    """Sizes read from constants or from the model's first nodes, broadcasts left to who reads them."""
    expands = {node.output[0]: node for node in graph.node if node.op_type == "Expand"}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _rewrite(attribute.g, Shapes(attribute.g, known), written)
        if node.op_type == "Reshape":
            node.input[1] = _reshape(node, known, written) or node.input[1]
        for place, name in enumerate(node.input):
            if name in known.contents and not name.startswith("size/") and node.op_type not in ("Shape", "Constant"):
                scalar = known.of.get(name) == ()
                node.input[place] = written.name(known.contents[name], scalar=scalar) or name
        if node.op_type in BROADCASTING:
            _read_before_expand(node, expands, known)
    for node in graph.node:
        if node.op_type == "Expand" and _same(known.of.get(node.input[0]), known.of.get(node.output[0])):
            del node.input[1:]
            node.op_type = "Identity"


def _reshape(node: NodeProto, known: Shapes, written: _Sizes) -> str | None:
    """A constant for a reshape's target: 0 keeps an axis, -1 is what is left."""
    before, wanted = known.of.get(node.input[0]), known.contents.get(node.input[1])
    if wanted is None or _number(node, "allowzero", 0):
        return None
    before = before or ()
    kept = [
        0 if isinstance(size, str) and before[place : place + 1] == (size,) else size
        for place, size in enumerate(wanted)
    ]
    if sum(size == -1 or isinstance(size, str) for size in kept) > 1:
        return None
    return written.name(tuple(-1 if isinstance(size, str) else size for size in kept), scalar=False)


def _read_before_expand(node: NodeProto, expands: Mapping[str, NodeProto], known: Shapes) -> None:
    """Let an operator that broadcasts read what was expanded for it."""
    shapes = [known.of.get(name) for name in node.input]
    result = known.of.get(node.output[0])
    if result is None:
        return
    for place, name in enumerate(node.input):
        while name in expands:
            name = expands[name].input[0]
            shape = known.of.get(name)
            others = [other for number, other in enumerate(shapes) if number != place]
            if shape is None or _broadcast([shape, *others], matrices=node.op_type == "MatMul") != result:
                break
            node.input[place], shapes[place] = name, shape


def _broadcast(shapes: Sequence[Shape | None], *, matrices: bool) -> Shape | None:
    """The shape that operands of these give; None where that is not known."""
    if any(shape is None for shape in shapes):
        return None
    parts = [shape for shape in shapes if shape is not None]
    tail: Shape = ()
    if matrices:
        if any(len(shape) < 2 for shape in parts):
            return None
        tail = (parts[0][-2], parts[1][-1]) if _same(parts[0][-1:], parts[1][-2:-1]) else ()
        parts = [shape[:-2] for shape in parts]
        if not tail:
            return None
    rank = max(len(shape) for shape in parts)
    result: list[int | str] = []
    for axis in range(-rank, 0):
        sizes = {shape[axis] for shape in parts if len(shape) >= -axis} - {1}
        if len(sizes) > 1:
            return None
        result.append(sizes.pop() if sizes else 1)
    return (*result, *tail)


def _same(a: Shape | None, b: Shape | None) -> bool:
    return a is not None and a == b


def _inferred(proto: ModelProto) -> ModelProto:
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def _declare_carried(graph: GraphProto, node: NodeProto, known: Shapes) -> None:
    """A traced loop carries values of one shape: what comes out is shaped as what goes in."""
    for before, after in zip(node.input[2:], node.output, strict=False):
        shape = known.of.get(before)
        for value in graph.value_info:
            if value.name == after and shape is not None:
                value.CopyFrom(helper.make_tensor_value_info(after, value.type.tensor_type.elem_type, shape))


def _infer_body(body: GraphProto, node: NodeProto, known: Shapes, proto: ModelProto) -> None:
    """Shapes inside a loop, from those of what it carries and of what it reads from outside."""
    for value, given in zip(body.input[2:], node.input[2:], strict=True):
        if given in known.of:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, known.of[given]))
    del body.value_info[:]
    alone = helper.make_model(body, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    for value in alone.graph.output:
        value.type.tensor_type.ClearField("shape")
    body.CopyFrom(_inferred(alone).graph)


def _body(node: NodeProto) -> GraphProto:
    return next(attribute.g for attribute in node.attribute if attribute.name == "body")


def _read_by(node: NodeProto) -> Iterable[str]:
    """Names that a node reads, those that graphs inside it read from outside among them."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from _read_by(inner)
            yield from (output.name for output in attribute.g.output)


def _declared(value: onnx.ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    sizes = [size.dim_param or (size.dim_value if size.HasField("dim_value") else "") for size in tensor.shape.dim]
    return None if "" in sizes else tuple(sizes)


def _number(node: NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)
