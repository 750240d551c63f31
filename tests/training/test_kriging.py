"""Kriging against a dense Gaussian process in float64, written out reading by reading."""

from dataclasses import replace

import numpy as np
import pytest

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.training.kriging import krige

CONFIG = RadioMapConfig(shadowing_db=6.0, correlation_m=300.0, noise_db=2.0, offset_db=5.0, neighbours=40)


def recordings(count=40, fields=3):
    rng = np.random.default_rng(0)
    known = rng.random((count, fields)) < 0.7
    known[:, 0] |= ~known.any(axis=1)
    readings = np.where(known, rng.normal(0, 7, (count, fields)), np.nan)
    return rng.uniform(0, 1000, (count, 2)), readings, known


def kernel(place, other, config):
    return config.shadowing_db**2 * np.exp(-np.hypot(*(place - other)) / config.correlation_m)


def dense(places, readings, known, target, config):
    """Mean and covariance of the fields at one target: the textbook formula (Rasmussen and Williams 2006, 2.23)."""
    each = [(i, r) for i in range(len(places)) for r in range(known.shape[1]) if known[i, r]]
    fields = known.shape[1]
    cov = np.zeros((len(each), len(each)))
    cross = np.zeros((len(each), fields))
    for a, (i, r) in enumerate(each):
        cross[a, r] = kernel(places[i], target, config)
        for b, (j, s) in enumerate(each):
            cov[a, b] += kernel(places[i], places[j], config) if r == s else 0.0
            cov[a, b] += config.offset_db**2 if i == j else 0.0
            cov[a, b] += config.noise_db**2 if a == b else 0.0
    inverse = np.linalg.inv(cov)
    values = np.array([readings[one] for one in each])
    return cross.T @ inverse @ values, config.shadowing_db**2 * np.eye(fields) - cross.T @ inverse @ cross


def test_with_all_neighbours_it_is_the_dense_process():
    places, readings, known = recordings()
    targets = np.array([[500.0, 500.0], [0.0, 0.0], [3000.0, 100.0], places[7]])
    fields = krige(places, readings, known, targets, CONFIG)
    for g, target in enumerate(targets):
        mean, covariance = dense(places, readings, known, target, CONFIG)
        np.testing.assert_allclose(fields.mean_db_GC[g], mean, atol=1e-9)
        apart = covariance[~np.eye(3, dtype=bool)].mean()
        np.testing.assert_allclose(fields.shared_db2_G[g], apart, atol=1e-9)
        np.testing.assert_allclose(fields.own_db2_GC[g], np.diagonal(covariance) - apart, atol=1e-9)
    assert fields.shared_db2_G[0] > 0.5  # an unknown offset leaves the level open


def test_few_neighbours_come_close():
    places, readings, known = recordings(400)
    targets = np.random.default_rng(1).uniform(200, 800, (20, 2))
    some = krige(places, readings, known, targets, replace(CONFIG, neighbours=24))
    most = krige(places, readings, known, targets, replace(CONFIG, neighbours=150))
    assert np.abs(some.mean_db_GC - most.mean_db_GC).mean() < 0.2 * np.sqrt(most.own_db2_GC.mean())
    np.testing.assert_allclose(some.own_db2_GC, most.own_db2_GC, rtol=0.05)


def test_one_reading_by_hand():
    """36 / (36 + 4) of what was read, at its own place; 36 - 36^2 / 40 = 3.6 dB^2 remain."""
    config = replace(CONFIG, offset_db=0.0)
    fields = krige(np.zeros((1, 2)), np.array([[10.0]]), np.ones((1, 1), bool), np.zeros((1, 2)), config)
    assert fields.mean_db_GC[0, 0] == pytest.approx(9.0)
    assert fields.own_db2_GC[0, 0] == pytest.approx(3.6)
    assert fields.shared_db2_G[0] == 0.0
