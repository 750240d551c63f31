import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from heimdall_jax.config import FeatureConfig
from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.features import chunks
from heimdall_jax.features.dft import frame_power, power_bins
from heimdall_jax.features.mel import mel_bank
from heimdall_jax.features.spectra import iq_to_mel_spectrogram, parts_to_mel_spectrogram

RATE = 12_000
TIME_S = np.arange(12_000) / RATE
BACKENDS = ("fft", "matmul")
SIDES = ("two", "envelope")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Complex white noise of variance 1."""
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((2, *shape)) / np.sqrt(2)
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def tone(frequency_hz: float) -> np.ndarray:
    return np.exp(2j * np.pi * frequency_hz * TIME_S).astype(np.complex64)


def mel_db(iq, **settings_) -> np.ndarray:
    return np.asarray(iq_to_mel_spectrogram(iq, sample_rate_hz=RATE, **settings_))


def scipy_mel_db(iq: np.ndarray, sided: str) -> np.ndarray:
    """SciPy's ShortTimeFFT and librosa's bank in float64, 512/370, 128 bands."""
    # SciPy centres slice p on sample 370 p; 114 zeros in front put the start of slice l + 1 on sample 370 l.
    signal = np.concatenate([np.zeros(114), iq.astype(np.complex128) if sided == "two" else np.abs(iq)])
    mode = "twosided" if sided == "two" else "onesided"
    stft = ShortTimeFFT(hann(512, sym=False), 370, RATE, fft_mode=mode, mfft=512, scale_to="magnitude")
    power = np.abs(stft.stft(signal, p0=1, p1=33)) ** 2
    if sided == "envelope":
        bands = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=128, dtype=np.float64) @ power
    else:
        half = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=64, dtype=np.float64)
        bands = np.concatenate([half[::-1] @ power[(-np.arange(257)) % 512], half @ power[:257]])
    return 10 * np.log10(np.maximum(bands * RATE / 512, 1e-14))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sided", SIDES)
def test_equals_scipy_stft_and_librosa_bank(backend, sided):
    iq = noise(12_000) * np.float32(0.1)
    ours = mel_db(iq, sided=sided, backend=backend)
    assert ours.shape == (128, 32)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, scipy_mel_db(iq, sided), atol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n_fft", "hop"), [(32, 11), (31, 31), (16, 20)])
@pytest.mark.parametrize("sided", SIDES)
def test_equals_naive_loop_in_double_precision(backend, n_fft, hop, sided):
    iq = noise(75).astype(np.complex128)
    with jax.enable_x64(True):
        ours = mel_db(iq, n_fft=n_fft, hop_length=hop, n_mels=4, sided=sided, backend=backend)
    expected = oracles.mel_spectrogram_db(list(iq), RATE, n_fft, hop, 4, sided, -140.0)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, expected, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_full_scale_tone_on_a_bin_is_zero_db_there(backend):
    # Closed form: the periodic Hann's transform is 1, 1/2, 1/2 at offsets 0, -1, +1 and zero at every other bin.
    bins = power_bins(512, backend, two_sided=True)
    iq = tone(-100 * RATE / 512)
    sample = np.arange(0, iq.shape[-1] - 511, 370)[:, None] + np.arange(512)
    frames = [part[..., sample] for part in (iq.real, iq.imag)]
    power = np.asarray(frame_power(*map(jnp.asarray, frames), backend))
    at = {int(k): power[:, j] for j, k in enumerate(bins)}
    np.testing.assert_allclose(10 * np.log10(at[-100]), 0, atol=1e-4)
    np.testing.assert_allclose([at[-101], at[-99]], 0.25, atol=1e-5)
    others = np.delete(power, [j for j, k in enumerate(bins) if k in (-101, -100, -99)], axis=1)
    assert others.max() < 1e-10
    weight = mel_bank(np.array([-101, -100, -99]) * RATE / 512, 128, 0.0, RATE / 2, "two") * RATE / 512
    expected = weight @ [0.25, 1.0, 0.25]
    ours = mel_db(iq, backend=backend)
    near = expected > 1e-3
    assert 1 <= near.sum() <= 3
    np.testing.assert_allclose(ours[near], 10 * np.log10(expected[near])[:, None].repeat(32, 1), atol=1e-3)


def test_white_noise_reads_its_variance_in_every_band():
    # Closed form: E P_k = v sum(w^2) / sum(w)^2 = 1.5 v / N for Hann (Harris 1978, table 1).
    bands = 10 ** (mel_db(noise(64, 12_000)) / 10)
    mean_db = 10 * np.log10(bands.mean(axis=(0, 2)))
    # The lowest band beside the carrier and the topmost miss the bins whose weight is zero.
    np.testing.assert_allclose(mean_db, 10 * np.log10(1.5 / 512), atol=0.5)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=12)
@given(magnitude_hz=st.floats(60, 5900), negative=st.booleans())
def test_tone_comes_back_signed(backend, magnitude_hz, negative):
    frequency_hz = -magnitude_hz if negative else magnitude_hz
    strongest = mel_db(tone(frequency_hz), backend=backend).argmax(axis=0)
    grid_hz = np.linspace(-RATE / 2, RATE / 2, 24_001)
    bank = mel_bank(grid_hz, 128, 0.0, RATE / 2, "two")
    for band in np.unique(strongest):
        low_hz, high_hz = grid_hz[bank[band] > 0][[0, -1]]
        assert low_hz - 0.5 <= frequency_hz <= high_hz + 0.5


def test_tone_at_minus_1000_hz_is_in_the_band_of_minus_1000_hz_and_not_of_plus():
    bank = mel_bank(np.array([-1000.0, 1000.0]), 128, 0.0, RATE / 2, "two")
    ours = mel_db(tone(-1000)).mean(axis=1)
    below, above = bank.argmax(axis=0)
    assert below < 64 <= above
    assert ours.argmax() == below
    assert ours[below] - ours[above] > 90


def test_envelope_sees_amplitude_and_not_carrier():
    am = (1 + 0.5 * np.cos(2 * np.pi * 1500 * TIME_S)) / 2
    centred, shifted = (mel_db((am * tone(f)).astype(np.complex64), sided="envelope") for f in (0.0, -3210.0))
    band = mel_bank(np.array([1500.0]), 128, 0.0, RATE / 2, "envelope")[:, 0].argmax()
    assert centred[40:].mean(axis=1).argmax() + 40 == band
    strong = centred > -60
    np.testing.assert_allclose(shifted[strong], centred[strong], atol=1e-2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sided", SIDES)
def test_receivers_and_batches_equal_each_alone(backend, sided):
    iq = noise(2, 3, 12_000)
    together = mel_db(iq, sided=sided, backend=backend)
    assert together.shape == (2, 3, 128, 32)
    one_by_one = np.stack([np.stack([mel_db(row, sided=sided, backend=backend) for row in rows]) for rows in iq])
    np.testing.assert_allclose(together, one_by_one, atol=1e-4)
    mapped = jax.vmap(lambda x: iq_to_mel_spectrogram(x, sample_rate_hz=RATE, sided=sided, backend=backend))(iq)
    np.testing.assert_allclose(together, np.asarray(mapped), atol=1e-4)


def test_a_nan_receiver_stays_in_its_own_row():
    iq = noise(3, 12_000)
    alone = mel_db(iq[[0, 2]])
    iq[1] = np.nan
    np.testing.assert_allclose(mel_db(iq)[[0, 2]], alone, atol=1e-4)


@settings(deadline=None, max_examples=8)
@given(gain_db=st.floats(-60, 60))
def test_gain_in_is_gain_out(gain_db):
    iq = noise(12_000) * np.float32(0.1)
    louder = mel_db(iq * np.float32(10 ** (gain_db / 20)))
    np.testing.assert_allclose(louder, mel_db(iq) + gain_db, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sided", SIDES)
def test_silence_reads_the_floor_with_finite_gradients(backend, sided):
    config = FeatureConfig(sided=sided, floor_db=-123.0)
    silent = jnp.zeros((2, 12_000))

    def total(i, q):
        ours = parts_to_mel_spectrogram(i, q, config, backend=backend)
        return ours.sum(), ours

    gradients, ours = jax.jit(jax.grad(total, (0, 1), has_aux=True))(silent, silent)
    np.testing.assert_allclose(np.asarray(ours), -123.0, atol=1e-4)
    for gradient in gradients:
        assert np.isfinite(np.asarray(gradient)).all()


def test_empty_filters_warn_every_time_and_the_default_bank_has_none():
    for _ in range(2):
        with pytest.warns(UserWarning, match="Lower n_mels or raise n_fft"):
            mel_db(noise(2048), n_fft=64, hop_length=64)
    mel_db(noise(12_000))
    mel_db(noise(12_000), sided="envelope")


def test_fmin_and_fmax_bound_the_bands():
    ours = mel_db(tone(1500) + tone(-1500), fmin=1000, fmax=2000, n_mels=16, n_fft=2048, hop_length=2048).mean(axis=1)
    np.testing.assert_allclose(ours, ours[::-1], atol=1e-2)
    outside = mel_db(tone(300), fmin=1000, fmax=2000, n_mels=16, n_fft=2048, hop_length=2048)
    assert outside.max() < -100 < ours.max()


@pytest.mark.parametrize(
    ("iq", "match"),
    [
        (np.ones(12_000, np.float32), "real numbers .*1j"),
        (noise(511), "at least n_fft = 512"),
        (np.complex64(1), "at least n_fft = 512"),
        (noise(0), "at least n_fft = 512"),
    ],
)
def test_bad_iq_is_refused(iq, match):
    with pytest.raises(DataError, match=match):
        iq_to_mel_spectrogram(iq, sample_rate_hz=RATE)


def test_mismatched_parts_are_refused():
    with pytest.raises(DataError, match="one floating type and shape"):
        parts_to_mel_spectrogram(jnp.zeros(600), jnp.zeros(601), FeatureConfig())
    with pytest.raises(DataError, match="one floating type and shape"):
        parts_to_mel_spectrogram(jnp.zeros(600, jnp.int16), jnp.zeros(600, jnp.int16), FeatureConfig())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate_hz", 0.0),
        ("sample_rate_hz", float("nan")),
        ("n_fft", 2),
        ("hop_length", 0),
        ("n_mels", 0),
        ("n_mels", 127),
        ("fmin", -1.0),
        ("fmin", 6000.0),
        ("fmax", 6001.0),
        ("fmax", 0.0),
        ("floor_db", -400.0),
        ("floor_db", float("nan")),
    ],
)
def test_settings_outside_their_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"features\.{name}"):
        iq_to_mel_spectrogram(noise(12_000), **{"sample_rate_hz": RATE, name: value})


@pytest.mark.parametrize("sided", ["two", "envelope"])
def test_frames_are_the_same_in_chunks(sided, monkeypatch):
    """Of 5 frames, which divide neither a recording's 32 nor all 192."""
    rng = np.random.default_rng(0)
    iq = (rng.standard_normal((2, 3, 12_000)) + 1j * rng.standard_normal((2, 3, 12_000))).astype(np.complex64)
    spectra = []
    for frames in (5, 10_000):
        monkeypatch.setattr(chunks, "CHUNK_BYTES", frames * 8 * 512)
        in_chunks = functools.partial(parts_to_mel_spectrogram, config=FeatureConfig(sided=sided), backend="fft")
        spectra.append(np.asarray(jax.jit(in_chunks)(iq.real, iq.imag)))
    assert spectra[0].shape == (2, 3, 128, 32)
    np.testing.assert_allclose(*spectra, atol=1e-4)
