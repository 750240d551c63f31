import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.features.mel import hz_to_mel, mel_bank, mel_to_hz, warn_if_empty


@pytest.mark.parametrize(
    ("rate", "n_fft", "n_mels", "fmin", "fmax"),
    [(12000, 512, 64, 0.0, 6000.0), (12000, 512, 128, 0.0, 6000.0), (22050, 2048, 40, 50.0, 8000.0)],
)
def test_one_sided_bank_is_librosas(rate, n_fft, n_mels, fmin, fmax):
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, dtype=np.float64)
    ours = mel_bank(np.arange(n_fft // 2 + 1) * rate / n_fft, n_mels, fmin, fmax, "envelope")
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_two_sided_bank_is_librosas_and_its_mirror_image():
    frequency_hz = np.fft.fftfreq(512, 1 / 12000)
    half = librosa.filters.mel(sr=12000, n_fft=512, n_mels=64, dtype=np.float64)
    ours = mel_bank(frequency_hz, 128, 0.0, 6000.0, "two")
    np.testing.assert_allclose(ours[64:, :257], half, atol=1e-12)
    np.testing.assert_allclose(ours[63::-1, (-np.arange(257)) % 512], half, atol=1e-12)
    assert not ours[64:, 257:].any()
    assert not ours[:64, 1:256].any()


def test_rows_run_from_the_most_negative_frequency_to_the_most_positive():
    frequency_hz = np.linspace(-6000, 6000, 24001)
    bank = mel_bank(frequency_hz, 128, 0.0, 6000.0, "two")
    centre_hz = frequency_hz[bank.argmax(axis=1)]
    assert np.all(np.diff(centre_hz) > 0)
    np.testing.assert_allclose(centre_hz, -centre_hz[::-1])
    # Slaney norm: unit area in hertz, here by the rectangle rule at 0.5 Hz.
    np.testing.assert_allclose(bank.sum(axis=1) * 0.5, 1, rtol=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1e6))
def test_mel_scale_is_librosas_and_inverts(frequency_hz):
    np.testing.assert_allclose(hz_to_mel(frequency_hz), librosa.hz_to_mel(frequency_hz), rtol=1e-12)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(frequency_hz)), frequency_hz, rtol=1e-9, atol=1e-9)


def test_empty_filters_warn_with_the_cure_and_full_banks_do_not():
    bins_hz = np.arange(33) * 12000 / 64
    with pytest.warns(UserWarning, match=r"\d+ of 128 filters .* Lower n_mels or raise n_fft"):
        warn_if_empty(mel_bank(bins_hz, 128, 0.0, 6000.0, "envelope"))
    warn_if_empty(mel_bank(bins_hz, 8, 0.0, 6000.0, "envelope"))
