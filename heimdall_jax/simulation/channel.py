"""From the transmitter's antenna to the receivers' samples: loss, delay, amplitude, noise.

Power in dBm; the IQ of a receiver has full scale 1 at `full_scale_dbm` and is float, so a signal above full
scale is not clipped.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import scipy
from jaxtyping import Array, Complex64, Float, Float32

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


def path_loss_db(
    distance_m: Float[Array, "*A"], *, reference_db: float | Float[Array, ""], exponent: float
) -> Float[Array, "*A"]:
    """The loss at 1 km (free space: `reference_loss_db`), then 10 n log10(d / 1 km)."""
    return reference_db + 10 * exponent * jnp.log10(distance_m / REFERENCE_M)


def reference_loss_db(frequency_hz: float) -> float:
    """Of free space to 1 km: all that the carrier's frequency changes."""
    return free_space_loss_db(REFERENCE_M, frequency_hz)


def noise_floor_dbm(bandwidth_hz: float, noise_figure_db: float) -> float:
    """Thermal noise k T B at 290 K in dBm, plus the noise figure."""
    return 10 * math.log10(scipy.constants.Boltzmann * NOISE_TEMPERATURE_K * bandwidth_hz * 1000) + noise_figure_db


def guarded_length(length: int, max_delay_samples: float) -> tuple[int, int]:
    """Samples to transmit so that `length` samples are free of wrap-around at any delay, and where they begin.

    A phase ramp delays in a circle: what it wraps is the tapered edge, which is cut away.
    """
    guard = TAPER + CLEARANCE + math.ceil(max_delay_samples)
    total = scipy.fft.next_fast_len(length + 2 * guard)
    return total, guard


def propagate(
    sent_T: Complex64[Array, " S"],
    delay_s_R: Float32[Array, " R"],
    gain_R: Complex64[Array, " R"],
    *,
    sample_rate_hz: float,
    start: int,
    length: int,
    echoes: tuple[Float32[Array, "R Q"], Complex64[Array, "R Q"]] | None = None,
    rate_error_R: Float32[Array, " R"] | None = None,
) -> Complex64[Array, "R T"]:
    """Noiseless samples (R, length) at each receiver: received(t) = gain * sent(t - delay), as band-limited signals.

    Sample n of the result is at time (start + n) / sample_rate_hz of the transmitter's clock; with a sample-rate error
    e it is at ((n - middle) (1 + e) + middle + start) / sample_rate_hz, where middle = (length - 1) / 2.

    Args:
        sent_T: Transmitted.
        delay_s_R: Of the direct path; whatever else makes a receiver stamp late adds to it.
        gain_R: Of the direct path.
        sample_rate_hz: Of all samples.
        start: See `guarded_length`.
        length: See there.
        echoes: Seconds behind the direct path, and gain over the direct path's, of Q more paths.
        rate_error_R: Times half the length at most 4 us: see `_stretched`. None: no receiver has one.
    """
    total = sent_T.shape[0]
    edge = jnp.sin(jnp.linspace(0.0, math.pi / 2, TAPER, dtype=jnp.float32)) ** 2
    window = jnp.concatenate([edge, jnp.ones(total - 2 * TAPER, jnp.float32), edge[::-1]])
    spectrum = jnp.fft.fft(sent_T * window.astype(jnp.complex64))
    ramp = _ramp(-delay_s_R * sample_rate_hz, total)
    if echoes is not None:
        ramp = ramp * _echoes(-echoes[0] * sample_rate_hz, echoes[1], total)
    received = spectrum[None] * ramp * gain_R[:, None]
    if rate_error_R is None:
        return jnp.fft.ifft(received)[:, start : start + length]
    return _stretched(received, rate_error_R, start, length)


def _echoes(shift_RQ: Float32[Array, "R Q"], gain_RQ: Complex64[Array, "R Q"], total: int) -> Complex64[Array, "R F"]:
    """What the direct path is multiplied by: 1 and every echo's own ramp."""
    factor = jnp.ones((shift_RQ.shape[0], total), jnp.complex64)
    for echo in range(shift_RQ.shape[1]):
        factor = factor + gain_RQ[:, echo, None] * _ramp(shift_RQ[:, echo], total)
    return factor


def _stretched(
    received_RF: Complex64[Array, "R F"], rate_error_R: Float32[Array, " R"], start: int, length: int
) -> Complex64[Array, "R T"]:
    """The signals on a time axis stretched by 1 + rate error about the middle sample.

    Sample n is displaced by u = -1 to 1 times what the last is. Between the signal as displaced at the first sample,
    in the middle and at the last, which are exact, the parabola in u through them errs by (u^3 - u) / 6 times the cube
    of the phase that the last is displaced by: by 3 ns at 4 kHz where that is 4 us.
    """
    middle = (length - 1) / 2
    last = _ramp(rate_error_R * middle, received_RF.shape[-1])
    odd = received_RF * jax.lax.complex(jnp.zeros_like(last.imag), last.imag)
    even = received_RF * (last.real - 1).astype(jnp.complex64)
    straight_T, odd_T, even_T = (
        jnp.fft.ifft(spectrum)[:, start : start + length] for spectrum in (received_RF, odd, even)
    )
    u = jnp.linspace(-1.0, 1.0, length, dtype=jnp.float32)[None].astype(jnp.complex64)
    return straight_T + u * (odd_T + u * even_T)


def detune(
    signal_RT: Complex64[Array, "R T"], offset_hz_R: Float32[Array, " R"], sample_rate_hz: float
) -> Complex64[Array, "R T"]:
    """The signals (R, T) shifted up by their offsets, signed; the middle sample keeps its phase."""
    length = signal_RT.shape[1]
    time_s = (jnp.arange(length, dtype=jnp.float32) - (length - 1) / 2) / sample_rate_hz
    angle = 2 * math.pi * offset_hz_R[:, None] * time_s[None]
    return signal_RT * jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def _ramp(shift_R: Float32[Array, " R"], total: int) -> Complex64[Array, "R F"]:
    """exp(2 pi i f shift) at signed frequencies f = bin / total, in FFT order."""
    turns = jnp.asarray(jnp.fft.fftfreq(total), jnp.float32)[None] * shift_R[:, None]
    angle = 2 * math.pi * turns
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def complex_noise(key: Array, shape: tuple[int, ...], power: float) -> Complex64[Array, " *S"]:
    """Circular white Gaussian noise of the given mean power, full scale 1."""
    parts = jax.random.normal(key, (2, *shape)) * math.sqrt(power / 2)
    return jax.lax.complex(parts[0], parts[1])
