"""What is known of the shapes of a graph's values, those inside a loop among them: sizes, and names of free axes."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

Shape = tuple[int | str, ...]
"""Sizes; a name where any goes."""


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
                self.contents[node.output[0]] = shape[number_of(node, "start", 0) : number_of(node, "end", len(shape))]
        elif node.op_type in ("Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity"):
            found = self.contents.get(node.input[0])
            sizes = node.op_type != "Cast" or number_of(node, "to", 0) == TensorProto.INT64
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
                _infer_body(body_of(node), node, known, inferred)
    proto.CopyFrom(inferred)


def infer_again(proto: ModelProto) -> None:
    """The same after a rewriting that lets more follow: inference keeps what it once said of axes it knew not."""
    graph = proto.graph
    kept = [value for value in graph.value_info if not any(map(_is_made_up, _declared(value) or ("unk__",)))]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    infer(proto)


def _is_made_up(size: int | str) -> bool:
    return isinstance(size, str) and size.startswith("unk__")


def body_of(node: NodeProto) -> GraphProto:
    """What a loop repeats."""
    return next(attribute.g for attribute in node.attribute if attribute.name == "body")


def number_of(node: NodeProto, name: str, default: int) -> int:
    """A node's attribute, an integer."""
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


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


def _declared(value: onnx.ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    sizes = [size.dim_param or (size.dim_value if size.HasField("dim_value") else "") for size in tensor.shape.dim]
    return None if "" in sizes else tuple(sizes)
