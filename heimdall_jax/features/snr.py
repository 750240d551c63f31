"""Signal to noise of each receiver, bandwidth, and precision, from the heights and curvatures of correlation peaks.

With a_i^2 the share of the signal in receiver i's power, the coefficient at the peak is a_i a_j and g_i = a_i^2 /
(1 - a_i^2): log a_i + log a_j = log |coefficient| is solved by weighted least squares over pairs. Two receivers have
one equation: equal SNR is assumed.

    R receivers:  sigma_i^2 = (1 + G) / G / (kappa g_i),    kappa = 8 pi^2 B_rms^2 B_n T,    G = sum g

is what pair weights w_ij = kappa g_i g_j / (1 + G) give: the Laplacian of w is that of (kappa G / (1 + G)) g_i after
the common time is eliminated. At R = 2 it is Stein's formula (IEEE Trans. ASSP 29 (1981) 588).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from heimdall_jax.config import TimingConfig
from heimdall_jax.features.interpolation import safe_ratio
from heimdall_jax.features.pairs import solve_sums

LEAST_NOISE = 1e-6
"""Smallest share of noise that is told from none: SNR is reported up to 60 dB."""
LEAST_COEFFICIENT = 1e-6
BANDWIDTH_SIGMAS = 6.0
"""Noise alone must not look like bandwidth, by this many of its standard deviations in one pair. A carrier's peak is
the highest of many noisy lags, where noise curves down: by 1.6 of them on every pair, 4.4 where it is keyed."""


class Gates(NamedTuple):
    """Least signal to noise after integration, linear, and least square of the bandwidth, radians a sample."""

    snr: ArrayLike
    square: ArrayLike

    @classmethod
    def of(cls, config: TimingConfig, sample_rate_hz: float) -> Gates:
        """A config's."""
        return cls(10 ** (config.min_snr_db / 10), (2 * math.pi * config.min_bandwidth_hz / sample_rate_hz) ** 2)


def pair_snr(coefficient_BRR: Array) -> Array:
    """1 / (1/g_i + 1/g_j + 1/(g_i g_j)) of pairs whose correlation coefficient at the peak is given."""
    square = jnp.clip(coefficient_BRR**2, 0.0, 1.0 - LEAST_NOISE)
    return square / (1 - square)


def receiver_snr(coefficient_BRR: Array, pair_BRR: Array, samples: float) -> Array:
    """g_i (B, R), linear, from coefficients at the peaks; 0 for receivers without a pair.

    Args:
        coefficient_BRR: Of correlation, at the peak.
        pair_BRR: 1 for the pairs to use, else 0.
        samples: Of equal weight that were correlated.
    """
    measured = coefficient_BRR**2
    # The expectation of the square of a coefficient of pure noise is 1 / samples.
    square = jnp.clip(measured - (1 - measured) / samples, LEAST_COEFFICIENT, 1.0 - LEAST_NOISE)
    weight = pair_BRR * square / (1 - square) ** 2
    log_share = solve_sums(weight, 0.5 * jnp.log(square))
    noise_over_signal = jnp.exp(-2 * log_share) - 1
    some = jnp.sum(pair_BRR, axis=-1) > 0
    return jnp.where(some, 1 / jnp.maximum(noise_over_signal, LEAST_NOISE), jnp.zeros_like(log_share))


def bandwidth_squared(curvature_BRR: Array, snr_BR: Array, pair_BRR: Array, samples: float) -> tuple[Array, Array]:
    """Mean square frequency about its mean (B,) in radians per sample, squared, and the least that is no noise.

    The mean over pairs of the peaks' curvatures, weighted by precision. Noise that two receivers do not share is white,
    and its part of a pair's curvature has the standard deviation pi^2 / sqrt(10 samples g_i g_j).
    """
    product = pair_BRR * snr_BR[..., :, None] * snr_BR[..., None, :]
    total = jnp.sum(product, axis=(-2, -1))
    square = safe_ratio(jnp.sum(product * curvature_BRR, axis=(-2, -1)), total)
    sigma = safe_ratio(jnp.sum(jnp.sqrt(product), axis=(-2, -1)), total) * (math.pi**2 / math.sqrt(10 * samples))
    return square, BANDWIDTH_SIGMAS * sigma
