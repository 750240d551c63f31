"""Scores of two transmitters and of none: SciPy and exhaustive search, and a made-up campus whose maps are known."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.not_one import PowerMaps, floors_db, gain_and_level, not_one

FLOOR_DB = -95.0
SIDE_M = 2000.0


def some_maps(receivers=10, per_side=20, spread_db=2.0):
    """A law of exponent 3 with a field of each receiver's own, over the floor."""
    rng = np.random.default_rng(0)
    axis = (np.arange(per_side) + 0.5) / per_side * SIDE_M
    places_m = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    away_m = np.linalg.norm(rng.uniform(0, SIDE_M, (receivers, 1, 2)) - places_m, axis=-1)
    phase, wave = rng.uniform(0, 2 * np.pi, (receivers, 1)), rng.normal(0, 2 / SIDE_M, (receivers, 2))
    sent_db = -60 - 30 * np.log10(np.hypot(away_m, 30) / 300) + 5 * np.sin(phase + 2 * np.pi * wave @ places_m.T)
    mean_db = 10 * np.log10(10 ** (sent_db / 10) + 10 ** (FLOOR_DB / 10))
    return PowerMaps(mean_db, np.full(mean_db.shape, spread_db**2), np.full(receivers, FLOOR_DB))


MAPS = some_maps()


def heard_of(places, seed, maps=MAPS):
    """Readings (N, F) of transmitters at the places (N, X), their watts added over one floor."""
    rng = np.random.default_rng(seed)
    floor_mw = 10 ** (FLOOR_DB / 10)
    sent_mw = (10 ** (maps.mean_db_FG.T[places] / 10) - floor_mw).sum(axis=1)
    rss_db = 10 * np.log10(sent_mw + floor_mw)
    return (
        rss_db + rng.normal(0, np.sqrt(maps.variance_db2_FG[0, 0]), rss_db.shape) + rng.normal(0, 1, (len(places), 1))
    )


@pytest.fixture(scope="module")
def judged():
    rng = np.random.default_rng(1)
    counts = {count: heard_of(rng.integers(MAPS.mean_db_FG.shape[1], size=(150, count)), count) for count in (0, 1, 2)}
    return {count: not_one(rss_db, np.ones(rss_db.shape, bool), MAPS) for count, rss_db in counts.items()}


def area(detected, usual):
    return roc_auc_score(np.r_[np.ones(len(detected)), np.zeros(len(usual))], np.r_[detected, usual])


def test_two_and_none_score_higher_than_one(judged):
    assert area(judged[2].two_N, judged[1].two_N) > 0.9
    assert area(judged[0].none_N, judged[1].none_N) > 0.99
    assert area(judged[2].either_N, judged[1].either_N) > 0.9
    assert area(judged[0].either_N, judged[1].either_N) > 0.9


def test_either_score_is_for_its_own_kind(judged):
    assert area(judged[2].none_N, judged[1].none_N) < 0.5
    assert np.median(judged[0].two_N) < np.median(judged[2].two_N)


def test_maps_of_other_receivers_tell_less(judged):
    """What tells two from one is that no place explains both: with maps mixed up no place explains even one."""
    mixed = PowerMaps(MAPS.mean_db_FG[::-1].copy(), MAPS.variance_db2_FG, MAPS.floor_db_F)
    rng = np.random.default_rng(1)
    one, two = (heard_of(rng.integers(400, size=(80, count)), count) for count in (1, 2))
    heard = np.ones(one.shape, bool)
    gains = [[gain_and_level(rss_db, heard, maps)[0] for rss_db in (two, one)] for maps in (MAPS, mixed)]
    assert area(*gains[0]) > area(*gains[1]) + 0.15


def best_by_scipy(rss_db, mean_db_FG, variance_db2_FG, spread_db):
    """The greatest log density of the readings over the columns, and which column."""
    fits = [
        multivariate_normal.logpdf(rss_db, mean, np.diag(variance) + spread_db**2)
        for mean, variance in zip(mean_db_FG.T, variance_db2_FG.T, strict=True)
    ]
    return max(fits), int(np.argmax(fits))


def test_gain_and_level_are_those_of_scipy_over_all_pairs():
    """Turns may end beside the best pair, and are never above it."""
    maps = some_maps(receivers=6, per_side=5)
    varied = np.random.default_rng(2).uniform(1, 16, maps.mean_db_FG.shape)
    maps = PowerMaps(maps.mean_db_FG, varied, maps.floor_db_F)
    rss_db = heard_of(np.random.default_rng(3).integers(25, size=(12, 2)), 4, maps)
    gain, level_db = gain_and_level(rss_db, np.ones(rss_db.shape, bool), maps)
    first, second = np.indices((25, 25)).reshape(2, -1)
    sent_mw = 10 ** (maps.mean_db_FG / 10) - 10 ** (FLOOR_DB / 10)
    pair_db = 10 * np.log10(sent_mw[:, first] + sent_mw[:, second] + 10 ** (FLOOR_DB / 10))
    stronger = np.where(sent_mw[:, first] > sent_mw[:, second], varied[:, first], varied[:, second])
    best = np.empty(12)
    for n, one in enumerate(rss_db):
        alone, _ = best_by_scipy(one, maps.mean_db_FG, varied, 1.0)
        best[n] = best_by_scipy(one, pair_db, stronger, 1.0)[0] - alone
        _, place = best_by_scipy(one, maps.mean_db_FG, varied, 3.0)
        # Mean of a common offset given the readings: s^2 1^T (V + s^2 1 1^T)^-1 (y - m).
        covariance = np.diag(varied[:, place]) + 9.0
        assert level_db[n] == pytest.approx(9.0 * np.linalg.solve(covariance, one - maps.mean_db_FG[:, place]).sum())
    assert np.all(gain <= best + 1e-9)
    assert np.isclose(gain, best).sum() >= 9


def test_what_was_not_heard_changes_nothing():
    rss_db = heard_of(np.array([[3, 200], [17, 399]]), 5)
    heard = np.tile(np.arange(10) < 7, (2, 1))
    fewer = PowerMaps(MAPS.mean_db_FG[:7], MAPS.variance_db2_FG[:7], MAPS.floor_db_F[:7])
    whole, part = not_one(np.where(heard, rss_db, 0.0), heard, MAPS), not_one(rss_db[:, :7], heard[:, :7], fewer)
    np.testing.assert_allclose(whole.two_N, part.two_N)
    np.testing.assert_allclose(whole.none_N, part.none_N)


def test_none_is_the_third_largest_excess():
    """9, 5 and 2 dB over the floor: 7.006 - 1.826 x 2."""
    rss_db = FLOOR_DB + np.array([[9.0, 0.5, 2.0, 5.0, 1.0]])
    maps = some_maps(receivers=5, per_side=3)
    assert not_one(rss_db, np.ones((1, 5), bool), maps).none_N[0] == pytest.approx(7.006 - 1.826 * 2)


def test_recordings_are_judged_alike_in_any_number(monkeypatch):
    rss_db = heard_of(np.arange(14).reshape(7, 2) * 20, 6)
    heard = np.ones(rss_db.shape, bool)
    together = not_one(rss_db, heard, MAPS)
    monkeypatch.setattr("heimdall_jax.evaluation.not_one.VALUES_AT_ONCE", 2 * MAPS.mean_db_FG.size)
    np.testing.assert_allclose(not_one(rss_db, heard, MAPS).either_N, together.either_N)


def test_no_recordings_have_no_odds():
    assert not_one(np.zeros((0, 10)), np.zeros((0, 10), bool), MAPS).either_N.shape == (0,)


def test_floors_are_low_percentiles_of_who_heard_often():
    rss_db = np.tile(np.arange(101.0)[:, None], (1, 2)) - 90
    heard = np.ones((101, 2), bool)
    heard[19:, 1] = False
    np.testing.assert_array_equal(floors_db(rss_db, heard), [-87.0, np.nan])


def test_recordings_that_cannot_be_judged_are_refused():
    heard = np.array([[True] * 10, [True] * 2 + [False] * 8])
    with pytest.raises(DataError, match="1 of 2 heard by fewer"):
        not_one(np.zeros((2, 10)), heard, MAPS)
