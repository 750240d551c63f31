"""Generalised cross-correlation (Knapp and Carter 1976): weights on the cross-spectrum, smoothed over frequency.

Spectra are sums over the lags, tapered by a Hann window (Blackman and Tukey), which equals averaging over blocks; with
one unsmoothed spectrum per recording SCOT would be PHAT. Both sharpen peaks that echoes broaden, and both pay for it in
noise: plain correlation is the one that meets the bound.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy import ndarray

GUARD = 1e-3
"""Bins weaker than this share of the strongest get no larger weight: silence and carriers stay finite."""
SILENT = 1e-20


def weigh(
    real: Array, imaginary: Array, same_BRR: Array, method: Literal["plain", "phat", "scot"]
) -> tuple[Array, Array]:
    """Block sums (B, N, R, R, K) filtered by the pair's weights; "plain" gives them back.

    Args:
        real: Lags -max_lag..max_lag, offsets removed.
        imaginary: As `real`.
        same_BRR: 1 on the diagonal, else 0.
        method: "phat": 1 / |S_ij|; "scot": 1 / sqrt(S_ii S_jj).
    """
    if method == "plain":
        return real, imaginary
    forward, back, window = _transforms(real.shape[-1])
    lags = [jnp.sum(part, axis=1) * jnp.asarray(window, real.dtype)[None, None, None] for part in (real, imaginary)]
    power = sum(part**2 for part in _multiply(*lags, forward))
    if method == "scot":
        own = jnp.sqrt(jnp.sum(power * same_BRR[..., None], axis=-2))
        power = own[:, :, None] * own[:, None, :]
    largest = jnp.max(power, axis=-1, keepdims=True)
    weight = jax.lax.rsqrt(power + GUARD**2 * largest + SILENT) * jnp.sqrt(largest + SILENT)
    spectrum = (part * weight[:, None] for part in _multiply(real, imaginary, forward))
    return _multiply(*spectrum, back)


@functools.cache
def _transforms(lags: int) -> tuple[ndarray, ndarray, ndarray]:
    """Complex DFT (K, F) from lags to twice as many bins, its inverse (F, K), and a Hann window (K,)."""
    lag = np.arange(lags) - lags // 2
    angle = 2 * np.pi * np.outer(lag, np.arange(2 * lags)) / (2 * lags)
    window = 0.5 + 0.5 * np.cos(2 * np.pi * lag / (lags + 1))
    return np.exp(-1j * angle), np.exp(1j * angle).T / (2 * lags), window


def _multiply(real: Array, imaginary: Array, matrix: ndarray) -> tuple[Array, Array]:
    """Complex product with a constant matrix on the last axis, in real numbers."""
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    cosine, sine = jnp.asarray(matrix.real, real.dtype), jnp.asarray(matrix.imag, real.dtype)
    return (
        product(real, cosine) - product(imaginary, sine),
        product(real, sine) + product(imaginary, cosine),
    )
