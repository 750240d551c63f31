"""What is transmitted: complex baseband of unit power, one function per kind, listed in `WAVEFORMS`.

Each takes a key, a number of samples and the sample rate, and gives (T,) complex64. Frequency modulation has a
constant envelope, so power at the receiver is power of the carrier, in pauses too; single sideband and Morse pause.
What the modulation puts beyond half the sample rate (under -25 dB of it) folds back, as it does in a receiver without
a sharper filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex64, Float32, Int32

from heimdall_jax.simulation.keying import four_level_deviation, morse_amplitude, packet_audio
from heimdall_jax.simulation.speech import speech_like, upper_sideband
from heimdall_jax.worlds import Kind

DEVIATION_HZ = 2500.0
"""Peak deviation of a 12.5 kHz channel."""
SPEECH_DEVIATION_HZ = 1500.0
"""Root mean square deviation where the loudness of speech is 1, before the limiter."""
TONE_DEVIATION_HZ = 350.0
"""Of the squelch tone, 14 % of the peak."""
SQUELCH_TONES_HZ = (
    *(67.0, 71.9, 74.4, 77.0, 79.7, 82.5, 85.4, 88.5, 91.5, 94.8, 97.4, 100.0, 103.5, 107.2, 110.9, 114.8, 118.8),
    *(123.0, 127.3, 131.8, 136.5, 141.3, 146.2, 151.4, 156.7, 162.2, 167.9, 173.8, 179.9, 186.2, 192.8, 203.5),
    *(210.7, 218.1, 225.7, 233.6, 241.8, 250.3),
)
"""The 38 tones of CTCSS (TIA-603)."""

Waveform = Callable[[Array, int, float], Complex64[Array, " T"]]


def frequency_modulate(deviation_hz: Float32[Array, " T"], sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Unit-power carrier whose frequency is off the centre by `deviation_hz`, signed."""
    phase = (2 * math.pi / sample_rate_hz) * jnp.cumsum(deviation_hz)
    return jax.lax.complex(jnp.cos(phase), jnp.sin(phase))


def narrowband_fm(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Speech on FM; the limiter of the transmitter keeps it within the peak deviation."""
    audio = speech_like(key, length, sample_rate_hz) * (SPEECH_DEVIATION_HZ / DEVIATION_HZ)
    return frequency_modulate(DEVIATION_HZ * jnp.tanh(audio), sample_rate_hz)


def tone_squelch_fm(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """The same with a squelch tone under the speech, which goes on in its pauses."""
    speech_key, tone_key, phase_key = jax.random.split(key, 3)
    room_hz = DEVIATION_HZ - TONE_DEVIATION_HZ
    audio = speech_like(speech_key, length, sample_rate_hz) * (SPEECH_DEVIATION_HZ / room_hz)
    tone_hz = jax.random.choice(tone_key, jnp.asarray(SQUELCH_TONES_HZ, jnp.float32))
    turns = jnp.arange(length, dtype=jnp.float32) * (tone_hz / sample_rate_hz) + jax.random.uniform(phase_key)
    tone = TONE_DEVIATION_HZ * jnp.sin(2 * math.pi * turns)
    return frequency_modulate(room_hz * jnp.tanh(audio) + tone, sample_rate_hz)


def packet(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Random bits as the tones of Bell 202 on FM, as APRS sends."""
    return frequency_modulate(DEVIATION_HZ * packet_audio(key, length, sample_rate_hz), sample_rate_hz)


def digital_voice(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """Random symbols on four frequencies, as DMR sends."""
    return frequency_modulate(four_level_deviation(key, length, sample_rate_hz), sample_rate_hz)


def morse(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """A carrier keyed on and off; any scale."""
    return morse_amplitude(key, length, sample_rate_hz).astype(jnp.complex64)


def carrier(key: Array, length: int, sample_rate_hz: float) -> Complex64[Array, " T"]:
    """A bare carrier."""
    return jnp.ones(length, jnp.complex64)


WAVEFORMS: dict[Kind, Waveform] = {
    "fm": narrowband_fm,
    "packet": packet,
    "fm_tone": tone_squelch_fm,
    "ssb": upper_sideband,
    "dmr": digital_voice,
    "morse": morse,
    "carrier": carrier,
}
"""By name; the number of a kind is its place here."""
PAUSING: tuple[Kind, ...] = ("ssb", "morse")
"""Kinds without a constant envelope, scaled to unit power over what is kept of each recording."""


def waveform(
    kind: Int32[Array, ""],
    key: Array,
    length: int,
    sample_rate_hz: float,
    *,
    kinds: tuple[Kind, ...] = tuple(WAVEFORMS),
    start: int = 0,
    stop: int | None = None,
) -> Complex64[Array, " T"]:
    """Transmitted baseband (T,) of the kind of that number, mean power 1 over the samples from `start` to `stop`.

    Args:
        kind: Its place in `WAVEFORMS`; must be one of `kinds`, which are all that is compiled.
        key: Of its content.
        length: Samples.
        sample_rate_hz: Of them.
        kinds: Names.
        start: First sample that counts for the power.
        stop: First that no longer counts; None: all to the end.
    """
    names = sorted(set(kinds), key=list(WAVEFORMS).index)

    def branch(name: Kind) -> Callable[[Array], Array]:
        def make(key: Array) -> Array:
            made = WAVEFORMS[name](key, length, sample_rate_hz)
            if name not in PAUSING:
                return made
            power = jnp.mean(jnp.abs(made[start:stop]) ** 2)
            return made / jnp.sqrt(power).astype(jnp.complex64)

        return make

    numbers = jnp.asarray([list(WAVEFORMS).index(name) for name in names], jnp.int32)
    return jax.lax.switch(jnp.sum(kind > numbers), [branch(name) for name in names], key)
