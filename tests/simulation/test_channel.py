"""Delay, gain and noise of the channel against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.simulation.channel import CLEARANCE, TAPER, complex_noise, guarded_length, propagate

RATE_HZ = 12_000.0
LENGTH = 1000
TOTAL, START = guarded_length(LENGTH, 12.0)


def tones(time_s):
    """Three complex tones, signed; the closed form of a band-limited signal."""
    return sum(np.exp(2j * np.pi * f * time_s + 1j * p) for f, p in [(-4321.0, 0.3), (17.0, 1.1), (3210.5, 2.0)])


@settings(deadline=None, max_examples=15)
@given(st.floats(0.0, 1e-3), st.floats(0.0, 1e-3))
def test_delay_is_the_closed_form_shift(first_s, second_s):
    sent = jnp.asarray(tones(np.arange(TOTAL) / RATE_HZ), jnp.complex64)
    delay = np.array([first_s, second_s], np.float32)
    gain = np.array([2.0, 1.0j], np.complex64)
    got = propagate(sent, jnp.asarray(delay), jnp.asarray(gain), sample_rate_hz=RATE_HZ, start=START, length=LENGTH)
    time_s = (START + np.arange(LENGTH)) / RATE_HZ
    expected = gain[:, None] * np.stack([tones(time_s - d) for d in delay.astype(np.float64)])
    np.testing.assert_allclose(np.asarray(got), expected, atol=6e-3)


def test_length_holds_the_guard():
    assert START == TAPER + CLEARANCE + 12
    assert TOTAL >= LENGTH + 2 * START
    assert guarded_length(12_000, 9.0)[0] == 12_288  # 2^12 * 3: smallest fast length from 12274


def test_noise_power_and_whiteness():
    noise = np.asarray(complex_noise(jax.random.key(0), (2, 40_000), 0.3), np.complex128)
    assert (np.abs(noise) ** 2).mean() == pytest.approx(0.3, rel=4 / np.sqrt(80_000))
    assert noise.real.var() == pytest.approx(0.15, rel=4 * np.sqrt(2 / 80_000))
    limit = 4 * 0.3 / np.sqrt(40_000)
    assert abs((noise[0] * np.conj(noise[1])).mean()) < limit
    assert abs((noise[0, 1:] * np.conj(noise[0, :-1])).mean()) < limit
    assert abs((noise**2).mean()) < limit
