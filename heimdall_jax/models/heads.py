"""What a network says: a place and its spread."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from heimdall_jax.config import ModelConfig
from heimdall_jax.models.precision import at_least_single

MAX_CORRELATION = 0.98
"""Bound on the correlation of east and north: the smaller variance given the other stays above 4 %."""


class Fix(NamedTuple):
    """A predicted place: mean and spread, local metres.

    `scale_m` is a standard deviation per axis (..., E) or a lower Cholesky factor (..., E, E).
    Unpacks as the seed's `position, uncertainty`.
    """

    position_m: Float[Array, "*B 2"]
    scale_m: Float[Array, "*B 2"] | Float[Array, "*B 2 2"]


class Locator(nnx.Module):
    """A network that gives a `Fix`.

    Attributes:
        double: It is asked where in float64 (`prediction.predict`); trained in float32 all the same.
    """

    double = False

    def fixes(self, **inputs: Array) -> tuple[Fix, ...]:
        """The answer, and what was said on the way to it, each of which is trained."""
        return (self(**inputs),)  # pyright: ignore[reportCallIssue]


def smooth_bound(x: Float[Array, "*S"], low: float, high: float) -> Float[Array, "*S"]:
    """Map all reals onto [low, high]: slope one in the middle, gradient falling as 1/x^2, never zero.

    An arctangent: the gradient of a logistic bound is exactly zero in float32 from x = 17 on.
    """
    half = (high - low) / 2
    return (low + high) / 2 + half * (2 / math.pi) * jnp.arctan((math.pi / 2 / half) * x)


def before_bound(value: float, low: float, high: float) -> float:
    """The x at which `smooth_bound` gives `value`, kept 2 % of the range away from either end."""
    half = (high - low) / 2
    share = min(max((value - (low + high) / 2) / half, -0.96), 0.96)
    return half * (2 / math.pi) * math.tan(math.pi / 2 * share)


class Perceptron(nnx.Module):
    """(..., features) to (..., outputs) through 128 and 64 rectified units, each followed by dropout.

    The last layer starts small, so that the first answers lie near `start`.
    """

    def __init__(self, features: int, start: tuple[float, ...], dropout: float, *, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(features, 128, rngs=rngs)
        self.second = nnx.Linear(128, 64, rngs=rngs)
        self.last = nnx.Linear(64, len(start), kernel_init=nnx.initializers.normal(0.01), rngs=rngs)
        self.last.bias = nnx.Param(jnp.asarray(start, jnp.float32))
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B O"]:
        """Apply."""
        x = self.dropout(jax.nn.relu(self.first(at_least_single(x))))
        return self.last(self.dropout(jax.nn.relu(self.second(x))))


class SigmaHead(nnx.Module):
    """Features to a standard deviation per axis, metres, within the configured bounds.

    It starts at `start_m`, the spread of the training truths.
    """

    def __init__(self, features: int, start_m: float, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        self.bounds = (math.log(config.sigma_min_m), math.log(config.sigma_max_m))
        start = before_bound(math.log(start_m), *self.bounds)
        self.perceptron = Perceptron(features, (start, start), config.dropout, rngs=rngs)

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B 2"]:
        """East, north sigma."""
        return jnp.exp(smooth_bound(self.perceptron(x), *self.bounds))


class CholeskyHead(nnx.Module):
    """Features to the lower Cholesky factor of a covariance, metres.

    Marginal sigmas are bounded as in `SigmaHead`, their correlation by `MAX_CORRELATION`.
    """

    def __init__(self, features: int, start_m: float, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        self.bounds = (math.log(config.sigma_min_m), math.log(config.sigma_max_m))
        start = before_bound(math.log(start_m), *self.bounds)
        self.perceptron = Perceptron(features, (start, start, 0.0), config.dropout, rngs=rngs)

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B 2 2"]:
        """Lower Cholesky factor, rows and columns east, north."""
        return cholesky_factor(self.perceptron(x), *self.bounds)


def cholesky_factor(raw: Float[Array, "*B 3"], low: float, high: float) -> Float[Array, "*B 2 2"]:
    """Three reals to a lower Cholesky factor: log-sigma east, log-sigma north, correlation, each bounded."""
    sigma_m = jnp.exp(smooth_bound(raw[..., :2], low, high))
    correlation = smooth_bound(raw[..., 2], -MAX_CORRELATION, MAX_CORRELATION)
    east, north = sigma_m[..., 0], sigma_m[..., 1]
    top = jnp.stack([east, jnp.zeros_like(east)], axis=-1)
    bottom = jnp.stack([north * correlation, north * jnp.sqrt(1.0 - correlation * correlation)], axis=-1)
    return jnp.stack([top, bottom], axis=-2)
