"""Recordings moved in time by any number of samples, whole or not, by one filter a receiver.

    y_r(n) = sum_m g(m - d_r) x_r(n + m),    g(x) = 2 f sinc(2 f x) w(x),    so that y_r(n) is x_r(n + d_r)

w is the window of four terms of Blackman and Harris (Harris, Proc. IEEE 66 (1978) 51; side lobes -92 dB). f lies half
its main lobe below half the sample rate: the edge of the band, where a fraction of a sample has no meaning, is removed
alike for every d, and the rest is delayed without a bias.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

HALF_WIDTH = 64
"""Of the window, samples: flat to 5.25 kHz at 12 kHz."""
WINDOW = (0.35875, 0.48829, 0.14128, 0.01168)
MAIN_LOBE = 4 / (2 * HALF_WIDTH)
"""Half of its width, cycles a sample."""
CUTOFF = 0.5 - MAIN_LOBE


def noise_kept() -> float:
    """Share of white noise's power that passes."""
    tap = np.arange(-HALF_WIDTH, HALF_WIDTH + 1)
    window = sum(weight * np.cos(order * np.pi * tap / HALF_WIDTH) for order, weight in enumerate(WINDOW))
    return float(np.sum((2 * CUTOFF * np.sinc(2 * CUTOFF * tap) * window) ** 2))


def advance(i_BRT: Array, q_BRT: Array, shift_BR: Array, most: int) -> tuple[Array, Array]:
    """The recordings `shift_BR` samples later in their own time, so that what came late is early; zero past an end.

    Args:
        i_BRT: Real part.
        q_BRT: Imaginary part.
        shift_BR: Samples, at most `most` either way.
        most: Samples; static.
    """
    reach = HALF_WIDTH + most
    filters = _toeplitz(_taps(shift_BR, reach), reach)
    i, q = (
        jnp.matmul(_frames(part, reach), filters, precision=jax.lax.Precision.HIGHEST).reshape(*part.shape[:2], -1)[
            ..., : part.shape[-1]
        ]
        for part in (i_BRT, q_BRT)
    )
    return i, q


def _taps(shift_BR: Array, reach: int) -> Array:
    """g(m - d) (B, R, 2 reach + 1), m = -reach..reach."""
    tap = jnp.asarray(np.arange(-reach, reach + 1), shift_BR.dtype)
    away = tap[None, None] - shift_BR[..., None]
    angle = (math.pi / HALF_WIDTH) * jnp.clip(away, -HALF_WIDTH, HALF_WIDTH)
    window = sum(weight * jnp.cos(order * angle) for order, weight in enumerate(WINDOW) if order) + WINDOW[0]
    at_zero = (away == 0).astype(away.dtype)
    sinc = jnp.sin(2 * math.pi * CUTOFF * away) / (math.pi * away + at_zero) + 2 * CUTOFF * at_zero
    return sinc * window * (jnp.abs(away) < HALF_WIDTH).astype(away.dtype)


def _toeplitz(taps_BRM: Array, reach: int) -> Array:
    """(B, R, 3 reach, reach) matrices whose column m is the taps moved down by m."""
    *leading, count = taps_BRM.shape
    row = jnp.concatenate([taps_BRM, jnp.zeros((*leading, 3 * reach + 1 - count), taps_BRM.dtype)], axis=-1)
    rows = jnp.broadcast_to(row[..., None, :], (*leading, reach, 3 * reach + 1))
    # Rows one longer than the matrix: read on, each begins one later.
    flat = rows.reshape(*leading, reach * (3 * reach + 1))[..., : 3 * reach * reach]
    return jnp.swapaxes(flat.reshape(*leading, reach, 3 * reach), -1, -2)


def _frames(x_BRT: Array, reach: int) -> Array:
    """(B, R, n, 3 reach): every `reach` samples, from `reach` before them to `reach` after."""
    batch, receivers, n_samples = x_BRT.shape
    count = math.ceil(n_samples / reach)
    padded = jnp.pad(x_BRT, ((0, 0), (0, 0), (reach, (count + 1) * reach - n_samples)))
    framed = padded.reshape(batch, receivers, count + 2, reach)
    return jnp.concatenate([framed[:, :, place : place + count] for place in range(3)], axis=-1)
