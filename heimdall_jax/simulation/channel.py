"""From the transmitter's antenna to the receivers' samples: loss, delay, amplitude, noise.

Power in dBm; the IQ of a receiver has full scale 1 at `full_scale_dbm` and is float, so a signal above full
scale is not clipped.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex64, Float, Float32
from scipy.constants import Boltzmann
from scipy.fft import next_fast_len

from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S

REFERENCE_M = 1000.0
"""Distance at which the path loss is that of free space."""
NOISE_TEMPERATURE_K = 290.0
TAPER = 64
"""Samples at each end over which the waveform fades in and out, outside what is kept."""
CLEARANCE = 64
"""Samples between the taper and what is kept, beyond the longest delay."""


def free_space_loss_db(distance_m: float, frequency_hz: float) -> float:
    """Friis 1946: 20 log10(4 pi d f / c)."""
    return 20 * math.log10(4 * math.pi * distance_m * frequency_hz / SPEED_OF_LIGHT_M_PER_S)


def path_loss_db(distance_m: Float[Array, "*A"], *, frequency_hz: float, exponent: float) -> Float[Array, "*A"]:
    """Free space to 1 km, then 10 n log10(d / 1 km)."""
    return free_space_loss_db(REFERENCE_M, frequency_hz) + 10 * exponent * jnp.log10(distance_m / REFERENCE_M)


def noise_floor_dbm(bandwidth_hz: float, noise_figure_db: float) -> float:
    """Thermal noise k T B at 290 K in dBm, plus the noise figure."""
    return 10 * math.log10(Boltzmann * NOISE_TEMPERATURE_K * bandwidth_hz * 1000) + noise_figure_db


def guarded_length(length: int, max_delay_samples: float) -> tuple[int, int]:
    """Samples to transmit so that `length` samples are free of wrap-around at any delay, and where they begin.

    A phase ramp delays in a circle: what it wraps is the tapered edge, which is cut away.
    """
    guard = TAPER + CLEARANCE + math.ceil(max_delay_samples)
    total: Any = next_fast_len(length + 2 * guard)  # an int; SciPy's own stub says None
    return total, guard


def propagate(
    sent_T: Complex64[Array, " S"],
    delay_s_R: Float32[Array, " R"],
    gain_R: Complex64[Array, " R"],
    *,
    sample_rate_hz: float,
    start: int,
    length: int,
) -> Complex64[Array, "R T"]:
    """Noiseless samples (R, length) at each receiver: received(t) = gain * sent(t - delay), as band-limited signals.

    Sample n of the result is at time (start + n) / sample_rate_hz of the transmitter's clock.
    """
    total = sent_T.shape[0]
    edge = jnp.sin(jnp.linspace(0.0, math.pi / 2, TAPER, dtype=jnp.float32)) ** 2
    window = jnp.concatenate([edge, jnp.ones(total - 2 * TAPER, jnp.float32), edge[::-1]])
    spectrum = jnp.fft.fft(sent_T * window.astype(jnp.complex64))
    ramp = _ramp(-delay_s_R * sample_rate_hz, total)
    return jnp.fft.ifft(spectrum[None] * ramp * gain_R[:, None])[:, start : start + length]


def _ramp(shift_R: Float32[Array, " R"], total: int) -> Complex64[Array, "R F"]:
    """exp(2 pi i f shift) at signed frequencies f = bin / total, in FFT order."""
    turns = jnp.asarray(jnp.fft.fftfreq(total), jnp.float32)[None] * shift_R[:, None]
    angle = 2 * math.pi * turns
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def complex_noise(key: Array, shape: tuple[int, ...], power: float) -> Complex64[Array, " *S"]:
    """Circular white Gaussian noise of the given mean power, full scale 1."""
    parts = jax.random.normal(key, (2, *shape)) * math.sqrt(power / 2)
    return jax.lax.complex(parts[0], parts[1])
