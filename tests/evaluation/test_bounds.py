"""From information to the numbers beside a result: closed forms, SciPy, and what must be refused."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.bounds import (
    binds,
    bound_of_covariances,
    covariance_from_information,
    pooled_r68,
    reference_of_covariances,
)


def rng():
    return np.random.default_rng(0)


def inside(radius, first, second):
    """Probability that N(0, diag) lies within a radius, by integrating over the angle."""

    def along(angle):
        stretch = np.cos(angle) ** 2 / first + np.sin(angle) ** 2 / second
        return -np.expm1(-0.5 * radius**2 * stretch) / stretch

    return quad(along, 0, 2 * np.pi)[0] / (2 * np.pi * np.sqrt(first * second))


def test_isotropic_radius_is_rayleighs():
    """sqrt(-2 ln 0.32) = 1.51 sigma, Rayleigh's quantile."""
    assert pooled_r68(np.tile(100.0**2 * np.eye(2), (4000, 1, 1)), rng()) == pytest.approx(151, rel=0.005)


def test_pooled_radius_of_different_ellipses_is_the_mixtures():
    """Half the fixes circular, half long and turned; the oracle is the root of the mixture's distribution."""
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    covariance = np.concatenate(
        [np.tile(np.eye(2), (2000, 1, 1)), np.tile(turn @ np.diag([100.0, 4.0]) @ turn.T, (2000, 1, 1))]
    )
    expected = brentq(lambda r: 0.5 * inside(r, 1.0, 1.0) + 0.5 * inside(r, 100.0, 4.0) - 0.68, 0.1, 50)
    assert pooled_r68(covariance, rng()) == pytest.approx(expected, rel=0.01)


def test_singular_information_says_nothing():
    information = np.array([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [0.0, 0.25]]])
    covariance = covariance_from_information(information)
    assert np.isinf(covariance[:2].diagonal(axis1=1, axis2=2)).all()
    np.testing.assert_allclose(covariance[2], [[0.25, 0.0], [0.0, 4.0]])
    assert pooled_r68(covariance, rng()) == np.inf
    assert np.isfinite(pooled_r68(np.concatenate([covariance[2:]] * 9 + [covariance[:1]]), rng()))


def test_a_radius_of_a_quarter_of_the_region_is_the_largest_that_binds():
    """Beyond, an estimator that knows the region beats the bound."""
    assert binds(24_000.0, 100_000.0)
    assert not binds(26_000.0, 100_000.0)


def test_the_entry_of_metrics_json():
    got = bound_of_covariances("cramer-rao", np.tile(np.diag([9.0, 16.0]), (2000, 1, 1)), rng())
    assert set(got) == {"kind", "median_m", "p68_m", "rmse_m"}
    assert got["rmse_m"] == pytest.approx(5.0)
    assert inside(got["p68_m"], 9.0, 16.0) == pytest.approx(0.68, abs=0.005)
    assert inside(got["median_m"], 9.0, 16.0) == pytest.approx(0.5, abs=0.005)


def test_fixes_without_a_bound_are_refused():
    with pytest.raises(DataError, match="1 of 2 that are singular"):
        bound_of_covariances("cramer-rao", np.stack([np.eye(2), np.diag([np.inf, np.inf])]), rng())


def test_a_reference_leaves_out_what_it_cannot_place_and_says_that_it_does_not_bind():
    bound = np.tile(np.diag([9.0, 16.0]), (50, 1, 1))
    open_fixes = np.tile(np.diag([np.inf, np.inf]), (3, 1, 1))
    got = reference_of_covariances("law", np.concatenate([open_fixes, bound]), rng())
    assert got == bound_of_covariances("law", bound, rng()) | {"binds": False, "left_out": 3}
    assert reference_of_covariances("law", open_fixes, rng()) is None
