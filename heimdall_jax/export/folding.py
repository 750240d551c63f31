"""Operators that another one can do on its own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from heimdall_jax.export.simplify import remove_unused

CHAIN = ("Transpose", "Reshape", "Gemm")
"""From a batch norm back to its product."""


def fold_batch_norms(graph: GraphProto) -> None:
    """Let the matrix product before a batch norm with fixed statistics do its work; the same numbers up to rounding.

    ONNX Runtime does so for convolutions. Where an output is one pixel wide, `models.convolution` has a product.
    """
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    renamed: dict[str, str] = {}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        product = _product_before(node, makers, readers)
        if product is None:
            nodes.append(node)
            continue
        scale, shift, mean, variance = (
            numpy_helper.to_array(constants[name]).astype(np.float64) for name in node.input[1:]
        )
        gain = scale / np.sqrt(variance + _attributes(node).get("epsilon", 1e-5))
        offset = shift - mean * gain
        weights, names = product.input[1], [f"{node.output[0]}/{what}" for what in ("gain", "offset", "weights")]
        for name, values in zip(names, (gain, offset), strict=False):
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        place = next(number for number, each in enumerate(nodes) if each is product)
        nodes.insert(place, helper.make_node("Mul", [weights, names[0]], [names[2]], name=names[2]))
        del product.input[1:], product.attribute[:]
        product.input.extend([names[2], names[1]])
        renamed[node.output[0]] = node.input[0]
    del graph.node[:]
    graph.node.extend(nodes)


def fold_paddings(graph: GraphProto) -> None:
    """Let a maximum over windows pad the image that it reads; the same numbers.

    jax2onnx leaves out what `nnx.max_pool` is told to pad, so that models pad before it. ONNX Runtime copies the image
    for that, and once more from its own layout and back.
    """
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for pool in graph.node:
        turn = makers.get(pool.input[0]) if pool.op_type == "MaxPool" else None
        pad = makers.get(turn.input[0]) if turn is not None and turn.op_type == "Transpose" else None
        if turn is None or pad is None or pad.op_type != "Pad" or len(pad.input) != 3:
            continue
        if readers[turn.input[0]] > 1 or readers[pool.input[0]] > 1:
            continue
        edges, value = (
            numpy_helper.to_array(constants[name]) if name in constants else None for name in pad.input[1:3]
        )
        order, settings = _attributes(turn)["perm"], _attributes(pool)
        if edges is None or value != -np.inf or settings.get("auto_pad") != b"VALID":
            continue
        both = edges.reshape(2, -1)[:, order]
        if both[:, :2].any():
            continue
        turn.input[0] = pad.input[0]
        del pool.attribute[:]
        settings = {name: each for name, each in settings.items() if name != "auto_pad"}
        kept = helper.make_node("MaxPool", [], [], pads=both[:, 2:].ravel().tolist(), **settings)
        pool.attribute.extend(kept.attribute)
    remove_unused(graph)


def _product_before(node: NodeProto, makers: dict[str, NodeProto], readers: Counter[str]) -> NodeProto | None:
    """The product, without a bias, whose columns alone a batch norm scales; None where there is none."""
    if node.op_type != "BatchNormalization":
        return None
    for kind in CHAIN:
        before = makers.get(node.input[0])
        if before is None or before.op_type != kind or readers[node.input[0]] > 1:
            return None
        node = before
    plain = {"alpha": 1.0, "beta": 0.0, "transA": 0, "transB": 0}
    return node if plain == plain | _attributes(node) else None


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
