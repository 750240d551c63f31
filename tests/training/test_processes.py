"""Processes with their own kernels against the dense one of all readings and offsets, in float64."""

import numpy as np
import oracles
import pytest

from heimdall_jax.training import processes
from heimdall_jax.training.correlation import Kernels
from heimdall_jax.training.processes import fit_fields

KERNELS = Kernels(
    shadowing_db_C=np.array([6.0, 4.0, 3.0]),
    correlation_m_C=np.array([300.0, 100.0, 500.0]),
    sector_share_C=np.array([0.0, 0.8, 0.4]),
    noise_db_C=np.array([2.0, 3.0, 1.0]),
)
STANDS = np.array([[200.0, -300.0], [510.0, 480.0], [1200.0, 700.0]])
TARGETS = np.array([[500.0, 500.0], [0.0, 0.0], [3000.0, 100.0]])


def recordings(count=60):
    rng = np.random.default_rng(0)
    known = rng.random((count, 3)) < 0.8
    return rng.uniform(0, 1000, (count, 2)), np.where(known, rng.normal(0, 7, (count, 3)), np.nan), known


def covaried(places, field, i, j, other):
    """Of two fields, each at one of the places."""
    if field != other:
        return 0.0
    shadowing_db, distance_m, share, _ = (values[field] for values in KERNELS)
    return shadowing_db**2 * oracles.shadowing_correlation(places[i], places[j], STANDS[field], distance_m, share)


def dense(places, readings, known, target, offset_db):
    """Means and variances (C,) at one target: the textbook formula (Rasmussen and Williams 2006, 2.23)."""
    row, field = np.nonzero(known)
    covariance = np.array(
        [
            [covaried(places, c, i, j, d) for j, d in zip(row, field, strict=True)]
            for i, c in zip(row, field, strict=True)
        ]
    )
    covariance += offset_db**2 * (row[:, None] == row) + np.diag(KERNELS.noise_db_C[field] ** 2)
    here = np.vstack([places, target])
    cross = np.array(
        [[covaried(here, c, i, len(places), d) for i, d in zip(row, field, strict=True)] for c in range(3)]
    )
    weights = np.linalg.solve(covariance, cross.T).T
    return weights @ readings[row, field], KERNELS.shadowing_db_C**2 - np.einsum("cn,cn->c", weights, cross)


def test_without_offsets_it_is_the_dense_process():
    places, readings, known = recordings()
    fields = fit_fields(places, readings, known, TARGETS, STANDS, KERNELS, offset_db=0.0)
    for g, target in enumerate(TARGETS):
        mean, variance = dense(places, readings, known, target, 0.0)
        np.testing.assert_allclose(fields.mean_db_GC[g], mean, atol=2e-3)
        np.testing.assert_allclose(fields.own_db2_GC[g], variance, atol=2e-3)
    np.testing.assert_array_equal(fields.shared_db2_G, 0.0)


def test_backfitting_comes_to_the_joint_solution(monkeypatch):
    """The means are those of fields and offsets solved together; variances are those of known offsets, so smaller."""
    monkeypatch.setattr(processes, "ROUNDS", 60)
    places, readings, known = recordings()
    fields = fit_fields(places, readings, known, TARGETS, STANDS, KERNELS, offset_db=2.0)
    for g, target in enumerate(TARGETS):
        mean, variance = dense(places, readings, known, target, 2.0)
        np.testing.assert_allclose(fields.mean_db_GC[g], mean, atol=2e-3)
        assert (fields.own_db2_GC[g] <= variance + 1e-3).all()


def test_an_offset_common_to_all_receivers_is_no_field():
    """10 dB on every reading of a recording: without offsets the field next to it would rise by most of that."""
    rng = np.random.default_rng(1)
    places, readings, known = rng.uniform(0, 1000, (60, 2)), rng.normal(0, 1, (60, 3)), np.ones((60, 3), bool)
    lifted = readings.copy()
    lifted[7] += 10.0
    rise = [
        np.subtract(
            *(
                fit_fields(places, y, known, places[7:8], STANDS, KERNELS, offset_db=t).mean_db_GC
                for y in (lifted, readings)
            )
        )
        for t in (0.0, 10.0)
    ]
    assert np.mean(rise[1]) < 0.6 * np.mean(rise[0])


def test_of_many_readings_some_are_taken(monkeypatch):
    monkeypatch.setattr(processes, "MOST", 20)
    assert len(processes._solve(np.zeros((50, 2)), np.ones(50, bool), np.zeros(2), 1.0, 10.0, 0.0, 1.0).rows) == 20


def test_one_reading_by_hand():
    """36 / (36 + 4) of what was read, at its own place; 36 - 36^2 / 40 = 3.6 dB^2 remain."""
    one, here = Kernels(*np.array([[6.0], [300.0], [0.4], [2.0]])), np.zeros((1, 2))
    fields = fit_fields(here, np.array([[10.0]]), np.ones((1, 1), bool), here, here + 100.0, one, offset_db=0.0)
    assert fields.mean_db_GC[0, 0] == pytest.approx(9.0, rel=1e-5)
    assert fields.own_db2_GC[0, 0] == pytest.approx(3.6, rel=1e-5)
