"""Does ONNX Runtime say what JAX says? Measured on real samples, at several batch sizes and receiver counts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from heimdall_jax.errors import ExportError, explain
from heimdall_jax.export.from_iq import FromIq
from heimdall_jax.export.session import ask, open_session
from heimdall_jax.export.signature import INPUTS, Tensor, to_graph_dtype
from heimdall_jax.geodesy import local_to_degrees
from heimdall_jax.models.prediction import as_it_predicts, precision_of, predict, predicts_in_double
from heimdall_jax.types import Domain, Sample

BATCHES = (1, 3, 32)
RECORDING_BATCHES = (1, 3, 8)
"""Where the graph begins at raw IQ."""
LIMITS = {"position_m": 1.0, "position_sigmas": 0.01, "covariance_relative": 1e-3, "position_deg": 1e-9}
"""The largest difference of each kind that an export may show."""


@dataclass(frozen=True)
class Row:
    """The largest differences over one batch.

    Attributes:
        batch: Its size.
        receivers: How many receivers each sample shows.
        given: Names of the inputs that were given.
        position_m: Distance between the two places, metres.
        position_sigmas: The same in predicted standard deviations (Mahalanobis distance).
        covariance_relative: |C_ij - C'_ij| / sqrt(C_ii C_jj).
        position_deg: Degrees of the graph against float64 geodesy of the graph's own metres.
    """

    batch: int
    receivers: int
    given: tuple[str, ...]
    position_m: float
    position_sigmas: float
    covariance_relative: float
    position_deg: float


@dataclass(frozen=True)
class Report:
    """Every comparison that was made."""

    rows: tuple[Row, ...]

    def to_tree(self) -> dict[str, Any]:
        """As nested dicts, with the limits, for the manifest."""
        return {"limits": dict(LIMITS), "rows": [asdict(row) for row in self.rows]}

    def check(self) -> Report:
        """This report, if every row is within the limits.

        Raises:
            ExportError: A row is not, or holds NaN; names the row.
        """
        for row in self.rows:
            for name, limit in LIMITS.items():
                difference = getattr(row, name)
                if not difference <= limit:
                    raise ExportError(
                        explain(
                            f"{name} of ONNX Runtime against JAX",
                            got=f"{difference:.3g} at batch {row.batch}, {row.receivers} receivers, "
                            f"inputs {', '.join(row.given)}",
                            allowed=f"at most {limit:g}",
                            cure="Compare the layers of the model and of the graph on this batch.",
                        )
                    )
        return self


def compare(
    model: nnx.Module,
    onnx_model: bytes,
    samples: Sample,
    *,
    inputs: Sequence[Tensor],
    domain: Domain,
) -> Report:
    """Run both on `samples` (batched) at batch 1, 3 and 32 (8 of raw IQ), with 3, half and all receivers; see `Row`.

    Fewer samples are repeated. Receivers are taken away in the order: not heard, then last to first; where
    the graph has a fixed number of them, they are marked as not heard instead. The JAX side runs once per receiver
    count at batch 32, so that the rows of smaller batches also prove that a batch equals one by one; in float64, where
    rounding does not hide it, on all receivers with the others marked as absent, which must be the same.

    Raises:
        DataError: `samples` is empty.
    """
    session = open_session(onnx_model)
    reference = reference_predictor(model)
    names = [tensor.name for tensor in inputs]
    required = [tensor.name for tensor in inputs if not tensor.optional]
    sizes = {name: samples[name] for name in names}
    total = samples["heard"].shape[1] if "heard" in samples else samples[names[0]].shape[1]
    batches = RECORDING_BATCHES if "i" in names else BATCHES
    repeated = np.arange(max(batches)) % len(samples[names[0]])
    sizes = {name: value[repeated] for name, value in sizes.items()}
    free = inputs[0].shape[1] == "R"
    rows = []
    for receivers in sorted({min(3, total), (total + 1) // 2, total}):
        shown = keep_receivers(sizes, receivers, drop=free)
        expected = reference(_absent_but(sizes, receivers) if predicts_in_double(model) else shown)
        rows += _compare_one(session, expected, shown, batches, inputs, domain, receivers)
    if required != names:
        # Without the mask every value counts, so those that meant nothing must at least be numbers.
        shown = {name: np.nan_to_num(sizes[name]) for name in required}
        everything = {name: np.ones_like(sizes[name]) for name in names if name not in required}
        rows += _compare_one(session, reference(shown | everything), shown, batches, inputs, domain, total)
    return Report(tuple(rows))


def keep_receivers(samples: Sample, count: int, *, drop: bool) -> Sample:
    """Each sample with `count` receivers, those that heard first; the others dropped, or marked as not heard."""
    heard_BR = samples["heard"]
    order_BR = np.argsort(~heard_BR, axis=1, kind="stable")
    if drop:
        kept_BR = np.sort(order_BR[:, :count], axis=1)
        return {name: _taken(value, kept_BR, INPUTS[name].shape.count("R")) for name, value in samples.items()}
    rank_BR = np.argsort(order_BR, axis=1)
    return samples | {"heard": heard_BR & (rank_BR < count)}


def _absent_but(samples: Sample, count: int) -> Sample:
    """Each sample with the receivers of `keep_receivers`, the others marked as absent."""
    order_BR = np.argsort(~samples["heard"], axis=1, kind="stable")
    kept_BR = np.argsort(order_BR, axis=1) < count
    return samples | {name: samples[name] & kept_BR for name in ("heard", "present")}


def _taken(values: np.ndarray, kept_BR: np.ndarray, receiver_axes: int) -> np.ndarray:
    """The kept receivers along the first axes after the batch."""
    for axis in range(1, receiver_axes + 1):
        index = np.expand_dims(kept_BR, tuple(i for i in range(1, values.ndim) if i != axis))
        values = np.take_along_axis(values, index, axis=axis)
    return values


def reference_predictor(model: nnx.Module) -> Callable[[Mapping[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]:
    """JAX's answer in evaluation mode, float64: position_m (B, 2) and its covariance's Cholesky factor (B, 2, 2)."""
    frozen = nnx.clone(model)
    frozen.eval()
    if isinstance(frozen, FromIq):
        # Compiled as one program they would take twice the memory.
        steps = [
            _program(frozen, lambda net, named: as_it_predicts(net, named, lambda one, given: one.features(**given))),
            _program(frozen.network, lambda net, named: tuple(predict(net, named))),
        ]
    else:
        steps = [_program(frozen, lambda net, named: tuple(predict(net, named)))]

    def predictor(named: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        # Accelerators would round to TF32 or bfloat16.
        with precision_of(model), jax.default_matmul_precision("highest"):
            said: Any = {name: jnp.asarray(value) for name, value in named.items()}
            for step in steps:
                said = step(said)
            position_m, scale_m = said
        return np.asarray(position_m, np.float64), _matrix(np.asarray(scale_m, np.float64))

    return predictor


def _program(model: nnx.Module, say: Callable[[Any, dict[str, jax.Array]], Any]) -> Callable[[Any], Any]:
    """What `say` makes of a model and inputs by name, compiled."""
    graph, state = nnx.split(model)
    state = jax.device_put(state, jax.local_devices()[0])  # a mesh of many devices would refuse a batch of one
    # Of a solver: it is run a few times, and compiling it well takes longer.
    quick = {"xla_backend_optimization_level": 0} if predicts_in_double(model) else None
    run = jax.jit(lambda state, named: say(nnx.merge(graph, state), named), compiler_options=quick)
    return functools.partial(run, state)


def _compare_one(
    session: Any,
    expected: tuple[np.ndarray, np.ndarray],
    samples: Sample,
    batches: Sequence[int],
    inputs: Sequence[Tensor],
    domain: Domain,
    receivers: int,
) -> list[Row]:
    """Rows of every batch size, from the same samples; what JAX says of the largest is `expected`."""
    jax_position_m, factor_m = expected
    jax_covariance_m2 = factor_m @ np.swapaxes(factor_m, -1, -2)
    tensors = {tensor.name: tensor for tensor in inputs if tensor.name in samples}
    rows = []
    for batch in batches:
        feed = {name: to_graph_dtype(tensor, samples[name][:batch]) for name, tensor in tensors.items()}
        position_m, position_deg, covariance_m2 = ask(session, feed)
        offset = position_m.astype(np.float64) - jax_position_m[:batch]
        variance = np.einsum("bii->bi", jax_covariance_m2[:batch])
        scale = np.sqrt(variance[:, :, None] * variance[:, None, :])
        whitened = np.linalg.solve(factor_m[:batch], offset[..., None])
        degrees = local_to_degrees(position_m.astype(np.float64), domain.origin_deg)
        rows.append(
            Row(
                batch=batch,
                receivers=receivers,
                given=tuple(tensors),
                position_m=float(np.linalg.norm(offset, axis=-1).max()),
                position_sigmas=float(np.linalg.norm(whitened[..., 0], axis=-1).max()),
                covariance_relative=float((np.abs(covariance_m2 - jax_covariance_m2[:batch]) / scale).max()),
                position_deg=float(np.abs(position_deg - degrees).max()),
            )
        )
    return rows


def _matrix(spread: np.ndarray) -> np.ndarray:
    """A diagonal (B, 2) as matrices (B, 2, 2); matrices as they are."""
    return np.einsum("bi,ij->bij", spread, np.eye(spread.shape[1])) if spread.ndim == 2 else spread
