"""Waveforms: power, bandwidth, tones and pauses."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from heimdall_jax.simulation.keying import MORSE, root_raised_cosine
from heimdall_jax.simulation.speech import speech_like
from heimdall_jax.simulation.waveforms import (
    DEVIATION_HZ,
    PAUSING,
    SQUELCH_TONES_HZ,
    WAVEFORMS,
    digital_voice,
    frequency_modulate,
    morse,
    narrowband_fm,
    packet,
    tone_squelch_fm,
    upper_sideband,
    waveform,
)
from heimdall_jax.worlds import Kind

RATE_HZ = 48_000.0
LENGTH = 48_000


def deviation_hz(iq, rate_hz=RATE_HZ):
    """Frequency of every step."""
    return np.angle(iq[1:] * np.conj(iq[:-1])) * rate_hz / (2 * np.pi)


def spectrum(iq, rate_hz=RATE_HZ):
    """Frequencies in order, and the share of the power at each; a Hann window keeps edges out of it."""
    power = np.abs(np.fft.fft(iq * np.hanning(iq.size))) ** 2
    return np.fft.fftshift(np.fft.fftfreq(iq.size, 1 / rate_hz)), np.fft.fftshift(power / power.sum())


def occupied_hz(iq):
    """Frequencies below and above which half a percent of the power is."""
    frequency, share = spectrum(iq)
    total = np.cumsum(share)
    return frequency[np.searchsorted(total, 0.005)], frequency[np.searchsorted(total, 0.995)]


def rms_bandwidth_hz(iq):
    frequency, share = spectrum(iq)
    return np.sqrt(np.sum(share * (frequency - np.sum(share * frequency)) ** 2))


compiled = jax.jit(waveform, static_argnums=(2, 3), static_argnames=("kinds", "start", "stop"))


def number(name):
    return jnp.int32(list(WAVEFORMS).index(name))


def made(name, seed=1, length=LENGTH):
    return np.asarray(WAVEFORMS[name](jax.random.key(seed), length, RATE_HZ), np.complex128)


@pytest.mark.parametrize("name", WAVEFORMS)
def test_unit_power_within_the_channel(name):
    iq = np.asarray(compiled(number(name), jax.random.key(1), LENGTH, RATE_HZ), np.complex128)
    assert np.mean(np.abs(iq) ** 2) == pytest.approx(1.0, abs=1e-5)
    power = np.abs(np.fft.fft(iq * np.hanning(LENGTH))) ** 2
    outside = np.abs(np.fft.fftfreq(LENGTH, 1 / RATE_HZ)) > 6000
    assert 10 * np.log10(power[outside].sum() / power.sum()) < -25
    if name not in PAUSING:
        np.testing.assert_allclose(np.abs(iq), 1.0, atol=1e-5)
        assert np.abs(deviation_hz(iq)).max() < 1.5 * DEVIATION_HZ


@pytest.mark.parametrize(
    ("name", "low_hz", "high_hz"),
    [
        ("fm", (-5500, -1500), (1500, 5500)),  # Carson, Proc. IRE 10, 1922: 2 (2.5 + 3 kHz) at most
        ("fm_tone", (-5500, -1500), (1500, 5500)),
        ("packet", (-4700, -3700), (3700, 4700)),  # Carson: 2 (2.5 + 2.2 kHz), at least the deviation and a tone
        ("ssb", (290, 400), (2400, 2710)),  # the filter's 300 to 2700 Hz
        ("dmr", (-4344, -2592), (2592, 4344)),  # Carson: 2 (1.944 + 2.4 kHz); at least the outer symbol and its 648 Hz
        ("morse", (-110, -10), (10, 110)),  # 25 words per minute are 21 elements a second: the fifth harmonic
        ("carrier", (-2, 0), (0, 2)),
    ],
)
def test_bandwidth_is_that_of_the_mode(name, low_hz, high_hz):
    for seed in range(4):
        low, high = occupied_hz(made(name, seed))
        assert low_hz[0] <= low <= low_hz[1]
        assert high_hz[0] <= high <= high_hz[1]


@pytest.mark.parametrize("name", ["fm", "fm_tone", "packet", "dmr"])
def test_rms_bandwidth_of_fm_is_its_rms_deviation(name):
    """The mean square frequency of a unit carrier exp(i phase) is the mean of phase'^2."""
    for seed in range(3):
        iq = made(name, seed)
        frequency, weight = deviation_hz(iq), np.hanning(LENGTH - 1) ** 2
        mean = np.average(frequency, weights=weight)
        expected = np.sqrt(np.average((frequency - mean) ** 2, weights=weight))
        assert rms_bandwidth_hz(iq) == pytest.approx(expected, rel=0.03)


def test_rms_bandwidths_in_closed_form():
    assert rms_bandwidth_hz(made("packet")) == pytest.approx(2500 / np.sqrt(2), rel=0.02)  # of a sine
    # Of the four symbols; the filter has unit energy.
    assert rms_bandwidth_hz(made("dmr")) == pytest.approx(np.sqrt((648**2 + 1944**2) / 2), rel=0.05)
    density = [scipy.integrate.quad(lambda f, n=n: f**n / (1 + (f / 1000) ** 2), 300, 2700)[0] for n in range(3)]
    expected = np.sqrt(density[2] / density[0] - (density[1] / density[0]) ** 2)
    found = [rms_bandwidth_hz(made("ssb", seed)) for seed in range(6)]
    assert np.mean(found) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", WAVEFORMS)
def test_kind_chooses_the_waveform(name):
    key = jax.random.key(2)
    expected = np.asarray(WAVEFORMS[name](key, 1200, 12_000.0), np.complex128)
    expected /= np.sqrt(np.mean(np.abs(expected) ** 2))
    np.testing.assert_allclose(compiled(number(name), key, 1200, 12_000.0), expected, atol=1e-4)
    if name in (some := ("morse", "fm", "carrier", "fm")):  # what a world with few kinds compiles
        np.testing.assert_allclose(compiled(number(name), key, 1200, 12_000.0, kinds=some), expected, atol=1e-4)


def test_kinds_are_those_that_a_config_can_name():
    assert tuple(WAVEFORMS) == get_args(Kind)


@pytest.mark.parametrize("name", PAUSING)
def test_power_is_that_of_what_is_kept(name):
    kept = {"kinds": PAUSING, "start": 700, "stop": 1900}
    iq = np.asarray(compiled(number(name), jax.random.key(3), 3000, 12_000.0, **kept), np.complex128)
    assert np.mean(np.abs(iq[700:1900]) ** 2) == pytest.approx(1.0, abs=1e-5)
    assert np.mean(np.abs(iq) ** 2) != pytest.approx(1.0, abs=0.01)


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


def test_single_sideband_is_above_the_carrier_and_pauses():
    silent, runs = [], 20
    for seed in range(runs):
        iq = np.asarray(upper_sideband(jax.random.key(seed), LENGTH, RATE_HZ), np.complex128)
        frequency = np.fft.fftfreq(LENGTH, 1 / RATE_HZ)
        power = np.abs(np.fft.fft(iq)) ** 2
        assert power[frequency < 200].sum() < 1e-3 * power.sum()
        level = np.sqrt((np.abs(iq).reshape(-1, 480) ** 2).mean(axis=1))  # of every 10 ms
        silent.append((level < 0.05 * level.max()).mean())
    # Phi(-0.5) = 0.309 of the time the loudness is at its least; a second holds about 8 independent syllables.
    assert np.mean(silent) == pytest.approx(0.33, abs=4 * np.sqrt(0.31 * 0.69 / (8 * runs)))


def test_squelch_tone_goes_on_under_speech_and_pauses():
    tones = set()
    for seed in range(4):
        frequency = deviation_hz(np.asarray(tone_squelch_fm(jax.random.key(seed), LENGTH, RATE_HZ), np.complex128))
        window = np.hanning(LENGTH - 1)
        time_s = np.arange(LENGTH - 1) / RATE_HZ
        # Below speech's 300 Hz the demodulated signal holds the tone alone: its amplitude by projection.
        amplitude = [2 * abs(np.sum(window * frequency * np.exp(-2j * np.pi * f * time_s))) for f in SQUELCH_TONES_HZ]
        strongest = int(np.argmax(amplitude))
        tones.add(strongest)
        assert amplitude[strongest] / window.sum() == pytest.approx(350, rel=0.1)
        assert np.sort(amplitude)[-6] < 0.2 * amplitude[strongest]  # its neighbours are within the window's lobe
        loudest = np.lib.stride_tricks.sliding_window_view(frequency, 2400)[::240].std(axis=1)
        assert loudest.min() > 200  # a tone of 350 Hz peak is 247 Hz rms
    assert len(tones) > 1
    assert len(set(SQUELCH_TONES_HZ)) == 38  # TIA-603


def test_four_level_symbols_come_out_of_the_matched_filter():
    """Root-raised-cosine twice is Nyquist: no symbol leaks into another (Proakis, "Digital Communications", 9.2)."""
    frequency = deviation_hz(np.asarray(digital_voice(jax.random.key(6), LENGTH, RATE_HZ), np.complex128))
    matched = np.convolve(frequency, root_raised_cosine(np.arange(-80, 81) / 10) / 10, "same")[99:-100:10]
    levels = np.array([-1944, -648, 648, 1944])
    nearest = np.abs(matched[:, None] - levels).argmin(axis=1)
    assert np.abs(matched - levels[nearest]).max() < 60
    assert np.bincount(nearest, minlength=4).min() > 0.2 * nearest.size


def test_morse_decodes():
    count, codes = 6 * LENGTH, set()
    for seed in range(6):
        amplitude = np.abs(np.asarray(morse(jax.random.key(seed), count, RATE_HZ)))
        assert np.abs(np.diff(amplitude)).max() < 1.05 * 2 / (5e-3 * RATE_HZ)  # Hann's peak is twice its mean
        assert amplitude.min() == pytest.approx(1e-3, abs=2e-4)
        down = amplitude > 0.5
        edges = np.flatnonzero(np.diff(down)) + 1
        edges = edges[edges > 5e-3 * RATE_HZ]  # the first may be the circle's
        lengths, states = np.diff(edges) / RATE_HZ, down[edges[:-1]]
        dot = lengths.min()
        assert 1.2 / 25 * 0.99 < dot < 1.2 / 12 * 1.01  # PARIS is 50 dots
        longer = lengths > 2 * dot
        np.testing.assert_allclose(lengths / dot, np.where(longer, 3, 1), atol=0.02)
        signs = {(True, True): "-", (True, False): ".", (False, True): " ", (False, False): ""}
        text = "".join(signs[on, long] for on, long in zip(states.tolist(), longer.tolist(), strict=True))
        codes.update(text.split(" ")[1:-1])
    assert len(codes) > 15
    assert codes <= set(MORSE)
    assert {"...", "---", ".-", "-----"} <= set(MORSE)
    assert len(set(MORSE)) == 36


@pytest.mark.parametrize("name", WAVEFORMS)
def test_a_short_recording_is_finite(name):
    iq = np.asarray(compiled(number(name), jax.random.key(5), 400, 12_000.0))
    assert np.isfinite(iq).all()
    assert np.mean(np.abs(iq) ** 2) == pytest.approx(1.0, abs=1e-4)
