"""Delay, gain and noise of the channel against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.simulation.channel import CLEARANCE, TAPER, complex_noise, detune, guarded_length, propagate

RATE_HZ = 12_000.0
LENGTH = 1000
TOTAL, START = guarded_length(LENGTH, 12.0)


def tones(time_s):
    """Three complex tones, signed; the closed form of a band-limited signal."""
    return sum(np.exp(2j * np.pi * f * time_s + 1j * p) for f, p in [(-4321.0, 0.3), (17.0, 1.1), (3210.5, 2.0)])


@settings(deadline=None, max_examples=15)
@given(st.floats(-1e-3, 1e-3), st.floats(-1e-3, 1e-3) | st.sampled_from([0.0, 1 / RATE_HZ, 5 / RATE_HZ]))
def test_delay_is_the_closed_form_shift(first_s, second_s):
    sent = jnp.asarray(tones(np.arange(TOTAL) / RATE_HZ), jnp.complex64)
    delay = np.array([first_s, second_s], np.float32)
    gain = np.array([2.0, 1.0j], np.complex64)
    got = propagate(sent, jnp.asarray(delay), jnp.asarray(gain), sample_rate_hz=RATE_HZ, start=START, length=LENGTH)
    time_s = (START + np.arange(LENGTH)) / RATE_HZ
    expected = gain[:, None] * np.stack([tones(time_s - d) for d in delay.astype(np.float64)])
    np.testing.assert_allclose(np.asarray(got), expected, atol=6e-3)


def test_echoes_are_later_copies():
    """Closed form on tones: sent(t - delay) + sum of gain sent(t - delay - echo delay)."""
    sent = jnp.asarray(tones(np.arange(TOTAL) / RATE_HZ), jnp.complex64)
    delay, gain = np.array([3e-4, 1e-5]), np.array([2.0, 1.0j])
    behind = np.array([[0.5e-6, 5e-6], [3e-6, 1e-6]])
    relative = np.array([[0.3 - 0.2j, 0.1j], [-0.5, 0.0]])
    got = propagate(
        sent,
        jnp.asarray(delay, jnp.float32),
        jnp.asarray(gain, jnp.complex64),
        sample_rate_hz=RATE_HZ,
        start=START,
        length=LENGTH,
        echoes=(jnp.asarray(behind, jnp.float32), jnp.asarray(relative, jnp.complex64)),
    )
    time_s = (START + np.arange(LENGTH)) / RATE_HZ
    paths = [
        [tones(time_s - d)] + [g * tones(time_s - d - e) for e, g in zip(*late, strict=True)]
        for d, late in zip(delay, zip(behind, relative, strict=True), strict=True)
    ]
    expected = gain[:, None] * np.array([np.sum(path, axis=0) for path in paths])
    np.testing.assert_allclose(np.asarray(got), expected, atol=6e-3 * 2)
    alone = np.stack([tones(time_s - d) for d in delay]) * gain[:, None]
    assert np.abs(expected - alone).max() > 0.3  # the echoes are more than the tolerance


@pytest.mark.parametrize("frequency_hz", [-4000.0, 1500.0, 2700.0])
@pytest.mark.parametrize("drift_s", [4e-6, -4e-6, 5e-7])
def test_rate_error_stretches_time_about_the_middle(frequency_hz, drift_s):
    """Closed form on a tone, to 5 ns in its phase; `drift_s` is the displacement of the last sample."""
    middle_s = (LENGTH - 1) / 2 / RATE_HZ
    rate_error, delay_s = drift_s / middle_s, 2.3e-4
    sent = jnp.asarray(np.exp(2j * np.pi * frequency_hz * np.arange(TOTAL) / RATE_HZ), jnp.complex64)
    got = propagate(
        sent,
        jnp.array([delay_s], jnp.float32),
        jnp.ones(1, jnp.complex64),
        sample_rate_hz=RATE_HZ,
        start=START,
        length=LENGTH,
        rate_error_R=jnp.array([rate_error], jnp.float32),
    )
    own_s = np.arange(LENGTH) / RATE_HZ
    sent_s = (own_s - middle_s) * (1 + rate_error) + middle_s + START / RATE_HZ - delay_s
    ratio = np.asarray(got, np.complex128)[0] * np.exp(-2j * np.pi * frequency_hz * sent_s)
    assert np.abs(np.angle(ratio)).max() / (2 * np.pi * abs(frequency_hz)) < 5e-9
    np.testing.assert_allclose(np.abs(ratio), 1.0, atol=1e-3)


def test_detune_shifts_up_by_the_signed_offset():
    offset_hz = np.array([15.0, -7.25, 0.0], np.float32)
    signal = jnp.ones((3, LENGTH), jnp.complex64)
    time_s = (np.arange(LENGTH) - (LENGTH - 1) / 2) / RATE_HZ
    expected = np.exp(2j * np.pi * offset_hz[:, None].astype(np.float64) * time_s)
    np.testing.assert_allclose(np.asarray(detune(signal, jnp.asarray(offset_hz), RATE_HZ)), expected, atol=1e-5)


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
