"""Generalised cross-correlation (Knapp and Carter 1976): weights on the cross-spectrum, smoothed over frequency.

Spectra are sums over the lags under a window that is flat where delays are (Blackman and Tukey), which equals averaging
over blocks; with one unsmoothed spectrum per recording SCOT would be PHAT. Both sharpen peaks that echoes broaden, and
both pay for it in noise: plain correlation is the one that meets the bound.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy import ndarray

LEAST_COHERENCE = 0.1
"""Magnitude of coherence below which a bin is noise to PHAT: of 12,000 samples noise alone shows 0.05."""
SILENT = 1e-12


def weigh(
    real: Array, imaginary: Array, same_BRR: Array, method: Literal["plain", "phat", "scot"]
) -> tuple[Array, Array]:
    """Block sums (B, N, R, R, K) filtered by the pair's weights; "plain" gives them back.

    Args:
        real: Lags -max_lag..max_lag, offsets removed.
        imaginary: As `real`.
        same_BRR: 1 on the diagonal, else 0.
        method: "phat": 1 / |S_ij|, guarded where the two are not coherent; "scot": 1 / sqrt(S_ii S_jj).
    """
    if method == "plain":
        return real, imaginary
    forward, back = _transforms(real.shape[-1])
    spectrum = _multiply(real, imaginary, forward)
    power = sum(jnp.sum(part, axis=1) ** 2 for part in spectrum)
    own = jnp.sqrt(jnp.sum(power * same_BRR[..., None], axis=-2))
    both = own[:, :, None] * own[:, None, :]
    square = both if method == "scot" else power + LEAST_COHERENCE**2 * both
    weight = jax.lax.rsqrt(square + SILENT)[:, None]
    return _multiply(spectrum[0] * weight, spectrum[1] * weight, back)


@functools.cache
def _transforms(lags: int) -> tuple[ndarray, ndarray]:
    """Complex DFT (K, F) from windowed lags to twice as many bins, and its inverse (F, K)."""
    lag = np.arange(lags) - lags // 2
    angle = 2 * np.pi * np.outer(lag, np.arange(2 * lags)) / (2 * lags)
    fall = np.clip(2 * np.abs(lag) / (lags // 2 + 1) - 1, 0, 1)
    window = 0.5 + 0.5 * np.cos(np.pi * fall)
    return window[:, None] * np.exp(-1j * angle), np.exp(1j * angle).T / (2 * lags)


def _multiply(real: Array, imaginary: Array, matrix: ndarray) -> tuple[Array, Array]:
    """Complex product with a constant matrix on the last axis, in real numbers."""
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    cosine, sine = (jnp.asarray(part, real.dtype) for part in (np.real(matrix), np.imag(matrix)))
    return (
        product(real, cosine) - product(imaginary, sine),
        product(real, sine) + product(imaginary, cosine),
    )
