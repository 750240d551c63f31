"""Symbols on the air: what digital modes and Morse do to frequency and amplitude, from random content."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

BAUD = 1200.0
MARK_HZ, SPACE_HZ = 1200.0, 2200.0
SYMBOLS_HZ = (-1944.0, -648.0, 648.0, 1944.0)
"""Deviations of DMR's four symbols (ETSI TS 102 361-1, clause 10.2.2.1)."""
SYMBOL_RATE_HZ = 4800.0
"""Of two bits each: DMR sends 9600 bit/s."""
ROLL_OFF = 0.2
SPAN = 8
"""Symbols on either side that a sample depends on."""
WORDS_PER_MINUTE = (12.0, 25.0)
EDGE_S = 5e-3
"""Rise of a Morse element, from nothing to full."""
LEAKAGE = 1e-3
"""Carrier left while the key is up, -60 dB."""
MORSE = (
    *(".-", "-...", "-.-.", "-..", ".", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--"),
    *("-.", "---", ".--.", "--.-", ".-.", "...", "-", "..-", "...-", ".--", "-..-", "-.--", "--.."),
    *("-----", ".----", "..---", "...--", "....-", ".....", "-....", "--...", "---..", "----."),
)
"""A to Z, 0 to 9 (ITU-R M.1677)."""


def packet_audio(key: Array, length: int, sample_rate_hz: float) -> Float32[Array, " T"]:
    """Random bits as Bell 202 tones (1200 baud, 1200 and 2200 Hz, continuous phase), amplitude 1."""
    # In float64 on the host: at 12 kHz bits begin on samples, where float32 would round either way.
    bit_T = np.floor(np.arange(length) * BAUD / sample_rate_hz).astype(np.int32)
    bits = jax.random.bernoulli(key, 0.5, (int(bit_T[-1]) + 1,))
    tone_hz = jnp.where(bits, MARK_HZ, SPACE_HZ)[bit_T]
    return jnp.sin((2 * math.pi / sample_rate_hz) * jnp.cumsum(tone_hz))


def four_level_deviation(key: Array, length: int, sample_rate_hz: float) -> Float32[Array, " T"]:
    """Frequency in Hz of random DMR symbols behind its root-raised-cosine filter."""
    place = np.arange(length) * (SYMBOL_RATE_HZ / sample_rate_hz) + SPAN
    near = np.floor(place).astype(np.int32)[:, None] + np.arange(1 - SPAN, SPAN + 1, dtype=np.int32)
    weight = jnp.asarray(root_raised_cosine(place[:, None] - near), jnp.float32)
    symbols = jax.random.choice(key, jnp.asarray(SYMBOLS_HZ, jnp.float32), (int(near[-1, -1]) + 1,))
    return jnp.sum(symbols[near] * weight, axis=-1)


def root_raised_cosine(place: np.ndarray) -> np.ndarray:
    """Impulse response at `place` symbols from its middle; of a constant symbol the response is that symbol.

    ETSI TS 102 361-1, clause 10.2.2.2: |F| is 1 to 1920 Hz and cos(pi f / 1920 Hz) from there, its sign aside, to 2880.
    """
    flat, end = (1 - ROLL_OFF) / 2, (1 + ROLL_OFF) / 2
    frequency = (np.arange(600) + 0.5) * (end / 600)  # cycles per symbol; the middles of a fine grid
    falling = np.cos((frequency - flat) * (math.pi / (2 * ROLL_OFF)))
    response = np.where(frequency <= flat, 1.0, falling)
    grid = np.arange(0.0, SPAN + 1, 1 / 512)
    impulse = 2 * (end / 600) * np.cos(2 * math.pi * grid[:, None] * frequency) @ response
    return np.interp(np.abs(place), grid, impulse)


def morse_amplitude(key: Array, length: int, sample_rate_hz: float) -> Float32[Array, " T"]:
    """Amplitude of random letters and figures at 12 to 25 words per minute, from somewhere in the first of them.

    A dot lasts 1.2 s over the words per minute. Edges are shaped, or they would click across the band.
    """
    letter_key, speed_key, start_key = jax.random.split(key, 3)
    slowest, fastest = WORDS_PER_MINUTE
    codes, sizes = _codes()
    units = math.ceil(length / sample_rate_hz * fastest / 1.2) + 1 + codes.shape[1]
    letters = jax.random.randint(letter_key, (units // int(sizes.min()) + 1,), 0, len(codes))
    ends = jnp.cumsum(jnp.asarray(sizes)[letters])
    unit = jnp.arange(units)
    which = jnp.sum(unit[:, None] >= ends[None], axis=-1)
    begin = ends[which] - jnp.asarray(sizes)[letters[which]]
    down = jnp.asarray(codes)[letters[which], unit - begin]
    per_second = jax.random.uniform(speed_key, minval=slowest, maxval=fastest) / 1.2
    start = jax.random.uniform(start_key, maxval=float(codes.shape[1]))
    now = jnp.floor(start + jnp.arange(length, dtype=jnp.float32) * (per_second / sample_rate_hz))
    return LEAKAGE + (1 - LEAKAGE) * _shaped(down[now.astype(jnp.int32)], sample_rate_hz)


def _codes() -> tuple[np.ndarray, np.ndarray]:
    """Key down (1) or up (0) for every unit of each letter and the gap after it, and the letters' lengths in units."""
    rows = ["".join({".": "10", "-": "1110"}[sign] for sign in code) + "00" for code in MORSE]
    longest = max(len(row) for row in rows)
    codes = np.array([[int(unit) for unit in row.ljust(longest, "0")] for row in rows], np.float32)
    return codes, np.array([len(row) for row in rows], np.int32)


def _shaped(down_T: Float32[Array, " T"], sample_rate_hz: float) -> Float32[Array, " T"]:
    """The key's steps as raised cosines' integrals: convolved, in a circle, with a Hann window of the edge's length."""
    length = down_T.shape[0]
    size = min(length, max(1, round(EDGE_S * sample_rate_hz)))
    window = np.zeros(length)
    window[:size] = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    response = jnp.asarray(np.fft.rfft(window / window.sum()), jnp.complex64)
    return jnp.fft.irfft(jnp.fft.rfft(down_T) * response, length)
