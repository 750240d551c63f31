"""From a number per pair of receivers to a number per receiver. All pairs are laid out as (R, R).

That way the number of receivers may be unknown when a graph is exported.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from heimdall_jax.features.interpolation import safe_ratio

STEPS = 8
"""Conjugate gradients need at most one step a receiver, and few where the weights are about a product g_i g_j."""
CONVERGED = 1e-10
"""Share of the first residual's energy below which float32 holds nothing but rounding."""


def relative_to_strongest(strength_BRR: Array, value_BRR: Array) -> Array:
    """Numbers x (B, R) such that x_i - x_r = value_ir, r the receiver whose pairs are strongest together.

    Where one signal is common to all, a receiver's best pair is the one with the strongest receiver, so that a pair
    with a wrong value (below threshold) spoils no receiver that has a better one. Ties are averaged.
    """
    total = jnp.sum(strength_BRR, axis=-1)
    strongest = (total >= jnp.max(total, axis=-1, keepdims=True)).astype(value_BRR.dtype)
    share = strongest / jnp.sum(strongest, axis=-1, keepdims=True)
    return _apply(value_BRR, share)


def solve_sums(weight_BRR: Array, value_BRR: Array) -> Array:
    """Numbers x (B, R) that minimise sum over i < j of w_ij (x_i + x_j - v_ij)^2; equal where the pairs leave a choice.

    Conjugate gradients, preconditioned by the diagonal. Receivers without a pair get 0.

    Args:
        weight_BRR: Symmetric, 0 or more; 0 leaves a pair out.
        value_BRR: Symmetric; finite even where the weight is 0.
    """
    weight = safe_ratio(weight_BRR, jnp.max(weight_BRR, axis=(-2, -1), keepdims=True) + jnp.zeros_like(weight_BRR))
    total = jnp.sum(weight, axis=-1)
    scale = safe_ratio(jnp.ones_like(total), total)
    solution = jnp.zeros_like(total)
    residual = jnp.sum(weight * value_BRR, axis=-1)
    direction = scale * residual
    energy = jnp.sum(residual * direction, axis=-1, keepdims=True)
    least = CONVERGED * energy
    for _ in range(STEPS):
        image = total * direction + _apply(weight, direction)
        step = _ratio_above(energy, jnp.sum(direction * image, axis=-1, keepdims=True), energy, least)
        solution, residual = solution + step * direction, residual - step * image
        scaled = scale * residual
        remaining = jnp.sum(residual * scaled, axis=-1, keepdims=True)
        direction = scaled + _ratio_above(remaining, energy, energy, least) * direction
        energy = remaining
    return solution


def difference(x_BR: Array) -> Array:
    """(B, R, R) x_i - x_j."""
    return x_BR[..., :, None] - x_BR[..., None, :]


def same_receiver(like_BR: Array) -> Array:
    """1 (B, R, R) on the diagonal, else 0."""
    # Numbered by a sum, since how many receivers there are may be unknown when a graph is exported.
    number = jnp.cumsum(jnp.ones_like(like_BR), axis=-1)
    return 1 - jnp.clip(jnp.abs(difference(number)), 0.0, 1.0)


def antisymmetric(x_BRR: Array) -> Array:
    """Half of x_ij - x_ji: removes rounding."""
    return 0.5 * (x_BRR - jnp.swapaxes(x_BRR, -1, -2))


def symmetric(x_BRR: Array) -> Array:
    """Half of x_ij + x_ji: removes rounding."""
    return 0.5 * (x_BRR + jnp.swapaxes(x_BRR, -1, -2))


def _apply(matrix_BRR: Array, x_BR: Array) -> Array:
    return jnp.matmul(matrix_BRR, x_BR[..., None], precision=jax.lax.Precision.HIGHEST)[..., 0]


def _ratio_above(a: Array, b: Array, energy: Array, least: Array) -> Array:
    """Quotient a / b while there is energy left, then 0."""
    going = (energy > least) & (b > 0)
    return jnp.where(going, a / jnp.where(going, b, 1.0), 0.0)
