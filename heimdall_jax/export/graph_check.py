"""Is this ONNX graph the one its manifest describes? And are two graphs the same to the bit? Imports no JAX."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from heimdall_jax.errors import ExportError, explain
from heimdall_jax.export.signature import Tensor
from heimdall_jax.types import Domain


def parse_graph(model: bytes) -> ModelProto:
    """A model from the bytes of its file.

    Raises:
        ExportError: They are no ONNX model, or its tensors lie in other files.
    """
    try:
        proto = onnx.load_model_from_string(model)
    except DecodeError as error:
        raise _refuse("model file", f"no ONNX model ({error})", "an ONNX file") from error
    for tensor in _tensors_of(proto):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise _refuse(f"tensor {tensor.name}", "data in another file", "one self-contained file")
    return proto


def check_graph(
    model: bytes, *, opset: int, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], domain: Domain
) -> None:
    """Compare a model file with what its manifest says: opset, signature, origin and receivers.

    Raises:
        ExportError: They differ, or the file is no self-contained ONNX model.
    """
    proto = parse_graph(model)
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    if opsets != {"": opset}:
        raise _refuse("opset of the graph", str(opsets), f"{opset}, as the manifest says")
    for kind, values, tensors in (
        ("inputs", proto.graph.input, inputs),
        ("outputs", proto.graph.output, outputs),
    ):
        got, said = [_signature(value) for value in values], [_said(tensor) for tensor in tensors]
        if got != said:
            raise _refuse(f"{kind} of the graph", str(got), f"{said}, as the manifest says")
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    for key, value in (("origin_deg", domain.origin_deg), ("receivers", domain.receivers)):
        if metadata.get(key) != json.dumps(value):
            raise _refuse(f"{key} of the graph", str(metadata.get(key)), f"{json.dumps(value)}, as the manifest says")


def check_same_graph(got: ModelProto, wanted: ModelProto) -> None:
    """Compare two graphs to the bit, weights first.

    Raises:
        ExportError: They differ; names the tensor and its first different element, or the part.
    """
    weights = {tensor.name: tensor for tensor in wanted.graph.initializer}
    for tensor in got.graph.initializer:
        other = weights.pop(tensor.name, None)
        if other is None:
            raise _differs(f"weight {tensor.name}", "one that the checkpoint's export lacks")
        _check_same_tensor(tensor, other)
    if weights:
        raise _differs("weights", f"none named {sorted(weights)[0]}")
    for index, (node, other) in enumerate(zip(got.graph.node, wanted.graph.node, strict=False)):
        if not _same(node, other):
            raise _differs(f"node {index}", f"{node.op_type} {node.name}")
    for part in ("node", "input", "output"):
        ours, theirs = getattr(got.graph, part), getattr(wanted.graph, part)
        if len(ours) != len(theirs) or not all(map(_same, ours, theirs)):
            raise _differs(f"graph's {part}s", "others")
    if not _same(got, wanted):
        raise _differs("model file", "other contents outside weights, nodes and signature")


def _check_same_tensor(got: TensorProto, wanted: TensorProto) -> None:
    if _same(got, wanted):
        return
    ours, theirs = numpy_helper.to_array(got), numpy_helper.to_array(wanted)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        raise _differs(f"weight {got.name}", f"{ours.dtype}{ours.shape}, not {theirs.dtype}{theirs.shape}")
    bits = np.dtype(f"u{ours.dtype.itemsize}")
    places = np.argwhere(np.atleast_1d(ours).view(bits) != np.atleast_1d(theirs).view(bits))
    if len(places) == 0:
        raise _differs(f"weight {got.name}", "another encoding")
    first = tuple(int(i) for i in places[0])
    values = f"{np.atleast_1d(ours)[first]!r} at {list(first)}, not {np.atleast_1d(theirs)[first]!r}"
    raise _differs(f"weight {got.name}", f"{values}; {len(places)} of {ours.size} elements differ")


def _same(got: Any, wanted: Any) -> bool:
    return got.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)


def _signature(value: ValueInfoProto) -> tuple[str, str, list[str | int]]:
    kind = value.type.tensor_type
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    except KeyError:
        dtype = "no tensor"
    return value.name, dtype, [dim.dim_param or dim.dim_value for dim in kind.shape.dim]


def _said(tensor: Tensor) -> tuple[str, str, list[str | int]]:
    return tensor.name, tensor.dtype, list(tensor.shape)


def _tensors_of(proto: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model: initializers and attributes, in subgraphs and functions too."""
    yield from _tensors_of_graph(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _tensors_of_node(node)


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            yield attribute.t
        yield from attribute.tensors
        if attribute.type == AttributeProto.GRAPH:
            yield from _tensors_of_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _tensors_of_graph(graph)


def _refuse(what: str, got: str, allowed: str) -> ExportError:
    cure = "Export the run again, or fetch the bundle again."
    return ExportError(explain(what, got=got[:300], allowed=allowed[:300], cure=cure))


def _differs(what: str, got: str) -> ExportError:
    cure = "The file is not the checkpoint's model: export the run again, with the package versions of the manifest."
    return ExportError(explain(what, got=got, allowed="what the checkpoint exports to, bit by bit", cure=cure))
