"""The peak of a correlation between its lags, to a small part of a sample, and how many lags that takes.

A band-limited function of lag is sum_m h_m(d) C(k + m), m = -H..H, at lag k + d. For each d the h_m are the least
squares fit of exp(2 pi i v d) by sum_m h_m exp(2 pi i v m) over |v| <= PASSBAND cycles a sample; they are tabulated as
polynomials in d (Farrow, ISCAS 1988), so that C, its slope and its curvature are polynomials too and Newton's steps
need no gathers.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy import ndarray

from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S

PASSBAND = 5.5 / 12
"""Highest frequency that the interpolator passes, cycles a sample: 5.5 kHz at 12 kHz."""
DEGREE = 9
"""Of the polynomials in d."""
REACH = 0.75
"""Largest |d|, samples: an integer lag nearest to a peak is at most 0.5 away, noise adds a little."""
STOPBAND_WEIGHT = 1e-7
"""Lowers every peak by as much, and so bounds the SNR that can be told: 70 dB."""
NEWTON_STEPS = 3


class Peak(NamedTuple):
    """Where |C| is largest, each (...)."""

    index: Array
    """Index of the nearest integer lag, int32."""
    fraction: Array
    """Distance from it, samples."""
    magnitude: Array
    curvature: Array
    """-d^2 log|C| / d lag^2, per sample squared; the variance of angular frequency at a peak."""
    inside: Array
    """The nearest lag is above both its neighbours: the peak is not cut off by the end of the search."""


def lags_needed(baseline_m: float, clock_sigma_s: tuple[float, float], half_width: int, sample_rate_hz: float) -> int:
    """Lags on each side, samples, for receivers `baseline_m` apart: light's way, 4 sigma of both clocks, the kernel.

    Raises:
        ConfigError: A clock's sigma is not finite: no range of lags is wide enough.
    """
    spread_s = 4 * math.hypot(*clock_sigma_s)
    if not math.isfinite(spread_s):
        cure = "Do not use the timing of a receiver whose clock is unknown."
        raise ConfigError(explain("clock sigma", got=clock_sigma_s, allowed="finite seconds", cure=cure))
    return math.ceil((baseline_m / SPEED_OF_LIGHT_M_PER_S + spread_s) * sample_rate_hz) + half_width


def find_peak(real: Array, imaginary: Array, half_width: int) -> Peak:
    """The largest |C| of each (..., K) complex correlation, at least `half_width` lags from either end."""
    sought = slice(half_width, real.shape[-1] - half_width)
    index = jnp.argmax(real[..., sought] ** 2 + imaginary[..., sought] ** 2, axis=-1).astype(jnp.int32) + half_width
    # (..., 2, 2 H + 1): both parts around the largest.
    near = _window(jnp.stack([real, imaginary], axis=-2), index[..., None], half_width)
    below, largest, above = (jnp.sum(near[..., half_width + lag] ** 2, axis=-1) for lag in (-1, 0, 1))
    terms = _product(near, jnp.asarray(_derivatives(half_width), real.dtype))
    terms = terms.reshape(*near.shape[:-1], 3, DEGREE + 1)
    fraction = jnp.clip(0.5 * safe_ratio(below - above, below - 2 * largest + above), -0.5, 0.5)
    for _ in range(NEWTON_STEPS):
        _, first, second = _power_and_derivatives(terms, fraction)
        fraction = jnp.clip(fraction - safe_ratio(first, jnp.minimum(second, jnp.zeros_like(second))), -REACH, REACH)
    height, first, second = _power_and_derivatives(terms, fraction)
    slope = safe_ratio(first, height)
    curvature = 0.5 * (slope**2 - safe_ratio(second, height))
    return Peak(index, fraction, jnp.sqrt(height), curvature, (largest >= below) & (largest >= above))


def values_at(peak: Peak, real: Array, imaginary: Array, half_width: int) -> tuple[Array, Array]:
    """Complex values (B, N, R, R) at the peaks (B, R, R) of correlations (B, N, R, R, K)."""
    weight = _product(_powers(peak.fraction), jnp.asarray(kernel(half_width).T, real.dtype))
    # The weights go to their lags, not each block's lags to the weights: that is less to gather.
    tap = np.arange(half_width, half_width + real.shape[-1], dtype=np.int32)[None, None, None] - peak.index[..., None]
    known = ((tap >= 0) & (tap <= 2 * half_width)).astype(real.dtype)
    weight = known * jnp.take_along_axis(weight, jnp.clip(tap, 0, 2 * half_width), axis=-1)
    return jnp.sum(weight[:, None] * real, axis=-1), jnp.sum(weight[:, None] * imaginary, axis=-1)


@functools.cache
def kernel(half_width: int) -> ndarray:
    """(2 half_width + 1, DEGREE + 1) coefficients: h_m(d) = sum_p kernel[m, p] d^p."""
    tap = np.arange(-half_width, half_width + 1)
    shift = REACH * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    normal = 2 * PASSBAND * np.sinc(2 * PASSBAND * (tap[:, None] - tap)) + STOPBAND_WEIGHT * np.eye(tap.size)
    wanted = 2 * PASSBAND * np.sinc(2 * PASSBAND * (tap[:, None] - shift))
    weight = np.linalg.solve(normal, wanted)
    table = np.linalg.lstsq(np.vander(shift, DEGREE + 1, increasing=True), weight.T, rcond=None)[0].T
    table.setflags(write=False)
    return table


def safe_ratio(a: Array, b: Array) -> Array:
    """Quotient a / b, 0 where b is 0."""
    # In numbers: each `where` with a constant costs an exported graph a dozen nodes to find the shape.
    some = (b != 0).astype(b.dtype)
    return a * some / (b + (1 - some))


@functools.cache
def _derivatives(half_width: int) -> ndarray:
    """(2 half_width + 1, 3 (DEGREE + 1)): coefficients of the polynomials, of their slopes and of their curvatures."""
    value = kernel(half_width)
    power = np.arange(1, DEGREE + 1)
    slope = np.pad(value[:, 1:] * power, ((0, 0), (0, 1)))
    bend = np.pad(slope[:, 1:] * power, ((0, 0), (0, 1)))
    return np.concatenate([value, slope, bend], axis=1)


def _window(x: Array, index: Array, reach: int) -> Array:
    """(..., 2 reach + 1) values around `index` (...), broadcast against the leading axes of x (..., K)."""
    offset = np.arange(-reach, reach + 1, dtype=np.int32)[(None,) * index.ndim]
    places = index[..., None] + offset
    return jnp.take_along_axis(x, jnp.broadcast_to(places, (*x.shape[:-1], 2 * reach + 1)), axis=-1)


def _powers(fraction: Array) -> Array:
    """(..., DEGREE + 1): 1, d, d^2, ..."""
    fraction = fraction[..., None]
    square = fraction * fraction
    powers = [jnp.ones_like(fraction), fraction]
    while len(powers) <= DEGREE:
        powers.append(powers[-2] * square)
    return jnp.concatenate(powers, axis=-1)


def _power_and_derivatives(terms: Array, fraction: Array) -> tuple[Array, Array, Array]:
    """|C|^2 and its first two derivatives by lag (...), from coefficients (..., 2, 3, DEGREE + 1)."""
    # (..., 2, 3): both parts' value, slope and bend.
    found = jnp.sum(terms * _powers(fraction)[..., None, None, :], axis=-1)
    by_value = jnp.sum(found[..., :1] * found, axis=-2)
    slopes = jnp.sum(found[..., 1] ** 2, axis=-1)
    return by_value[..., 0], 2 * by_value[..., 1], 2 * (slopes + by_value[..., 2])


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
