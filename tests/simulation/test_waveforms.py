"""Waveforms: power, bandwidth, tones and pauses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.simulation.waveforms import (
    DEVIATION_HZ,
    WAVEFORMS,
    frequency_modulate,
    narrowband_fm,
    packet,
    speech_like,
    waveform,
)

RATE_HZ = 48_000.0
LENGTH = 48_000


def deviation_hz(iq, rate_hz=RATE_HZ):
    """Frequency of every step."""
    return np.angle(iq[1:] * np.conj(iq[:-1])) * rate_hz / (2 * np.pi)


@pytest.mark.parametrize("kind", range(len(WAVEFORMS)))
def test_unit_power_within_the_channel(kind):
    iq = np.asarray(waveform(jnp.int32(kind), jax.random.key(1), LENGTH, RATE_HZ), np.complex128)
    np.testing.assert_allclose(np.abs(iq), 1.0, atol=1e-5)
    power = np.abs(np.fft.fft(iq * np.hanning(LENGTH))) ** 2
    outside = np.abs(np.fft.fftfreq(LENGTH, 1 / RATE_HZ)) > 6000
    assert 10 * np.log10(power[outside].sum() / power.sum()) < -25
    assert np.abs(deviation_hz(iq)).max() < DEVIATION_HZ * 1.01


@pytest.mark.parametrize("kind", range(len(WAVEFORMS)))
def test_kind_chooses_the_waveform(kind):
    key = jax.random.key(2)
    iq = np.asarray(waveform(jnp.int32(kind), key, 1200, 12_000.0))
    np.testing.assert_allclose(iq, np.asarray(WAVEFORMS[kind](key, 1200, 12_000.0)), atol=1e-4)


@pytest.mark.parametrize("offset_hz", [-1000.0, 700.0])
def test_modulator_keeps_the_sign(offset_hz):
    iq = np.asarray(frequency_modulate(jnp.full(12_000, offset_hz, jnp.float32), 12_000.0))
    frequency = np.fft.fftfreq(12_000, 1 / 12_000)
    assert frequency[np.argmax(np.abs(np.fft.fft(iq)))] == offset_hz


def test_speech_has_its_band_and_its_pauses():
    audio = np.stack([np.asarray(speech_like(jax.random.key(i), LENGTH, RATE_HZ), np.float64) for i in range(12)])
    power = (np.abs(np.fft.rfft(audio)) ** 2).sum(0)
    frequency = np.fft.rfftfreq(LENGTH, 1 / RATE_HZ)
    assert power[(frequency > 280) & (frequency < 3020)].sum() > 0.99 * power.sum()
    silent = (audio == 0).mean()
    assert silent == pytest.approx(0.31, abs=0.12)  # Phi(-0.5) = 0.309; 12 s hold about 50 independent syllables
    loud = np.abs(audio) > 0
    # Of l ~ N(0.5, 1): E[l^2 | l > 0] = (1.25 Phi(0.5) + 0.5 phi(0.5)) / Phi(0.5) = 1.5046, whose root is 1.227.
    assert audio[loud].std() == pytest.approx(1.227, abs=0.25)


def test_pauses_leave_the_bare_carrier():
    iq = np.asarray(narrowband_fm(jax.random.key(3), LENGTH, RATE_HZ), np.complex128)
    frequency = deviation_hz(iq)
    assert (np.abs(frequency) < 1.0).mean() > 0.05
    assert 300 < frequency.std() < 2000


def test_packet_sends_the_two_tones():
    iq = np.asarray(packet(jax.random.key(4), LENGTH, RATE_HZ), np.complex128)
    power = np.abs(np.fft.rfft(deviation_hz(iq) * np.hanning(LENGTH - 1))) ** 2
    frequency = np.fft.rfftfreq(LENGTH - 1, 1 / RATE_HZ)
    assert power[(frequency > 600) & (frequency < 2800)].sum() > 0.9 * power.sum()
    near = [power[np.abs(frequency - tone) < 200].sum() for tone in (1200, 1700, 2200)]
    assert min(near[0], near[2]) > 0.5 * near[1]


def test_a_short_recording_is_finite():
    assert np.isfinite(np.asarray(narrowband_fm(jax.random.key(5), 400, 12_000.0))).all()
