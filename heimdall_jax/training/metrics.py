"""Metrics as monoids: what a step or an evaluation sums, and how two sums join.

`empty` is neutral and `merge` associative and commutative, so a data set gives the same numbers however it is cut
into batches (up to rounding). All of it is jit-able but `compute`, which brings the numbers to the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from heimdall_jax.errors import DataError, explain


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mean:
    """A weighted mean in the making: sum of weight times value, and sum of weights."""

    total: Float[Array, ""]
    weight: Float[Array, ""]

    @classmethod
    def empty(cls) -> Mean:
        """The mean of nothing."""
        return cls(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

    @classmethod
    def of(cls, values: Float[Array, "*B"], weight: Float[Array, "*B"]) -> Mean:
        """Of a batch; what a value of weight 0 is does not matter, not even NaN."""
        counted = jnp.where(weight > 0, values * weight, 0.0)
        return cls(jnp.sum(counted), jnp.sum(weight))

    def merge(self, other: Mean) -> Mean:
        """Of both together."""
        return Mean(self.total + other.total, self.weight + other.weight)

    def compute(self) -> float:
        """The mean.

        Raises:
            DataError: All weights were 0.
        """
        weight = float(self.weight)
        if weight == 0.0:
            cure = "Give samples whose truth is known."
            raise DataError(explain("metrics", got="a total weight of 0", allowed="above 0", cure=cure))
        return float(self.total) / weight


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Metrics:
    """Loss and errors of fixes, weighted; padding has weight 0.

    Attributes:
        nll: Negative log-likelihood, nats per fix.
        error_m: Distance in the local plane, metres.
        squared_error_m2: Its square.
    """

    nll: Mean
    error_m: Mean
    squared_error_m2: Mean

    @classmethod
    def empty(cls) -> Metrics:
        """Of no fixes."""
        return cls(Mean.empty(), Mean.empty(), Mean.empty())

    @classmethod
    def of(
        cls,
        nll: Float[Array, "*B"],
        position_m: Float[Array, "*B 2"],
        truth_m: Float[Array, "*B 2"],
        weight: Float[Array, "*B"],
    ) -> Metrics:
        """Of a batch: nats per fix (B,), predicted and true east, north (B, E) in metres, weight (B,).

        Raises:
            DataError: The shapes differ; nothing is broadcast.
        """
        shapes = (nll.shape, weight.shape, position_m.shape[:-1], truth_m.shape[:-1])
        if len(set(shapes)) != 1 or position_m.shape[-1:] != (2,) or truth_m.shape[-1:] != (2,):
            got = f"nll {nll.shape}, positions {position_m.shape}, truths {truth_m.shape}, weights {weight.shape}"
            cure = "Give one of each per fix."
            raise DataError(explain("metrics", got=got, allowed="(B,), (B, 2), (B, 2), (B,)", cure=cure))
        squared = jnp.sum((position_m - truth_m) ** 2, axis=-1)
        return cls(Mean.of(nll, weight), Mean.of(jnp.sqrt(squared), weight), Mean.of(squared, weight))

    def merge(self, other: Metrics) -> Metrics:
        """Of both together."""
        return Metrics(
            self.nll.merge(other.nll),
            self.error_m.merge(other.error_m),
            self.squared_error_m2.merge(other.squared_error_m2),
        )

    def compute(self) -> dict[str, float]:
        """On the host: `loss` (nats per fix), `error_m` (mean), `rmse_m`, and `count` (sum of weights).

        Raises:
            DataError: All weights were 0.
        """
        return {
            "loss": self.nll.compute(),
            "error_m": self.error_m.compute(),
            "rmse_m": self.squared_error_m2.compute() ** 0.5,
            "count": float(self.nll.weight),
        }
