"""The radio map recovers the law the sessions obey, and what it draws obeys it too."""

from dataclasses import replace

import numpy as np
import pytest

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.errors import DataError
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.radio_map import choose_kernels, fit_radio_map
from tests.training.conftest import ORIGIN, PLACES_M, RECEIVERS, Sessions

CONFIG = RadioMapConfig(spacing_m=50.0, offset_db=0.0)


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    made = HeimdallDataset(Sessions(400, noise_db=1.0), origin_deg=ORIGIN, rows=RECEIVERS, known=RECEIVERS)
    return made.columns() | {"index": np.arange(400, dtype=np.int32)}


def test_recovers_exponent_and_biases(columns: dict[str, np.ndarray]) -> None:
    fitted = fit_radio_map(columns, CONFIG)
    assert abs(fitted.exponent - 3.0) < 0.1
    relative = fitted.bias_db_R - fitted.bias_db_R[0]
    np.testing.assert_allclose(relative, Sessions(1).bias_db, atol=0.8)


def test_field_matches_the_law_between_the_training_places(columns: dict[str, np.ndarray]) -> None:
    fitted = fit_radio_map(columns, CONFIG)
    inside = np.all((fitted.places_m > 150) & (fitted.places_m < 850), axis=1)
    distance = np.linalg.norm(fitted.places_m[inside][:, None] - PLACES_M, axis=-1)
    truth_db = Sessions(1).bias_db - 30 * np.log10(distance)
    error_db = fitted.mean_db_GR[inside] - truth_db
    assert np.abs(np.median(error_db)) < 0.3
    assert np.quantile(np.abs(error_db), 0.9) < 2.0
    far = np.linalg.norm(fitted.places_m - 500.0, axis=1) > 800
    spread_db = np.sqrt(fitted.own_db2_GR)
    assert spread_db[far].mean() > spread_db[inside].mean() + 1.0


def test_drawn_powers_spread_as_the_map_says(columns: dict[str, np.ndarray]) -> None:
    fitted = replace(fit_radio_map(columns, CONFIG), shared_db2_G=np.zeros(10_000))
    drawn = fitted.draw(columns, np.random.default_rng(1))
    cell = np.argmin(np.linalg.norm(drawn["position_m"][:, None] - fitted.places_m, axis=-1), axis=1)
    normal = (drawn["rss_db"] - fitted.mean_db_GR[cell]) / np.sqrt(fitted.own_db2_GR[cell])
    assert abs(normal.mean()) < 4 / np.sqrt(normal.size)
    assert abs(normal.std() - 1.0) < 4 / np.sqrt(2 * normal.size)


def test_drawn_powers_never_fall_below_the_noise(columns: dict[str, np.ndarray]) -> None:
    fitted = fit_radio_map(columns, CONFIG)
    plain = fitted.draw(columns, np.random.default_rng(1))["rss_db"].astype(np.float64)
    floor_db = np.full(5, np.median(plain))
    noisy = replace(fitted, floor_db_R=floor_db).draw(columns, np.random.default_rng(1))["rss_db"]
    np.testing.assert_allclose(10 ** (noisy / 10), 10 ** (plain / 10) + 10 ** (floor_db / 10), rtol=1e-4)


def test_what_the_maps_share_is_drawn_as_an_offset(columns: dict[str, np.ndarray]) -> None:
    fitted = fit_radio_map(columns, replace(CONFIG, offset_db=3.0))
    fitted = replace(
        fitted, own_db2_GR=np.zeros_like(fitted.own_db2_GR), shared_db2_G=np.full(len(fitted.places_m), 16.0)
    )
    drawn = fitted.draw(columns, np.random.default_rng(1))
    cell = np.argmin(np.linalg.norm(drawn["position_m"][:, None] - fitted.places_m, axis=-1), axis=1)
    offset_db = drawn["rss_db"] - fitted.mean_db_GR[cell]
    assert np.ptp(offset_db, axis=1).max() < 1e-3
    assert abs(offset_db[:, 0].std() - 5.0) < 4 * 5.0 / np.sqrt(2 * len(cell))  # by hand: 3^2 + 4^2 = 5^2


def test_moving_receivers_have_no_field(columns: dict[str, np.ndarray]) -> None:
    moved = dict(columns)
    moved["receiver_m"] = columns["receiver_m"].copy()
    moved["receiver_m"][::2, 4] += 300.0
    fitted = fit_radio_map(moved, CONFIG)
    np.testing.assert_array_equal(fitted.has_field_R, [True, True, True, True, False])


def test_spreads_are_the_configs_unless_groups_are_given(columns: dict[str, np.ndarray]) -> None:
    """The truth has no field: cross-validation finds little beside the 1 dB of noise, the config says 7 and 3 dB."""
    stated, judged = (
        fit_radio_map(columns, CONFIG),
        fit_radio_map(columns, CONFIG, choose_kernels(columns, np.arange(400))),
    )
    far = np.linalg.norm(stated.places_m - 500.0, axis=1) > 800
    assert np.sqrt(stated.own_db2_GR[far]).min() > 3.0
    assert np.sqrt(judged.own_db2_GR[far]).max() < 2.0
    np.testing.assert_array_equal(stated.about_law_db_R, np.full(5, 8.0))


def test_a_moving_receivers_spread_is_measured(columns: dict[str, np.ndarray]) -> None:
    """5 dB are put on every reading of a receiver that moves: what fields and offsets take away stays within 20 %."""
    rng = np.random.default_rng(0)
    moved = {name: value.copy() for name, value in columns.items()}
    shift_m = rng.uniform(-200, 200, (400, 2)).astype(np.float32)
    before, after = (np.linalg.norm(moved["position_m"] - PLACES_M[4] - move, axis=1) for move in (0, shift_m))
    moved["receiver_m"][:, 4] += shift_m
    moved["rss_db"][:, 4] += -30 * np.log10(after / before) + rng.normal(0, 5, 400)
    fitted = fit_radio_map(moved, CONFIG, choose_kernels(moved, np.arange(400)))
    assert not fitted.has_field_R[4]
    assert abs(fitted.about_law_db_R[4] - np.hypot(5.0, 1.0)) < 0.2 * 5.0


def test_too_few_readings_are_refused(columns: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"augmentation\.simulated"):
        fit_radio_map({key: value[:2] for key, value in columns.items()}, CONFIG)
