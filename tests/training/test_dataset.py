"""Sessions become samples by receiver name; unusable recordings are masked and counted; the cache gives the same."""

from pathlib import Path

import numpy as np
import pytest

from heimdall_jax.config import FeatureConfig
from heimdall_jax.errors import DataError, StorageError
from heimdall_jax.features.spectra import iq_to_mel_spectrogram
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from tests.training.conftest import ORIGIN, PLACES_M, RECEIVERS, Sessions


def iq_of(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (count, 5, 12_000)
    return (0.1 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))).astype(np.complex64)


def with_iq(iq: np.ndarray, **options: object) -> HeimdallDataset:
    sessions = Sessions(len(iq), iq=iq)
    given = {"origin_deg": ORIGIN, "rows": RECEIVERS, "known": RECEIVERS, "features": FeatureConfig()} | options
    return HeimdallDataset(sessions, **given)  # pyright: ignore[reportArgumentType]


def test_samples_hold_what_the_sessions_say(dataset: HeimdallDataset, sessions: Sessions) -> None:
    sample = dataset[7]
    np.testing.assert_allclose(sample["position_m"], sessions.truth_m[7], atol=1e-3)
    np.testing.assert_allclose(sample["receiver_m"], PLACES_M, atol=1e-3)
    np.testing.assert_array_equal(sample["rss_db"], sessions.rss_db[7])
    np.testing.assert_array_equal(sample["identity"], [1, 2, 3, 4, 0])
    assert sample["position_error_m"] == 5.0
    assert (sample["weight"], sample["index"]) == (1.0, 7)
    assert dataset[-1]["index"] == 49
    with pytest.raises(IndexError):
        dataset[50]


def test_rows_are_placed_by_name_and_absent_receivers_are_masked(sessions: Sessions) -> None:
    rows = ("z", "e", "d", "c", "b", "a")
    turned = HeimdallDataset(sessions, origin_deg=ORIGIN, rows=rows, known=())
    np.testing.assert_array_equal(turned[3]["rss_db"][1:], sessions.rss_db[3][::-1])
    np.testing.assert_array_equal(turned[3]["present"], [False, True, True, True, True, True])


def test_a_receiver_without_a_row_is_an_error(sessions: Sessions) -> None:
    with pytest.raises(DataError, match=r"\['e'\].*receiver_set"):
        HeimdallDataset(sessions, origin_deg=ORIGIN, rows=RECEIVERS[:4], known=())


def test_subsets_are_views_with_their_own_order(dataset: HeimdallDataset) -> None:
    part = dataset.subset(np.array([9, 4, 30])).subset(np.array([2, 0]))
    assert part.session_ids == ["s30", "s9"]
    np.testing.assert_array_equal(part.start_time_s, [30.0, 9.0])
    np.testing.assert_array_equal(part.source_indices, [30, 9])
    np.testing.assert_array_equal(part.columns()["rss_db"], dataset.gather(np.array([30, 9]))["rss_db"])


def test_spectrograms_are_those_of_the_feature_room() -> None:
    iq = iq_of(3)
    made = with_iq(iq)[2]["mel_spectrogram"]
    assert made.shape == (5, 128, 32)
    direct = np.asarray(iq_to_mel_spectrogram(iq[2], sample_rate_hz=12_000.0))
    np.testing.assert_allclose(made, direct, atol=0.04)  # float16 between 32 and 64 dB steps by 1/32 dB


def test_bad_recordings_are_masked_counted_and_lose_nothing() -> None:
    iq = iq_of(4)
    iq[0, 2, 77] = np.nan
    iq[1, :3, 5] = np.inf
    data = with_iq(iq, min_receivers=3)
    assert data.session_ids == ["s0", "s2", "s3"]
    np.testing.assert_array_equal(data[0]["heard"], [True, True, False, True, True])
    assert data.skipped == {"recording refused: IQ not finite": 4, "fewer than min_receivers heard": 1}
    assert np.isfinite(data.gather(np.arange(3))["mel_spectrogram"]).all()


def test_no_usable_session_is_an_error() -> None:
    counted = r"no usable session of 2 \(10 recording refused: IQ too short, 2 fewer"
    with pytest.raises(DataError, match=rf"{counted}.*The first: IQ too short: got 8000 samples.*Record longer"):
        with_iq(iq_of(2)[:, :, :8000])


def test_the_cache_gives_the_same_samples_without_reading(tmp_path: Path) -> None:
    iq = iq_of(3)
    iq[1, 1, 0] = np.nan
    options = {"cache": tmp_path, "fingerprint": "noise"}
    first, again = with_iq(iq, **options), with_iq(np.full_like(iq, np.nan), **options)
    for key, value in first.gather(np.arange(3)).items():
        np.testing.assert_array_equal(again.gather(np.arange(3))[key], value)
    assert again.session_ids == first.session_ids
    assert again.skipped == first.skipped
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(DataError, match="no usable"):
        with_iq(np.full_like(iq, np.nan), cache=tmp_path, fingerprint="other")


def test_a_cache_that_cannot_be_used_names_its_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"--data\.cache"):
        with_iq(iq_of(1), cache=tmp_path / "file", fingerprint="noise")


def test_domain_is_fitted_on_the_given_rows_alone(dataset: HeimdallDataset, sessions: Sessions) -> None:
    part = dataset.subset(np.arange(10))
    domain = fit_domain(part, ORIGIN, RECEIVERS)
    np.testing.assert_allclose(domain.position_mean_m, sessions.truth_m[:10].mean(axis=0), atol=1e-2)
    np.testing.assert_allclose(domain.position_std_m, np.sqrt(sessions.truth_m[:10].var(axis=0).mean()), rtol=1e-5)
    np.testing.assert_allclose(domain.feature_mean, sessions.rss_db[:10].mean(), rtol=1e-5)
    south_west, north_east = sessions.truth_m[:10].min(axis=0), sessions.truth_m[:10].max(axis=0)
    np.testing.assert_allclose(domain.position_box_m, [*south_west, *north_east], rtol=1e-5)
    np.testing.assert_allclose(domain.feature_std, sessions.rss_db[:10].std(), rtol=1e-5)
    with pytest.raises(DataError, match="two different places"):
        fit_domain(dataset.subset(np.array([3])), ORIGIN, RECEIVERS)
