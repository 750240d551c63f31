"""One Gaussian for several: the mean and spread of a mixture, from factors alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from heimdall_jax.models.heads import Fix

TRACE = 1e-12
"""Share that every component keeps, so that square roots of shares have gradients."""


def mixture_moments(
    place_m: Float[Array, "B K 2"],
    factor: Float[Array, "B K 2 2"],
    cost: Float[Array, "B K"],
    shift_m: Float[Array, "B K 2"],
    spreads_m: Float[Array, "B K S 2"],
) -> Fix:
    """Mean (B, 2) and lower Cholesky factor (B, 2, 2) of K components; those at the same place count once.

    Args:
        place_m: Minima.
        factor: Lower Cholesky factors of their covariances.
        cost: Twice their negative log densities, up to a constant: with the factor it gives a component's mass.
        shift_m: From a minimum to its component's mean.
        spreads_m: S vectors x of each, whose x x^T add to its covariance.
    """
    apart_m = place_m[:, :, None] - place_m[:, None]
    east = apart_m[..., 0] / factor[:, :, None, 0, 0]
    north = (apart_m[..., 1] - factor[:, :, None, 1, 0] * east) / factor[:, :, None, 1, 1]
    copies = jnp.sum(jnp.exp(-0.5 * jnp.minimum(east * east + north * north, 50.0)), axis=2)
    log_mass = jnp.log(factor[..., 0, 0] * factor[..., 1, 1]) - 0.5 * cost - jnp.log(copies)
    weight = jax.nn.softmax(log_mass, axis=1)[..., None] + TRACE
    place_m = place_m + shift_m
    mean_m = jnp.sum(weight * place_m, axis=1)
    off = jnp.sqrt(weight) * (place_m - mean_m[:, None])
    scaled = jnp.sqrt(weight)[..., None] * factor
    bent = jnp.sqrt(weight)[..., None] * spreads_m
    # The covariance's factor from its square roots' rows: nothing is squared and subtracted again.
    rows = [scaled[..., 0], scaled[..., 1], off, *(bent[:, :, each] for each in range(bent.shape[2]))]
    return Fix(mean_m, _lower_factor(jnp.concatenate(rows, axis=1)))


def _lower_factor(rows: Array) -> Array:
    """Lower Cholesky factor (B, 2, 2) of sum_n x_n x_n^T of rows x (B, N, 2)."""
    east, north = rows[..., 0], rows[..., 1]
    first = jnp.sqrt(jnp.sum(east * east, axis=1))
    cross = jnp.sum(east * north, axis=1) / first
    rest = north - cross[:, None] * east / first[:, None]
    last = jnp.sqrt(jnp.sum(rest * rest, axis=1))
    top = jnp.stack([first, jnp.zeros_like(first)], axis=-1)
    return jnp.stack([top, jnp.stack([cross, last], axis=-1)], axis=-2)
