"""When each receiver heard, from the delays of its pairs, and how precise that is with its clock."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S

ROUNDS = 10
"""Of the fit of arrival times to pairs: where one pair of six receivers is missing, what is left is under a metre."""
WORST_CLOCK_S = 1.0
"""Clocks beyond it, and unknown ones, count as this: 300,000 km, which says nothing."""


def arrival_ranges(
    tdoa_s: Float[Array, "B R R"], precision_per_s2: Float[Array, "B R"], valid: Bool[Array, "B R R"]
) -> Float[Array, "B R"]:
    """Arrival times (B, R) in metres, about a common zero, that fit pair delays best.

    Minimises sum_ij v_ij a_i a_j (tau_ij - t_i + t_j)^2: the weights of pairs of one common signal (Hahn, Tretter
    1973). With all pairs valid the weighted mean over j, a receiver itself among them, is exact at once; the other
    rounds serve pairs that are not.
    """
    itself = jnp.sum(valid.astype(tdoa_s.dtype), axis=2)[:, :, None] > jnp.zeros_like(tdoa_s)
    same = _same_receiver(tdoa_s)
    weight = jnp.where(valid | (itself & same), precision_per_s2[:, None, :], 0.0)
    weight = weight / jnp.maximum(jnp.max(weight, axis=(1, 2), keepdims=True), 1e-30)
    total = jnp.maximum(jnp.sum(weight, axis=2), 1e-30)
    share = weight / total[:, :, None]
    arrival = first = jnp.sum(share * tdoa_s, axis=2)
    for _ in range(ROUNDS - 1):
        arrival = first + jnp.sum(share * arrival[:, None, :], axis=2)
    return SPEED_OF_LIGHT_M_PER_S * arrival


def _same_receiver(pairs: Array) -> Array:
    """True on the diagonal of (B, R, R), with any R."""
    number = jnp.cumsum(jnp.ones_like(pairs[:, :, :1]), axis=1)
    return jnp.abs(number - jnp.swapaxes(number, 1, 2)) < 0.5


def precision_per_m2(precision_per_s2: Float[Array, "B R"], clock_sigma_s: Float[Array, "B R"]) -> Float[Array, "B R"]:
    """1 / (c^2 (1/a + clock^2)), 0 where nothing arrived."""
    clock_m = SPEED_OF_LIGHT_M_PER_S * jnp.minimum(clock_sigma_s, WORST_CLOCK_S)
    arrived = precision_per_s2 / SPEED_OF_LIGHT_M_PER_S**2
    return arrived / (1.0 + arrived * clock_m * clock_m)
