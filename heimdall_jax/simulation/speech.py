"""What people say into a radio, as noise: its band, its syllables and its pauses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex64, Float32

ROOM = 0.01
"""Least loudness on single sideband, -40 dB: what the microphone hears in a pause."""
SIDEBAND_HZ = (300.0, 2700.0)


def coloured_noise(key: Array, shape_F: Float32[Array, " F"], length: int) -> Float32[Array, " T"]:
    """Gaussian noise of unit variance; `shape_F` is its amplitude over the bins of an rfft of `length`, 0 at 0 Hz."""
    real_2F = jax.random.normal(key, (2, shape_F.shape[0]))
    spectrum = jax.lax.complex(real_2F[0] * shape_F, real_2F[1] * shape_F)
    return jnp.fft.irfft(spectrum, length) * (length / (2 * jnp.sqrt(jnp.sum(shape_F**2))))


def loudness(key: Array, length: int, sample_rate_hz: float) -> Float32[Array, " T"]:
    """Syllables and pauses: the positive part of a slow Gaussian process (below 4 Hz) about 0.5.

    So 31 % of the time is silence.
    """
    frequency = jnp.arange(length // 2 + 1, dtype=jnp.float32) * (sample_rate_hz / length)
    slow = (frequency > 0) & (frequency <= max(4.0, sample_rate_hz / length))
    return jnp.maximum(0.5 + coloured_noise(key, slow.astype(jnp.float32), length), 0.0)


def speech_like(key: Array, length: int, sample_rate_hz: float) -> Float32[Array, " T"]:
    """Noise with the band and fall-off of speech (300-3000 Hz, 6 dB per octave over 1 kHz) in syllables and pauses.

    Unit variance where the loudness is 1.
    """
    frequency = jnp.arange(length // 2 + 1, dtype=jnp.float32) * (sample_rate_hz / length)
    band = jnp.where((frequency >= 300) & (frequency <= 3000), 1 / jnp.sqrt(1 + (frequency / 1000) ** 2), 0.0)
    voice_key, loudness_key = jax.random.split(key)
    return loudness(loudness_key, length, sample_rate_hz) * coloured_noise(voice_key, band, length)


def upper_sideband(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Speech with its positive frequencies alone (300-2700 Hz), as single sideband sends it; any scale.

    Power pauses with the voice, down to the noise of the room.
    """
    frequency = jnp.fft.fftfreq(length, 1 / sample_rate_hz, dtype=jnp.float32)
    low, high = SIDEBAND_HZ
    band = jnp.where((frequency >= low) & (frequency <= high), 1 / jnp.sqrt(1 + (frequency / 1000) ** 2), 0.0)
    voice_key, loudness_key = jax.random.split(key)
    real_2F = jax.random.normal(voice_key, (2, length))
    voice = jnp.fft.ifft(jax.lax.complex(real_2F[0] * band, real_2F[1] * band))
    level = jnp.maximum(loudness(loudness_key, length, sample_rate_hz), ROOM)
    return voice * level.astype(jnp.complex64)
