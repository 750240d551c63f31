"""The distance law comes back from readings of which many are noise."""

import numpy as np
import pytest

from heimdall_jax.propagation import NO_FLOOR_DB, least_signal_db, reading_db
from heimdall_jax.training.law import fit_law

STANDS_M = np.stack(np.meshgrid([100.0, 700.0, 1300.0, 1900.0], [0.0, 600.0, 2000.0]), axis=-1).reshape(-1, 2)
FLOORS_DB = -95.0 + np.arange(12) % 5


def recorded(floors_db: np.ndarray, count: int = 3000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    place_m = rng.uniform(0, 2000, (count, 2))
    reach = np.log10(np.maximum(np.linalg.norm(place_m[:, None] - STANDS_M, axis=-1), 20.0))
    signals_db = 18.0 - 38.0 * reach + rng.normal(0, 7, reach.shape)
    read_db = reading_db(signals_db, floors_db, np) + rng.normal(0, 0.7, reach.shape)
    everywhere = np.ones(reach.shape, bool)
    return {
        "position_m": place_m,
        "receiver_m": np.tile(STANDS_M, (count, 1, 1)),
        "rss_db": read_db,
        "heard": everywhere,
        "present": everywhere,
        "weight": np.ones(count),
    }


def test_exponent_and_biases_come_back_from_under_the_noise():
    """Nearly: noise that exceeds its margin passes for signals, and they level the law off by a little."""
    train = recorded(FLOORS_DB)
    plain, censored = (fit_law(train, floors=floors) for floors in (False, True))
    assert plain.exponent < 2.7  # what noise levels off looks like a slow law
    assert censored.exponent == pytest.approx(3.8, abs=0.45)
    at_1km_db = censored.bias_db_R - 30 * censored.exponent
    np.testing.assert_allclose(at_1km_db, 18.0 - 38.0 * 3, atol=3.0)
    np.testing.assert_allclose(censored.floor_db_R, FLOORS_DB, atol=1.0)
    np.testing.assert_allclose(censored.least_db_R, least_signal_db(censored.floor_db_R))
    below = censored.filled_NR & ~censored.heard_NR
    assert below.mean() > 0.3
    filled_db = censored.residual_db_NR + censored.bias_db_R
    reach = np.log10(np.linalg.norm(train["position_m"][:, None] - STANDS_M, axis=-1))
    assert ((filled_db - 10 * censored.exponent * reach) < censored.least_db_R)[below].all()


def test_only_receivers_that_always_tell_a_power_and_whose_least_pile_up_have_a_floor():
    train = recorded(np.array([-95.0, -92.0, *[-300.0] * 10]))
    train["heard"] = train["heard"].copy()
    train["heard"][::20, 1] = False
    floor_db = fit_law(train, floors=True).floor_db_R
    assert floor_db[0] == pytest.approx(-95.0, abs=1.0)
    np.testing.assert_array_equal(floor_db[1:], NO_FLOOR_DB)


def test_a_reading_far_below_the_noise_is_of_a_receiver_that_fails():
    train = recorded(FLOORS_DB)
    train["rss_db"] = train["rss_db"].copy()
    train["rss_db"][:10, 0] = -130.0
    law = fit_law(train, floors=True)
    assert not law.filled_NR[:10, 0].any()
    assert law.filled_NR[10:].mean() > 0.99
