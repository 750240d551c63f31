"""What is transmitted: complex baseband of unit power, one function per kind, listed in `WAVEFORMS`.

Each takes a key, a number of samples and the sample rate, and gives (T,) complex64. Frequency modulation has a
constant envelope, so power at the receiver is power of the carrier, in pauses too. What the modulation puts beyond
half the sample rate (under -25 dB of it) folds back, as it does in a receiver without a sharper filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex64, Float32

DEVIATION_HZ = 2500.0
"""Peak deviation of a 12.5 kHz channel."""
SPEECH_DEVIATION_HZ = 1500.0
"""Root mean square deviation where the loudness of speech is 1, before the limiter."""
BAUD = 1200.0
MARK_HZ, SPACE_HZ = 1200.0, 2200.0


def frequency_modulate(deviation_hz: Float32[Array, " T"], sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Unit-power carrier whose frequency is off the centre by `deviation_hz`, signed."""
    phase = (2 * math.pi / sample_rate_hz) * jnp.cumsum(deviation_hz)
    return jax.lax.complex(jnp.cos(phase), jnp.sin(phase))


def coloured_noise(key: Array, shape_F: Float32[Array, " F"], length: int) -> Float32[Array, " T"]:
    """Gaussian noise of unit variance; `shape_F` is its amplitude over the bins of an rfft of `length`, 0 at 0 Hz."""
    real_2F = jax.random.normal(key, (2, shape_F.shape[0]))
    spectrum = jax.lax.complex(real_2F[0] * shape_F, real_2F[1] * shape_F)
    return jnp.fft.irfft(spectrum, length) * (length / (2 * jnp.sqrt(jnp.sum(shape_F**2))))


def speech_like(key: Array, length: int, sample_rate_hz: float) -> Float32[Array, " T"]:
    """Noise with the band and fall-off of speech (300-3000 Hz, 6 dB per octave over 1 kHz) in syllables and pauses.

    The loudness is the positive part of a slow Gaussian process (below 4 Hz, as syllables are) about 0.5, so 31 %
    of the time is silence; unit variance where the loudness is 1.
    """
    frequency = jnp.arange(length // 2 + 1, dtype=jnp.float32) * (sample_rate_hz / length)
    band = jnp.where((frequency >= 300) & (frequency <= 3000), 1 / jnp.sqrt(1 + (frequency / 1000) ** 2), 0.0)
    voice_key, loudness_key = jax.random.split(key)
    slow = (frequency > 0) & (frequency <= max(4.0, sample_rate_hz / length))
    loudness = 0.5 + coloured_noise(loudness_key, slow.astype(jnp.float32), length)
    return jnp.maximum(loudness, 0.0) * coloured_noise(voice_key, band, length)


def narrowband_fm(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Speech on FM; the limiter of the transmitter keeps it within the peak deviation."""
    audio = speech_like(key, length, sample_rate_hz) * (SPEECH_DEVIATION_HZ / DEVIATION_HZ)
    return frequency_modulate(DEVIATION_HZ * jnp.tanh(audio), sample_rate_hz)


def packet(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Random bits as Bell 202 tones (1200 baud, 1200 and 2200 Hz, continuous phase) on FM, as APRS sends."""
    # In float64 on the host: at 12 kHz bits begin on samples, where float32 would round either way.
    bit_T = np.floor(np.arange(length) * BAUD / sample_rate_hz).astype(np.int32)
    bits = jax.random.bernoulli(key, 0.5, (int(bit_T[-1]) + 1,))
    tone_hz = jnp.where(bits, MARK_HZ, SPACE_HZ)[bit_T]
    audio = jnp.sin((2 * math.pi / sample_rate_hz) * jnp.cumsum(tone_hz))
    return frequency_modulate(DEVIATION_HZ * audio, sample_rate_hz)


WAVEFORMS: tuple[Callable[[Array, int, float], Complex64[Array, " T"]], ...] = (narrowband_fm, packet)
"""By kind; a transmission's kind is drawn uniformly."""


def waveform(kind: Array, key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Transmitted baseband (T,) of the given kind, mean power 1."""
    branches = [lambda k, make=make: make(k, length, sample_rate_hz) for make in WAVEFORMS]
    return jax.lax.switch(kind, branches, key)
