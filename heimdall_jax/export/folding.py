"""Operators that another one can do on its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from heimdall_jax.export.shapes import Shapes, infer
from heimdall_jax.export.simplify import remove_unused

CHAIN = ("Transpose", "Reshape", "Gemm")
"""From a batch norm back to its product."""


def fold_batch_norms(graph: GraphProto) -> None:
    """Let the matrix product before a batch norm with fixed statistics do its work; the same numbers up to rounding.

    ONNX Runtime does so for convolutions. Where an output is one pixel wide, `models.convolution` has a product.
    """
    makers, readers = _links(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    renamed: dict[str, str] = {}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        turn = makers.get(node.input[0]) if node.op_type == "Transpose" else None
        if turn is not None and turn.op_type == "Transpose" and _is_back(node, turn):
            renamed[node.output[0]] = turn.input[0]  # a batch norm stood between the two
            continue
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
    makers, readers = _links(graph)
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


def shapes_of(proto: ModelProto) -> Shapes:
    """What shapes follow from the inputs of a model, which stays as it is."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    infer(copy)
    return Shapes(copy.graph)


def gather_patches(graph: GraphProto, known: Shapes) -> None:
    """Let one gathering find the patches that a product takes, where each tap's slice did; the same numbers.

    `models.convolution` slices an image, each slice one pixel wide, and joins the slices by channels. ONNX Runtime
    gathers whole pixels faster than it cuts every second one.
    """
    makers, readers = _links(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        joined = makers.get(node.input[0]) if node.op_type == "Reshape" else None
        patches = None
        if joined is not None and readers[node.input[0]] == 1:
            if joined.op_type == "Concat":
                patches = _patches([makers.get(name) for name in joined.input], _attributes(joined)["axis"], known)
            elif joined.op_type == "Slice":  # of one tap there is nothing to join
                patches = _patches([joined], 3, known)
        width = 0 if patches is None else patches.shape[2] * patches.pixels.shape[1]
        if patches is None or known.of.get(node.output[0], ())[1:] != (width,):
            nodes.append(node)
            continue
        name, read = node.output[0], patches.image
        rows = np.asarray((-1, width))
        steps = [("Reshape", np.asarray(patches.shape), {})] if patches.wide else []
        steps += [("Gather", patches.pixels, {"axis": 1}), ("Reshape", rows, {})]
        for number, (kind, values, settings) in enumerate(steps, 1):
            given, result = f"{name}/{number}/with", name if number == len(steps) else f"{name}/{number}"
            graph.initializer.append(numpy_helper.from_array(values, given))
            nodes.append(helper.make_node(kind, [read, given], [result], name=result, **settings))
            read = result
    del graph.node[:]
    graph.node.extend(nodes)
    remove_unused(graph)


def reshape_later(graph: GraphProto, known: Shapes) -> None:
    """Rectify and add what products give before it is reshaped; the same numbers.

    ONNX Runtime rectifies within a product, but not behind a reshape.
    """
    makers, readers = _links(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        before = [makers.get(name) for name in node.input]
        nodes.append(node)
        if node.op_type not in ("Relu", "Add") or any(each is None or each.op_type != "Reshape" for each in before):
            continue
        flat = [each.input[0] for each in before if each is not None]
        targets = {each.input[1] for each in before if each is not None}
        widths = {known.of.get(name, ())[1:] for name in flat}
        alone = any(readers[name] == 1 for name in node.input)
        if not alone or len(targets) > 1 or len(widths) > 1 or any(len(known.of.get(name, ())) != 2 for name in flat):
            continue
        name = node.output[0]
        node.input[:], node.output[0] = flat, f"{name}/flat"
        nodes.append(helper.make_node("Reshape", [f"{name}/flat", targets.pop()], [name], name=f"{name}/shaped"))
        makers[name] = nodes[-1]
        known.of[f"{name}/flat"] = known.of[flat[0]]
    del graph.node[:]
    graph.node.extend(nodes)
    remove_unused(graph)


class _Patches(NamedTuple):
    """Pixels (rows out, taps) of an image of (0, pixels, channels), 0 for as it was, and whether rows have several."""

    image: str
    shape: tuple[int, int, int]
    wide: bool
    pixels: ndarray


def _patches(slices: Sequence[NodeProto | None], axis: int, known: Shapes) -> _Patches | None:
    """What slices read that are joined along an axis; None if they are no columns of one image, cut alike."""
    plain = [node for node in slices if node is not None and node.op_type == "Slice" and len(node.input) == 5]
    images = {node.input[0] for node in plain}
    image = images.pop() if len(images) == 1 else ""
    shape = [size for size in known.of.get(image, ())[1:] if isinstance(size, int)]
    if len(plain) < len(slices) or len(shape) != 3 or axis % 4 != 3:
        return None
    height, width, channels = shape
    pixels = []
    for node in plain:
        cuts = [known.contents.get(name, ("",)) for name in node.input[1:]]
        seen = np.arange(height * width).reshape(1, height, width, 1)
        for cut in zip(*cuts, strict=True):
            start, stop, along, step = (size if isinstance(size, int) else -1 for size in cut)
            seen = seen[(slice(None),) * along + (slice(start, stop, step),)] if along in (1, 2) else seen[:0]
        if seen.shape != (1, seen.size, 1, 1):
            return None
        pixels.append(seen.ravel())
    if len({len(rows) for rows in pixels}) != 1:
        return None
    return _Patches(image, (0, height * width, channels), width > 1, np.stack(pixels, axis=1))


def _links(graph: GraphProto) -> tuple[dict[str, NodeProto], Counter[str]]:
    """Which node makes a value, and how often it is read."""
    makers = {name: node for node in graph.node for name in node.output}
    return makers, Counter(name for node in graph.node for name in node.input)


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


def _is_back(node: NodeProto, turn: NodeProto) -> bool:
    """Whether a transpose undoes another."""
    return [_attributes(turn)["perm"][axis] for axis in _attributes(node)["perm"]] == sorted(_attributes(turn)["perm"])


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
