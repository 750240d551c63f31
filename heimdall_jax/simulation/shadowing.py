"""Shadowing: a fixed field of the world per station, correlated in space, that can be evaluated anywhere.

Covariance of two places d apart: sigma^2 exp(-d / delta) (Gudmundson, Electronics Letters 27, 1991), by random
Fourier features (Rahimi and Recht, NIPS 2007). The plane's spectral density of that covariance is a bivariate
Cauchy of scale 1/delta, so the radial wavenumber k has P(k < K) = 1 - 1/sqrt(1 + (delta K)^2). Its quantiles are
taken at fixed, evenly spaced probabilities: every world then has the same spectrum, and the longest wavenumber,
2 n / delta, keeps phases exact in float32.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

FEATURES = 256
"""Waves per station: covariance within sigma^2 / 512 of the exponential; shortest wave 2 pi delta / 512."""


class ShadowField(NamedTuple):
    """Waves of the field: R stations, W waves each."""

    wavenumber_RWE: Float[Array, "R W 2"]
    """Radians per metre."""
    phase_RW: Float[Array, "R W"]
    """Radians."""


def draw_field(key: Array, *, stations: int, correlation_m: float, features: int = FEATURES) -> ShadowField:
    """Draw a field of unit variance for every station, independent between stations."""
    angle_key, phase_key = jax.random.split(key)
    probability = (np.arange(features) + 0.5) / features
    radius = jnp.asarray(np.sqrt(1 / (1 - probability) ** 2 - 1) / correlation_m, jnp.float32)
    angle = jax.random.uniform(angle_key, (stations, features), maxval=2 * math.pi)
    direction = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    phase = jax.random.uniform(phase_key, (stations, features), maxval=2 * math.pi)
    return ShadowField(direction * radius[None, :, None], phase)


def field_at(field: ShadowField, position_m: Float[Array, " 2"]) -> Float[Array, " R"]:
    """Value (R,) of the unit-variance field of each station at one place, east and north in metres."""
    wave = field.wavenumber_RWE @ position_m + field.phase_RW
    return math.sqrt(2 / wave.shape[-1]) * jnp.sum(jnp.cos(wave), axis=-1)
