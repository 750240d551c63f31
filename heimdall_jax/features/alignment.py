"""Delays once more, from recordings that were moved to one time: what is left is read near lag 0, without a bias.

Between two lags the peak of a correlation of 33 lags is off by up to 0.6 thousandths of a sample, 48 ns, in a circle
over the fraction of a sample (packets; 73 ns on single sideband, of a steady spectrum). Near a lag it is not off. And
a pair that has its highest peak elsewhere is read where the strongest receiver says.

Receivers' sample rates differ, too: over a recording the delay moves by e u, u samples from the middle. Speech has its
bandwidth in syllables, whose centre is c off the middle, and the mean delay is then off by c e: 20 ns at 0.1 ppm and
0.2 s. The delay d at the middle and e are fitted together to the slopes of blocks,

    minimise over d, e:   1/2 sum_b q_b (d + e u_b)^2 - s_b (d + e u_b)  +  e^2 / (2 scale sigma_e^2)

with s_b the slope of a block's part of |R| at lag 0 and q_b its curvature, of the demodulated signal: that of |R|.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from heimdall_jax.features.interpolation import safe_ratio
from heimdall_jax.features.lags import block_lag_products, effective_samples, tapered
from heimdall_jax.features.offsets import residual_offset, turn
from heimdall_jax.features.pairs import antisymmetric, difference, relative_to_strongest, same_receiver
from heimdall_jax.features.shifts import CUTOFF, MAIN_LOBE, advance
from heimdall_jax.features.snr import pair_snr

BLOCKS = 16
HALF_WIDTH = 8
"""Lags on each side of the aligned peak that its slope and curvature are taken from."""
HOP = HALF_WIDTH // 2
"""Samples in a frame of the lag products: of so few lags, fastest in an exported graph."""
KNEE = 1 / 6
"""Cycles a sample above which speech falls: 2 kHz at 12 kHz."""
LEAST_WEIGHT = 1e-3
"""Of what the filter removes."""
FARTHEST = 0.5
"""Samples that a pair may be off its receivers' times."""
RATE_SIGMA = 1e-7
"""Of a receiver's sample rate, relative: 15 Hz at 145 MHz. A prior, which 30 dB of signal overrule."""


class Aligned(NamedTuple):
    """Pairs' peaks after alignment.

    Attributes:
        lag_BRR: Samples by which i is later than j at the middle of the recording; antisymmetric.
        coefficient_BRR: Of correlation within the filter's band.
        curvature_BRR: -d^2 log|R| / d lag^2, per sample squared.
        near_BRR: 1 where there is a peak, within `FARTHEST` of the receivers' own times; else 0.
        centre_B: Of the signal's bandwidth in time, samples from the middle.
        spread_B: Its standard deviation about that.
        offset_BR: What was left of the receivers' frequency offsets, cycles a sample.
    """

    lag_BRR: Array
    coefficient_BRR: Array
    curvature_BRR: Array
    near_BRR: Array
    centre_B: Array
    spread_B: Array
    offset_BR: Array


class _Slopes(NamedTuple):
    """Of each block's part of |R| at lag 0: slope s_b and curvature q_b (B, N, R, R), and all blocks' |R| (B, R, R)."""

    slope: Array
    bend: Array
    size: Array


def align(i_BRT: Array, q_BRT: Array, lag_BRR: Array, coefficient_BRR: Array, pair_BRR: Array, most: int) -> Aligned:
    """Lags to the noise from lags to a thousandth of a sample.

    Args:
        i_BRT: Real part, offsets removed, not tapered.
        q_BRT: Imaginary part.
        lag_BRR: Samples.
        coefficient_BRR: Of correlation there.
        pair_BRR: 1 for the pairs to use, else 0.
        most: Largest lag, samples.
    """
    strength = pair_snr(coefficient_BRR) * pair_BRR
    lag_BR = relative_to_strongest(strength, lag_BRR)
    lag_BR = jnp.clip(lag_BR, -float(most), float(most))
    # Tapered after they are moved, so that all fade alike.
    i, q = tapered(*advance(i_BRT, q_BRT, lag_BR, most))
    real, imaginary, middle = block_lag_products(i, q, blocks=BLOCKS, max_lag=HALF_WIDTH, hop=HOP)
    power = jnp.sum(jnp.sum(real[..., 0], axis=1) * same_receiver(lag_BR), axis=-1)
    terms = _derivatives(real, imaginary)
    offset_BR = relative_to_strongest(strength, residual_offset(terms[0][..., 0], terms[1][..., 0], middle))
    slopes = _slopes(*turn(*terms, difference(offset_BR), middle))
    coefficient = safe_ratio(slopes.size, jnp.sqrt(power[..., :, None] * power[..., None, :]))
    strength = pair_snr(coefficient) * pair_BRR
    shift, centre, spread = _middle_shift(slopes, strength, middle, effective_samples(i_BRT.shape[-1]))
    total = jnp.sum(slopes.bend, axis=1)
    near = (total > 0) & (jnp.abs(shift) < FARTHEST)
    return Aligned(
        lag_BRR=difference(lag_BR) + antisymmetric(jnp.clip(shift, -FARTHEST, FARTHEST)),
        coefficient_BRR=coefficient,
        curvature_BRR=safe_ratio(total, slopes.size),
        near_BRR=near.astype(coefficient.dtype),
        centre_B=centre,
        spread_B=spread,
        offset_BR=offset_BR,
    )


def rate_variance(precision_BR: Array, centre_B: Array, spread_B: Array) -> Array:
    """What not knowing the receivers' sample rates adds (B, R) to the variance of an arrival, samples squared.

    Args:
        precision_BR: 1 / variance of an arrival from noise alone, per sample squared.
        centre_B: `Aligned.centre_B`.
        spread_B: `Aligned.spread_B`.
    """
    return centre_B[:, None] ** 2 / (1 / RATE_SIGMA**2 + precision_BR * spread_B[:, None] ** 2)


def _derivatives(real: Array, imaginary: Array) -> tuple[Array, Array]:
    """Value, first and second derivative (B, N, R, R, 3) at lag 0 of both parts of correlations.

    Their lags are 0 to `HALF_WIDTH` (B, N, R, R, K); those below are R_ij(-k) = conj(R_ji(k)).
    """
    above, below = taps()[HALF_WIDTH:], taps()[HALF_WIDTH::-1].copy()
    below[0] = 0.0
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

    def both(part: Array, sign: int) -> Array:
        from_above, from_below = (product(part, jnp.asarray(table, part.dtype)) for table in (above, sign * below))
        return from_above + jnp.swapaxes(from_below, 2, 3)

    return both(real, 1), both(imaginary, -1)


@functools.cache
def taps() -> np.ndarray:
    """Of value, first and second derivative (2 HALF_WIDTH + 1, 3) at lag 0.

    Their response over the true one, 2 pi i v and its square, is 1 within 0.8 % to 3.5 kHz at 12 kHz and 3 % to 5:
    least squares, weighed as power falls in speech. With an interpolator's derivatives a carrier would seem 131 Hz
    wide, and of what alignment left of a narrow signal's delay 70 % would be seen.
    """
    lag = np.arange(1, HALF_WIDTH + 1)
    cycles = (np.arange(512) + 0.5) / 1024
    angle = 2 * np.pi * cycles[:, None]
    weight = np.where(cycles < CUTOFF - MAIN_LOBE, 1 / (1 + (cycles / KNEE) ** 2), LEAST_WEIGHT)
    responses = 2 * np.sin(angle * lag) / angle, 2 * (1 - np.cos(angle * lag)) / angle**2
    slope, bend = (np.linalg.lstsq(weight[:, None] * part, weight, rcond=None)[0] for part in responses)
    table = np.zeros((2 * HALF_WIDTH + 1, 3))
    table[HALF_WIDTH, [0, 2]] = 1.0, -2 * bend.sum()
    table[HALF_WIDTH + 1 :, 1:] = np.stack([slope, bend], axis=1)
    table[:HALF_WIDTH, 1:] = np.stack([-slope, bend], axis=1)[::-1]
    # Rounded: the last bits of a fit depend on the threads of BLAS, and an exported graph must not.
    return np.round(table, 12)


def _slopes(x: Array, y: Array) -> _Slopes:
    """From both parts of the derivatives. The mean frequency, which turns them, moves no peak of |R|."""
    whole = [jnp.sum(part[..., 0], axis=1) for part in (x, y)]
    size = jnp.sqrt(whole[0] ** 2 + whole[1] ** 2)
    cosine, sine = (safe_ratio(part, size)[:, None, :, :, None] for part in whole)
    x, y = x * cosine + y * sine, y * cosine - x * sine
    turn = safe_ratio(jnp.sum(y[..., 1], axis=1), size)[:, None]
    slope = x[..., 1] + turn * y[..., 0]
    bend = -(x[..., 2] + 2 * turn * y[..., 1] - turn**2 * x[..., 0])
    return _Slopes(slope, bend, size)


def _middle_shift(
    slopes: _Slopes, strength_BRR: Array, middle: np.ndarray, samples: float
) -> tuple[Array, Array, Array]:
    """Delay (B, R, R) at the middle, and centre and spread (B,) of the bandwidth in time, samples."""
    share = jnp.sum(slopes.bend * safe_ratio(strength_BRR, slopes.size)[:, None], axis=(2, 3))
    share = jnp.maximum(share, jnp.zeros_like(share))
    share = safe_ratio(share, jnp.sum(share, axis=1, keepdims=True) + jnp.zeros_like(share))
    place = jnp.asarray(middle, share.dtype)[None]
    centre = jnp.sum(share * place, axis=1)
    off = place - centre[:, None]
    square = jnp.sum(share * off**2, axis=1)
    total = jnp.sum(slopes.bend, axis=1)
    mean = safe_ratio(jnp.sum(slopes.slope, axis=1), jnp.maximum(total, jnp.zeros_like(total)))
    # From the slope's own units to log likelihood: 1 / variance of a delay is 2 samples g curvature (Stein).
    scale = safe_ratio(2 * samples * strength_BRR, slopes.size)
    trend = scale * jnp.sum(slopes.slope * off[:, :, None, None], axis=1)
    information = scale * jnp.maximum(total, jnp.zeros_like(total)) * square[:, None, None]
    rate = trend / (information + 1 / (2 * RATE_SIGMA**2))
    return mean - centre[:, None, None] * rate, centre, jnp.sqrt(square)
