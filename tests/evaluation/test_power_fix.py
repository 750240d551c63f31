"""A place from powers alone: honest regions, and the posterior against a sum over a fine grid."""

import numpy as np
import pytest

from heimdall_jax.evaluation.power_fix import EXPONENTS, SHADOWING_DB, PowerLaw

RECEIVER_M = np.array([[-50e3, -40e3], [50e3, -50e3], [40e3, 50e3], [-45e3, 45e3], [0.0, 5e3], [20e3, -10e3]])


def powers_db(place_m: np.ndarray, exponent: float, sent_db: float, shadowing_db: np.ndarray) -> np.ndarray:
    away_km = np.linalg.norm(RECEIVER_M - place_m, axis=1) / 1000
    return sent_db - 10 * exponent * np.log10(away_km) + shadowing_db


def test_the_transmitted_power_and_a_common_gain_do_not_matter():
    quiet = PowerLaw.of(powers_db(np.array([10e3, 5e3]), 3.0, -20.0, np.zeros(6)), RECEIVER_M)
    loud = PowerLaw.of(powers_db(np.array([10e3, 5e3]), 3.0, 40.0, np.zeros(6)), RECEIVER_M)
    for one, other in zip(quiet.moments(), loud.moments(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_posterior_is_that_of_a_naive_sum():
    """Every cell of one fine grid, power integrated over nodes, exponents in turn: sums in plain float64."""
    rng = np.random.default_rng(1)
    measured = powers_db(np.array([10e3, 15e3]), 3.0, 0.0, SHADOWING_DB * rng.standard_normal(6))
    law = PowerLaw.of(measured, RECEIVER_M)
    steps = (np.arange(240) + 0.5) / 240 * 2 - 1
    place_m = law.centre_m + law.reach_m * np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    away_m = np.sqrt(((place_m[:, None] - RECEIVER_M) ** 2).sum(axis=-1) + 10.0**2)
    weight = np.zeros(len(place_m))
    for exponent in EXPONENTS:
        lacking = measured + 10 * exponent * np.log10(away_m / 1000)
        for sent_db in np.arange(-80.0, 120.0, 1.0):
            weight += np.exp(-0.5 * ((lacking - sent_db) ** 2).sum(axis=1) / SHADOWING_DB**2)
    weight /= weight.sum()
    mean = weight @ place_m
    covariance = (weight[:, None] * (place_m - mean)).T @ (place_m - mean)
    found_m, found_m2 = law.moments()
    np.testing.assert_allclose(found_m, mean, atol=1000)  # of 60 km
    np.testing.assert_allclose(found_m2, covariance, rtol=0.03, atol=0.01 * np.trace(covariance))


def test_regions_hold_the_truth_as_often_as_they_say():
    """Of 100 draws from the prior itself 68 % +- 4.7 % (one sigma) lie within; the posterior is no ellipse, hence 3."""
    rng = np.random.default_rng(2)
    prior = PowerLaw.of(np.zeros(6), RECEIVER_M)
    inside = []
    for _ in range(100):
        place_m = prior.centre_m + prior.reach_m * rng.uniform(-1, 1, 2)
        shadowing_db = SHADOWING_DB * rng.standard_normal(6)
        law = PowerLaw.of(
            powers_db(place_m, float(rng.choice(EXPONENTS)), rng.uniform(0, 40), shadowing_db), RECEIVER_M
        )
        mean, covariance = law.moments()
        off = place_m - mean
        inside.append(off @ np.linalg.solve(covariance, off) < -2 * np.log(0.32))
    assert 0.54 < np.mean(inside) < 0.82


def test_outside_the_square_nothing_is_likely():
    law = PowerLaw.of(np.zeros(6), RECEIVER_M)
    beyond = law.centre_m + np.array([[1.01 * law.reach_m, 0.0], [0.0, 0.0]])
    assert law.log_density(beyond)[0] == -np.inf
    assert np.isfinite(law.log_density(beyond)[1])
    assert law.reach_m == pytest.approx(2 * np.hypot(50e3, 50e3))
