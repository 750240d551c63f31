"""A graph that jax2onnx traced in float64, made fit for ONNX Runtime: float32 doors, and operators that it lacks.

jax2onnx traces in one precision; ONNX Runtime's CPU provider knows a few operators in float32 only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.polynomial import chebyshev
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from heimdall_jax.export.signature import Tensor

SINGLE, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
ERF_DEGREE = 26
"""Of the polynomial in `_error_function`: its error is then below 1e-13."""


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
        if node.op_type == "Gelu" and node.input[0] not in narrow:
            nodes += _gelu(node)
        elif node.op_type == "Erf" and node.input[0] not in narrow:
            nodes += _error_function(node.input[0], node.output[0])
        elif node.op_type == "Atan" and node.input[0] not in narrow:
            nodes += _arctangent(node)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def narrow_constants(graph: GraphProto) -> None:
    """Cast to float32 what is constant and meets float32 values: jax2onnx writes all constants in float64.

    It also widens what is broadcast.
    """
    kinds: dict[str, int | None] = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    constant = {tensor.name for tensor in graph.initializer}
    nodes: dict[str, NodeProto] = {}
    widened: dict[str, str] = {}
    for node in graph.node:
        node.input[:] = [widened.get(name, name) for name in node.input]
        if node.output[0].startswith("bcast_in_cast") and kinds.get(node.input[0]) == SINGLE:
            widened[node.output[0]] = node.input[0]
            continue
        read: set[int | None] = {kinds.get(name) for name in node.input}
        if {SINGLE, DOUBLE} <= read and node.op_type != "CastLike":
            for place, name in enumerate(node.input):
                if kinds.get(name) == DOUBLE and name in constant:
                    node.input[place] = f"{name}/single"
                    nodes[f"{name}/single"] = _cast(name, f"{name}/single", SINGLE)
            read.discard(DOUBLE)
        kinds.update(dict.fromkeys(node.output, _kind_given(node, kinds, read)))
        if not any(kinds.get(name) in (SINGLE, DOUBLE) and name not in constant for name in node.input):
            constant.update(node.output)
        nodes[node.output[0]] = node
    del graph.node[:]
    graph.node.extend(nodes.values())


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    """Give values other names wherever they are made or read, in the graphs inside this one, too."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _kind_given(node: NodeProto, kinds: dict[str, int | None], read: set[int | None]) -> int | None:
    """The type of floating point that a node gives, if it is one that follows from what it reads."""
    if node.op_type == "Cast":
        return next(attribute.i for attribute in node.attribute if attribute.name == "to")
    if node.op_type in ("Constant", "ConstantOfShape"):
        value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        return SINGLE if value is None else value.data_type
    if node.op_type == "CastLike":
        return kinds.get(node.input[1])
    if node.op_type in ("Shape", "ArgMax", "ArgMin", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"):
        return None
    return SINGLE if SINGLE in read else DOUBLE if DOUBLE in read else None


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


def _gelu(node: NodeProto) -> list[NodeProto]:
    """Half of x (1 + erf(x / sqrt 2)), or of x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) where it is approximated."""
    value, result = node.input[0], node.output[0]
    scaled, error, one, half = (f"{result}/{part}" for part in ("scaled", "erf", "one", "half"))
    if any(attribute.name == "approximate" and attribute.s == b"tanh" for attribute in node.attribute):
        square, factor, bent = (f"{result}/{part}" for part in ("square", "factor", "bent"))
        step = [
            helper.make_node("Mul", [value, value], [square], name=square),
            *_with_constant("Mul", square, 0.044715, f"{factor}/x"),
            *_with_constant("Add", f"{factor}/x", 1.0, factor),
            helper.make_node("Mul", [value, factor], [bent], name=bent),
            *_with_constant("Mul", bent, math.sqrt(2 / math.pi), scaled),
            helper.make_node("Tanh", [scaled], [error], name=error),
        ]
    else:
        step = [*_with_constant("Mul", value, math.sqrt(0.5), scaled), *_error_function(scaled, error)]
    steps = [
        *step,
        *_with_constant("Add", error, 1.0, one),
        *_with_constant("Mul", one, 0.5, half),
    ]
    return [*steps, helper.make_node("Mul", [value, half], [result], name=result)]


def _error_function(value: str, result: str) -> list[NodeProto]:
    """With erf x = sign x (1 - t exp(p(2 t - 1) - x^2)), t = 2 / (2 + |x|), p a polynomial (Press et al., 6.2.2)."""
    names = ("size", "base", "twice", "t", "u", "square", "exponent", "exp", "tail", "negative", "positive", "sign")
    size, base, two, t, u, square, exponent, exp, tail, negative, positive, sign = (f"{result}/{n}" for n in names)
    nodes = [
        helper.make_node("Abs", [value], [size], name=size),
        *_with_constant("Add", size, 2.0, base),
        *_with_constant("Div", base, 2.0, two),
        helper.make_node("Reciprocal", [two], [t], name=t),
        *_with_constant("Mul", t, 2.0, f"{u}/2"),
        *_with_constant("Add", f"{u}/2", -1.0, u),
        helper.make_node("Mul", [value, value], [square], name=square),
    ]
    power = u
    for order, coefficient in enumerate(_erf_polynomial()[::-1]):
        if order == 0:
            nodes += _with_constant("Mul", u, float(coefficient), f"{u}/product0")
            continue
        nodes += _with_constant("Add", f"{u}/product{order - 1}", float(coefficient), f"{u}/sum{order}")
        power = f"{u}/sum{order}"
        if order < ERF_DEGREE:
            nodes.append(helper.make_node("Mul", [power, u], [f"{u}/product{order}"], name=f"{u}/product{order}"))
    nodes += [
        helper.make_node("Sub", [power, square], [exponent], name=exponent),
        helper.make_node("Exp", [exponent], [exp], name=exp),
        helper.make_node("Mul", [t, exp], [tail], name=tail),
        helper.make_node("Neg", [tail], [negative], name=negative),
        *_with_constant("Add", negative, 1.0, positive),
        helper.make_node("Sign", [value], [sign], name=sign),
        helper.make_node("Mul", [sign, positive], [result], name=result),
    ]
    return nodes


@functools.cache
def _erf_polynomial() -> np.ndarray:
    """Coefficients, lowest first, of log(exp(x^2) erfc(x) / t) in u = 2 t - 1, t = 2 / (2 + x), for x from 0 up."""
    u = chebyshev.chebpts1(ERF_DEGREE + 1)
    t = (u + 1) / 2
    return chebyshev.cheb2poly(chebyshev.chebfit(u, np.log(scipy.special.erfcx(2 / t - 2) / t), ERF_DEGREE))


def _with_constant(operator: str, value: str, constant: float, result: str) -> list[NodeProto]:
    """An operator on a value and a constant beside it."""
    tensor = helper.make_tensor(f"{result}/number", DOUBLE, [], [constant])
    given = helper.make_node("Constant", [], [f"{result}/constant"], name=f"{result}/constant", value=tensor)
    return [given, helper.make_node(operator, [value, f"{result}/constant"], [result], name=result)]
