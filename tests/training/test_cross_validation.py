"""Spreads of simulated fields come back, and leaving groups out is what it says: a process fitted to the others."""

from itertools import product

import numpy as np
import oracles
import pytest

from heimdall_jax.training import cross_validation
from heimdall_jax.training.correlation import correlation
from heimdall_jax.training.cross_validation import cross_validated, left_out

FAR_M = np.array([[-5000.0, 500.0], [500.0, -5000.0]])
"""Receivers from which an area of 1 km is one sector."""


def field(places, spread_db, correlation_m, rng):
    """A draw at places (N, 2): the covariance's Cholesky factor times white noise, in float64."""
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    covariance = spread_db**2 * np.exp(-apart / correlation_m) + 1e-9 * np.eye(len(places))
    return np.linalg.cholesky(covariance) @ rng.normal(size=len(places))


@pytest.mark.parametrize("seed", range(4))
def test_known_spreads_come_back(seed):
    """Triples left out. Noise within 30 %; of the field s^2 / delta within a factor 1.7, for readings of one area do
    not tell the two apart (Zhang 2004). No sector takes more than half of it."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 1000, (1000, 2))
    truth = ((6.0, 120.0, 2.0), (4.0, 60.0, 1.5))
    readings = np.stack([field(places, s, d, rng) + rng.normal(0, n, 1000) for s, d, n in truth], axis=1)
    known = rng.random((1000, 2)) < 0.9
    triple = rng.permutation(1000) // 3
    found = cross_validated(places, np.where(known, readings, np.nan), known, FAR_M, triple)
    shadowing, correlation, noise = np.array(truth).T
    np.testing.assert_allclose(found.noise_db_C, noise, rtol=0.3)
    assert (found.sector_share_C < 0.5).all()
    rise = (1 - found.sector_share_C) * found.shadowing_db_C**2 / found.correlation_m_C / (shadowing**2 / correlation)
    assert (np.abs(np.log(rise)) < np.log(1.7)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_share_of_the_sector_comes_back(seed):
    """Of a field without one none is found. One of 0.8 is told from that in any case; its delta then says little."""
    rng, stand_m = np.random.default_rng(seed), np.array([500.0, 500.0])
    places = rng.uniform(0, 1000, (300, 2))
    readings = []
    for share in (0.0, 0.8):
        alike = np.array([[oracles.shadowing_correlation(a, b, stand_m, 120.0, share) for a in places] for b in places])
        readings.append(np.linalg.cholesky(36 * alike + 2.25 * np.eye(300)) @ rng.normal(size=300))
    known, stands = np.ones((300, 2), bool), np.tile(stand_m, (2, 1))
    found = cross_validated(places, np.stack(readings, axis=1), known, stands, np.arange(300))
    assert found.sector_share_C[0] == 0.0
    assert found.sector_share_C[1] > 0.0
    assert (np.abs(np.log(found.noise_db_C / 1.5)) < np.log(2.0)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_search_misses_little_of_the_likeliest_of_all_settings(seed):
    """One setting at a time may stop beside it: within 0.02 nats a reading; where it sets out is further off."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 400, (200, 2))
    readings, group = field(places, 6.0, 30.0, rng) + rng.normal(0, 0.6, 200), np.arange(200) // 4
    groups = np.split(np.arange(200), 50)

    def nats(setting):
        delta_m, share, noise = setting
        pairs = correlation(places, places, FAR_M[0], delta_m, share) + noise * np.eye(200)
        error_db, scale = left_out(pairs, readings, groups)
        return 0.5 * np.log(scale).mean() + 0.5 * np.log(np.mean(error_db**2 / scale))

    spread_db, delta_m, share, noise_db = cross_validation._kernel(places, readings, FAR_M[0], group)
    every = product(cross_validation.CORRELATIONS_M, cross_validation.SECTOR_SHARES, cross_validation.NOISE_SHARES)
    least = min(nats(setting) for setting in every)
    assert nats((delta_m, share, (noise_db / spread_db) ** 2)) < least + 0.02
    assert nats(cross_validation.START) > least + 0.02


def test_what_a_walk_has_to_itself_is_noise_only_where_walks_are_left_out():
    """60 walks of 12 readings, each with an error of 5 dB of its own, about a common field of 3 dB, 1 dB of noise."""
    rng = np.random.default_rng(0)
    walk = np.repeat(np.arange(60), 12)
    places = rng.uniform(0, 600, (60, 2))[walk] + rng.normal(0, 8, (720, 2))
    own_db = rng.normal(0, 5, 60)[walk]
    residual = (own_db + field(places, 3.0, 240.0, rng) + rng.normal(0, 1, 720))[:, None]
    known = np.ones((720, 1), bool)
    by_walk, by_row = (cross_validated(places, residual, known, FAR_M[:1], group) for group in (walk, np.arange(720)))
    assert 4.0 < by_walk.noise_db_C[0] < 7.0
    assert by_row.noise_db_C[0] < 0.5 * by_walk.noise_db_C[0]


def test_left_out_is_a_process_fitted_to_the_other_groups():
    """Against the textbook prediction (Rasmussen and Williams 2006, 2.23 and 2.24) with the group taken away."""
    rng = np.random.default_rng(0)
    places, values = rng.uniform(0, 500, (30, 2)), rng.normal(0, 5, 30)
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    covariance = 25 * np.exp(-apart / 100) + 4 * np.eye(30)
    groups = np.array_split(rng.permutation(30), [1, 5, 17])
    error, variance = left_out(covariance, values, groups)
    for rows in groups:
        rest = np.setdiff1d(np.arange(30), rows)
        weights = covariance[np.ix_(rows, rest)] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
        np.testing.assert_allclose(error[rows], values[rows] - weights @ values[rest], atol=1e-9)
        remains = covariance[np.ix_(rows, rows)] - weights @ covariance[np.ix_(rest, rows)]
        np.testing.assert_allclose(variance[rows], np.diagonal(remains), atol=1e-9)


@pytest.mark.parametrize("order", ["as they come", "shuffled"])
def test_single_readings_left_out_are_the_general_case(order):
    """The shortcut against the same groups in company of an empty one, which closes it, and against the textbook."""
    rng = np.random.default_rng(1)
    places, values = rng.uniform(0, 500, (25, 2)), rng.normal(0, 5, 25)
    covariance = 25 * np.exp(-np.linalg.norm(places[:, None] - places, axis=-1) / 100) + 4 * np.eye(25)
    rows = np.arange(25) if order == "as they come" else rng.permutation(25)
    singles = [np.array([row]) for row in rows]
    error, variance = left_out(covariance, values, singles)
    slow = left_out(covariance, values, [*singles, np.array([], int)])
    np.testing.assert_allclose((error, variance), slow, rtol=1e-9)
    for row in range(25):
        rest = np.setdiff1d(np.arange(25), row)
        weights = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, row])
        assert error[row] == pytest.approx(values[row] - weights @ values[rest], abs=1e-9)
        assert variance[row] == pytest.approx(covariance[row, row] - weights @ covariance[rest, row], abs=1e-9)


def test_of_many_readings_whole_groups_are_taken(monkeypatch):
    monkeypatch.setattr(cross_validation, "MOST", 100)
    group = np.arange(1020) // 30
    rows = cross_validation._whole_groups(np.arange(0, 1020, 2), group)
    assert 100 <= len(rows) < 115
    assert (np.bincount(group[rows])[np.unique(group[rows])] == 15).all()  # 30 recordings, every other one heard


def test_a_single_group_and_silence_are_survived():
    places = np.random.default_rng(0).uniform(0, 500, (40, 2))
    found = cross_validated(places, np.zeros((40, 1)), np.ones((40, 1), bool), FAR_M[:1], np.zeros(40, int))
    assert np.isfinite(np.stack(found)).all()
    assert (np.stack([found.shadowing_db_C, found.correlation_m_C, found.noise_db_C]) > 0).all()
