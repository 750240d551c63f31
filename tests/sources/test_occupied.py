"""Which band a signal fills, by spectra whose edges are known, and that what is kept of it is not delayed."""

import numpy as np
import pytest

from heimdall_jax.sources.occupied import Band, keep_band, kept_share, occupied_band, power_spectrum

RATE_HZ = 12_000.0
N = 24_000
FREQUENCY_HZ = np.fft.fftfreq(N, 1 / RATE_HZ)


def noise(rng: np.random.Generator, receivers: int) -> np.ndarray:
    return (rng.standard_normal((receivers, N)) + 1j * rng.standard_normal((receivers, N))) / np.sqrt(2)


def banded(rng: np.random.Generator, low_hz: float, high_hz: float, level: float) -> np.ndarray:
    """One signal, flat between two frequencies, of that amplitude."""
    spectrum = np.fft.fft(noise(rng, 1)[0]) * ((low_hz <= FREQUENCY_HZ) & (high_hz >= FREQUENCY_HZ))
    signal = np.fft.ifft(spectrum)
    return level * signal / np.sqrt(np.mean(np.abs(signal) ** 2))


def band_of(iq: np.ndarray) -> Band:
    return occupied_band(power_spectrum(iq.astype(np.complex64), RATE_HZ), RATE_HZ)


@pytest.mark.parametrize(("low_hz", "high_hz"), [(-700.0, 700.0), (300.0, 2700.0), (-2500.0, 1000.0)])
def test_the_band_of_a_signal_is_found(low_hz, high_hz):
    """20 dB over the noise; its spectrum is smoothed over 200 Hz, which widens it by 100 Hz to each side."""
    rng = np.random.default_rng(0)
    band = band_of(noise(rng, 3) + banded(rng, low_hz, high_hz, 10.0))
    assert low_hz - 150 <= band.low_hz <= low_hz + 20
    assert high_hz - 20 <= band.high_hz <= high_hz + 150


def test_a_weaker_station_beside_is_left_out_and_a_gap_between_tones_is_not():
    rng = np.random.default_rng(1)
    wanted, other = banded(rng, -600, 600, 10.0), banded(rng, 3300, 3700, 5.0)
    band = band_of(noise(rng, 3) + wanted + other)
    assert band.low_hz > -800
    assert band.high_hz < 800
    two_tones = banded(rng, -500, -300, 10.0) + banded(rng, 300, 500, 9.0)
    band = band_of(noise(rng, 3) + two_tones)
    assert band.low_hz < -400
    assert band.high_hz > 400


def test_where_nothing_stands_out_all_is_kept():
    rng = np.random.default_rng(2)
    whole = Band(-6000.0, 6000.0)
    assert band_of(noise(rng, 2)) == whole
    assert band_of(np.zeros((2, N))) == whole
    iq = noise(rng, 2).astype(np.complex64)
    np.testing.assert_allclose(keep_band(iq, whole, RATE_HZ), iq, atol=1e-5)
    assert kept_share(whole, N, RATE_HZ) == pytest.approx(1)


def test_a_receiver_without_a_sample_does_not_hide_the_others_band():
    rng = np.random.default_rng(3)
    iq = noise(rng, 3) + banded(rng, -600, 600, 10.0)
    iq[1] = 0
    assert band_of(iq).high_hz < 800


def test_what_is_kept_is_neither_turned_nor_delayed_and_the_rest_is_gone():
    place = np.arange(N) / RATE_HZ
    inside, outside = (np.exp(2j * np.pi * hertz * place) for hertz in (400.0, 2000.0))
    kept = keep_band((inside + outside)[None].astype(np.complex64), Band(-600.0, 600.0), RATE_HZ)
    np.testing.assert_allclose(kept[0], inside, atol=1e-5)


def test_the_share_of_independent_samples_is_what_noise_correlates_by():
    """E |r|^2 of two independent noises is 1 / samples: by Monte Carlo, 400 pairs, 5 % each."""
    rng, band = np.random.default_rng(4), Band(-700.0, 700.0)
    square = []
    for _ in range(8):
        x, y = (keep_band(noise(rng, 50).astype(np.complex64), band, RATE_HZ) for _ in range(2))
        power = np.sum(np.abs(x) ** 2, 1) * np.sum(np.abs(y) ** 2, 1)
        square.append(np.abs(np.sum(x * y.conj(), 1)) ** 2 / power)
    assert np.mean(square) == pytest.approx(1 / (N * kept_share(band, N, RATE_HZ)), rel=0.15)
