"""From a number per pair of receivers to a number per receiver, by weighted least squares.

    minimise over x:  sum_{i<j} w_ij (x_i + s x_j - v_ij)^2,    s = -1 (differences) or +1 (sums)

All pairs are laid out as (R, R), so that the number of receivers may be unknown when a graph is exported; the normal
equations are solved by conjugate gradients, which for R receivers need at most R steps.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

STEPS = 10
REWEIGHTINGS = 4


def solve_pairs(weight_BRR: Array, value_BRR: Array, sign: Literal[-1, 1]) -> Array:
    """x (B, R), the smallest where the pairs leave a choice; 0 for receivers without a pair.

    Args:
        weight_BRR: Symmetric, 0 or more; 0 leaves a pair out.
        value_BRR: Antisymmetric when `sign` is -1, symmetric when it is +1; finite even where the weight is 0.
        sign: -1: values are x_i - x_j; +1: x_i + x_j.
    """
    largest = jnp.max(weight_BRR, axis=(-2, -1), keepdims=True)
    weight = weight_BRR / jnp.where(largest > 0, largest, jnp.ones_like(largest))
    total = jnp.sum(weight, axis=-1)
    scale = jnp.where(total > 0, 1 / jnp.where(total > 0, total, jnp.ones_like(total)), jnp.zeros_like(total))

    def normal(x: Array) -> Array:
        return total * x + sign * _apply(weight, x)

    solution = jnp.zeros_like(total)
    residual = jnp.sum(weight * value_BRR, axis=-1)
    direction = scale * residual
    energy = jnp.sum(residual * direction, axis=-1, keepdims=True)
    for _ in range(STEPS):
        image = normal(direction)
        step = _ratio(energy, jnp.sum(direction * image, axis=-1, keepdims=True))
        solution, residual = solution + step * direction, residual - step * image
        scaled = scale * residual
        new_energy = jnp.sum(residual * scaled, axis=-1, keepdims=True)
        direction, energy = scaled + _ratio(new_energy, energy) * direction, new_energy
    return solution


def solve_differences_robustly(weight_BRR: Array, value_BRR: Array, tolerance: float) -> Array:
    """x (B, R) from differences of which some may be wrong by many times `tolerance` (Cauchy weights)."""
    solution = solve_pairs(weight_BRR, value_BRR, -1)
    for _ in range(REWEIGHTINGS):
        misfit = (value_BRR - difference(solution)) / tolerance
        solution = solve_pairs(weight_BRR / (1 + misfit**2), value_BRR, -1)
    return solution


def difference(x_BR: Array) -> Array:
    """x_i - x_j, (B, R, R)."""
    return x_BR[..., :, None] - x_BR[..., None, :]


def antisymmetric(x_BRR: Array) -> Array:
    """Half of x_ij - x_ji: removes rounding."""
    return 0.5 * (x_BRR - jnp.swapaxes(x_BRR, -1, -2))


def _apply(matrix_BRR: Array, x_BR: Array) -> Array:
    return jnp.matmul(matrix_BRR, x_BR[..., None], precision=jax.lax.Precision.HIGHEST)[..., 0]


def _ratio(a: Array, b: Array) -> Array:
    good = b > 0
    return jnp.where(good, a / jnp.where(good, b, jnp.ones_like(b)), jnp.zeros_like(a))
