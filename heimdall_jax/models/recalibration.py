"""Regions made to hold what they say: a factor on a network's sigma, learned from validation rows after training.

A Gaussian of the best likelihood holds too many truths in its 68 % region where errors have heavy tails, and how heavy
they are depends on how sure the network is, and of how many receivers. The factor is exp(a + b u + c n), where u is the
logarithm of the geometric mean of both sigmas and n the number of receivers used, each no further out than validation
rows had it.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool

from heimdall_jax.models.heads import Fix
from heimdall_jax.models.normaliser import Fixed

NEUTRAL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Coefficients that change no region."""


class Recalibration(nnx.Module):
    """The factor; one until `coefficients` (7,) are set: a, b, c, then the range of u and the range of n."""

    def __init__(self) -> None:
        self.coefficients = Fixed(jnp.asarray(NEUTRAL, jnp.float32))

    def __call__(self, fix: Fix, used: Bool[Array, "B R"]) -> Fix:
        """The same place with its spread corrected; `used` says by which receivers it was found."""
        scale_m = fix.scale_m
        both_m = jnp.stack([scale_m[:, 0, 0], scale_m[:, 1, 1]], axis=1) if scale_m.ndim == 3 else scale_m
        level, by_spread, by_count, *ranges = (self.coefficients[...][number] for number in range(len(NEUTRAL)))
        spread = jnp.minimum(jnp.maximum(jnp.mean(jnp.log(both_m), axis=1), ranges[0]), ranges[1])
        count = jnp.minimum(jnp.maximum(jnp.sum(used.astype(scale_m.dtype), axis=1), ranges[2]), ranges[3])
        factor = jnp.exp(level + by_spread * spread + by_count * count)
        return Fix(fix.position_m, scale_m * factor.reshape((-1,) + (1,) * (scale_m.ndim - 1)))
