"""A float32 graph made smaller: constants kept in float16, or layers that compute in int8. Imports no JAX.

Float16 is for keeping only: the graph widens its constants again and computes in float32, since ONNX Runtime's CPU
provider does so anyway, and distances of 100 km and their squares do not fit into float16's range.
Int8 is static: QuantizeLinear and DequantizeLinear around each layer, with ranges from samples (Jacob et al. 2018).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from heimdall_jax.errors import ExportError, explain
from heimdall_jax.export.graph_check import parse_graph
from heimdall_jax.export.session import FATAL_ONLY

LAYERS = ("Conv", "Gemm", "MatMul")
"""Operators that multiply by weights."""
WORTHWHILE = 256
"""Least elements of a constant that is made smaller. The last layers of the heads, which give metres, have fewer."""
LARGEST_HALF = float(np.finfo(np.float16).max)
WARNINGS = 2
"""ONNX Runtime's own log level."""


def to_float16(model: bytes) -> bytes:
    """The graph with its large float32 constants in float16, as far as they fit; inputs and outputs as they were.

    Raises:
        ExportError: It computes in float64, holds no such constant, or ONNX Runtime cannot read it.
    """
    with tempfile.TemporaryDirectory() as folder, _trouble("float16"):
        proto = _folded(model, Path(folder))
        _refuse_double(proto)
        narrowed = [tensor for tensor in proto.graph.initializer if _fits_half(tensor)]
        if not narrowed:
            raise _no_weights("float16", f"constants of {WORTHWHILE} or more float32 numbers")
        for tensor in narrowed:
            name = tensor.name
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}/half"))
            widen = helper.make_node("Cast", [f"{name}/half"], [name], name=f"{name}/widen", to=TensorProto.FLOAT)
            proto.graph.node.insert(0, widen)
        return _finished(proto, parse_graph(model))


def to_int8(model: bytes, batches: Iterable[Mapping[str, np.ndarray]]) -> bytes:
    """The graph with every layer of many weights in int8; inputs and outputs as they were.

    Weights have a scale per output channel and 7 bits: with 8 the sums of processors without VNNI would saturate, and
    the file would be worth less there than where it was measured.

    Args:
        model: A float32 graph.
        batches: What it is fed to find how large values between layers become; never of the test split.

    Raises:
        ExportError: It computes in float64, has no such layer, no batch was given, or the quantizer fails.
    """
    with tempfile.TemporaryDirectory() as folder, _trouble("int8"):
        proto = _folded(model, Path(folder))
        _refuse_double(proto)
        layers = _layers(proto)
        if not layers:
            raise _no_weights("int8", f"layers ({', '.join(LAYERS)}) of {WORTHWHILE} or more float32 weights")
        whole, quantized = Path(folder) / "whole.onnx", Path(folder) / "quantized.onnx"
        onnx.save(proto, whole)
        quantize_static(
            whole,
            quantized,
            _Reader(iter(batches)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(LAYERS),
            nodes_to_quantize=layers,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _finished(onnx.load(quantized), parse_graph(model))


def _folded(model: bytes, folder: Path) -> ModelProto:
    """The same graph with constants computed and normalisations moved into convolutions, so that weights are bare.

    Left as it was where that makes it larger: a radio map's tables are repeated for each receiver.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    proto = onnx.load(folder / "folded.onnx")
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        # jax2onnx gives a product without a bias one that is 0, which the quantizer takes for a vector.
        bias = constants.get(node.input[2]) if node.op_type == "Gemm" and len(node.input) == 3 else None
        if bias is not None and not numpy_helper.to_array(bias).any():
            del node.input[2]
    return proto if proto.ByteSize() <= len(model) else parse_graph(model)


def _finished(proto: ModelProto, original: ModelProto) -> bytes:
    """The bytes of a changed graph that says of itself what the original does."""
    versions = {entry.domain: entry for entry in original.opset_import}
    foreign = {node.domain for node in proto.graph.node} - versions.keys()
    if foreign:
        raise ExportError(
            explain("smaller graph", got=f"operators of {sorted(foreign)}", allowed="ONNX's own", cure="Leave it out.")
        )
    for field in ("opset_import", "metadata_props"):
        proto.ClearField(field)
        getattr(proto, field).extend(getattr(original, field))
    proto.producer_name, proto.producer_version = original.producer_name, original.producer_version
    proto.ir_version, proto.doc_string = original.ir_version, original.doc_string
    proto.graph.name = original.graph.name
    for field in ("input", "output", "value_info"):
        proto.graph.ClearField(field)
        getattr(proto.graph, field).extend(getattr(original.graph, field))
    data = proto.SerializeToString(deterministic=True)
    onnx.checker.check_model(data, full_check=True)
    return data


def _layers(proto: ModelProto) -> list[str]:
    """Names of the nodes that multiply by many float32 weights."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    return [
        node.name
        for node in proto.graph.node
        if node.op_type in LAYERS
        and (weights := constants.get(node.input[1])) is not None
        and weights.data_type == TensorProto.FLOAT
        and _size(weights) >= WORTHWHILE
    ]


def _size(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))


def _fits_half(tensor: TensorProto) -> bool:
    if tensor.data_type != TensorProto.FLOAT or _size(tensor) < WORTHWHILE:
        return False
    return bool((np.abs(numpy_helper.to_array(tensor)) <= LARGEST_HALF).all())


def _refuse_double(proto: ModelProto) -> None:
    constants = proto.graph.initializer
    if any(tensor.data_type == TensorProto.DOUBLE and _size(tensor) >= WORTHWHILE for tensor in constants):
        cure = "Serve model.onnx: smaller numbers would move its answers by metres."
        allowed = "one that computes in float32"
        raise ExportError(explain("graph to make smaller", got="float64", allowed=allowed, cure=cure))


def _no_weights(precision: str, what: str) -> ExportError:
    cure = f"Leave {precision} out of export.precisions."
    return ExportError(explain(f"{precision} export", got="none", allowed=f"a graph with {what}", cure=cure))


class _Reader(CalibrationDataReader):
    """Batches as the quantizer asks for them."""

    def __init__(self, batches: Iterator[Mapping[str, np.ndarray]]) -> None:
        self._batches = batches

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._batches, None)


@contextmanager
def _trouble(precision: str) -> Iterator[None]:
    """Any failure of the libraries as one kind of error, and silence from them where they succeed."""
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # the quantizer advises on the root logger to do what `_folded` did
    onnxruntime.set_default_logger_severity(FATAL_ONLY)
    try:
        yield
    except ExportError:
        raise
    except Exception as error:  # they share no base class
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        allowed, cure = "a graph that can be converted", f"Leave {precision} out of export.precisions."
        raise ExportError(explain(f"{precision} export", got=problem, allowed=allowed, cure=cure)) from error
    finally:
        onnxruntime.set_default_logger_severity(WARNINGS)
        log.setLevel(level)
