"""Regions made to hold what they say: a factor on a network's sigma, learned from validation rows after training.

A Gaussian of the best likelihood holds too many truths in its 68 % region where errors have heavy tails, and how heavy
they are depends on how sure the network is. With u the logarithm of the geometric mean of both sigmas, the factor is
exp(level + slope min(max(u, low), high)).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from heimdall_jax.models.heads import Fix
from heimdall_jax.models.normaliser import Fixed


class Recalibration(nnx.Module):
    """The factor; one until `level`, `slope` and the range of `u` are set, in this order, as `coefficients` (4,)."""

    def __init__(self) -> None:
        self.coefficients = Fixed(jnp.zeros(4, jnp.float32))

    def __call__(self, fix: Fix) -> Fix:
        """The same place with its spread corrected."""
        scale_m = fix.scale_m
        product_m2 = scale_m[:, 0, 0] * scale_m[:, 1, 1] if scale_m.ndim == 3 else scale_m[:, 0] * scale_m[:, 1]
        level, slope, low, high = (self.coefficients[...][number] for number in range(4))
        factor = jnp.exp(level + slope * jnp.minimum(jnp.maximum(0.5 * jnp.log(product_m2), low), high))
        return Fix(fix.position_m, scale_m * factor.reshape((-1,) + (1,) * (scale_m.ndim - 1)))
