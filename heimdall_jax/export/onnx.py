"""A Flax model as one self-contained ONNX file: the only door to jax2onnx.

The graph gives local metres as the model does, in the model's own precision, and the same place in degrees, computed in
float64 by the very function that the rest of the package uses (`geodesy.local_to_degrees`, traced).
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from flax import nnx
from google.protobuf.message import EncodeError
from onnx import ModelProto, helper, numpy_helper

from heimdall_jax import geodesy
from heimdall_jax.errors import ExportError, explain
from heimdall_jax.export.bundle import write_atomically
from heimdall_jax.export.double import narrow_constants, open_doors, use_known_operators
from heimdall_jax.export.folding import fold_batch_norms, fold_paddings, gather_patches, reshape_later, shapes_of
from heimdall_jax.export.signature import (
    COVARIANCE_M2,
    MASKS,
    POSITION_DEG,
    POSITION_M,
    SIGMA_M,
    Tensor,
)
from heimdall_jax.export.simplify import simplify
from heimdall_jax.models.prediction import precision_of, predict, predicts_in_double
from heimdall_jax.types import Domain

LARGEST, LEAST = 1e7, 1e-100
"""Of the tangent of half an angle, and of what it is divided by: numbers that are no NaN also at the poles."""
OPSET = 23
"""ONNX operator set of every exported graph."""


def to_onnx(model: nnx.Module, path: Path, *, inputs: Sequence[Tensor], domain: Domain) -> tuple[Tensor, ...]:
    """Write `model` in evaluation mode as one ONNX file, read it back and check it; gives its outputs.

    Args:
        model: Takes `inputs` by name and gives a `Fix`; left as it is.
        path: Where to write.
        inputs: From `signature.describe_inputs`.
        domain: Gives the origin for degrees, and the names of receivers for the metadata.

    Raises:
        ExportError: jax2onnx cannot express the model, or the file does not pass ONNX's checker.
        StorageError: The file cannot be written.
    """
    proto, outputs = build_graph(model, inputs=inputs, domain=domain)
    try:
        data = proto.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise _not_expressible(f"{error}: a file holds at most 2 GB") from error
    write_atomically(path, data)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _not_expressible(" ".join(str(error).split())) from error
    return outputs


def build_graph(
    model: nnx.Module, *, inputs: Sequence[Tensor], domain: Domain
) -> tuple[ModelProto, tuple[Tensor, ...]]:
    """The graph of `to_onnx` in memory, and its outputs. The same model gives the same bytes in every process.

    Raises:
        ExportError: jax2onnx cannot express the model.
    """
    with precision_of(model):
        predictor, spread = _predictor(model, inputs)
        names, double = [tensor.name for tensor in inputs], predicts_in_double(model)
        proto = _trace(predictor, inputs, names=names, outputs=["position_m", spread.name], double=double)
    outputs = (POSITION_M, POSITION_DEG, spread)
    if double:
        narrow_constants(proto.graph)
        use_known_operators(proto.graph)
        open_doors(proto, inputs, outputs)
    _append_degrees(proto, domain)
    for tensor in inputs:
        if tensor.optional:
            _make_optional(proto, tensor, inputs[0])
    # jax2onnx leaves shapes of inner values as they were before it moved transposes.
    del proto.graph.input[:], proto.graph.output[:], proto.graph.value_info[:]
    proto.graph.input.extend(_value_info(tensor) for tensor in inputs)
    proto.graph.output.extend(_value_info(tensor) for tensor in outputs)
    fold_batch_norms(proto.graph)
    simplify(proto, _free_sizes(inputs))
    fold_paddings(proto.graph)
    known = shapes_of(proto)
    gather_patches(proto.graph, known)
    reshape_later(proto.graph, known)
    proto.graph.name = "heimdall"
    helper.set_model_props(proto, graph_metadata(inputs, outputs, domain))
    return proto, outputs


def graph_metadata(inputs: Sequence[Tensor], outputs: Sequence[Tensor], domain: Domain) -> dict[str, str]:
    """What the graph says of itself, as JSON texts: names, units, axis order, origin, receivers."""
    return {
        "inputs": json.dumps([asdict(tensor) for tensor in inputs]),
        "outputs": json.dumps([asdict(tensor) for tensor in outputs]),
        "origin_deg": json.dumps(domain.origin_deg),
        "receivers": json.dumps(domain.receivers),
    }


def _predictor(model: nnx.Module, inputs: Sequence[Tensor]) -> tuple[Callable[..., Any], Tensor]:
    """A function of the graph's inputs that gives the graph's metres, and which spread it gives."""
    frozen = nnx.clone(model)
    frozen.eval()

    def predictor(*arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        named = {
            tensor.name: array > 0.5 if tensor.name in MASKS else array
            for tensor, array in zip(inputs, arrays, strict=True)
        }
        position_m, scale_m = predict(frozen, named)
        if scale_m.ndim == 3:
            scale_m = jnp.matmul(scale_m, jnp.swapaxes(scale_m, -1, -2))
        return position_m, scale_m

    sizes = {"B": 2, "R": 3}
    example = [
        jax.ShapeDtypeStruct([sizes.get(str(size), size) for size in tensor.shape], tensor.dtype) for tensor in inputs
    ]
    _, spread = jax.eval_shape(predictor, *example)
    return predictor, COVARIANCE_M2 if spread.ndim == 3 else SIGMA_M


def _trace(
    function: Callable[..., Any],
    inputs: Sequence[Tensor],
    *,
    names: list[str],
    outputs: list[str],
    double: bool,
) -> ModelProto:
    """All floating point of the graph is float64 if `double`, else float32."""
    wide = {"float32": "float64"} if double else {}
    specs = [jax.ShapeDtypeStruct(tensor.shape, wide.get(tensor.dtype, tensor.dtype)) for tensor in inputs]
    # It reports inner values of unknown type, whose annotations are dropped below anyway.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    try:
        # The tests' strict ranks bind our models, not the library's own lowering nor geodesy's NumPy broadcasting.
        with _converter() as convert, jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'.value' access is now deprecated", DeprecationWarning)
            return convert(
                function, specs, opset=OPSET, input_names=names, output_names=outputs, enable_double_precision=double
            )
    except Exception as error:
        raise _not_expressible(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def _without_equinox() -> Iterator[None]:
    """jax2onnx may lack Equinox, whose plugins build layers while they are imported: longer than an export takes."""
    log = logging.getLogger("jax2onnx.plugins.plugin_system")
    level, equinox = log.level, sys.modules.get("equinox")
    log.setLevel(logging.ERROR)
    sys.modules["equinox"] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        log.setLevel(level)
        del sys.modules["equinox"]
        if equinox is not None:
            sys.modules["equinox"] = equinox


@contextlib.contextmanager
def _converter() -> Iterator[Callable[..., ModelProto]]:
    """jax2onnx's function, which is otherwise slow to load and to run, and gives another graph the second time."""
    from jax2onnx import to_onnx as convert
    from jax2onnx.converter import ir_optimizations, output_binding
    from jax2onnx.plugins.plugin_system import import_all_plugins

    with _without_equinox():
        import_all_plugins()
    from jax2onnx.plugins.jax.lax import gather

    search = output_binding._value_is_graph_connected

    def connected(context: Any, value: Any) -> bool:
        # A value knows the node that makes it; the library looks for it in all nodes, for every value.
        producer = value.producer()
        return (producer is not None and producer.graph is context.builder.graph) or search(context, value)

    passes = ir_optimizations._OPTIMIZER_PASSES
    output_binding._value_is_graph_connected = connected
    # It takes values for float64 that were cast to float32, and drops the casts back.
    kept = tuple(each for each in passes if not each.name.startswith("remove_redundant_casts"))
    ir_optimizations._OPTIMIZER_PASSES = kept
    gather._CONST_HANDLERS_REGISTERED = False  # it teaches constants to the first graph of a process only
    try:
        yield convert
    finally:
        output_binding._value_is_graph_connected = search
        ir_optimizations._OPTIMIZER_PASSES = passes


def _append_degrees(proto: ModelProto, domain: Domain) -> None:
    """Add `position_deg`, float64, computed from the float32 `position_m`."""
    local = Tensor("local_m", "float64", ("B", 2), ("batch", "east, north"), "m", "")
    numpy_like = _double_precision_numpy()
    tail = _trace(
        lambda local_m: geodesy.local_to_degrees(local_m, domain.origin_deg, xp=numpy_like),
        [local],
        names=["local_m"],
        outputs=["position_deg"],
        double=True,
    )
    onnx.compose.add_prefix(tail, "geodesy/", inplace=True)
    proto.graph.node.append(
        helper.make_node("Cast", ["position_m"], ["geodesy/local_m"], name="geodesy/cast", to=onnx.TensorProto.DOUBLE)
    )
    proto.graph.node.extend(tail.graph.node)
    proto.graph.node.append(
        helper.make_node("Identity", ["geodesy/position_deg"], ["position_deg"], name="geodesy/name")
    )
    proto.graph.initializer.extend(tail.graph.initializer)


def _double_precision_numpy() -> ModuleType:
    """`jax.numpy` whose `arctan2` stays in float64 in ONNX Runtime, which knows the arcus tangent in float32 only.

    Half the angle has the tangent t = y / (r + x) in all quadrants. After a first h from float32 (error e = 1e-7) what
    remains is t - sqrt(1 + t^2) sin h, to e^2 t / 2: for angles that are not near a half turn.
    """
    module = ModuleType("double_precision_numpy", jnp.__doc__)
    module.__dict__.update(vars(jnp))

    def arctan2(y: jax.Array, x: jax.Array) -> jax.Array:
        half = jnp.clip(y / (jnp.sqrt(x * x + y * y) + x + LEAST), -LARGEST, LARGEST)
        first = jnp.arctan(half.astype(jnp.float32)).astype(half.dtype)
        return 2.0 * (first + half - jnp.sqrt(1.0 + half * half) * jnp.sin(first))

    module.__dict__["arctan2"] = arctan2
    return module


def _free_sizes(inputs: Sequence[Tensor]) -> dict[str, tuple[str, int]]:
    """By the name of each free axis, a required input that has it, and where."""
    sizes: dict[str, tuple[str, int]] = {}
    for tensor in inputs:
        for axis, size in enumerate(tensor.shape):
            if isinstance(size, str) and not tensor.optional:
                sizes.setdefault(size, (tensor.name, axis))
    return sizes


def _make_optional(proto: ModelProto, tensor: Tensor, first: Tensor) -> None:
    """Let callers leave `tensor` (B, R) out: it is then one everywhere. `first` is an input that begins (B, R)."""
    graph, name = proto.graph, tensor.name
    for node in graph.node:
        node.input[:] = [f"{name}/given" if value == name else value for value in node.input]
    graph.node.insert(0, helper.make_node("Expand", [name, f"{name}/shape"], [f"{name}/given"], name=f"{name}/expand"))
    shape = helper.make_node("Shape", [first.name], [f"{name}/shape"], name=f"{name}/size", start=0, end=2)
    graph.node.insert(0, shape)
    sizes = [size if isinstance(size, int) else 1 for size in tensor.shape]
    graph.initializer.append(numpy_helper.from_array(np.ones(sizes, tensor.dtype), name))


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    text = f"{tensor.meaning} Axes: {'; '.join(tensor.axes)}. Unit: {tensor.unit}."
    return helper.make_tensor_value_info(tensor.name, kind, tensor.shape, text)


def _not_expressible(problem: str) -> ExportError:
    cure = "Write that part of the model with operations that jax2onnx knows."
    return ExportError(
        explain("export", got=problem[:500], allowed=f"a model that ONNX opset {OPSET} expresses", cure=cure)
    )
