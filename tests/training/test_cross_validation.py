"""Spreads of simulated fields come back, and leaving groups out is what it says: a process fitted to the others."""

import numpy as np
import pytest

from heimdall_jax.training import cross_validation
from heimdall_jax.training.cross_validation import cross_validated, left_out


def field(places, spread_db, correlation_m, rng):
    """A draw at places (N, 2): the covariance's Cholesky factor times white noise, in float64."""
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    covariance = spread_db**2 * np.exp(-apart / correlation_m) + 1e-9 * np.eye(len(places))
    return np.linalg.cholesky(covariance) @ rng.normal(size=len(places))


@pytest.mark.parametrize("seed", range(4))
def test_known_spreads_come_back(seed):
    """Triples left out. Noise within 20 %; of the field s^2 / delta within a factor 1.5, for readings of one area do
    not tell the two apart (Zhang 2004)."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 1000, (1000, 2))
    truth = ((6.0, 120.0, 2.0), (4.0, 60.0, 1.5))
    readings = np.stack([field(places, s, d, rng) + rng.normal(0, n, 1000) for s, d, n in truth], axis=1)
    known = rng.random((1000, 2)) < 0.9
    triple = rng.permutation(1000) // 3
    found = cross_validated(places, np.where(known, readings, np.nan), known, triple)
    shadowing, correlation, noise = np.array(truth).T
    np.testing.assert_allclose(found.noise_db_C, noise, rtol=0.2)
    rise = found.shadowing_db_C**2 / found.correlation_m_C / (shadowing**2 / correlation)
    assert (np.abs(np.log(rise)) < np.log(1.5)).all()


def test_what_a_walk_has_to_itself_is_noise_only_where_walks_are_left_out():
    """60 walks of 12 readings, each with an error of 5 dB of its own, about a common field of 3 dB, 1 dB of noise."""
    rng = np.random.default_rng(0)
    walk = np.repeat(np.arange(60), 12)
    places = rng.uniform(0, 600, (60, 2))[walk] + rng.normal(0, 8, (720, 2))
    own_db = rng.normal(0, 5, 60)[walk]
    residual = (own_db + field(places, 3.0, 240.0, rng) + rng.normal(0, 1, 720))[:, None]
    known = np.ones((720, 1), bool)
    by_walk, by_row = (cross_validated(places, residual, known, group) for group in (walk, np.arange(720)))
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


def test_of_many_readings_whole_groups_are_taken(monkeypatch):
    monkeypatch.setattr(cross_validation, "MOST", 100)
    group = np.arange(1020) // 30
    rows = cross_validation._whole_groups(np.arange(0, 1020, 2), group)
    assert 100 <= len(rows) < 115
    assert (np.bincount(group[rows])[np.unique(group[rows])] == 15).all()  # 30 recordings, every other one heard


def test_a_single_group_and_silence_are_survived():
    places = np.random.default_rng(0).uniform(0, 500, (40, 2))
    found = cross_validated(places, np.zeros((40, 1)), np.ones((40, 1), bool), np.zeros(40, int))
    assert np.isfinite(np.stack(found)).all()
    assert (np.stack(found) > 0).all()
