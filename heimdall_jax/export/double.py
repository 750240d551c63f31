"""A graph that jax2onnx traced in float64, made fit for ONNX Runtime: float32 doors, and operators that it lacks.

jax2onnx traces in one precision; ONNX Runtime's CPU provider knows a few operators in float32 only.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from heimdall_jax.export.signature import Tensor

SINGLE, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
NARROWED = ("Erf", "Gelu")
"""Run in float32: what rounds there are a network's activations, not a place."""


def open_doors(proto: ModelProto, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Let a float64 graph take and give float32 where its signature says so."""
    graph = proto.graph
    narrow = [tensor.name for tensor in inputs if tensor.dtype == "float32"]
    _rename(graph, {name: f"{name}/double" for name in narrow})
    for name in reversed(narrow):
        graph.node.insert(0, _cast(name, f"{name}/double", DOUBLE))
    results = {tensor.name: f"{tensor.name}/double" for tensor in outputs if tensor.dtype == "float32"}
    _rename(graph, results)
    graph.node.extend(_cast(value, name, SINGLE) for name, value in results.items())


def use_known_operators(graph: GraphProto) -> None:
    """Replace, in a float64 graph and those inside it, what ONNX Runtime has no float64 kernel for."""
    narrow = {node.output[0] for node in graph.node if node.op_type == "Cast" and node.attribute[0].i == SINGLE}
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                use_known_operators(attribute.g)
        if node.op_type in NARROWED and node.input[0] not in narrow:
            nodes += _narrowed(node)
        elif node.op_type == "Atan" and node.input[0] not in narrow:
            nodes += _arctangent(node)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    """Give values other names wherever they are made or read, in the graphs inside this one, too."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _cast(value: str, result: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [value], [result], name=f"{value} to {result}", to=kind)


def _narrowed(node: NodeProto) -> list[NodeProto]:
    value, result = node.input[0], node.output[0]
    node.input[0], node.output[0] = f"{result}/narrow", f"{result}/single"
    return [_cast(value, node.input[0], SINGLE), node, _cast(node.output[0], result, DOUBLE)]


def _arctangent(node: NodeProto) -> list[NodeProto]:
    """An angle a from float32 (error e = 1e-7) plus tan(atan(x) - a) = (x cos a - sin a) / (cos a + x sin a): e^3."""
    value, result = node.input[0], node.output[0]
    angle, sine, cosine, top, base, rest = (
        f"{result}/{part}" for part in ("angle", "sin", "cos", "top", "base", "rest")
    )
    first = helper.make_node("Atan", [value], [angle])
    steps = (
        ("Sin", [angle], sine),
        ("Cos", [angle], cosine),
        ("Mul", [value, cosine], f"{top}/x"),
        ("Sub", [f"{top}/x", sine], top),
        ("Mul", [value, sine], f"{base}/x"),
        ("Add", [cosine, f"{base}/x"], base),
        ("Div", [top, base], rest),
        ("Add", [angle, rest], result),
    )
    return _narrowed(first) + [helper.make_node(operator, read, [made], name=made) for operator, read, made in steps]
