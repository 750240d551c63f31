"""The train step: a pure function of state and batch. Randomness is `fold_in` of a name and the step."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from heimdall_jax.config import TrainingConfig
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.models.heads import Fix
from heimdall_jax.models.prediction import precision_of, predict
from heimdall_jax.models.trunk import as_trained
from heimdall_jax.training.cost import Cost, cost
from heimdall_jax.training.losses import gaussian_nll
from heimdall_jax.training.metrics import Metrics
from heimdall_jax.training.optimizer import clipped, make_optimizer
from heimdall_jax.training.placement import Placement
from heimdall_jax.types import LABELS, Sample

DeviceBatch = dict[str, jax.Array]
"""The inputs and labels of a batch, on the devices."""
WISH = "wish"
"""Key of a batch of several processes: what each wants of all of them, the same in all of its rows."""


OPTIONS: dict[str, dict[str, bool]] = {"cpu": {"xla_cpu_copy_insertion_use_region_analysis": True}}
"""Of the step's compiler, by platform. Without this one XLA on CPU copies both of Adam's moments in every step."""


class TrainState(NamedTuple):
    """Everything a step changes: pytrees of arrays. `average` is the moving average of `params` (None if off).

    `seed` stays: as an argument it leaves one compiled step for runs of several seeds.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    statistics: Any
    optimizer: optax.OptState
    average: Any


class StepReport(NamedTuple):
    """What a step says.

    Attributes:
        metrics: Of its batch.
        gradient_norm: Of all parameters.
        learning_rate: Of this step.
        finite: Whether its numbers were.
        finite_leaves: Of each parameter, in the order of the tree: whether its gradient was.
        wish: The largest of all processes; None of one alone.
    """

    metrics: Metrics
    gradient_norm: jax.Array
    learning_rate: jax.Array
    finite: jax.Array
    finite_leaves: jax.Array
    wish: jax.Array | None = None


class Trainer:
    """The jitted functions of one model: `start`, `step`, `predict`.

    Args:
        model: Built for training; its values are the initial ones.
        config: Optimisation.
        total_steps: Length of the learning-rate schedule.
        seed: Of dropout and other randomness in the step.
        inputs: Sample keys the model takes.
        devices: Those that compute; all of all processes if None.

    Raises:
        ConfigError: The batch size is no multiple of the device count.
    """

    def __init__(
        self,
        model: nnx.Module,
        config: TrainingConfig,
        *,
        total_steps: int,
        seed: int,
        inputs: tuple[str, ...],
        devices: Sequence[Any] | None = None,
    ) -> None:
        self.placement = Placement(config.sharding, devices)
        if config.batch_size % self.placement.size:
            allowed, cure = f"multiples of {self.placement.size}", "Choose a multiple."
            raise ConfigError(explain("training.batch_size", got=config.batch_size, allowed=allowed, cure=cure))
        self.inputs, self._config, self._seed = inputs, config, np.uint32(seed % 2**32)
        self.optimizer, self._schedule = make_optimizer(config, total_steps)
        model.train()
        self._training_graph, self._params, self._randomness, self._statistics = nnx.split(
            as_trained(model, config), nnx.Param, nnx.RngState, ...
        )
        model.eval()
        self._serving_graph = nnx.split(model, nnx.Param, nnx.RngState, ...)[0]
        placed = self.placement.of_state(self._shape_of_state()), self.placement.everywhere
        self.step: jax.stages.Wrapped = jax.jit(
            self._step, donate_argnums=0, out_shardings=placed, compiler_options=OPTIONS.get(self.placement.platform)
        )
        self._precision = functools.partial(precision_of, model)
        self._forward = jax.jit(
            self._predict, static_argnums=2, out_shardings=(self.placement.split, self.placement.everywhere)
        )

    def start(self) -> TrainState:
        """The state before the first step, on the devices."""
        # One program: a copy or zeros of each shape would be one each, which takes longer than all of them.
        return self.placement.put(jax.jit(self._initial)(self._params, self._statistics, self._seed))

    def _initial(self, params: Any, statistics: Any, seed: Any) -> TrainState:
        params, statistics = (jax.tree.map(jnp.copy, each) for each in (params, statistics))
        average = jax.tree.map(jnp.copy, params) if self._config.ema_decay is not None else None
        return TrainState(jnp.zeros((), jnp.int32), seed, params, statistics, self.optimizer.init(params), average)

    def _shape_of_state(self) -> TrainState:
        return jax.eval_shape(self._initial, self._params, self._statistics, self._seed)

    @property
    def rows(self) -> np.ndarray | None:
        """Which rows of each batch this process places, in order; None for all of them."""
        return self.placement.rows(self._config.batch_size)

    def place(self, batch: Sample, wish: int = 0) -> DeviceBatch:
        """A batch's rows on the devices, split along its first axis; with them, where there are several, a wish."""
        wanted = {key: batch[key] for key in (*self.inputs, *LABELS)}
        if self.placement.processes > 1:
            wanted[WISH] = np.full(len(batch["index"]), wish, np.int32)
        return self.placement.place(wanted)

    def shapes(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """What `step` takes, as shapes on devices: to lower it ahead of time, with nothing made.

        Args:
            batch: By name, whatever has a shape and a dtype.
        """
        wanted = {key: batch[key] for key in (*self.inputs, *LABELS)}
        state, split = self._shape_of_state(), self.placement.split
        where = self.placement.of_state(state)
        each = where if self.placement.fsdp else jax.tree.map(lambda _: where, state)
        return jax.tree.map(_shape, state, each), {key: _shape(value, split) for key, value in wanted.items()}

    def cost(self, state: TrainState, batch: DeviceBatch) -> Cost:
        """Of a step, on one device, from the arrays or the `shapes` of what it takes; the step is then compiled."""
        return cost(self.step.lower(state, batch).compile())

    def compile(self, state: TrainState, train: Sample, validation: Sample) -> None:
        """Make the programs that the loop calls, from one batch of each kind.

        The second is traced while the first compiles or is read from a cache; two compiling at once would need the
        memory of both.
        """
        step = self.step.lower(state, self.place(train))
        with ThreadPoolExecutor(1) as thread, self._precision():
            compiling = thread.submit(step.compile)
            forward = self._forward.lower(state, self.place(validation), 0)
            compiling.result()
            forward.compile()

    def model(self, state: TrainState) -> nnx.Module:
        """The model of a state, in serving mode, with averaged weights where they are kept."""
        params = state.params if state.average is None else state.average
        return nnx.merge(self._serving_graph, params, self._randomness, state.statistics, copy=True)

    def recalibrated(self, state: TrainState, coefficients: Sequence[float]) -> TrainState:
        """The state whose model answers with these coefficients of `models.recalibration`; training knows of none."""

        def changed(path: tuple[Any, ...], variable: Any) -> Any:
            if path[-2:] != ("recalibration", "coefficients"):
                return variable
            value = jnp.asarray(coefficients, jnp.float32)
            return variable.replace(self.placement.put(value))

        return state._replace(statistics=nnx.map_state(changed, state.statistics))

    def predict(self, state: TrainState, batches: Iterator[Sample], *, part: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Position (N, 2) in metres and covariance (N, 2, 2) in square metres, float64, of the samples that count.

        `part` chooses among the network's `fixes`: 0 is the answer, 1 what powers alone say where it fuses.
        """
        positions, covariances = [], []
        for batch in batches:
            with self._precision():
                fix, _ = self._forward(state, self.place(batch), part)
            keep = batch["index"] >= 0
            scale = np.asarray(fix.scale_m, np.float64)[keep]
            positions.append(np.asarray(fix.position_m, np.float64)[keep])
            covariances.append(covariance_m2(scale))
        return np.concatenate(positions), np.concatenate(covariances)

    def evaluate(self, state: TrainState, batches: Iterator[Sample]) -> dict[str, float]:
        """Mean loss and errors over the samples that count."""
        total = Metrics.empty()
        for batch in batches:
            with self._precision():
                metrics = self._forward(state, self.place(batch), 0)[1]
            total = total.merge(jax.tree.map(lambda whole: whole.addressable_data(0), metrics))
        return total.compute()

    def _predict(self, state: TrainState, batch: DeviceBatch, part: int) -> tuple[Any, Metrics]:
        fix = predict(self.model(state), {name: batch[name] for name in self.inputs}, part)
        single = Fix(*(value.astype(jnp.float32) for value in fix))
        nlls_B = [_nll(single, batch)]
        if self._config.outliers and "tdoa_s" in self.inputs:  # or a handful of lost fixes would choose the checkpoint
            before = predict(self.model(state), {name: batch[name] for name in self.inputs}, 1)
            nlls_B.append(_nll(Fix(*(value.astype(jnp.float32) for value in before)), batch))
        nll_B = with_outliers(nlls_B, self._config.outliers)
        return fix, Metrics.of(nll_B, single.position_m, batch["position_m"], batch["weight"])

    def _step(self, state: TrainState, batch: DeviceBatch) -> tuple[TrainState, StepReport]:
        """One optimisation step; a step whose numbers are not finite leaves the state as it was."""

        def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, Metrics]]:
            randomness = self._keys(state.seed, state.step)
            if self.placement.fsdp:
                params = jax.lax.with_sharding_constraint(params, self.placement.everywhere)
            model: Any = nnx.merge(self._training_graph, params, randomness, state.statistics, copy=True)
            fixes = model.fixes(**{name: batch[name] for name in self.inputs})
            nlls_B = [_nll(fix, batch) for fix in fixes]
            weight_B = batch["weight"]
            total_B = self._config.part_weight * sum(nlls_B[1:], start=jnp.zeros_like(nlls_B[0]))
            total_B = total_B + with_outliers(nlls_B, self._config.outliers)
            loss = jnp.sum(total_B * weight_B) / jnp.maximum(jnp.sum(weight_B), 1.0)
            statistics = nnx.split(model, nnx.Param, nnx.RngState, ...)[3]
            return loss, (statistics, Metrics.of(nlls_B[0], fixes[0].position_m, batch["position_m"], weight_B))

        (loss, (statistics, metrics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        squares = jnp.stack([optax.tree.norm(leaf, squared=True) for leaf in jax.tree.leaves(gradient)])
        norm = jnp.sqrt(jnp.sum(squares))
        gradient = clipped(gradient, norm, self._config.clip_norm)
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes its counters' type with floats
            updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
            learning_rate = jnp.asarray(self._schedule(state.step))
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None and self._config.ema_decay is not None:
            average = optax.incremental_update(params, average, 1.0 - self._config.ema_decay)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        new = TrainState(state.step + 1, state.seed, params, statistics, optimizer, average)
        kept = jax.tree.map(lambda fresh, old: jnp.where(finite, fresh, old), new, state)
        wish = jnp.max(batch[WISH]) if WISH in batch else None
        return kept, StepReport(metrics, norm, learning_rate, finite, jnp.isfinite(squares), wish)

    def _keys(self, seed: jax.Array, step: jax.Array) -> Any:
        """A key for each random stream of the model: `fold_in` of the stream's path, then of the step."""
        root = jax.random.key(seed)

        def key(path: tuple[Any, ...], stream: Any) -> Any:
            if not isinstance(stream, nnx.RngKey):
                return stream
            name = zlib.crc32("/".join(map(str, path)).encode())
            return stream.replace(jax.random.fold_in(jax.random.fold_in(root, name), step))

        return nnx.map_state(key, self._randomness)


def _shape(leaf: Any, where: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)


def _nll(fix: Fix, batch: DeviceBatch) -> jax.Array:
    """Nats (B,) of the truths under a fix."""
    return gaussian_nll(fix.position_m, fix.scale_m, batch["position_m"], batch["position_error_m"])


def with_outliers(nlls_B: Sequence[jax.Array], share: float) -> jax.Array:
    """Nats (B,) of the answer where a share of the truths comes from the density before it instead.

    Gauss-Newton ends in a wrong valley once in hundreds of fixes, with tens of thousands of nats: without this they
    would decide how wide all other regions are. The density before the answer is not trained by it.
    """
    if share == 0.0 or len(nlls_B) == 1:
        return nlls_B[0]
    lost_B = math.log(share) - jax.lax.stop_gradient(nlls_B[1])
    return -jnp.logaddexp(math.log1p(-share) - nlls_B[0], lost_B)


def covariance_m2(scale_m: np.ndarray) -> np.ndarray:
    """Covariance (N, 2, 2) of sigmas (N, 2) or lower Cholesky factors (N, 2, 2)."""
    factor = scale_m if scale_m.ndim == 3 else scale_m[..., None] * np.eye(2)
    return factor @ np.swapaxes(factor, -1, -2)
