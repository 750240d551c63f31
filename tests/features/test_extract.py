import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.config import FeatureConfig
from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.features.extract import check_iq, extract, samples_needed
from heimdall_jax.features.spectra import iq_to_mel_spectrogram

CONFIG = FeatureConfig()


def recordings(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64) * np.float32(0.1)


def test_gives_what_the_models_take():
    iq = recordings(2, 3, 12_000)
    features = extract(CONFIG)(iq)
    assert set(features) == {"mel_spectrogram", "rss_db"}
    assert all(value.dtype == jnp.float32 for value in features.values())
    expected = iq_to_mel_spectrogram(iq, sample_rate_hz=12_000)
    np.testing.assert_allclose(np.asarray(features["mel_spectrogram"]), np.asarray(expected), atol=1e-4)
    # Mean of |x|^2 by NumPy in float64.
    mean_db = 10 * np.log10((np.abs(iq.astype(np.complex128)) ** 2).mean(-1))
    np.testing.assert_allclose(np.asarray(features["rss_db"]), mean_db, atol=1e-4)


def test_twenty_db_more_in_is_twenty_db_more_out():
    iq = recordings(1, 2, 12_000)
    soft, loud = extract(CONFIG)(iq), extract(CONFIG)(iq * np.float32(10))
    for key, value in soft.items():
        np.testing.assert_allclose(np.asarray(loud[key]), np.asarray(value) + 20, atol=1e-3)


def test_a_receiver_that_holds_nan_leaves_the_others_alone():
    iq = recordings(1, 3, 12_000)
    before = extract(CONFIG)(iq)
    iq[0, 1] = np.nan
    after = extract(CONFIG)(iq)
    for key, value in before.items():
        np.testing.assert_array_equal(np.asarray(after[key])[0, [0, 2]], np.asarray(value)[0, [0, 2]])


def test_one_function_per_config_and_silence_reads_the_floor():
    assert extract(CONFIG) is extract(FeatureConfig())
    features = extract(CONFIG, "matmul")(np.zeros((1, 1, 12_000), np.complex64))
    for value in features.values():
        np.testing.assert_allclose(np.asarray(value), CONFIG.floor_db, atol=1e-4)


def test_settings_are_checked_before_any_recording():
    with pytest.raises(ConfigError, match=r"features\.n_mels"):
        extract(FeatureConfig(n_mels=3))
    with pytest.raises(ConfigError, match=r"features\.n_frames"):
        extract(FeatureConfig(n_frames=0))


def test_the_shortest_and_the_longest_recording_pass():
    shortest = samples_needed(CONFIG)
    assert shortest == 11_982  # 512 + 31 x 370, by hand
    for length in (shortest, 12_000, shortest + 369):
        iq = recordings(1, 2, length)
        check_iq(iq, 12_000, CONFIG)
        check_iq(iq[0], 12_001.1, CONFIG)
        assert extract(CONFIG)(iq)["mel_spectrogram"].shape == (1, 2, 128, 32)


@pytest.mark.parametrize(
    ("iq", "match"),
    [
        (np.ones((2, 12_000), np.float32), r"real numbers \(float32\).*1j"),
        (np.ones((2, 12_000), np.int16), "real numbers"),
        (recordings(12_000), r"shape \(12000,\).*receiver axis"),
        (recordings(1, 1, 1, 12_000), "allowed: \\(receivers, samples\\)"),
        (recordings(0, 12_000), "nothing"),
        (recordings(2, 0), "nothing"),
        (recordings(2, 11_981), "too short: got 11981 samples; allowed: 11982 to 12351 .*Record longer"),
        (recordings(2, 12_352), "too long: .*windows of 11982"),
    ],
)
def test_recordings_of_another_form_are_refused_on_the_host_and_in_the_function(iq, match):
    with pytest.raises(DataError, match=match):
        check_iq(iq, 12_000, CONFIG)
    with pytest.raises(DataError, match=match):
        extract(CONFIG)(iq)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1j * np.inf])
def test_nan_and_inf_are_refused_only_where_heard(bad):
    iq = recordings(2, 3, 12_000)
    iq[1, 2, 77] = bad
    with pytest.raises(DataError, match=r"NaN or Inf in row \(1, 2\)"):
        check_iq(iq, 12_000, CONFIG)
    heard = np.ones((2, 3), bool)
    heard[1, 2] = False
    check_iq(iq, 12_000, CONFIG, heard)
    with pytest.raises(DataError, match=r"heard: got shape \(3,\); allowed: \(2, 3\)"):
        check_iq(iq, 12_000, CONFIG, heard[0])


@pytest.mark.parametrize("rate", [0, -12_000.0, float("nan"), float("inf"), None])
def test_a_rate_that_is_no_rate_is_refused(rate):
    with pytest.raises(DataError, match="positive number of hertz"):
        check_iq(recordings(1, 12_000), rate, CONFIG)


@pytest.mark.parametrize(("rate", "up_down"), [(48_000, "1, 4"), (8_000.0, "3, 2"), (11_025, "160, 147")])
def test_a_wrong_rate_is_refused_with_the_resampling_that_cures_it(rate, up_down):
    with pytest.raises(DataError, match=rf"Resample to 12000 Hz: scipy.signal.resample_poly\(iq, {up_down}, axis=-1\)"):
        check_iq(recordings(1, 12_000), rate, CONFIG)
