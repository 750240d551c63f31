"""Gaussian negative log-likelihoods of a place, elementwise: the caller takes the mean."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from heimdall_jax.errors import DataError, explain

LOG_2_PI = math.log(2.0 * math.pi)


def gaussian_nll(
    position_m: Float[Array, "*P"],
    scale_m: Float[Array, "*S"],
    truth_m: Float[Array, "*T"],
    truth_error_m: Float[Array, "*Q"] | None = None,
) -> Float[Array, "*B"]:
    """Negative log-density of the truth, nats per fix, of a density per square metre, log 2 pi included.

    -log N(truth; position, C + error^2 I) in two dimensions, in closed form on Cholesky factors: no
    difference of products, so float32 holds from sigmas of a millimetre to the size of the Earth.

    Args:
        position_m: Predicted mean (..., 2), east and north.
        scale_m: Sigma per axis (..., 2), or the lower Cholesky factor of the covariance (..., 2, 2).
        truth_m: (..., 2).
        truth_error_m: One standard deviation of the truth per axis (...), added to the covariance.

    Returns:
        (...), not reduced.

    Raises:
        DataError: Shapes do not match; nothing is broadcast.
    """
    shape = position_m.shape
    _same("position_m", shape[-1:], (2,))
    _same("truth_m", truth_m.shape, shape)
    full = scale_m.ndim > position_m.ndim
    _same("scale_m", scale_m.shape, (*shape, 2) if full else shape)
    if full:
        east, cross, north = scale_m[..., 0, 0], scale_m[..., 1, 0], scale_m[..., 1, 1]
    else:
        east, cross, north = scale_m[..., 0], jnp.zeros_like(scale_m[..., 0]), scale_m[..., 1]
    if truth_error_m is not None:
        _same("truth_error_m", truth_error_m.shape, shape[:-1])
        east, cross, north = _widened(east, cross, north, truth_error_m)
    return _nll(truth_m - position_m, east, cross, north)


def _nll(residual_m: Array, east: Array, cross: Array, north: Array) -> Array:
    """From the entries of the lower Cholesky factor: forward substitution and the log of its diagonal."""
    first = residual_m[..., 0] / east
    second = (residual_m[..., 1] - cross * first) / north
    return LOG_2_PI + jnp.log(east) + jnp.log(north) + 0.5 * (first * first + second * second)


def _widened(east: Array, cross: Array, north: Array, error: Array) -> tuple[Array, Array, Array]:
    """Cholesky factor of L L^T + error^2 I, every entry a sum of squares.

    (a, b, c) becomes a' = hypot(a, e), b' = a b / a', c' = hypot(c, e, b e / a').
    """
    wider = jnp.sqrt(east * east + error * error)
    shrunk = error / wider
    return wider, cross * (east / wider), jnp.sqrt(north * north + error * error + (cross * shrunk) ** 2)


def _same(what: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if tuple(got) != tuple(wanted):
        raise DataError(
            explain(
                f"gaussian_nll {what}",
                got=f"shape {tuple(got)}",
                allowed=f"shape {tuple(wanted)}",
                cure="Pass arrays of matching shapes; nothing is broadcast.",
            )
        )
