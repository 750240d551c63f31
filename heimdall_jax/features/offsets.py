"""Frequency offsets between receivers, found jointly with the delay (cross-ambiguity; Stein 1981).

The magnitude of a correlation that was turned by a residual offset of f hertz peaks elsewhere: for 1 s of speech on FM
with 1.5 kHz rms, 0.05 Hz left over moves it by up to 0.1 us. So offset and delay are refined in turn on the same
block sums; they are nearly orthogonal, and a turn leaves about 1e-4 of the error before it.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy import ndarray

from heimdall_jax.features.pairs import antisymmetric

STEPS_PER_HERTZ_SECOND = 4
"""Of the search: a quarter of the width of the ambiguity's main lobe loses at most 0.2 dB between two steps. Speech of
two bursts has side lobes as high as that."""
NEWTON_STEPS = 3


def search_offset(real: Array, imaginary: Array, middle_s: ndarray, max_offset_hz: float) -> tuple[Array, Array]:
    """Offset in hertz of receiver i less j, and |C| there, each (B, R, R), from block sums (B, N, R, R, K), lags 0 up.

    The largest over all lags of both signs and over +-max_offset_hz, then a parabola through its neighbours.
    """
    duration_s = len(middle_s) * float(middle_s[1] - middle_s[0])
    count = math.ceil(max_offset_hz * duration_s * STEPS_PER_HERTZ_SECOND)
    step_hz = max_offset_hz / count
    # |C_ij(-k, f)| is |C_ji(k, -f)|: the other half of the lags, and of the frequencies.
    ahead, behind = (
        jnp.max(part, axis=-1) for part in _spectra(real, imaginary, middle_s, np.arange(count + 1) * step_hz)
    )
    half = jnp.maximum(ahead, jnp.swapaxes(behind, -1, -2))
    power = jnp.concatenate([jnp.flip(jnp.swapaxes(half[:, 1:], -1, -2), axis=1), half], axis=1)
    index = jnp.argmax(power, axis=1, keepdims=True).astype(jnp.int32)
    beside = [jnp.take_along_axis(power, jnp.clip(index + shift, 0, 2 * count), axis=1)[:, 0] for shift in (-1, 0, 1)]
    shift = _from_peak(0.5 * (beside[0] - beside[2]), beside[0] - 2 * beside[1] + beside[2])
    position = index[:, 0].astype(power.dtype) - count + jnp.clip(shift, -0.5, 0.5)
    return antisymmetric(position * step_hz), jnp.sqrt(beside[1])


def turn(real: Array, imaginary: Array, offset_hz_BRR: Array, middle_s: ndarray) -> tuple[Array, Array]:
    """Block sums (B, N, R, R, K) without the offset (B, R, R) between their receivers."""
    angle = 2 * math.pi * offset_hz_BRR[:, None] * _times(middle_s, real)
    cosine, sine = jnp.cos(angle)[..., None], jnp.sin(angle)[..., None]
    return real * cosine + imaginary * sine, imaginary * cosine - real * sine


def residual_offset(real: Array, imaginary: Array, middle_s: ndarray) -> Array:
    """Offset in hertz (B, R, R), within the main lobe, that makes |sum over blocks| of (B, N, R, R) largest."""
    limit_hz = 0.4 / (len(middle_s) * float(middle_s[1] - middle_s[0]))
    time_s = jnp.asarray(middle_s, real.dtype)[None, None, None]
    moments = jnp.asarray(np.stack([middle_s**0, middle_s, middle_s**2], axis=1), real.dtype)
    real, imaginary = (jnp.moveaxis(part, 1, -1) for part in (real, imaginary))
    turned, offset_hz = (real, imaginary), jnp.zeros_like(real[..., :1])
    for step in range(NEWTON_STEPS):
        if step > 0:
            angle = 2 * math.pi * offset_hz * time_s
            cosine, sine = jnp.cos(angle), jnp.sin(angle)
            turned = real * cosine + imaginary * sine, imaginary * cosine - real * sine
        sums = [jnp.matmul(part, moments, precision=jax.lax.Precision.HIGHEST) for part in turned]
        (a0, a1, a2), (b0, b1, b2) = ([part[..., order : order + 1] for order in range(3)] for part in sums)
        # Derivatives by 2 pi f of the power a0^2 + b0^2, halved; d/df turns (a, b) by -90 degrees.
        slope = a0 * b1 - b0 * a1
        bend = a1**2 + b1**2 - a0 * a2 - b0 * b2
        offset_hz = jnp.clip(offset_hz - _from_peak(slope, bend) / (2 * math.pi), -limit_hz, limit_hz)
    return antisymmetric(offset_hz[..., 0])


def remove_offset(i_BRT: Array, q_BRT: Array, offset_hz_BR: Array, sample_rate_hz: float) -> tuple[Array, Array]:
    """Recordings turned back by each receiver's own offset; the phase at the middle stays.

    Sines of sums: a graph then evaluates about two hundred sines a receiver, not one per sample.
    """
    batch, receivers, n_samples = i_BRT.shape
    width = max(1, math.isqrt(n_samples))
    rows = math.ceil(n_samples / width)
    start_s = (np.arange(rows) * width - (n_samples - 1) / 2) / sample_rate_hz
    coarse = 2 * math.pi * offset_hz_BR[..., None] * jnp.asarray(start_s, i_BRT.dtype)[None, None]
    fine_s = jnp.asarray(np.arange(width) / sample_rate_hz, i_BRT.dtype)
    fine = 2 * math.pi * offset_hz_BR[..., None] * fine_s[None, None]
    cos_row, sin_row = jnp.cos(coarse), jnp.sin(coarse)
    column = jnp.stack([jnp.cos(fine), jnp.sin(fine)], axis=-2)
    cosine, sine = (
        jnp.matmul(jnp.stack(pair, axis=-1), column, precision=jax.lax.Precision.HIGHEST).reshape(
            batch, receivers, rows * width
        )[..., :n_samples]
        for pair in ((cos_row, -sin_row), (sin_row, cos_row))
    )
    return i_BRT * cosine + q_BRT * sine, q_BRT * cosine - i_BRT * sine


def _spectra(real: Array, imaginary: Array, middle_s: ndarray, frequency_hz: ndarray) -> tuple[Array, Array]:
    """|sum_b C_b exp(-2 pi i f t_b)|^2 (B, F, R, R, K) at frequencies f and at -f."""
    angle = 2 * np.pi * np.outer(frequency_hz, middle_s)
    batch, blocks, receivers, _, lags = real.shape
    both = jnp.stack([real, imaginary], axis=2).reshape(batch, blocks, 2 * receivers * receivers * lags)
    shape = (batch, len(frequency_hz), 2, receivers, receivers, lags)
    products = (
        jnp.matmul(jnp.asarray(wave, real.dtype)[None], both, precision=jax.lax.Precision.HIGHEST).reshape(shape)
        for wave in (np.cos(angle), np.sin(angle))
    )
    (a, b), (c, d) = ((part[:, :, 0], part[:, :, 1]) for part in products)
    even, odd = a * a + b * b + (c * c + d * d), 2 * (a * d - b * c)
    return even + odd, even - odd


def _from_peak(slope: Array, bend: Array) -> Array:
    """Slope / bend, how far a parabola is from its peak; 0 where it has none."""
    peaked = (bend < 0).astype(bend.dtype)  # in numbers: an exported graph has all constants of a `where` in float64
    return slope * peaked / (bend * peaked - (1 - peaked))


def _times(middle_s: ndarray, like: Array) -> Array:
    return jnp.asarray(middle_s, like.dtype)[None, :, None, None]
