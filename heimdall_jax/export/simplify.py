"""A graph that jax2onnx traced with any batch and any number of receivers, without its arithmetic of shapes.

jax2onnx asks for shapes wherever something is broadcast, and writes every broadcast out: half of the nodes of a network
that fuses arrival times, which a single fix spends half of its time on. What ONNX's own shape inference knows of them
(sizes, and the names of the inputs' free axes) is written down instead; operators that broadcast do it themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from heimdall_jax.export.shapes import Shape, Shapes, body_of, infer, infer_again, number_of

BROADCASTING = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "MatMul"),
}
"""Operators that broadcast what they read; the last over its leading axes."""


def simplify(proto: ModelProto, sizes: Mapping[str, tuple[str, int]]) -> None:
    """Rewrite a model in place; it gives the same numbers.

    Args:
        proto: Its inputs declare their shapes, free axes by name.
        sizes: For each name of a free axis an input and which of its axes has that size.
    """
    _cast_before_expand(proto.graph)
    infer(proto)
    while _leave_whole_axes(proto.graph):
        infer_again(proto)
    graph = proto.graph  # inference puts another in its place
    for node in graph.node:
        if node.op_type == "Loop":
            _read_from_outside(graph, node)
            _drop_idle_casts(body_of(node))
    known = Shapes(graph)
    written = _Sizes(sizes)
    _rewrite(graph, known, written)
    nodes = [*written.nodes, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(written.constants.values())
    remove_unused(graph)


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


def _cast_before_expand(graph: GraphProto) -> None:
    """Cast what is expanded, not what it was expanded to: it is less, and who reads that may broadcast."""
    # An input that may be left out is not of its declared shape then.
    inputs = {value.name for value in graph.input}
    expands = {node.output[0]: node for node in graph.node if node.op_type == "Expand" and node.input[0] not in inputs}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in expands:
            given, sizes = expands[node.input[0]].input
            small = NodeProto()
            small.CopyFrom(node)
            small.input[0], small.output[0], small.name = given, f"{node.output[0]}/small", f"{node.name}/small"
            nodes.append(small)
            node = helper.make_node("Expand", [small.output[0], sizes], list(node.output), name=node.name)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _leave_whole_axes(graph: GraphProto) -> bool:
    """Let slices name only the axes that they cut; whether one was changed, which tells more of shapes.

    ONNX's inference forgets the name of an axis that is sliced from 0 to its size.
    """
    known, changed = Shapes(graph), False
    for node in graph.node:
        before = known.of.get(node.input[0]) if node.op_type == "Slice" and len(node.input) == 5 else None
        cuts = [known.contents.get(name) for name in node.input[1:]]
        if before is None or any(cut is None for cut in cuts):
            continue
        each = list(zip(*(cut for cut in cuts if cut is not None), strict=True))
        cutting = [cut for cut in each if (cut[0], cut[1], cut[3]) != (0, before[int(cut[2])], 1)]
        told = all(isinstance(size, int) for cut in cutting for size in cut)
        if not told or not 0 < len(cutting) < len(each):
            continue
        for place, values in enumerate(zip(*cutting, strict=True), 1):
            node.input[place] = f"{node.output[0]}/{len(cutting)}_cuts/{place}"
            graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), node.input[place]))
        changed = True
    return changed


def _read_from_outside(graph: GraphProto, loop: NodeProto) -> None:
    """Let a loop's body read from outside what the loop would only carry along unchanged."""
    body = body_of(loop)
    copies = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
    for place in reversed(range(len(loop.input) - 2)):
        given, inside, result = loop.input[place + 2], body.input[place + 2].name, body.output[place + 1].name
        if copies.get(result, result) != inside:
            continue
        _rename_read(body, inside, given)
        _rename_read(graph, loop.output[place], given)
        del loop.input[place + 2], loop.output[place], body.input[place + 2], body.output[place + 1]


def _drop_idle_casts(graph: GraphProto) -> None:
    """Without casts of what has that type already: each value that a loop carries is written out with one."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    makers = {name: node for node in graph.node for name in node.output}
    results = {value.name for value in graph.output}
    for node in list(graph.node):
        given, name = node.input[:1], node.output[0]
        if node.op_type != "Cast" or given[0] in results or kinds.get(given[0]) != number_of(node, "to", 0):
            continue
        if (maker := makers.get(given[0])) is not None:
            _rename_read(graph, given[0], name)
            maker.output[:] = [name if each == given[0] else each for each in maker.output]
            graph.node.remove(node)


def _rename_read(graph: GraphProto, name: str, other: str) -> None:
    """Read another value wherever one was read."""
    for node in graph.node:
        node.input[:] = [other if read == name else read for read in node.input]
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _rename_read(attribute.g, name, other)


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
    if wanted is None or number_of(node, "allowzero", 0):
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


def _read_by(node: NodeProto) -> Iterable[str]:
    """Names that a node reads, those that graphs inside it read from outside among them."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from _read_by(inner)
            yield from (output.name for output in attribute.g.output)
